package migrate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"etcpve/agents/guest"
	"etcpve/agents/tunnel"
	"etcpve/cfs/layout"
)

// What a task notes in its file.
const (
	keyMade    = "made"    // volumes that were made here
	keyMaking  = "making"  // a storage and what it has, while one is made
	keyStarted = "started" // a QEMU waits here
	keyCommit  = "commit"  // the configuration may come at any moment
	keyAddress = "address" // where this node listens
	nothing    = "-"
)

// Waits of the node that takes a VM.
const (
	holdWait   = time.Minute // for the first connection
	askWait    = 30 * time.Second
	settlePoll = 200 * time.Millisecond
	leaveWait  = 20 * time.Second // for what the other node decides, when the agent ends
)

// A session is one VM that is on its way to this node.
type session struct {
	job
	source string
	cancel context.CancelFunc
	come   atomic.Bool
	held   chan struct{} // closed when the other node has come

	mu sync.Mutex // one request at a time, but for what runs along
}

// receive takes a VM that another node sends.
func (j job) receive(ctx context.Context) error {
	s, err := j.session(ctx)
	if err != nil {
		return err
	}
	l, err := j.node().Listen(s.source, j.text("network"))
	if err != nil {
		return err
	}
	if err := j.keep(keyAddress, l.Address); err != nil {
		return errors.Join(err, l.Close())
	}
	j.log.Printf("waiting for VM %d of node '%s' on %s", j.vmid, s.source, l.Address)
	work, cancel := context.WithCancel(ctx)
	defer cancel()
	s.cancel, s.held = cancel, make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() { s.watch(work) })
	defer watching.Wait()
	l.Serve(work, s.serve, func(err error) { j.log.Printf("connection refused: %s", err) })
	cancel()
	if ctx.Err() != nil {
		var end context.CancelFunc
		ctx, end = context.WithTimeout(context.WithoutCancel(ctx), leaveWait)
		defer end()
	}
	came, err := j.settle(ctx)
	if err == nil && !came {
		err = errAborted
	}
	return err
}

// session checks whether the VM can come.
func (j job) session(ctx context.Context) (*session, error) {
	s := &session{job: j, source: j.text("source")}
	if !layout.IsName(s.source) || s.source == j.Node {
		return nil, fmt.Errorf("source: '%s' is no other node", s.source)
	}
	node, c, err := j.where(ctx)
	switch {
	case err != nil:
		return nil, err
	case node != s.source:
		return nil, fmt.Errorf("VM %d is not on node '%s'", j.vmid, s.source)
	case c.Main.Get("lock") != guest.LockMigrate:
		return nil, fmt.Errorf("VM %d is not locked for a migration", j.vmid)
	}
	return s, nil
}

// watch ends a session that the other node has given up before it came, or does
// not come to.
func (s *session) watch(ctx context.Context) {
	for late := time.Now().Add(holdWait); time.Now().Before(late); {
		select {
		case <-s.held:
			return
		case <-ctx.Done():
			return
		case <-time.After(settlePoll):
		}
		if node, c, err := s.where(ctx); err == nil && (node != s.source || c.Main.Get("lock") != guest.LockMigrate) {
			break
		}
	}
	s.cancel()
}

// serve does what one connection asks for.
func (s *session) serve(ctx context.Context, c *tunnel.Conn) {
	var q request
	err := c.SetReadDeadline(time.Now().Add(askWait))
	if err == nil {
		err = c.Receive(&q)
	}
	if err == nil {
		err = c.SetReadDeadline(time.Time{})
	}
	if err != nil {
		s.log.Printf("no request: %s", err)
		return
	}
	switch q.Ask {
	case askHold:
		s.hold(ctx, c)
		return
	case askMemory, askDisk:
		if err := s.join(ctx, c, q.Ask); err != nil && ctx.Err() == nil {
			s.log.Printf("%s: %s", q.Ask, err)
		}
		return
	}
	s.mu.Lock()
	a, err := s.work(ctx, c, q)
	s.mu.Unlock()
	if err != nil {
		s.log.Printf("%s: %s", q.Ask, err)
		a.Error = err.Error()
	}
	if err := c.Send(a); err != nil {
		s.log.Printf("%s: %s", q.Ask, err)
		return
	}
	if a.Error != "" && q.Ask == askVolume {
		drain(c)
	}
}

// hold ends the session when the other node lets go, or is gone.
func (s *session) hold(ctx context.Context, c *tunnel.Conn) {
	if s.come.Swap(true) {
		s.log.Printf("held twice")
		return
	}
	close(s.held)
	if err := c.Hold(ctx); err != nil {
		s.log.Printf("node '%s' has let go", s.source)
	}
	s.cancel()
}

// work answers a request.
func (s *session) work(ctx context.Context, c *tunnel.Conn, q request) (answer, error) {
	switch q.Ask {
	case askVolume:
		return s.take(ctx, c, q)
	case askBlank:
		return s.blank(ctx, q)
	case askStart:
		return answer{}, s.start(ctx, q)
	case askReady:
		return answer{}, s.ready(ctx)
	case askCommit:
		return answer{}, s.keep(keyCommit, "1")
	case askFinish:
		came, err := s.settle(ctx)
		if err == nil && !came {
			err = errAborted
		}
		return answer{}, err
	case askAbort:
		if err := s.keep(keyCommit, nothing); err != nil {
			return answer{}, err
		}
		return answer{}, s.discard(ctx)
	}
	return answer{}, fmt.Errorf("'%s' is nothing that this node does", q.Ask)
}

// settle brings this node to what became of the VM: it is here and unlocked, or
// nothing of it is left. Whether it comes is for the other node to decide, once
// it was told that it may.
func (j job) settle(ctx context.Context) (came bool, err error) {
	for told := false; ; {
		node, c, err := j.where(ctx)
		locked := err == nil && c != nil && c.Main.Get("lock") == guest.LockMigrate
		switch {
		case err != nil:
			return false, err
		case node == j.Node && locked:
			return true, j.unlock(ctx, j.Node)
		case node == j.Node:
			return true, nil
		case j.text(keyCommit) != "1" || !locked:
			return false, j.discard(context.WithoutCancel(ctx))
		}
		if !told {
			told = true
			j.log.Printf("waiting for what node '%s' does with VM %d", node, j.vmid)
		}
		select {
		case <-time.After(settlePoll):
		case <-ctx.Done():
			return false, fmt.Errorf("it is not known whether VM %d comes; what was made for it is kept: %w", j.vmid, ctx.Err())
		}
	}
}

// discard removes what was made for a VM that does not come.
func (j job) discard(ctx context.Context) error {
	if j.text(keyStarted) == "1" {
		if err := j.Arrivals.Discard(ctx, j.vmid); err != nil {
			return err
		}
		if err := j.keep(keyStarted, nothing); err != nil {
			return err
		}
	}
	if err := j.reclaim(ctx); err != nil {
		return err
	}
	return j.free(ctx, j.words(keyMade))
}

// reclaim notes a volume that was being made when the agent died: the only one
// that was not there before.
func (j job) reclaim(ctx context.Context) error {
	was := j.words(keyMaking)
	if len(was) == 0 || was[0] == nothing {
		return nil
	}
	now, err := j.owned(ctx, was[0])
	if err != nil {
		return err
	}
	now = slices.DeleteFunc(now, func(volume string) bool { return slices.Contains(was[1:], volume) })
	if len(now) == 1 {
		err = j.made(now[0])
	}
	return errors.Join(err, j.keep(keyMaking, nothing))
}

// made notes a volume as this task's.
func (j job) made(volume string) error {
	return j.keep(keyMade, strings.Join(append(j.words(keyMade), volume), " "))
}

// owned are the volumes of the VM on a storage of this node.
func (j job) owned(ctx context.Context, id string) (names []string, err error) {
	all, err := j.Catalog.List(ctx, id, "images", j.vmid)
	for _, i := range all {
		names = append(names, id+":"+i.Name)
	}
	return names, err
}

// repairReceive ends what an agent that died had begun.
func (j job) repairReceive(ctx context.Context) error {
	_, err := j.settle(ctx)
	return err
}

// errAborted says that a VM did not come.
var errAborted = errors.New("migration aborted")

package migrate

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"etcpve/agents/guest"
	"etcpve/agents/qemu"
	"etcpve/agents/task"
	config "etcpve/cfs/format/guest"
)

// What a task notes in its file.
const (
	keySession = "session" // the parameter by which the other node's task is found
	keyMoved   = "moved"   // pairs OLD NEW of volumes
	keyRewrite = "rewrite" // digest of the configuration with the new ones
	keyRan     = "ran"     // the guest ran before
)

// Waits of the node that sends a VM.
const (
	addressWait = 40 * time.Second // for the other node to listen; longer than a task waits to be claimed
	addressPoll = 50 * time.Millisecond
	abortWait   = 30 * time.Second
	undoPoll    = time.Second
)

// A move is one migration as its source sees it.
type move struct {
	job
	*plan
	remote remote
	ended  chan error // of the other node's task
	moved  map[string]string
}

// migrate sends the VM to another node.
func (j job) migrate(ctx context.Context) error {
	began := time.Now()
	p, err := j.plan(ctx)
	if err != nil {
		return err
	}
	j.log.Printf("starting migration of VM %d to node '%s'", j.vmid, p.target)
	if err := j.keep(keySession, rand.Text()); err != nil {
		return err
	}
	err = j.Edit(ctx, j.vmid, func(c *config.Config) error {
		if err := guest.CheckLock(c); err != nil {
			return err
		}
		if c.Digest != p.config.Digest {
			return errors.New("configuration was changed meanwhile")
		}
		c.Main.Set("lock", guest.LockMigrate)
		return nil
	})
	if err != nil {
		return err
	}
	if err := j.send(ctx, p); err != nil {
		return fmt.Errorf("migration aborted: %w", err)
	}
	j.log.Printf("migration finished successfully (duration %s)", time.Since(began).Round(time.Second))
	return nil
}

// send does what can fail, and undoes it.
func (j job) send(ctx context.Context, p *plan) error {
	m := &move{job: j, plan: p, moved: map[string]string{}}
	work, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	asked, withdraw := context.WithCancel(context.WithoutCancel(ctx))
	defer withdraw()
	err := m.connect(work, asked, cancel)
	if err == nil {
		err = m.carry(work)
	}
	if err == nil {
		err = m.commit(work)
	}
	if cause := context.Cause(work); err != nil && cause != nil && ctx.Err() == nil {
		err = cause
	}
	if err != nil {
		m.abort(context.WithoutCancel(ctx), withdraw)
		return errors.Join(err, j.persist(context.WithoutCancel(ctx)))
	}
	cancel(nil)
	m.await(ctx, abortWait)
	return nil
}

// connect lets the other node prepare, and holds on to it until work ends.
func (m *move) connect(work, asked context.Context, lost context.CancelCauseFunc) error {
	session := m.text(keySession)
	m.ended = make(chan error, 1)
	go func() {
		m.ended <- task.Ask(asked, m.Tree, m.target, task.Request{Type: Tunnel, ID: fmt.Sprint(m.vmid), Params: map[string]string{
			"source": m.Node, "network": m.network, keySession: session,
		}})
	}()
	address, err := m.findAddress(work, session)
	if err != nil {
		return err
	}
	m.remote = remote{from: m.node(), name: m.target, address: address}
	c, err := m.remote.open(work, request{Ask: askHold})
	if err != nil {
		return err
	}
	go func() {
		if err := c.Hold(work); err != nil {
			lost(fmt.Errorf("connection to node '%s' lost: %w", m.target, err))
		}
	}()
	return nil
}

// findAddress waits until the other node's task says where it listens.
func (m *move) findAddress(ctx context.Context, session string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, addressWait)
	defer cancel()
	for {
		f, err := task.Find(m.Tree, m.target, keySession, session)
		if address := f.Request.Params[keyAddress]; err == nil && address != "" && f.Status == "" {
			return address, nil
		}
		select {
		case err := <-m.ended:
			m.ended <- err
			return "", fmt.Errorf("node '%s': %w", m.target, errors.Join(err, errAborted))
		case <-time.After(addressPoll):
		case <-ctx.Done():
			return "", fmt.Errorf("node '%s' does not answer: %w", m.target, ctx.Err())
		}
	}
}

// carry brings over whatever the configuration needs there.
func (m *move) carry(ctx context.Context) error {
	for _, c := range m.cargo {
		if c.open {
			continue
		}
		if err := m.copy(ctx, c); err != nil {
			return fmt.Errorf("volume '%s': %w", c.volume, err)
		}
	}
	if !m.online {
		return nil
	}
	return m.live(ctx)
}

// commit gives the VM to the other node.
func (m *move) commit(ctx context.Context) error {
	var pairs []string
	for old, now := range m.moved {
		pairs = append(pairs, old, now)
	}
	if err := m.keep(keyMoved, strings.Join(pairs, " ")); err != nil {
		return err
	}
	if _, err := m.remote.ask(ctx, request{Ask: askCommit}); err != nil {
		return err
	}
	if err := m.freshPower(ctx); err != nil {
		return err
	}
	// From here on it cannot be stopped: half of it would be the guest's end.
	ctx = context.WithoutCancel(ctx)
	if err := m.rewrite(ctx); err != nil {
		return err
	}
	if err := m.give(ctx); err != nil {
		return err
	}
	_, err := m.remote.ask(ctx, request{Ask: askFinish})
	if err != nil {
		m.log.Printf("node '%s' did not confirm: %s", m.target, err)
	}
	if err := m.leave(ctx, m.target); err != nil {
		m.log.Printf("%s", err)
		return m.persist(ctx)
	}
	return nil
}

// freshPower writes the power file of a VM that runs as it is: a node that was
// booted after its last write would not heed it.
func (m *move) freshPower(ctx context.Context) error {
	if !m.online {
		return nil
	}
	power := qemu.Paused
	if m.text(keyRan) == "1" {
		power = qemu.Running
	}
	return m.Power(ctx, m.vmid, power)
}

// rewrite makes the configuration name the volumes of the other node. What it
// says then is noted first, so that it can be told from what it said before.
func (m *move) rewrite(ctx context.Context) error {
	return m.Edit(ctx, m.vmid, func(c *config.Config) error {
		text, err := m.Read(ctx, m.Path(m.vmid))
		if err != nil {
			return err
		}
		rename(c, m.moved)
		return m.keep(keyRewrite, config.Digest(config.Update(string(text), c)))
	})
}

// give moves the configuration. That it failed is not believed without a look: an
// answer may have been lost.
func (m *move) give(ctx context.Context) error {
	err := os.Rename(filepath.Join(m.Tree, m.Path(m.vmid)), filepath.Join(m.Tree, m.job.on(m.target).Path(m.vmid)))
	if err == nil {
		return nil
	}
	if node, _, e := m.where(ctx); e == nil && node == m.target {
		return nil
	}
	return fmt.Errorf("move of the configuration: %w", err)
}

// await waits for the end of the other node's task.
func (m *move) await(ctx context.Context, limit time.Duration) {
	if m.ended == nil {
		return
	}
	select {
	case err := <-m.ended:
		if err != nil {
			m.log.Printf("node '%s': %s", m.target, err)
		}
	case <-time.After(limit):
		m.log.Printf("node '%s' is still busy with it", m.target)
	case <-ctx.Done():
	}
}

// abort tells the other node that the VM does not come, unless it has come.
func (m *move) abort(ctx context.Context, withdraw context.CancelFunc) {
	if at, ok, err := m.Find(ctx, m.vmid); err == nil && ok && at.Node != m.Node {
		return
	}
	if m.remote.address != "" {
		limited, cancel := context.WithTimeout(ctx, abortWait)
		defer cancel()
		if _, err := m.remote.ask(limited, request{Ask: askAbort}); err != nil {
			m.log.Printf("node '%s': %s", m.target, err)
		}
	}
	withdraw()
	m.await(ctx, abortWait)
}

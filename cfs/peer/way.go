package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Times of a peer that has several addresses. With one address there is no other
// way, and the network's own patience is the best.
const (
	// unackedMost is for how long the first bytes that were sent again may stay without
	// an answer. The kernel sends them again after 200 ms.
	unackedMost  = 150 * time.Millisecond
	raceStagger  = 300 * time.Millisecond // between the attempts of one dial
	raceTimeout  = 1500 * time.Millisecond
	returnEvery  = time.Second // looks whether the preferred address answers again
	returnAfter  = 2           // looks in a row at which it did
	settledAfter = time.Second // a way younger than this is not given up for a hint
)

// A way is by which of its addresses a peer is reached. All streams to the peer
// go the same way: one that breaks takes the others along.
type way struct {
	mu     sync.Mutex // guards what follows
	inUse  string
	first  string             // to be tried before all others
	last   string             // to be tried after all others
	since  time.Time          // inUse was chosen
	turn   context.Context    // of the streams that go this way
	change context.CancelFunc // ends turn
}

// begin returns the context of the streams to be dialled now.
func (w *way) begin(ctx context.Context) context.Context {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.turn == nil || w.turn.Err() != nil {
		w.turn, w.change = context.WithCancel(ctx)
	}
	return w.turn
}

// order sorts the addresses of the peer for a dial.
func (w *way) order(addresses []string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	rank := func(a string) int {
		switch a {
		case w.first:
			return -1
		case w.last:
			return 1
		}
		return 0
	}
	sorted := slices.Clone(addresses)
	slices.SortStableFunc(sorted, func(a, b string) int { return rank(a) - rank(b) })
	return sorted
}

// use notes by which address a stream was opened, and returns the one before.
func (w *way) use(address string) (before string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before = w.inUse
	if before != address {
		w.inUse, w.since = address, time.Now()
	}
	return before
}

// leave has all streams dialled again, beginning with the address first if one is
// given, and trying the address last when no other answers.
func (w *way) leave(first, last string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.first, w.last = first, last
	if w.change != nil {
		w.change()
	}
}

// hint says that the peer came by this one of its addresses. If the streams to it
// go another way, that one may be broken, which an idle stream would not notice.
func (w *way) hint(address string) {
	w.mu.Lock()
	old := w.inUse != "" && w.inUse != address && time.Since(w.since) > settledAfter
	w.mu.Unlock()
	if old {
		w.leave(address, "")
	}
}

func (w *way) address() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.inUse
}

// broken reports whether a stream ended because nothing comes through any more,
// not because the peer ended it.
func broken(err error) bool {
	for _, e := range []error{syscall.ETIMEDOUT, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.ENETDOWN, os.ErrDeadlineExceeded} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// race dials all addresses, one a little after the other, and returns the first
// stream that is open. Where there are several addresses it does not wait for long.
func race(ctx context.Context, addresses []string, several bool, dial func(ctx context.Context, address string) (*tls.Conn, error)) (*tls.Conn, string, error) {
	type result struct {
		conn    *tls.Conn
		address string
		err     error
	}
	limit := handshakeTimeout
	if several {
		limit = raceTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	results := make(chan result, len(addresses))
	var dialling sync.WaitGroup
	defer func() { // the ones that came too late
		cancel()
		dialling.Wait()
		close(results)
		for r := range results {
			if r.conn != nil {
				r.conn.Close()
			}
		}
	}()
	var failed error
	for started, ended := 0, 0; ended < len(addresses); {
		if started < len(addresses) {
			address := addresses[started]
			started++
			dialling.Go(func() {
				conn, err := dial(ctx, address)
				results <- result{conn, address, err}
			})
		}
		select {
		case r := <-results:
			if r.err == nil {
				return r.conn, r.address, nil
			}
			ended++
			failed = errors.Join(failed, r.err)
		case <-time.After(raceStagger):
		}
	}
	return nil, "", failed
}

// impatient makes the kernel give a stream up whose bytes nobody confirms.
func impatient(_, _ string, raw syscall.RawConn) error {
	var failed error
	err := raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unackedMost/time.Millisecond))
	})
	return errors.Join(err, failed)
}

// comeBack looks, while the streams to a peer go another way, whether the preferred
// address answers again.
func (l *link) comeBack(ctx context.Context) {
	tick := time.NewTicker(returnEvery)
	defer tick.Stop()
	for answered := 0; answered < returnAfter; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		addresses, _ := l.peers.directory.Addresses(l.to)
		if len(addresses) < 2 || addresses[0] == l.way.address() {
			return
		}
		conn, _, err := l.peers.dial(ctx, l.to, addresses[:1])
		if err != nil {
			answered = 0
			continue
		}
		conn.Close()
		answered++
	}
	l.way.leave("", "")
}

// Ways returns by which address each peer is reached that there is a stream to.
func (p *Peers) Ways() map[string]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	ways := map[string]string{}
	for node, l := range p.links {
		if a := l.way.address(); a != "" {
			ways[node] = a
		}
	}
	return ways
}

// came notes by which way a member has come.
func (p *Peers) came(from string, remote net.Addr) {
	p.mu.Lock()
	l := p.links[from]
	p.mu.Unlock()
	addresses, _ := p.directory.Addresses(from)
	host, _, err := net.SplitHostPort(remote.String())
	if l == nil || err != nil || len(addresses) < 2 {
		return
	}
	for _, a := range addresses {
		if h, _, err := net.SplitHostPort(a); err == nil && h == host {
			l.way.hint(a)
		}
	}
}

package peer

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"time"
)

// A link is what a node keeps for one peer: a queue of messages, and the
// requests that wait for an answer.
type link struct {
	peers    *Peers
	to       string
	cancel   context.CancelFunc
	messages chan frame
	requests chan pending
	way      way

	mu      sync.Mutex // guards waiting, last
	waiting map[uint64]chan frame
	last    uint64
}

// pending is a request on its way out.
type pending struct {
	frame  frame
	answer chan frame // closed when the stream breaks
}

func newLink(p *Peers, to string, cancel context.CancelFunc) *link {
	return &link{
		peers: p, to: to, cancel: cancel,
		messages: make(chan frame, queueLength),
		requests: make(chan pending),
		waiting:  map[uint64]chan frame{},
	}
}

// send writes queued messages to the peer, dialling as often as needed.
func (l *link) send(ctx context.Context) {
	l.redial(ctx, true, func(ctx context.Context, conn *tls.Conn) error {
		w := bufio.NewWriterSize(conn, 64<<10)
		for {
			f, err := next(ctx, l.messages)
			if err != nil {
				return err
			}
			for more := true; more; {
				if err := put(conn, w, f); err != nil {
					return err
				}
				select {
				case f = <-l.messages:
				default:
					more = false
				}
			}
			if err := w.Flush(); err != nil {
				return err
			}
		}
	})
}

// ask writes requests to the peer, dialling as often as needed.
func (l *link) ask(ctx context.Context) { l.redial(ctx, false, l.write) }

// write sends requests until the stream breaks.
func (l *link) write(ctx context.Context, conn *tls.Conn) error {
	defer l.abandon()
	w := bufio.NewWriterSize(conn, 64<<10)
	tick := time.NewTicker(aliveEvery)
	defer tick.Stop()
	for {
		f := frame{role: keepalive}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		case r := <-l.requests:
			f = r.frame
			l.mu.Lock()
			l.last++
			f.id = l.last
			l.waiting[f.id] = r.answer
			l.mu.Unlock()
		}
		if err := put(conn, w, f); err != nil {
			return err
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
}

// answers reads answers until the stream breaks, and says why.
func (l *link) answers(conn *tls.Conn) error {
	r := bufio.NewReaderSize(conn, 64<<10)
	for {
		if err := conn.SetReadDeadline(time.Now().Add(idleTimeout)); err != nil {
			return err
		}
		f, err := readFrame(r)
		if err != nil {
			return err
		}
		if f.role != response && f.role != failure {
			continue
		}
		l.mu.Lock()
		waiter := l.waiting[f.id]
		delete(l.waiting, f.id)
		l.mu.Unlock()
		if waiter != nil {
			waiter <- f // has room for one
		}
	}
}

// abandon tells everybody who waits for an answer that none will come.
func (l *link) abandon() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, waiter := range l.waiting {
		close(waiter)
		delete(l.waiting, id)
	}
}

// call sends one request and waits for its answer.
func (l *link) call(ctx context.Context, kind uint8, body []byte) ([]byte, error) {
	r := pending{frame{role: request, kind: kind, body: body}, make(chan frame, 1)}
	select {
	case l.requests <- r:
	case <-ctx.Done():
		return nil, errors.Join(ErrUnreachable, ctx.Err())
	}
	select {
	case f, ok := <-r.answer:
		switch {
		case !ok:
			return nil, ErrUnreachable
		case f.role == failure:
			return nil, errors.New(string(f.body))
		}
		return f.body, nil
	case <-ctx.Done():
		return nil, errors.Join(ErrUnreachable, ctx.Err())
	}
}

// redial keeps a stream to the peer open and lets use work on it until ctx ends.
// That of the messages also looks for the way back to the preferred address.
func (l *link) redial(ctx context.Context, messages bool, use func(context.Context, *tls.Conn) error) {
	for wait := redialFirst; ctx.Err() == nil; {
		began, turn := time.Now(), l.way.begin(ctx)
		err := l.stream(turn, messages, use)
		l.peers.log.Debug("stream ended", "node", l.to, "err", err)
		if turn.Err() != nil && ctx.Err() == nil {
			wait = redialFirst
			continue // there is another way: at once
		}
		if time.Since(began) > redialMost {
			wait = redialFirst
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, redialMost)
	}
}

// stream dials the peer and lets use work until the stream breaks or ctx ends.
func (l *link) stream(ctx context.Context, messages bool, use func(context.Context, *tls.Conn) error) error {
	addresses, _ := l.peers.directory.Addresses(l.to)
	conn, address, err := l.peers.dial(ctx, l.to, l.way.order(addresses))
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if before := l.way.use(address); before != "" && before != address {
		l.peers.log.Warn("node is reached by another link", "node", l.to, "address", address, "before", before)
	}
	if messages && address != addresses[0] {
		probing, stop := context.WithCancel(ctx)
		defer stop()
		l.peers.running.Go(func() { l.comeBack(probing) })
	}
	err = l.converse(ctx, conn, use)
	if messages {
		l.peers.handler.Lost(l.to)
	}
	if len(addresses) > 1 && ctx.Err() == nil && broken(err) {
		l.way.leave("", address)
	}
	return err
}

// converse lets use write to a stream while answers are read from it; the end
// of either is the end of both.
func (l *link) converse(ctx context.Context, conn *tls.Conn, use func(context.Context, *tls.Conn) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		defer cancel()
		ended <- l.answers(conn)
	}()
	err := use(ctx, conn)
	conn.Close()
	return errors.Join(err, <-ended)
}

// serve reads what a member sends until its stream ends.
func (p *Peers) serve(ctx context.Context, conn *tls.Conn, from string) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	defer conn.Close()
	s := server{peers: p, conn: conn, from: from, slots: make(chan struct{}, maxRequests), out: bufio.NewWriterSize(conn, 64<<10)}
	defer s.answering.Wait()
	r := bufio.NewReaderSize(conn, 64<<10)
	for {
		if err := conn.SetReadDeadline(time.Now().Add(idleTimeout)); err != nil {
			return
		}
		f, err := readFrame(r)
		if err != nil {
			return
		}
		if _, member := p.directory.Addresses(from); !member {
			p.log.Info("stream of a removed node closed", "node", from)
			return
		}
		if !s.take(ctx, f) {
			return
		}
	}
}

// A server answers one member on one stream.
type server struct {
	peers     *Peers
	conn      *tls.Conn
	from      string
	slots     chan struct{}
	answering sync.WaitGroup

	mu  sync.Mutex // guards out
	out *bufio.Writer
}

// take handles one frame; false ends the stream.
func (s *server) take(ctx context.Context, f frame) bool {
	switch f.role {
	case keepalive:
		return s.reply(f) == nil
	case message:
		s.peers.handler.Message(s.from, f.kind, f.body)
	case request:
		select {
		case s.slots <- struct{}{}:
		case <-ctx.Done():
			return false
		}
		s.answering.Go(func() {
			defer func() { <-s.slots }()
			body, err := s.peers.handler.Answer(ctx, s.from, f.kind, f.body)
			a := frame{role: response, kind: f.kind, id: f.id, body: body}
			if err != nil {
				a.role, a.body = failure, []byte(err.Error())
			}
			if s.reply(a) != nil {
				s.conn.Close()
			}
		})
	default:
		return false
	}
	return true
}

func (s *server) reply(f frame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := put(s.conn, s.out, f); err != nil {
		return fmt.Errorf("peer %s: answer: %w", s.from, err)
	}
	return s.out.Flush()
}

// next returns the next queued message, or a sign of life when there is none.
func next(ctx context.Context, queue <-chan frame) (frame, error) {
	timer := time.NewTimer(aliveEvery)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return frame{}, ctx.Err()
	case f := <-queue:
		return f, nil
	case <-timer.C:
		return frame{role: keepalive}, nil
	}
}

// put writes a frame into w; a peer that takes no bytes for writeTimeout is
// given up.
func put(conn *tls.Conn, w *bufio.Writer, f frame) error {
	if err := conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	return f.write(w)
}

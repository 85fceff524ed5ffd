package tunnel

import (
	"context"
	"errors"
	"io"
	"net"
	"time"
)

// A connection that is held says every so often that its node is still there.
const (
	pulse  = 2 * time.Second
	silent = 20 * time.Second // after this the other node is taken for gone
)

// Hold keeps a connection as the sign that both nodes are there. It returns nil
// when ctx ends and an error when the other node closes it, or falls silent.
func (c *Conn) Hold(ctx context.Context) error {
	heard := make(chan error, 1)
	go func() {
		for {
			err := c.SetReadDeadline(time.Now().Add(silent))
			if err == nil {
				_, err = readLength(c)
			}
			if err != nil {
				heard <- err
				return
			}
		}
	}()
	tick := time.NewTicker(pulse)
	defer tick.Stop()
	for {
		err := c.SetWriteDeadline(time.Now().Add(silent))
		if err == nil {
			err = writeFrame(c, nil)
		}
		if err != nil {
			c.raw.Close()
			return errors.Join(err, <-heard)
		}
		select {
		case <-tick.C:
		case err := <-heard:
			c.raw.Close()
			return err
		case <-ctx.Done():
			c.raw.Close()
			<-heard
			return nil
		}
	}
}

// Join passes bytes on between this connection and another one, in both
// directions, until both have ended. An end in one direction is passed on too, a
// failure ends both.
func (c *Conn) Join(other net.Conn) error {
	back := make(chan error, 1)
	go func() { back <- pass(other, c) }()
	err := pass(c, other)
	return errors.Join(err, <-back)
}

// A halfCloser can end one direction.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

func pass(to, from net.Conn) error {
	_, err := io.Copy(to, from)
	if half, ok := to.(halfCloser); ok && err == nil {
		_ = half.CloseWrite() // it may have ended by itself
		return nil
	}
	to.Close()
	from.Close()
	return err
}

// Package control is the local socket of pmxcfs, through which pvecm asks the
// running daemon for what no file can hold: forming a cluster, joining one, and
// what consensus knows of it.
//
// It owns the socket and the form of a request: one JSON object each way on one
// connection. Only root may connect. It never acts itself: verbs are functions
// that the daemon gives it.
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Path is where the daemon listens unless told otherwise.
const Path = "/run/etcpve/pmxcfs.sock"

// Bounds of a request.
const (
	maxRequest  = 1 << 20
	readTimeout = 10 * time.Second
)

// A Verb does what a client asks. in is the request's argument as JSON; what it
// returns is marshalled as the answer.
type Verb func(ctx context.Context, in json.RawMessage) (any, error)

type request struct {
	Verb string          `json:"verb"`
	In   json.RawMessage `json:"in,omitempty"`
}

type answer struct {
	Error string          `json:"error,omitempty"`
	Out   json.RawMessage `json:"out,omitempty"`
}

// Listen makes the socket, readable for root alone. A socket that a daemon left
// behind when it was killed is replaced; one that is answered is not.
func Listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close()
		return nil, fmt.Errorf("control socket %s: another daemon answers", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return l, nil
}

// Serve answers requests until ctx ends, then closes l and waits for the verbs
// under way.
func Serve(ctx context.Context, l net.Listener, verbs map[string]Verb, log *slog.Logger) error {
	var serving sync.WaitGroup
	defer serving.Wait()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("control socket: accept: %w", err)
		}
		serving.Go(func() {
			defer conn.Close()
			if err := serve(ctx, conn, verbs); err != nil {
				log.Debug("control request failed", "err", err)
			}
		})
	}
}

func serve(ctx context.Context, conn net.Conn, verbs map[string]Verb) error {
	if err := conn.SetReadDeadline(time.Now().Add(readTimeout)); err != nil {
		return err
	}
	var r request
	if err := json.NewDecoder(io.LimitReader(conn, maxRequest)).Decode(&r); err != nil {
		return err
	}
	var a answer
	if verb, ok := verbs[r.Verb]; !ok {
		a.Error = fmt.Sprintf("unknown request %q", r.Verb)
	} else if out, err := verb(ctx, r.In); err != nil {
		a.Error = err.Error()
	} else if a.Out, err = json.Marshal(out); err != nil {
		a.Error = err.Error()
	}
	return json.NewEncoder(conn).Encode(a)
}

// advice returns what to do when the daemon cannot be reached, if that is known.
func advice(err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return ": this needs root"
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return ": start it by 'make run', or by 'systemctl start pve-cluster'"
	}
	return ""
}

// Call asks the daemon at path and stores its answer in out, which may be nil.
func Call(ctx context.Context, path, verb string, in, out any) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("pmxcfs does not answer: %w%s", err, advice(err))
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	r := request{Verb: verb}
	if r.In, err = json.Marshal(in); err != nil {
		return err
	}
	if err := json.NewEncoder(conn).Encode(r); err != nil {
		return fmt.Errorf("pmxcfs: %s: %w", verb, err)
	}
	var a answer
	if err := json.NewDecoder(conn).Decode(&a); err != nil {
		return fmt.Errorf("pmxcfs: %s: %w", verb, err)
	}
	if a.Error != "" {
		return errors.New(a.Error)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(a.Out, out)
}

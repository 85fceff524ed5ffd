// Package state moves the state of a running machine, its memory and devices,
// into a volume and back.
//
// It is QEMU's migration stream, through a socket that this package serves, so
// that any file or device can take it. The guest runs on while its memory is
// copied and stops for the last pages only; at that point, with disks still at
// hand and nothing running, whatever belongs to the same moment can be done.
//
// It owns the stream and the settings of migration. It never allocates a volume,
// and never decides whether a guest goes on afterwards.
package state

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"etcpve/agents/qemu/monitor"
)

// A Talker runs one QMP command against a QEMU.
type Talker func(ctx context.Context, command string, args map[string]any, result any) error

// poll is how often QEMU is asked how far it is.
const poll = 30 * time.Millisecond

// maxRounds is how often memory that changed again is sent while the guest runs.
// Then it is stopped: a guest that changes memory faster than the volume takes
// it would never end, and a volume has room for about two times its memory.
const maxRounds = 4

// unlimited is a bandwidth, in bytes per second, that no volume has.
const unlimited = int64(1) << 50

// A Saving is a state on its way into a volume.
type Saving struct {
	talk    Talker
	socket  string
	ran     bool // the guest ran before
	stopped bool // by this package, because its memory changed too fast
	copied  chan error
	close   func()
}

// Begin starts to save and returns when the guest stands still and its disks are
// at hand. Then either Finish or Cancel has to be called. The socket must not
// exist; to is a file or device.
func Begin(ctx context.Context, talk Talker, socket, to string) (*Saving, error) {
	var status struct{ Running bool }
	if err := talk(ctx, "query-status", nil, &status); err != nil {
		return nil, err
	}
	s := &Saving{talk: talk, socket: socket, ran: status.Running}
	if err := s.serve(to); err != nil {
		return nil, err
	}
	err := s.start(ctx)
	if err == nil {
		err = s.await(ctx, "pre-switchover")
	}
	if err != nil {
		return nil, errors.Join(err, s.Cancel(context.WithoutCancel(ctx)))
	}
	return s, nil
}

// serve takes the stream of one connection into a file.
func (s *Saving) serve(to string) error {
	file, err := os.OpenFile(to, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	listener, err := listen(s.socket)
	if err != nil {
		return errors.Join(err, file.Close())
	}
	s.copied = make(chan error, 1)
	s.close = func() { listener.Close() }
	go func() {
		conn, err := listener.Accept()
		listener.Close()
		if err == nil {
			_, err = io.Copy(file, conn)
			conn.Close()
		}
		if err == nil {
			err = file.Sync()
		}
		s.copied <- errors.Join(err, file.Close())
	}()
	return nil
}

func listen(socket string) (net.Listener, error) {
	if err := os.Remove(socket); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	return net.Listen("unix", socket)
}

func (s *Saving) start(ctx context.Context) error {
	if err := Prepare(ctx, s.talk); err != nil {
		return err
	}
	return s.talk(ctx, "migrate", map[string]any{"uri": "unix:" + s.socket}, nil)
}

// Prepare sets what a stream needs.
func Prepare(ctx context.Context, talk Talker) error {
	err := talk(ctx, "migrate-set-capabilities", map[string]any{"capabilities": []map[string]any{
		{"capability": "pause-before-switchover", "state": true},
	}}, nil)
	if err != nil {
		return err
	}
	return talk(ctx, "migrate-set-parameters", map[string]any{"max-bandwidth": unlimited}, nil)
}

// A progress is how far QEMU is.
type progress struct {
	Status string
	Error  string `json:"error-desc"`
	RAM    struct {
		Rounds int `json:"dirty-sync-count"`
	} `json:"ram"`
}

// await returns when QEMU has come to a status.
func (s *Saving) await(ctx context.Context, wanted string) error {
	for {
		var p progress
		if err := s.talk(ctx, "query-migrate", nil, &p); err != nil {
			return err
		}
		switch {
		case p.Status == wanted:
			return nil
		case p.Status == "failed" || p.Status == "cancelled":
			return fmt.Errorf("state not saved: %s %s", p.Status, p.Error)
		case p.Status == "active" && p.RAM.Rounds > maxRounds && s.ran && !s.stopped:
			s.stopped = true
			if err := s.talk(ctx, "stop", nil, nil); err != nil {
				return err
			}
		}
		select {
		case err := <-s.copied:
			s.copied <- err
			if err != nil { // such as a volume that is full
				return fmt.Errorf("state not saved: %w", err)
			}
			<-time.After(poll) // QEMU has sent all and is about to say so
		case <-time.After(poll):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Finish saves the rest. The guest stands still afterwards, and its disks are
// out of QEMU's hands until Continue.
func (s *Saving) Finish(ctx context.Context) error {
	err := s.talk(ctx, "migrate-continue", map[string]any{"state": "pre-switchover"}, nil)
	if err == nil {
		err = s.await(ctx, "completed")
	}
	if err == nil {
		err = <-s.copied
	}
	if err != nil {
		return errors.Join(err, s.Cancel(context.WithoutCancel(ctx)))
	}
	s.close()
	return nil
}

// Continue lets the guest go on after Finish, if it ran before.
func (s *Saving) Continue(ctx context.Context) error {
	return goOn(ctx, s.talk, s.ran)
}

// goOn gives QEMU its disks back, which only a start of the guest does.
func goOn(ctx context.Context, talk Talker, run bool) error {
	if err := talk(ctx, "cont", nil, nil); err != nil {
		return err
	}
	if run {
		return nil
	}
	return talk(ctx, "stop", nil, nil)
}

// Cancel gives up. The guest goes on as before.
func (s *Saving) Cancel(ctx context.Context) error {
	s.close()
	return Abort(ctx, s.talk, s.ran)
}

// cancelWait is how long QEMU may take to give up.
const cancelWait = 20 * time.Second

// Abort ends whatever saving goes on in a QEMU, also one that was begun by a
// process that is gone, and lets the guest go on if run is set.
func Abort(ctx context.Context, talk Talker, run bool) error {
	ctx, cancel := context.WithTimeout(ctx, cancelWait)
	defer cancel()
	for {
		var p progress
		if err := talk(ctx, "query-migrate", nil, &p); err != nil {
			return err
		}
		switch p.Status {
		case "setup", "active", "pre-switchover", "device":
			if err := talk(ctx, "migrate_cancel", nil, nil); err != nil {
				return err
			}
		case "cancelling":
		default:
			return restart(ctx, talk, run)
		}
		select {
		case <-time.After(poll):
		case <-ctx.Done():
			return fmt.Errorf("saving of the state not cancelled: %w", ctx.Err())
		}
	}
}

// restart lets a guest run that stands still because of a saving.
func restart(ctx context.Context, talk Talker, run bool) error {
	var status struct{ Status string }
	if err := talk(ctx, "query-status", nil, &status); err != nil {
		return err
	}
	switch status.Status {
	case "postmigrate", "finish-migrate":
		return goOn(ctx, talk, run)
	case "paused":
		if run {
			return talk(ctx, "cont", nil, nil)
		}
	}
	return nil
}

// Load brings a QEMU that was started with "-incoming defer" into a state that
// was saved. The guest stands still afterwards.
func Load(ctx context.Context, talk Talker, socket, from string) error {
	file, err := os.Open(from)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := os.Remove(socket); err != nil && !os.IsNotExist(err) {
		return err
	}
	if err := talk(ctx, "migrate-incoming", map[string]any{"uri": "unix:" + socket}, nil); err != nil {
		return err
	}
	defer os.Remove(socket)
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	sent := make(chan error, 1)
	go func() {
		// QEMU knows where its stream ends and hangs up; the volume is longer.
		_, err := io.Copy(conn, file)
		sent <- err
	}()
	for {
		var p progress
		switch err := talk(ctx, "query-migrate", nil, &p); {
		case errors.Is(err, monitor.ErrClosed):
			return fmt.Errorf("QEMU does not accept the saved state: %w", err)
		case err != nil:
			return err
		case p.Status == "completed":
			conn.Close()
			<-sent
			return nil
		case p.Status == "failed":
			return fmt.Errorf("saved state not loaded: %s", p.Error)
		}
		select {
		case <-time.After(poll):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

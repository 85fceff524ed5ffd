package mount

import (
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
)

// Limits of how long Close waits: for saves under way, and for everything; and
// how often the table of mounts is looked at.
const (
	savePatience  = time.Second
	closePatience = 5 * time.Second
	watchEvery    = time.Second
)

// Done is closed when the file system is no longer mounted where it was.
func (m *Mount) Done() <-chan struct{} { return m.done }

// Failed tells of a request or a part that has panicked. What it held is held
// for ever, so nothing here can be relied on any more.
func (m *Mount) Failed() <-chan error { return m.broken }

// OnUnmount is called by the server after the last request.
func (m *Mount) OnUnmount() {
	m.events.Close()
	close(m.served)
	m.left()
}

func (m *Mount) left() { m.gone.Do(func() { close(m.done) }) }

// spawn runs a part of the mount.
func (m *Mount) spawn(part string, do func()) {
	m.work.Go(func() {
		defer func() {
			if v := recover(); v != nil {
				m.panicked(part, v)
			}
		}()
		do()
	})
}

func (m *Mount) panicked(part string, v any) {
	err := fmt.Errorf("mount: %s: panic: %v", part, v)
	m.cfg.Log.Error("panic", "part", part, "err", err, "stack", string(debug.Stack()))
	select {
	case m.broken <- err:
	default: // the first one is the one that counts
	}
}

// Close unmounts and waits until every request is answered. Saves under way may
// end; after that whoever still uses the mount sees errors, and nobody hangs on
// a file system that is gone. The connection is ended before anything is waited
// for that may use it: the bell, and what a request holds that has panicked.
func (m *Mount) Close() error {
	m.events.Close() // their readers wait for the next change
	within(savePatience, m.saves.Lock)
	m.cancel()
	m.queue.stop()
	// What was unmounted from outside and is still in use (umount -l) nothing
	// here can end, unless the kernel's control files are there.
	on, _ := m.place.IsMounted()
	var err error
	select {
	case <-m.served: // the number of the device may be somebody else's by now
	default:
		err = m.place.Detach()
	}
	limit := closePatience
	if !on {
		limit = savePatience
	}
	switch ended := within(limit, m.work.Wait); {
	case !ended && !on: // the end of the process will
		m.cfg.Log.Info("programs still use what was unmounted", "path", m.cfg.Dir)
	case !ended:
		err = errors.Join(err, errHeld)
	}
	if err != nil {
		return fmt.Errorf("unmount %s: %w", m.cfg.Dir, err)
	}
	return nil
}

// within waits for something, but not longer than limit.
func within(limit time.Duration, wait func()) bool {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		wait()
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-ended:
		return true
	case <-timer.C:
		return false
	}
}

// watch ends the mount when it has been unmounted though programs still use it
// (umount -l): they would keep a file system alive that nobody else can see.
func (m *Mount) watch() {
	table, err := unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		m.cfg.Log.Error("the table of mounts cannot be watched", "err", err)
		return
	}
	defer unix.Close(table)
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-m.done:
			return
		case <-tick.C:
		}
		changed := []unix.PollFd{{Fd: int32(table), Events: unix.POLLPRI}}
		if n, err := unix.Poll(changed, 0); n == 0 && err == nil {
			continue
		}
		if on, _ := m.place.IsMounted(); !on {
			m.left()
			return
		}
	}
}

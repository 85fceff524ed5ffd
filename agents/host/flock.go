package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// flockPoll is how often a lock that is waited for is tried.
const flockPoll = 50 * time.Millisecond

// ErrLocked says that somebody else kept a lock until the context ended.
var ErrLocked = errors.New("is locked")

// Flock takes the lock on a file of this machine, as the tools of Proxmox VE do, and
// makes the file if there is none. The end of the process releases it too.
func Flock(ctx context.Context, path string) (release func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(flockPoll)
	defer tick.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return func() { f.Close() }, nil
		case errors.Is(err, syscall.EINTR):
			continue
		case !errors.Is(err, syscall.EWOULDBLOCK):
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("%s %w", path, errors.Join(ErrLocked, ctx.Err()))
		}
	}
}

package fence

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// deviceSeconds is how long a device waits for a sign of life.
const deviceSeconds = 10

// A Device is a watchdog device of the kernel. It is open, and counts down, only
// while it is kept quiet: a node without HA services cannot be reset by it.
type Device struct {
	path string
	file *os.File
}

// NewDevice returns the device at path, /dev/watchdog by default of the kernel.
// It is not opened yet.
func NewDevice(path string) *Device { return &Device{path: path} }

// Write passes a sign of life on; a farewell switches the device off.
func (d *Device) Write(message []byte) (int, error) {
	switch over := slices.Contains(message, farewell[0]); {
	case over && d.file == nil:
		return len(message), nil
	case over:
		return len(message), d.end(message)
	case d.file == nil:
		if err := d.open(); err != nil {
			return 0, err
		}
	}
	return d.file.Write(message)
}

func (d *Device) open() error {
	f, err := os.OpenFile(d.path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	// Drivers that cannot change their time-out keep their own.
	_ = unix.IoctlSetPointerInt(int(f.Fd()), unix.WDIOC_SETTIMEOUT, deviceSeconds)
	d.file = f
	return nil
}

func (d *Device) end(message []byte) error {
	if _, err := d.file.Write(message); err != nil {
		return err
	}
	return d.Close()
}

// Close closes the file. The kernel goes on counting unless a farewell came first.
func (d *Device) Close() error {
	if d.file == nil {
		return nil
	}
	f := d.file
	d.file = nil
	return f.Close()
}

// A Substitute stands in for a device on nodes that have none: where a device
// would reset the node, it calls a function, once. It shares the fate of its
// process: if that is killed, nothing is fenced.
type Substitute struct {
	wait time.Duration
	bite func()

	mu    sync.Mutex // guards timer
	timer *time.Timer
	over  chan struct{} // closed after the bite
}

// NewSubstitute returns a device that bites after wait, or after as long as a
// device would wait if that is 0.
func NewSubstitute(wait time.Duration, bite func()) *Substitute {
	if wait == 0 {
		wait = deviceSeconds * time.Second
	}
	return &Substitute{wait: wait, bite: bite, over: make(chan struct{})}
}

// Bitten is closed when the substitute has done what a device would do.
func (s *Substitute) Bitten() <-chan struct{} { return s.over }

// Write puts the bite off; a farewell puts it off for good.
func (s *Substitute) Write(message []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch over := slices.Contains(message, farewell[0]); {
	case s.timer == nil && over:
	case s.timer == nil:
		s.timer = time.AfterFunc(s.wait, func() {
			s.bite()
			close(s.over)
		})
	case !s.timer.Stop():
		return 0, fmt.Errorf("the substitute of the watchdog has bitten")
	case over:
		s.timer = nil
	default:
		s.timer.Reset(s.wait)
	}
	return len(message), nil
}

// Close does nothing: what was not put off comes.
func (s *Substitute) Close() error { return nil }

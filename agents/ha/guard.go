package ha

// Locks are the cluster's HA locks as one node sees them. A lock stays valid
// for 120 seconds after the last successful Try.
type Locks interface {
	// Try takes or renews a lock.
	Try(name string) Grip
	// Release gives back a lock of one's own.
	Release(name string) bool
}

// A Grip is the outcome of trying a lock.
type Grip int

// What trying a lock can give.
const (
	Refused Grip = iota
	Renewed
	Taken // it was free or expired
)

// Held reports whether the lock is ours now.
func (g Grip) Held() bool { return g != Refused }

// Watchdog is one client's connection to the node's watchdog: once opened it
// has to be updated within 60 seconds, or the node is reset.
type Watchdog interface {
	Open() error
	Update()
	// Close says that nothing dangerous runs any more.
	Close()
}

// A Guard ties a lock to a watchdog: whoever loses the lock and does not close
// the watchdog in time is reset before anybody else can get the lock.
type Guard struct {
	name  string
	locks Locks
	dog   Watchdog
	log   Log
	open  bool
}

// NewGuard returns the guard of the lock called name.
func NewGuard(name string, locks Locks, dog Watchdog, log Log) *Guard {
	return &Guard{name: name, locks: locks, dog: dog, log: log}
}

// Lock takes or renews the lock. If the watchdog is open, it is updated.
func (g *Guard) Lock() bool {
	grip := g.locks.Try(g.name)
	if grip == Taken {
		g.log.Info("got lock '%s'", g.name)
	}
	if grip.Held() && g.open {
		g.dog.Update()
	}
	return grip.Held()
}

// Watch opens the watchdog if it is closed.
func (g *Guard) Watch() bool {
	if g.open {
		return true
	}
	if err := g.dog.Open(); err != nil {
		g.log.Err("unable to open watchdog: %v", err)
		return false
	}
	g.open = true
	return true
}

// Hold is Lock with an open watchdog.
func (g *Guard) Hold() bool { return g.Lock() && g.Watch() }

// Watching reports whether the watchdog is open.
func (g *Guard) Watching() bool { return g.open }

// Unwatch closes the watchdog.
func (g *Guard) Unwatch() {
	if g.open {
		g.dog.Close()
		g.open = false
	}
}

// Unlock gives the lock back. The watchdog has to be closed before.
func (g *Guard) Unlock() bool { return g.locks.Release(g.name) }

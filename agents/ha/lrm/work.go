package lrm

import (
	"fmt"
	"maps"
	"slices"

	"etcpve/agents/ha"
)

// Guests are the node's guests as services. All methods wait until the guest
// got there. With workers they are called at the same time for different guests.
type Guests interface {
	Running(sid string) bool
	Start(sid string) error
	// Stop shuts down; the timeout is in seconds, nil means the default.
	Stop(sid string, timeout *int) error
	// Move takes a guest to another node, where it may have to be started.
	Move(sid, target string, online bool) error
}

// A job asks for one service to be brought into a state.
type job struct {
	uid     string // "": nobody waits for the result
	state   ha.ServiceState
	target  string
	timeout *int
}

// work is what an LRM has to do and what it has done. Everything in it belongs
// to the LRM's goroutine; jobs that run beside it only send their outcome.
type work struct {
	node       string
	guests     Guests
	log        ha.Log
	limit      int // jobs at the same time; 0: none beside the LRM itself
	queue      map[string]job
	busy       map[string]bool // services with a job beside the LRM
	finished   chan outcome
	results    map[string]ha.Result // by UID
	tries      map[string]int       // failed starts
	stopErrors int                  // of a shutdown
}

// outcome is what became of a job.
type outcome struct {
	sid    string
	job    job
	code   ha.Code
	config ha.Resource
}

func newWork(node string, guests Guests, log ha.Log, limit int) *work {
	return &work{node: node, guests: guests, log: log, limit: limit,
		queue: map[string]job{}, busy: map[string]bool{}, finished: make(chan outcome, limit),
		results: map[string]ha.Result{}, tries: map[string]int{}}
}

// forget drops the results no service waits for any more.
func (w *work) forget(services map[string]*ha.Service) {
	known := make(map[string]bool, len(services))
	for _, s := range services {
		known[s.UID] = true
	}
	maps.DeleteFunc(w.results, func(uid string, _ ha.Result) bool { return !known[uid] })
}

// resting are states that leave an LRM nothing to do.
var resting = map[ha.ServiceState]bool{ha.Recovery: true, ha.Freeze: true, ha.RequestStart: true}

// plan queues jobs for the services here. A stopped service is looked at every
// time, as it has to stay so.
func (w *work) plan(services map[string]*ha.Service) {
	for sid, s := range services {
		if s.Node != w.node || s.UID == "" || resting[s.State] {
			continue
		}
		if _, done := w.results[s.UID]; done && s.State != ha.Stopped {
			continue
		}
		if !w.busy[sid] {
			w.queue[sid] = job{s.UID, s.State, s.Target, s.Timeout}
		}
	}
}

// stopAll queues the end of all services here.
func (w *work) stopAll(services map[string]*ha.Service) {
	for sid, s := range services {
		if s.Node == w.node {
			w.queue[sid] = job{state: ha.RequestStop}
		}
	}
}

// run begins jobs in the order of their services, as far as the limit allows.
// The configuration is asked for only if there is anything to do.
func (w *work) run(configured func() map[string]ha.Resource) {
	w.collect()
	if len(w.queue) == 0 {
		return
	}
	resources := configured()
	for _, sid := range slices.Sorted(maps.Keys(w.queue)) {
		if w.busy[sid] || w.limit > 0 && len(w.busy) >= w.limit {
			continue
		}
		j := w.queue[sid]
		delete(w.queue, sid)
		c, found := resources[sid]
		if w.limit == 0 {
			w.settle(outcome{sid, j, w.do(sid, j, c, found), c})
			continue
		}
		w.busy[sid] = true
		go func() { w.finished <- outcome{sid, j, w.do(sid, j, c, found), c} }()
	}
}

// collect files the outcomes of jobs that have ended beside the LRM.
func (w *work) collect() {
	for {
		select {
		case o := <-w.finished:
			delete(w.busy, o.sid)
			w.settle(o)
		default:
			return
		}
	}
}

// drain waits for the jobs that run beside the LRM.
func (w *work) drain() {
	for len(w.busy) > 0 {
		o := <-w.finished
		delete(w.busy, o.sid)
		w.settle(o)
	}
}

// done reports whether nothing is left to do.
func (w *work) done() bool { return len(w.queue)+len(w.busy) == 0 }

// settle files the outcome of a job. A start that failed may be tried again.
func (w *work) settle(o outcome) {
	if o.job.state == ha.Started && o.code == ha.Success {
		delete(w.tries, o.sid)
	}
	if o.code == ha.TryAgain && !w.retry(o.sid, o.config.MaxRestart) {
		o.code = ha.Error
	}
	switch {
	case o.code == ha.TryAgain:
	case o.job.uid != "":
		w.results[o.job.uid] = ha.Result{SID: o.sid, Code: o.code, State: o.job.state}
	case o.code != ha.Success:
		w.stopErrors++
	}
}

// retry is the restart policy: it counts a failed start and says whether there
// is another try on this node.
func (w *work) retry(sid string, limit int) bool {
	if w.tries[sid] < limit {
		w.tries[sid]++
		w.log.Warn("restart policy: retry number %d for service '%s'", w.tries[sid], sid)
		return true
	}
	w.log.Err("unable to start service %s on local node after %d retries", sid, w.tries[sid])
	delete(w.tries, sid)
	return false
}

// do brings one service into the state its job asks for. It may run beside the
// LRM and touches nothing but the guest and the log.
func (w *work) do(sid string, j job, c ha.Resource, found bool) ha.Code {
	switch {
	case !found:
		w.log.Err("missing resource configuration for '%s'", sid)
		return ha.UnknownService
	case j.state == ha.Failed:
		w.log.Err("service %s is in an error state and needs manual intervention. Look up 'ERROR RECOVERY' in the documentation.", sid)
		return ha.Success
	case c.Node != w.node:
		w.log.Err("service '%s' not on this node", sid)
		return ha.WrongNode
	}
	switch j.state {
	case ha.Started:
		return w.start(sid)
	case ha.Stopped, ha.RequestStop:
		return w.stop(sid, j)
	case ha.Migrate, ha.Relocate, ha.RequestStartBalance:
		return w.move(sid, j)
	}
	w.log.Err("service '%s': nothing to do for state '%s'", sid, j.state)
	return ha.Error
}

func (w *work) start(sid string) ha.Code {
	if w.guests.Running(sid) {
		return ha.Success
	}
	w.log.Info("starting service %s", sid)
	if err := w.guests.Start(sid); err == nil && w.guests.Running(sid) {
		w.log.Info("service status %s started", sid)
		return ha.Success
	}
	w.log.Warn("unable to start service %s", sid)
	return ha.TryAgain
}

func (w *work) stop(sid string, j job) ha.Code {
	if !w.guests.Running(sid) {
		return ha.Success
	}
	limit := ""
	if j.timeout != nil {
		limit = fmt.Sprintf(" (timeout=%d)", *j.timeout)
	}
	w.log.Info("stopping service %s%s", sid, limit)
	err := w.guests.Stop(sid, j.timeout)
	if err == nil && !w.guests.Running(sid) {
		w.log.Info("service status %s stopped", sid)
		return ha.Success
	}
	w.log.Info("unable to stop service %s (still running)", sid)
	return ha.Error
}

func (w *work) move(sid string, j job) ha.Code {
	if j.target == w.node {
		return ha.Success
	}
	if j.state == ha.RequestStartBalance && w.guests.Running(sid) {
		w.log.Info("ignoring rebalance-on-start for service %s - already running", sid)
		return ha.Ignored
	}
	// While HA is disarmed in mode ignore, the target of a motion is forgotten.
	if j.target == "" {
		w.log.Err("service %s not moved (migration error)", sid)
		return ha.Error
	}
	if err := w.guests.Move(sid, j.target, j.state == ha.Migrate); err != nil {
		w.log.Err("service %s not moved (migration error)", sid)
		return ha.Error
	}
	return ha.Success
}

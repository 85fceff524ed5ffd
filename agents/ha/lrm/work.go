package lrm

import (
	"fmt"
	"maps"
	"slices"

	"etcpve/agents/ha"
)

// Guests are the node's guests as services. All methods wait until the guest
// got there.
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

// work is what an LRM has to do and what it has done.
type work struct {
	node       string
	guests     Guests
	log        ha.Log
	queue      map[string]job
	results    map[string]ha.Result // by UID
	tries      map[string]int       // failed starts
	stopErrors int                  // of a shutdown
}

func newWork(node string, guests Guests, log ha.Log) *work {
	return &work{node: node, guests: guests, log: log,
		queue: map[string]job{}, results: map[string]ha.Result{}, tries: map[string]int{}}
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
		w.queue[sid] = job{s.UID, s.State, s.Target, s.Timeout}
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

// run does all jobs in the order of their services. The configuration is asked
// for only if there is anything to do.
func (w *work) run(configured func() map[string]ha.Resource) {
	if len(w.queue) == 0 {
		return
	}
	resources := configured()
	for _, sid := range slices.Sorted(maps.Keys(w.queue)) {
		j := w.queue[sid]
		delete(w.queue, sid)
		w.settle(sid, j, w.do(sid, j, resources))
	}
}

// settle files the outcome of a job.
func (w *work) settle(sid string, j job, code ha.Code) {
	switch {
	case code == ha.TryAgain:
	case j.uid != "":
		w.results[j.uid] = ha.Result{SID: sid, Code: code, State: j.state}
	case code != ha.Success:
		w.stopErrors++
	}
}

// do brings one service into the state its job asks for.
func (w *work) do(sid string, j job, resources map[string]ha.Resource) ha.Code {
	c, found := resources[sid]
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
		return w.start(sid, c)
	case ha.Stopped, ha.RequestStop:
		return w.stop(sid, j)
	case ha.Migrate, ha.Relocate, ha.RequestStartBalance:
		return w.move(sid, j)
	}
	w.log.Err("service '%s': nothing to do for state '%s'", sid, j.state)
	return ha.Error
}

func (w *work) start(sid string, c ha.Resource) ha.Code {
	if w.guests.Running(sid) {
		delete(w.tries, sid)
		return ha.Success
	}
	w.log.Info("starting service %s", sid)
	err := w.guests.Start(sid)
	if err == nil && w.guests.Running(sid) {
		w.log.Info("service status %s started", sid)
		delete(w.tries, sid)
		return ha.Success
	}
	w.log.Warn("unable to start service %s", sid)
	if w.tries[sid] < c.MaxRestart {
		w.tries[sid]++
		w.log.Warn("restart policy: retry number %d for service '%s'", w.tries[sid], sid)
		return ha.TryAgain
	}
	w.log.Err("unable to start service %s on local node after %d retries", sid, w.tries[sid])
	delete(w.tries, sid)
	return ha.Error
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
	if err := w.guests.Move(sid, j.target, j.state == ha.Migrate); err != nil {
		w.log.Err("service %s not moved (migration error)", sid)
		return ha.Error
	}
	return ha.Success
}

package node

import (
	"runtime"
	"strconv"
	"strings"
	"time"

	"etcpve/agents/ha"
	"etcpve/agents/ha/crm"
	"etcpve/agents/ha/files"
	"etcpve/agents/ha/schedule"
	"etcpve/agents/host"
	"etcpve/agents/reconcile"
	"etcpve/agents/sample"
	guestfile "etcpve/cfs/format/guest"
	"etcpve/cfs/layout"
)

// Keys of what an LRM says of its node, and the schedulers read.
const (
	coresKey  = "cores"
	memoryKey = "memory" // bytes
)

// facts are what an LRM says of its node, once.
func facts(node, watchdog string) reconcile.Report {
	lines := []reconcile.Line{{Key: "watchdog", Value: watchdog}, {Key: coresKey, Value: strconv.Itoa(runtime.NumCPU())}}
	if m, err := host.Proc.Memory(); err == nil {
		lines = append(lines, reconcile.Line{Key: memoryKey, Value: strconv.FormatUint(m.Total, 10)})
	}
	return reconcile.Report{Path: files.LRMStatus(node), Content: []byte{}, Lines: lines}
}

// freshness is how old a sample of a guest may be. They are taken every ten
// seconds.
const freshness = time.Minute

// Places of values in a row of a guest's sample.
const (
	sampleCPUs = iota
	sampleCPU  // the part of its CPUs that it uses; unknown unless it runs
	_
	sampleMemory
)

// measure adds what the schedulers other than basic count: what nodes have, as
// their LRMs say, what services are configured with, and what they use, by the
// newest samples. Of a service that runs without a sample, say because it has
// just been started, all that it may use is counted.
func (s crmStore) measure(v *crm.View) error {
	for name, m := range v.Members {
		text, err := s.files.Read(".status/" + files.LRMStatus(name))
		if err != nil {
			return err
		}
		m.Node = nodeOf(text)
		v.Members[name] = m
	}
	text, err := s.files.Read(sample.File)
	if err != nil {
		return err
	}
	samples := samplesOf(text, time.Now())
	v.Services = make(map[string]schedule.Service, len(v.Resources))
	for sid, r := range v.Resources {
		use, err := s.configured(sid, r)
		if err != nil {
			return err
		}
		if used, found := samples[idOf(sid)]; found && r.Request == ha.WantStarted {
			use.CPU, use.Mem = used.CPU, used.Mem
		}
		v.Services[sid] = use
	}
	return nil
}

// samplesOf returns what guests use by their newest samples, by VMID.
func samplesOf(text string, now time.Time) map[string]schedule.Service {
	used := map[string]schedule.Service{}
	for _, r := range sample.Rows([]byte(text)) {
		id, of := strings.CutPrefix(r.Key, sample.GuestForm+"/")
		if !of || len(r.Values) <= sampleMemory || now.Unix()-r.Time > int64(freshness/time.Second) {
			continue
		}
		cpus, noCPUs := strconv.ParseFloat(r.Values[sampleCPUs], 64)
		share, noShare := strconv.ParseFloat(r.Values[sampleCPU], 64)
		memory, noMemory := strconv.ParseFloat(r.Values[sampleMemory], 64)
		if noCPUs == nil && noShare == nil && noMemory == nil {
			used[id] = schedule.Service{CPU: cpus * share, Mem: int64(memory)}
		}
	}
	return used
}

func nodeOf(text string) (n schedule.Node) {
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		// A value that is no number counts as missing.
		switch key {
		case coresKey:
			n.Cores, _ = strconv.ParseFloat(value, 64)
		case memoryKey:
			n.Mem, _ = strconv.ParseInt(value, 10, 64)
		}
	}
	return n
}

// configured is what a guest may use by its configuration.
func (s crmStore) configured(sid string, r ha.Resource) (use schedule.Service, err error) {
	at, err := guestOf(sid, r.Node)
	if err != nil {
		return use, err
	}
	text, err := s.files.Read(at.Path())
	if err != nil {
		return use, err
	}
	c, _ := guestfile.Parse(at.Kind, at.VMID, text)
	number := func(key string, otherwise float64) float64 {
		if n, err := strconv.ParseFloat(c.Main.Get(key), 64); err == nil {
			return n
		}
		return otherwise
	}
	use.MaxCPU = number("cores", 0)
	if at.Kind == layout.QEMU {
		use.MaxCPU = number("vcpus", number("cores", 1)*number("sockets", 1))
	}
	use.MaxMem = int64(guestfile.Memory(at.Kind, c.Main)) << 20
	use.CPU, use.Mem = use.MaxCPU, use.MaxMem
	if r.Request == ha.WantStarted {
		use.On = r.Node
	}
	return use, nil
}

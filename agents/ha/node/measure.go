package node

import (
	"runtime"
	"strconv"
	"strings"

	"etcpve/agents/ha"
	"etcpve/agents/ha/crm"
	"etcpve/agents/ha/files"
	"etcpve/agents/ha/schedule"
	"etcpve/agents/host"
	"etcpve/agents/reconcile"
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

// measure adds what the schedulers other than basic count: what nodes have, as
// their LRMs say, and what services are configured with. Nothing measures yet
// what services really use, so it is taken to be what they may use.
func (s crmStore) measure(v *crm.View) error {
	for name, m := range v.Members {
		text, err := s.files.Read(".status/" + files.LRMStatus(name))
		if err != nil {
			return err
		}
		m.Node = nodeOf(text)
		v.Members[name] = m
	}
	v.Services = make(map[string]schedule.Service, len(v.Resources))
	for sid, r := range v.Resources {
		use, err := s.configured(sid, r)
		if err != nil {
			return err
		}
		v.Services[sid] = use
	}
	return nil
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
		use.MaxCPU = number("cores", 1) * number("sockets", 1)
	}
	use.MaxMem = int64(guestfile.Memory(at.Kind, c.Main)) << 20
	use.CPU, use.Mem = use.MaxCPU, use.MaxMem
	if r.Request == ha.WantStarted {
		use.On = r.Node
	}
	return use, nil
}

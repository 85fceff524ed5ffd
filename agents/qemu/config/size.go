package config

import (
	"fmt"
	"strconv"
	"strings"
)

const defaultMemory = 512 // MiB

// A Topology counts the CPUs of a guest.
type Topology struct{ Sockets, Cores, VCPUs int }

// Max is how many there can be.
func (t Topology) Max() int { return t.Sockets * t.Cores }

// Topology reads the CPU keys.
func (c Config) Topology() (t Topology, err error) {
	if t.Sockets, err = c.Int("sockets", 1); err != nil {
		return t, err
	}
	if t.Cores, err = c.Int("cores", 1); err != nil {
		return t, err
	}
	if t.VCPUs, err = c.Int("vcpus", t.Max()); err != nil {
		return t, err
	}
	switch {
	case t.Sockets < 1 || t.Cores < 1:
		return t, Errorf("cores", "a guest needs at least one CPU")
	case t.VCPUs < 1 || t.VCPUs > t.Max():
		return t, Errorf("vcpus", "must be between 1 and sockets * cores = %d", t.Max())
	}
	return t, nil
}

// VCPUs is the number of CPUs the guest starts with.
func (c Config) VCPUs() (int, error) {
	t, err := c.Topology()
	return t.VCPUs, err
}

// StaticMB is the part of the memory that cannot be taken away.
func StaticMB(huge int, t Topology) int { return max(1024, huge*t.Sockets) }

// StaticMemoryMB returns the part of the memory, in MiB, that is no DIMM.
func (c Config) StaticMemoryMB() (int, error) {
	t, err := c.Topology()
	if err != nil || !c.Hotplug()["memory"] {
		return 0, err
	}
	huge, err := c.HugePageMB()
	return StaticMB(huge, t), err
}

// MemoryMB returns the size of the guest's memory in MiB.
func (c Config) MemoryMB() (int, error) {
	o, err := c.Options("memory", "current")
	if err != nil || o["current"] == "" {
		return defaultMemory, err
	}
	n, err := strconv.Atoi(o["current"])
	if err != nil || n < 16 {
		return 0, Errorf("memory", "%q is not a size in MiB of at least 16", o["current"])
	}
	return n, nil
}

// HugePageMB returns the size of the pages that back the guest, 0 for ordinary ones.
func (c Config) HugePageMB() (int, error) {
	switch v := c["hugepages"]; v {
	case "":
		return 0, nil
	case "any", "2", "1024":
		if !c.Bool("numa", false) {
			return 0, Errorf("hugepages", "needs numa: 1")
		}
		if v == "any" {
			v = "2"
		}
		return strconv.Atoi(v)
	default:
		return 0, Errorf("hugepages", "%q is none of any, 2, 1024", v)
	}
}

// A NUMANode is one NUMA node of a guest.
type NUMANode struct {
	CPUs      []string
	Size      int // in MiB
	HostNodes string
	Policy    string
}

// NUMANodes are those of the numaN keys, or else one for each socket.
func (c Config) NUMANodes(static int, t Topology) (nodes []NUMANode, err error) {
	total := 0
	for _, key := range c.Indexed("numa") {
		o, err := c.Options(key, "")
		if err != nil {
			return nil, err
		}
		n := NUMANode{CPUs: strings.Split(o["cpus"], ";"), HostNodes: strings.ReplaceAll(o["hostnodes"], ";", ","), Policy: o["policy"]}
		if n.Size, err = strconv.Atoi(o["memory"]); err != nil || o["cpus"] == "" {
			return nil, Errorf(key, "cpus and memory are needed")
		}
		if n.Policy == "" {
			n.Policy = "preferred"
		}
		total += n.Size
		nodes = append(nodes, n)
	}
	if len(nodes) > 0 {
		if total != static {
			return nil, Errorf("memory", "the NUMA nodes have %d MiB together, not %d", total, static)
		}
		return nodes, nil
	}
	if static%t.Sockets != 0 {
		return nil, Errorf("memory", "cannot be shared equally by %d sockets", t.Sockets)
	}
	for i := range t.Sockets {
		cpus := strconv.Itoa(i * t.Cores)
		if t.Cores > 1 {
			cpus = fmt.Sprintf("%d-%d", i*t.Cores, (i+1)*t.Cores-1)
		}
		nodes = append(nodes, NUMANode{CPUs: []string{cpus}, Size: static / t.Sockets})
	}
	return nodes, nil
}

package node

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"

	"etcpve/agents/firewall"
	"etcpve/agents/firewall/facts"
	"etcpve/agents/reconcile"
	"etcpve/cfs/format/text"
)

// A statement is what was said of a file.
type statement struct {
	content []byte
	report  reconcile.Report
	failure string
}

// Report publishes the status of every rule file, and returns that of the
// cluster's. A file is in force if nothing failed and none of its own lines is
// wrong.
func (a *Agent) Report(_ string, d Desired, o Observed, err error) reconcile.Report {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil && o.rules == nil {
		// There was nothing to do: the kernel holds what the files ask for.
		o.rules = d.Rules
		a.known = o
	}
	wrong := map[string][]text.Error{}
	for _, p := range d.Problems {
		wrong[p.File] = append(wrong[p.File], p)
	}
	said := map[string]statement{}
	var cluster reconcile.Report
	for _, f := range d.Files {
		r, failure := reportOf(f, d, wrong[f.Path])
		if f.Path == clusterFile {
			// This one is published by the loop, with the failures of the run.
			cluster = r
			continue
		}
		said[f.Path] = a.say(r, errors.Join(failure, err))
	}
	if d.Rules != nil {
		for path := range a.said {
			if _, still := said[path]; !still {
				a.say(reconcile.Report{Path: path}, nil)
			}
		}
		a.said = said
	}
	return cluster
}

const clusterFile = "firewall/cluster.fw"

// inert are options that are read and have no effect, so that nobody relies on
// them.
var inert = []reconcile.Pending{
	{Key: "nftables", Reason: "has no effect; the rules are those of iptables"},
	{Key: "log_nf_conntrack", Reason: "has no effect; connections are not logged, only packets"},
	{Key: "ips", Reason: "has no effect; packets are not handed to an intrusion prevention system"},
	{Key: "layer2_protocols", Reason: "has no effect; frames are restricted by macfilter and ipfilter only"},
}

// say publishes a status, unless that was said already.
func (a *Agent) say(r reconcile.Report, err error) statement {
	s := statement{r.Content, r, fmt.Sprint(err)}
	old, ok := a.said[r.Path]
	if ok && old.failure == s.failure && bytes.Equal(old.content, s.content) && reflect.DeepEqual(old.report.Pending, r.Pending) {
		return s
	}
	if e := a.publish.Publish(r, err); e != nil {
		a.Log.Warn("status not published", "path", r.Path, "err", e)
	}
	return s
}

// reportOf says of a file what of it is not in force, and why.
func reportOf(f facts.File, d Desired, wrong []text.Error) (r reconcile.Report, failure error) {
	r = reconcile.Report{Path: f.Path, Content: f.Content}
	for _, p := range append(f.Problems[:len(f.Problems):len(f.Problems)], wrong...) {
		r.Pending = append(r.Pending, reconcile.Pending{Key: fmt.Sprintf("line %d", p.Line), Reason: reasonOf(p)})
	}
	switch {
	case d.Stopped:
		r.Pending = append(r.Pending, reconcile.Pending{Key: "firewall", Reason: "stopped by hand; pve-firewall start"})
	case f.Kept:
		failure = fmt.Errorf("%s: cannot be read in full; the version before it stays in force", f.Path)
	}
	for _, o := range inert {
		if value, ok := f.Document.Option(o.Key); ok && value != "0" {
			r.Pending = append(r.Pending, o)
		}
	}
	return r, failure
}

func reasonOf(p text.Error) string {
	if p.Key == "" {
		return p.Message
	}
	return p.Key + ": " + p.Message
}

// same reports whether two inputs give the same rule set. Documents that did
// not change are the same ones.
func same(a, b firewall.Input) bool {
	if a.Cluster != b.Cluster || a.Host != b.Host || len(a.Guests) != len(b.Guests) || len(a.VNets) != len(b.VNets) {
		return false
	}
	for i, g := range a.Guests {
		h := b.Guests[i]
		if g.Rules != h.Rules || g.VMID != h.VMID || g.Container != h.Container || !reflect.DeepEqual(g.NICs, h.NICs) {
			return false
		}
	}
	for i, v := range a.VNets {
		if v != b.VNets[i] {
			return false
		}
	}
	return reflect.DeepEqual(a.Node, b.Node)
}

package firewall

import (
	"fmt"
	"net/netip"

	fw "etcpve/cfs/format/firewall"
)

// A scope is what the names in a piece of a rule file stand for. What stands
// in a guest's file finds the guest's own names first, then the cluster's; all
// else knows the cluster's only. A name must be defined above its use, and
// cluster.fw is above all other files.
type scope struct {
	cluster *fw.Document
	guest   *fw.Document // nil outside of guests
	vmid    uint32
	node    *Node

	own  *fw.Document // the file in which names are used
	line int          // and where
}

// clusterScope is for host.fw, the rules of networks, and cluster.fw itself.
func clusterScope(in *Input) scope { return scope{cluster: in.Cluster, node: &in.Node} }

func guestScope(in *Input, g Guest) scope {
	s := clusterScope(in)
	s.guest, s.vmid = g.Rules, g.VMID
	return s
}

// at returns the scope as seen from a line of a file.
func (s scope) at(own *fw.Document, line int) scope {
	s.own, s.line = own, line
	return s
}

// A place is a document to look in, and whose it is.
type place struct {
	*fw.Document
	vmid uint32
}

// places returns where to look for a name, in order.
func (s scope) places(where fw.Where) (list []place) {
	if s.guest != nil && (where == fw.Anywhere || where == fw.InGuest) {
		list = append(list, place{s.guest, s.vmid})
	}
	if s.cluster != nil && (where == fw.Anywhere || where == fw.Datacenter) {
		list = append(list, place{s.cluster, 0})
	}
	return list
}

// above reports whether a definition counts here.
func (s scope) above(p place, line int) bool { return p.Document != s.own || line < s.line }

// alias returns the network that an alias stands for.
func (s scope) alias(a fw.Address) (fw.Range, error) {
	for _, p := range s.places(a.Where) {
		if found, ok := p.Alias(a.Alias); ok && s.above(p, found.Line) && found.Address.IsNetwork() {
			return found.Address.Ranges[0], nil
		}
	}
	if a.Alias == localNetwork && a.Where != fw.InGuest && len(s.node.LocalNetworks) > 0 {
		return rangeOf(s.node.LocalNetworks[0]), nil
	}
	return fw.Range{}, fmt.Errorf("no such alias '%s'", a)
}

// set returns the VMID under which an IP set is kept; 0 is the cluster's.
func (s scope) set(a fw.Address) (vmid uint32, name string, err error) {
	if a.Where == fw.SDN {
		if _, ok := s.node.SDN[a.Set]; ok {
			return 0, sdnPrefix + a.Set, nil
		}
		return 0, "", fmt.Errorf("no such IP set '%s'", a)
	}
	for _, p := range s.places(a.Where) {
		if found, ok := p.IPSet(a.Set); ok && s.above(p, found.Line) {
			return p.vmid, a.Set, nil
		}
	}
	if a.Set == management && a.Where != fw.InGuest {
		return 0, management, nil
	}
	return 0, "", fmt.Errorf("no such IP set '%s'", a)
}

// Names with a meaning of their own.
const (
	localNetwork = "local_network" // alias: from where the node is managed
	management   = "management"    // IP set: who may manage the node
	blacklist    = "blacklist"     // IP set: who may nothing
	sdnPrefix    = "sdn-"          // before the names of the SDN's sets
)

// localNetworks returns the networks from which the node is managed.
func (in *Input) localNetworks() []netip.Prefix {
	if in.Cluster != nil {
		if a, ok := in.Cluster.Alias(localNetwork); ok && a.Address.IsNetwork() {
			return []netip.Prefix{a.Address.Ranges[0].Prefix}
		}
	}
	return in.Node.LocalNetworks
}

func rangeOf(p netip.Prefix) fw.Range { return fw.Range{First: p.Addr(), Prefix: p.Masked()} }

package firewall

import (
	"fmt"
	"net/netip"

	fw "etcpve/cfs/format/firewall"
)

// Input is all that a node's rule set follows from. Documents that do not exist
// are nil.
type Input struct {
	Cluster, Host *fw.Document
	Guests        []Guest // of this node
	VNets         []VNet
	Node          Node
}

// A Guest is a virtual machine or container of the node.
type Guest struct {
	VMID      uint32
	Container bool
	NICs      []NIC
	Rules     *fw.Document
}

// A NIC is one of a guest's network interfaces.
type NIC struct {
	Number    int
	MAC       string
	Bridge    string
	Firewall  bool           // the firewall=1 of the guest's configuration
	Addresses []netip.Prefix // configured ones, of containers
}

// A VNet is a virtual network with rules of its own for what passes through it.
type VNet struct {
	Name  string
	Rules *fw.Document
}

// A Node is what the firewall has to know of the machine it protects.
type Node struct {
	LocalNetworks []netip.Prefix            // what cluster.fw's alias local_network overrides
	Transport     string                    // of corosync.conf: udp, udpu, knet
	Rings         []Ring                    // networks on which cluster members reach each other
	Services      []Service                 // of the cluster itself, open between its members
	SDN           map[string][]netip.Prefix // sets of the software defined network, by name
}

// A Ring is one network of the cluster, as one node sees it.
type Ring struct {
	Own   netip.Addr
	Peers []netip.Addr
}

// A Service is a port, or a range of them.
type Service struct {
	Protocol    string
	First, Last int
	Joining     bool // also open to nodes that are not members yet, in the set management
}

// Port returns the name of the guest's end of a NIC on the node.
func (g Guest) Port(n NIC) string {
	if g.Container {
		return fmt.Sprintf("veth%di%d", g.VMID, n.Number)
	}
	return fmt.Sprintf("tap%di%d", g.VMID, n.Number)
}

// Link returns the name of the other port of the NIC's own bridge, which leads
// to the network.
func (g Guest) Link(n NIC) string { return fmt.Sprintf("fwln%di%d", g.VMID, n.Number) }

// Bridge returns the name of the NIC's own bridge, on which it is filtered.
func (g Guest) Bridge(n NIC) string { return fmt.Sprintf("fwbr%di%d", g.VMID, n.Number) }

// longestInterface is the kernel's limit for names of interfaces. No interface
// can have a longer one, and the tools would refuse the whole table.
const longestInterface = 15

// ports returns the NICs that have the firewall and a bridge of their own.
func (g Guest) ports() (list []NIC) {
	for _, n := range g.NICs {
		if n.Firewall && len(g.Port(n)) <= longestInterface {
			list = append(list, n)
		}
	}
	return list
}

// filtered reports whether the guest's rules are in force.
func (g Guest) filtered() bool { return option(g.Rules, "enable", "0") != "0" }

// option returns the value of an option of a document that may be missing.
// Empty values are as good as none.
func option(d *fw.Document, name, preset string) string {
	if d == nil {
		return preset
	}
	if value, ok := d.Option(name); ok && value != "" {
		return value
	}
	return preset
}

// rulesOf returns the rules of a document that may be missing.
func rulesOf(d *fw.Document) []fw.Rule {
	if d == nil {
		return nil
	}
	return d.Rules
}

// Package facts gathers what a node's rule set follows from: the rule files,
// corosync.conf, the guests of the node and the networks it is managed from.
//
// It owns the way from files and the machine to a firewall.Input, and the rule
// which version of a file counts while the newest cannot be read. It never
// decides about packets.
package facts

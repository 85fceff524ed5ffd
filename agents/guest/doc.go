// Package guest holds what virtual machines and containers share beyond
// their files' format: locks, pending changes, the snapshot tree and the
// steps that make, remove and return to a snapshot, the order in which
// guests start, and the list of them all.
//
// It owns the rules and the sequence in which the configuration changes. It
// never touches a volume, QEMU or liblxc itself: the agents hand it drivers.
package guest

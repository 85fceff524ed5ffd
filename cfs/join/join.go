// Package join forms a cluster: it makes the authority and the certificates by
// which nodes know each other, and the information with which a new node makes
// first contact.
//
// It owns the forms of these things and what may be asked before a node has a
// certificate. It never changes the cluster's definition itself and keeps no
// private key longer than a call.
package join

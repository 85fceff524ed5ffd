package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"etcpve/cfs/cluster/home"
	"etcpve/cfs/format/corosync"
	"etcpve/cfs/join"
	"etcpve/cfs/peer"
)

// recruitWithin bounds how long a member waits for its witness to have come.
const recruitWithin = 30 * time.Second

// recruitVersion is that of what a member and a witness say to each other.
const recruitVersion = 1

// A Recruit says which witness shall vote.
type Recruit struct {
	Address     netip.Addr   `json:"address"`
	Fingerprint string       `json:"fingerprint"` // of the witness
	Password    string       `json:"password"`    // of root on the witness
	Network     netip.Prefix `json:"network"`     // in which this node is reached; none: the first link's
	Force       bool         `json:"force"`       // although the number of nodes is odd
}

// A summons is what a member says to a witness.
type summons struct {
	Version     int              `json:"version"`
	Password    string           `json:"password"`
	Address     netip.Addr       `json:"address"`     // of the witness
	Information join.Information `json:"information"` // with which it joins
}

// Recruit has a witness join the cluster.
func (c *Cluster) Recruit(ctx context.Context, r Recruit) error {
	d := c.Definition()
	if _, has := d.Node(corosync.Witness); has {
		return errors.New("the cluster has a quorum device already: 'pvecm qdevice remove' removes it")
	}
	if len(d.Nodes)%2 == 1 && !r.Force {
		return fmt.Errorf("with %d nodes, an odd number, a quorum device makes no failure survivable that is not already", len(d.Nodes))
	}
	i, err := c.Invite(c.config.Now().Add(recruitWithin))
	if err != nil {
		return err
	}
	if r.Network.IsValid() {
		own, _ := d.Node(c.config.Node)
		if i.Address, err = inside(r.Network, own); err != nil {
			return err
		}
	}
	body, err := json.Marshal(summons{recruitVersion, r.Password, r.Address, i})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, recruitWithin)
	defer cancel()
	address := netip.AddrPortFrom(r.Address, c.config.Port).String()
	if _, err := peer.Contact(ctx, address, r.Fingerprint, body); err != nil {
		// The witness begins anew when it has joined, perhaps before its answer left.
		if w, has := c.Definition().Node(corosync.Witness); !has || w.Address() != r.Address.String() {
			return err
		}
	}
	return nil
}

// inside returns the address of a node that lies in a network.
func inside(network netip.Prefix, n corosync.Node) (string, error) {
	for link := range corosync.MaxLinks {
		if a, err := netip.ParseAddr(n.Addresses[link]); err == nil && network.Masked().Contains(a) {
			return a.String(), nil
		}
	}
	return "", fmt.Errorf("this node has no link in %s", network)
}

// A reception is the doorman of a witness: whoever knows the password of root
// there may have it join a cluster, unless it serves one that has quorum.
type reception struct{ *Cluster }

// Admit implements peer.Doorman.
func (r reception) Admit(ctx context.Context, address string, body []byte) ([]byte, error) {
	var in summons
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, fmt.Errorf("call for a witness: %w", err)
	}
	if in.Version != recruitVersion {
		return nil, fmt.Errorf("call for a witness: version %d, this one speaks %d", in.Version, recruitVersion)
	}
	if err := r.config.Password(ctx, in.Password); err != nil {
		return nil, err
	}
	entry := Entry{Information: in.Information}
	if in.Address.IsValid() {
		entry.Addresses = []netip.Addr{in.Address}
	}
	if err := r.Join(ctx, entry); err != nil {
		return nil, err
	}
	r.log.Info("witness joins", "address", address, "cluster", in.Information.Cluster)
	r.config.Restart.Empty()
	return []byte("{}"), nil
}

// awaitSetup listens for a member that calls for a witness until ctx ends.
func (c *Cluster) awaitSetup(ctx context.Context) error {
	if err := c.config.Home.Furnish(c.config.Node, c.config.Now()); err != nil {
		return err
	}
	fingerprint, err := c.config.Home.Fingerprint()
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", ":"+strconv.Itoa(int(c.config.Port)))
	if err != nil {
		return fmt.Errorf("witness: listen: %w", err)
	}
	c.log.Info("witness waits for 'pvecm qdevice setup'", "address", listener.Addr().String(), "fingerprint", fingerprint)
	return peer.New(c.config.Node, stranger{c.config.Home}, nil, reception{c}, c.log).Run(ctx, listener)
}

// A stranger knows no member.
type stranger struct{ home.Home }

// Addresses implements peer.Directory.
func (stranger) Addresses(string) ([]string, bool) { return nil, false }

// doorman returns who answers strangers.
func (c *Cluster) doorman() peer.Doorman {
	if c.config.Witness {
		return reception{c}
	}
	return &join.Doorman{Cluster: enrolment{c}, Password: c.config.Password, Now: c.config.Now, Log: c.log}
}

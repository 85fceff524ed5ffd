package join

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"regexp"
	"time"

	"etcpve/cfs/format/corosync"
)

// Version of what is said at first contact. A member that speaks another one
// refuses, naming both.
const Version = 1

// A Request is what a new node says at first contact.
type Request struct {
	Version   int          `json:"version"`
	Node      string       `json:"node"`
	Addresses []netip.Addr `json:"addresses"` // one for each link, in order
	Port      uint16       `json:"port"`      // on which it will listen for peers
	Domain    string       `json:"domain,omitempty"`
	NodeID    uint32       `json:"nodeid,omitempty"`  // 0: the next free one
	Votes     *uint32      `json:"votes,omitempty"`   // nil: one
	Witness   bool         `json:"witness,omitempty"` // it only votes
	Force     bool         `json:"force,omitempty"`   // it may be in the definition already
	PublicKey []byte       `json:"public_key"`        // PKIX, DER
	Token     string       `json:"token,omitempty"`
	Password  string       `json:"password,omitempty"` // of root on the member
}

// A Welcome is what the new node gets: everything it needs to listen to the
// cluster. The tree itself comes through the log.
type Welcome struct {
	NodeID      uint32 `json:"nodeid"`
	Definition  []byte `json:"definition"`  // corosync.conf
	Authority   []byte `json:"authority"`   // pve-root-ca.pem
	Certificate []byte `json:"certificate"` // of the new node
	GossipKey   []byte `json:"gossip_key"`
}

// A Cluster is what a doorman stands in front of.
type Cluster interface {
	// Authority returns the cluster's authority.
	Authority() (*Authority, error)
	// Secret returns what the cluster's tokens are made with, which also
	// encrypts its gossip.
	Secret() ([]byte, error)
	// Enroll adds the node to the cluster's definition and returns the node's
	// id and the new definition once a majority has it. It refuses a name, id or
	// address that is taken.
	Enroll(ctx context.Context, r Request) (id uint32, definition []byte, err error)
}

// A Doorman answers first contacts on a member.
type Doorman struct {
	Cluster  Cluster
	Password func(ctx context.Context, password string) error // of root; nil refuses passwords
	Now      func() time.Time
	Log      *slog.Logger
}

// nodeName is what a node may be called: one label of a host name.
var nodeName = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$`)

// Admit answers a new node. Nothing is changed or told before the stranger has
// shown a token or root's password.
func (d *Doorman) Admit(ctx context.Context, address string, body []byte) ([]byte, error) {
	var r Request
	if err := json.Unmarshal(body, &r); err != nil {
		return nil, fmt.Errorf("join request: %w", err)
	}
	if err := d.prove(ctx, r); err != nil {
		return nil, err
	}
	public, err := r.check()
	if err != nil {
		return nil, err
	}
	if r.Witness && r.Node != corosync.Witness || !r.Witness && r.Node == corosync.Witness {
		return nil, fmt.Errorf("join request: the name %s is that of the witness", corosync.Witness)
	}
	w, err := d.welcome(ctx, r, public)
	if err != nil {
		return nil, fmt.Errorf("node %s: join: %w", r.Node, err)
	}
	d.Log.Info("node joins", "node", r.Node, "nodeid", w.NodeID, "address", address)
	return json.Marshal(w)
}

// prove says whether the stranger has shown that it may join.
func (d *Doorman) prove(ctx context.Context, r Request) error {
	switch {
	case r.Token != "":
		secret, err := d.Cluster.Secret()
		if err != nil {
			return err
		}
		return CheckToken(secret, r.Token, d.Now())
	case r.Password != "" && d.Password != nil:
		return d.Password(ctx, r.Password)
	}
	return errors.New("join request: neither a token nor a password")
}

// Check says what is wrong with the node that a request names.
func (r Request) Check() error {
	switch {
	case !nodeName.MatchString(r.Node):
		return fmt.Errorf("join request: %q is no name for a node", r.Node)
	case len(r.Addresses) == 0 || len(r.Addresses) > corosync.MaxLinks:
		return fmt.Errorf("join request: %d addresses, want 1 to %d", len(r.Addresses), corosync.MaxLinks)
	}
	for _, a := range r.Addresses {
		if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() {
			return fmt.Errorf("join request: %s is no address of a node", a)
		}
	}
	return nil
}

// check returns the public key of a well-formed request.
func (r Request) check() (crypto.PublicKey, error) {
	switch {
	case r.Version != Version:
		return nil, fmt.Errorf("join request: version %d, this node speaks %d", r.Version, Version)
	case r.Port == 0:
		return nil, errors.New("join request: no port")
	}
	if err := r.Check(); err != nil {
		return nil, err
	}
	public, err := x509.ParsePKIXPublicKey(r.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("join request: public key: %w", err)
	}
	return public, nil
}

// welcome enrolls the node. The certificate is made first: a node that is in
// the definition but cannot speak would count against quorum.
func (d *Doorman) welcome(ctx context.Context, r Request, public crypto.PublicKey) (w Welcome, err error) {
	authority, err := d.Cluster.Authority()
	if err != nil {
		return w, err
	}
	if w.Authority, _, err = authority.PEM(); err != nil {
		return w, err
	}
	if w.Certificate, err = authority.Issue(r.Node, r.Domain, r.Addresses, public, d.Now()); err != nil {
		return w, err
	}
	if w.GossipKey, err = d.Cluster.Secret(); err != nil {
		return w, err
	}
	w.NodeID, w.Definition, err = d.Cluster.Enroll(ctx, r)
	return w, err
}

// A Contact sends a request to a member and returns its answer.
type Contact func(ctx context.Context, body []byte) ([]byte, error)

// Ask makes first contact for a new node: it makes the node's key, sends the
// request and checks what comes back. It returns the key in PEM form.
func Ask(ctx context.Context, r Request, contact Contact, now time.Time) (w Welcome, key []byte, err error) {
	private, key, err := NewKey()
	if err != nil {
		return w, nil, err
	}
	if r.PublicKey, err = x509.MarshalPKIXPublicKey(private.Public()); err != nil {
		return w, nil, err
	}
	r.Version = Version
	body, err := json.Marshal(r)
	if err != nil {
		return w, nil, err
	}
	answer, err := contact(ctx, body)
	if err != nil {
		return w, nil, err
	}
	if err := json.Unmarshal(answer, &w); err != nil {
		return w, nil, fmt.Errorf("welcome: %w", err)
	}
	return w, key, w.check(r, private.Public(), now)
}

// check says whether a welcome is usable by the node that asked.
func (w Welcome) check(r Request, public crypto.PublicKey, now time.Time) error {
	root, err := ParseCertificate(w.Authority)
	if err != nil {
		return fmt.Errorf("welcome: authority: %w", err)
	}
	cert, err := ParseCertificate(w.Certificate)
	if err != nil {
		return fmt.Errorf("welcome: certificate: %w", err)
	}
	if !(&Authority{cert: root}).Signed(cert, r.Node, now) {
		return fmt.Errorf("welcome: certificate is not of this cluster for node %s, or the clocks differ by more than %s", r.Node, clockSlack)
	}
	got, err := x509.MarshalPKIXPublicKey(cert.PublicKey)
	if err != nil {
		return fmt.Errorf("welcome: certificate: %w", err)
	}
	want, err := x509.MarshalPKIXPublicKey(public)
	if err != nil || !bytes.Equal(got, want) {
		return errors.New("welcome: certificate is for another key")
	}
	if len(w.Definition) == 0 || w.NodeID == 0 || len(w.GossipKey) < 16 {
		return errors.New("welcome: incomplete")
	}
	return nil
}

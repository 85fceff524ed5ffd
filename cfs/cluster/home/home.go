// Package home keeps what a node needs to speak to its cluster before it has the
// tree, in a directory for root alone.
//
// It owns the definition as the node knew it last, its certificate and key, the
// authority, the secret of its group, and the groups that it has left. A crash leaves
// the node in one group or the other, never in between. It decides nothing.
package home

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"etcpve/cfs/format/corosync"
	"etcpve/cfs/join"
	"etcpve/cfs/peer"
)

// A Home is such a directory.
type Home string

// The files of a home.
const (
	homeDefinition  = "corosync.conf"
	homeSecret      = "authkey"
	homeAuthority   = "pve-root-ca.pem"
	homeCertificate = "pve-ssl.pem"
	homeKey         = "pve-ssl.key"
	homeAnew        = "begin-anew" // sum of the definition with which the node begins with an empty tree
	homeParted      = "parted"     // the groups that this node has left
)

// Definition returns the definition that the node knew last, with its text;
// an error that wraps os.ErrNotExist on a node that is in no cluster.
func (h Home) Definition() (corosync.Definition, []byte, error) {
	text, err := h.read(homeDefinition)
	if err != nil {
		return corosync.Definition{}, nil, err
	}
	root, err := corosync.Parse(string(text))
	if err != nil {
		return corosync.Definition{}, nil, fmt.Errorf("%s: %w", h, err)
	}
	d, err := corosync.Define(root)
	return d, text, err
}

// Identity returns what the node shows to its peers and whom it trusts.
func (h Home) Identity() (peer.Identity, error) {
	authority, err := h.read(homeAuthority)
	if err != nil {
		return peer.Identity{}, err
	}
	cert, err := tls.LoadX509KeyPair(h.path(homeCertificate), h.path(homeKey))
	if err != nil {
		return peer.Identity{}, fmt.Errorf("cluster identity: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authority) {
		return peer.Identity{}, fmt.Errorf("%s: no certificate in it", h.path(homeAuthority))
	}
	secret, err := h.Secret()
	if err != nil {
		return peer.Identity{}, err
	}
	return peer.Identity{Certificate: cert, Authority: pool, Group: GroupOf(secret)}, nil
}

// GroupOf names the group that has a secret.
func GroupOf(secret []byte) string {
	group := sha256.Sum256(append([]byte("group\x00"), secret...))
	return hex.EncodeToString(group[:8])
}

// Fingerprint returns that of the node's certificate.
func (h Home) Fingerprint() (string, error) {
	identity, err := h.Identity()
	if err != nil {
		return "", err
	}
	cert, err := x509.ParseCertificate(identity.Certificate.Certificate[0])
	if err != nil {
		return "", fmt.Errorf("own certificate: %w", err)
	}
	return join.Fingerprint(cert), nil
}

// Secret returns the cluster's secret.
func (h Home) Secret() ([]byte, error) {
	secret, err := h.read(homeSecret)
	if err == nil && len(secret) != secretLen {
		err = fmt.Errorf("%s: %d bytes, want %d", h.path(homeSecret), len(secret), secretLen)
	}
	return secret, err
}

// Found writes what a node needs that forms a cluster: its tree becomes that of the
// cluster. The definition comes last: a home without one is in no cluster.
func (h Home) Found(w join.Welcome, key []byte) error {
	if err := h.settle(w, key); err != nil {
		return err
	}
	return h.Note(w.Definition)
}

// Settle writes everything that a welcome brought, and the node's key. The
// definition comes last. The node's database is of no use from then on.
func (h Home) Settle(w join.Welcome, key []byte) error {
	if err := h.settle(w, key); err != nil {
		return err
	}
	return h.enter(w.Definition)
}

// Follow makes this node one of the group that has another secret, with an empty tree.
func (h Home) Follow(secret, definition []byte) error {
	if len(secret) != secretLen {
		return fmt.Errorf("cluster home: secret of %d bytes", len(secret))
	}
	if err := h.write(homeSecret, secret); err != nil {
		return err
	}
	return h.enter(definition)
}

// enter keeps the definition of a group whose tree this node does not have. A crash
// before that leaves the node where it was, one after it begins anew all the same.
func (h Home) enter(definition []byte) error {
	if err := h.write(homeAnew, sumOf(definition)); err != nil {
		return err
	}
	// What this node has left behind it knows no more, with another log.
	if err := os.Remove(h.path(homeParted)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cluster home: %w", err)
	}
	return h.Note(definition)
}

// IsAnew reports whether the node has entered its group without having begun anew:
// what its database holds is of another one.
func (h Home) IsAnew() bool {
	sum, err := h.read(homeAnew)
	if err != nil {
		return false
	}
	definition, err := h.read(homeDefinition)
	return err == nil && bytes.Equal(sum, sumOf(definition))
}

// Begun notes that the node has begun anew.
func (h Home) Begun() error {
	err := os.Remove(h.path(homeAnew))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func sumOf(definition []byte) []byte {
	sum := sha256.Sum256(definition)
	return []byte(hex.EncodeToString(sum[:]))
}

// settle writes everything but the definition.
func (h Home) settle(w join.Welcome, key []byte) error {
	if err := os.MkdirAll(string(h), 0o700); err != nil {
		return fmt.Errorf("cluster home: %w", err)
	}
	for _, f := range []struct {
		name string
		text []byte
	}{{homeSecret, w.GossipKey}, {homeAuthority, w.Authority}, {homeCertificate, w.Certificate}, {homeKey, key}} {
		if err := h.write(f.name, f.text); err != nil {
			return err
		}
	}
	return nil
}

const secretLen = 32

// NewSecret makes the secret of a new group: what encrypts its gossip, signs its
// tokens and tells its streams from those of another group.
func NewSecret() ([]byte, error) {
	secret := make([]byte, secretLen)
	if _, err := rand.Read(secret); err != nil {
		return nil, fmt.Errorf("cluster secret: %w", err)
	}
	return secret, nil
}

// Note keeps a newer definition.
func (h Home) Note(definition []byte) error { return h.write(homeDefinition, definition) }

// Leave forgets the cluster.
func (h Home) Leave() error {
	err := os.Remove(h.path(homeDefinition))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func (h Home) path(name string) string { return filepath.Join(string(h), name) }

func (h Home) read(name string) ([]byte, error) {
	text, err := os.ReadFile(h.path(name))
	if err != nil {
		return nil, fmt.Errorf("cluster home: %w", err)
	}
	return text, nil
}

// write replaces a file so that a crash leaves the old one or the new one.
func (h Home) write(name string, text []byte) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("cluster home: %w", err)
		}
	}()
	f, err := os.CreateTemp(string(h), name+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), h.path(name))
}

// Furnish gives a home a certificate of its own if it has none: that of a node
// that is in no cluster yet.
func (h Home) Furnish(node string, now time.Time) error {
	if _, err := h.Identity(); err == nil {
		return nil
	}
	authority, err := join.NewAuthority(now)
	if err != nil {
		return err
	}
	private, key, err := join.NewKey()
	if err != nil {
		return err
	}
	w := join.Welcome{}
	if w.GossipKey, err = NewSecret(); err != nil {
		return err
	}
	if w.Authority, _, err = authority.PEM(); err != nil {
		return err
	}
	if w.Certificate, err = authority.Issue(node, "", nil, private.Public(), now); err != nil {
		return err
	}
	return h.settle(w, key)
}

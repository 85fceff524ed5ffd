package pvecm

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"etcpve/agents/tools/cli"
	"etcpve/cfs/join"
	"etcpve/cfs/layout"
)

// rsaBits is the size of the keys that sign tickets: what other tools expect.
const rsaBits = 2048

// place is a node's view of a mounted tree.
type place struct {
	mount, node string
	now         time.Time
	renew       bool // the certificate, in any case
	say         func(format string, args ...any)
}

func updatecerts(_ context.Context, c *cli.Call) error {
	p := place{mount: or(c, "mount", defaultMount), node: c.Value("node"), now: time.Now(), renew: c.Bool("force"), say: func(format string, args ...any) {
		if !c.Bool("silent") {
			fmt.Fprintf(c.Out, format+"\n", args...)
		}
	}}
	if p.node == "" {
		var err error
		if p.node, err = hostname(); err != nil {
			return err
		}
	}
	return complete(p)
}

// complete makes what is missing of a node in the tree.
func complete(p place) error {
	if _, err := os.Stat(p.path(".version")); err != nil {
		return fmt.Errorf("%s: pmxcfs is not mounted there: %w", p.mount, err)
	}
	for _, step := range []func() error{p.directories, p.ticketKeys, p.certificates, p.hostKeys} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (p place) path(name string) string { return filepath.Join(p.mount, name) }

// directories makes what is missing of the node's skeleton.
func (p place) directories() error {
	for _, dir := range layout.Skeleton(p.node) {
		switch err := os.Mkdir(p.path(dir), 0o755); {
		case err == nil:
			p.say("made %s", dir)
		case !errors.Is(err, fs.ErrExist):
			return err
		}
	}
	return nil
}

// ticketKeys makes the keys that sign tickets and protect forms.
func (p place) ticketKeys() error {
	if missing, err := p.missing("pve-www.key"); err != nil || missing {
		if err != nil {
			return err
		}
		key, err := rsa.GenerateKey(rand.Reader, rsaBits)
		if err != nil {
			return err
		}
		if err := p.save("pve-www.key", rsaPEM(key)); err != nil {
			return err
		}
	}
	missing, err := p.missing("priv/authkey.key")
	if err != nil || !missing {
		return err
	}
	key, err := rsa.GenerateKey(rand.Reader, rsaBits)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	if err := p.save("priv/authkey.key", rsaPEM(key)); err != nil {
		return err
	}
	return p.save("authkey.pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))
}

func rsaPEM(key *rsa.PrivateKey) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
}

// certificates makes the cluster's authority and this node's certificate, and
// renews the latter when it is about to end.
func (p place) certificates() error {
	authority, err := p.authority()
	if err != nil {
		return err
	}
	certName, keyName := "nodes/"+p.node+"/pve-ssl.pem", "nodes/"+p.node+"/pve-ssl.key"
	if old, err := os.ReadFile(p.path(certName)); err == nil && !p.renew {
		cert, err := join.ParseCertificate(old)
		if keyMissing, e := p.missing(keyName); err == nil && e == nil && !keyMissing && authority.Signed(cert, p.node, p.now) {
			return nil
		}
	}
	key, keyText, err := join.NewKey()
	if err != nil {
		return err
	}
	cert, err := authority.Issue(p.node, "", addresses(), key.Public(), p.now)
	if err != nil {
		return err
	}
	if err := p.save(keyName, keyText); err != nil {
		return err
	}
	return p.save(certName, cert)
}

// hostKey is the public key by which the SSH server of this machine is known.
const hostKey = "/etc/ssh/ssh_host_rsa_key.pub"

// hostKeys lets the other nodes know this node's SSH server, if it has one.
func (p place) hostKeys() error {
	public, err := os.ReadFile(hostKey)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	fields := strings.Fields(string(public))
	if err != nil || len(fields) < 2 {
		return errors.Join(fmt.Errorf("%s: no public key", hostKey), err)
	}
	name, line := "nodes/"+p.node+"/ssh_known_hosts", p.node+" "+fields[0]+" "+fields[1]+"\n"
	if old, err := os.ReadFile(p.path(name)); err == nil && string(old) == line {
		return nil
	}
	return p.save(name, []byte(line))
}

func (p place) authority() (*join.Authority, error) {
	const certName, keyName = "pve-root-ca.pem", "priv/pve-root-ca.key"
	cert, certErr := os.ReadFile(p.path(certName))
	key, keyErr := os.ReadFile(p.path(keyName))
	if certErr == nil && keyErr == nil {
		return join.LoadAuthority(cert, key)
	}
	for _, err := range []error{certErr, keyErr} {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	if certErr == nil || keyErr == nil { // making another would invalidate every node
		return nil, fmt.Errorf("one of %s and %s is missing: restore it, or remove the other", certName, keyName)
	}
	authority, err := join.NewAuthority(p.now)
	if err != nil {
		return nil, err
	}
	if cert, key, err = authority.PEM(); err != nil {
		return nil, err
	}
	if err := p.save(keyName, key); err != nil {
		return nil, err
	}
	return authority, p.save(certName, cert)
}

func (p place) missing(name string) (bool, error) {
	_, err := os.Stat(p.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return false, err
}

// save writes a file in one commit.
func (p place) save(name string, content []byte) error {
	path := p.path(name)
	temporary := fmt.Sprintf("%s.tmp.%d", path, os.Getpid())
	if err := os.WriteFile(temporary, content, 0o640); err != nil {
		return err
	}
	if err := os.Rename(temporary, path); err != nil {
		os.Remove(temporary)
		return err
	}
	p.say("wrote %s", name)
	return nil
}

// addresses returns the addresses under which this machine may be reached.
func addresses() (list []netip.Addr) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range all {
		prefix, err := netip.ParsePrefix(a.String())
		if err == nil && prefix.Addr().IsGlobalUnicast() {
			list = append(list, prefix.Addr())
		}
	}
	return list
}

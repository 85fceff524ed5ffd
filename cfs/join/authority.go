package join

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"time"
)

// How long certificates are valid. A node's is renewed when less than
// RenewBefore is left.
const (
	authorityValid = 10 * 365 * 24 * time.Hour
	nodeValid      = 2 * 365 * 24 * time.Hour
	RenewBefore    = 30 * 24 * time.Hour
)

// clockSlack is how far a node's clock may be behind the signer's.
const clockSlack = time.Hour

// An Authority signs the certificates by which the nodes of a cluster know
// each other.
type Authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// NewAuthority makes the authority of a new cluster.
func NewAuthority(now time.Time) (*Authority, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "Proxmox Virtual Environment", OrganizationalUnit: []string{"PVE Cluster Manager CA"}},
		NotBefore:             now.Add(-clockSlack),
		NotAfter:              now.Add(authorityValid),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	a := &Authority{cert: template, key: key}
	der, err := a.sign(template, key.Public())
	if err != nil {
		return nil, err
	}
	a.cert, err = x509.ParseCertificate(der)
	return a, err
}

// LoadAuthority reads an authority from pve-root-ca.pem and priv/pve-root-ca.key.
func LoadAuthority(certPEM, keyPEM []byte) (*Authority, error) {
	cert, err := ParseCertificate(certPEM)
	if err != nil {
		return nil, fmt.Errorf("pve-root-ca.pem: %w", err)
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("pve-root-ca.key: %w", err)
	}
	if own, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !own.Equal(cert.PublicKey) {
		return nil, errors.New("pve-root-ca.key: does not belong to pve-root-ca.pem")
	}
	return &Authority{cert, key}, nil
}

// PEM returns the contents of pve-root-ca.pem and priv/pve-root-ca.key.
func (a *Authority) PEM() (cert, key []byte, err error) {
	key, err = keyPEM(a.key)
	return certPEM(a.cert.Raw), key, err
}

// Issue signs a certificate by which a node is known under its name and
// addresses, to peers as to browsers.
func (a *Authority) Issue(node, domain string, addresses []netip.Addr, public crypto.PublicKey, now time.Time) ([]byte, error) {
	name := node
	if domain != "" {
		name += "." + domain
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: name, OrganizationalUnit: []string{"PVE Cluster Node"}},
		NotBefore:   now.Add(-clockSlack),
		NotAfter:    now.Add(nodeValid),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:    []string{"localhost", node},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	if domain != "" {
		template.DNSNames = append(template.DNSNames, name)
	}
	for _, address := range addresses {
		template.IPAddresses = append(template.IPAddresses, address.AsSlice())
	}
	der, err := a.sign(template, public)
	if err != nil {
		return nil, fmt.Errorf("certificate of node %s: %w", node, err)
	}
	return certPEM(der), nil
}

// Signed reports whether cert is a certificate of this authority for node that
// is good for a while yet.
func (a *Authority) Signed(cert *x509.Certificate, node string, now time.Time) bool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	_, err := cert.Verify(x509.VerifyOptions{
		Roots: pool, CurrentTime: now.Add(RenewBefore), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	name, _, _ := strings.Cut(cert.Subject.CommonName, ".")
	return err == nil && name == node
}

func (a *Authority) sign(template *x509.Certificate, public crypto.PublicKey) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	return x509.CreateCertificate(rand.Reader, template, a.cert, public, a.key)
}

// Fingerprint is how operators compare certificates: the SHA-256 of the whole,
// as AB:CD:….
func Fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	parts := make([]string, len(sum))
	for i, b := range sum {
		parts[i] = fmt.Sprintf("%02X", b)
	}
	return strings.Join(parts, ":")
}

// NewKey makes a node's private key and its PEM form.
func NewKey() (crypto.Signer, []byte, error) {
	key, err := newKey()
	if err != nil {
		return nil, nil, err
	}
	text, err := keyPEM(key)
	return key, text, err
}

// ParseCertificate reads the first certificate of a PEM file.
func ParseCertificate(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("no certificate in PEM form")
	}
	return x509.ParseCertificate(block.Bytes)
}

func newKey() (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("new key: %w", err)
	}
	return key, nil
}

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func keyPEM(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// parseKey reads a private key in any of the forms that openssl writes.
func parseKey(text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("no key in PEM form")
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	if key, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a %T cannot sign", key)
	}
	return signer, nil
}

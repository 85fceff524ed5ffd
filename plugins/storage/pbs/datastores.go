package pbs

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"etcpve/agents/storage"
)

// Limits of a talk with a server.
const (
	talk     = 30 * time.Second
	maxReply = 1 << 20 // bytes
)

var _ storage.DatastoreFinder = Plugin{}

// Datastores asks a server which datastores a user may see. The client has no
// command for that, but the server's interface has.
func (Plugin) Datastores(ctx context.Context, s storage.BackupServer) (found []storage.Datastore, err error) {
	if s.Port == "" {
		s.Port = port
	}
	ctx, cancel := context.WithTimeout(ctx, talk)
	defer cancel()
	transport := &http.Transport{TLSClientConfig: trust(s.Fingerprint)}
	defer transport.CloseIdleConnections()
	t := talker{client: &http.Client{Transport: transport},
		base: "https://" + net.JoinHostPort(strings.Trim(s.Host, "[]"), s.Port) + "/api2/json/", header: http.Header{}}
	if strings.Contains(s.User, "!") {
		t.header.Set("Authorization", "PBSAPIToken="+s.User+":"+s.Password)
	} else {
		var login struct{ Ticket string }
		err := t.ask(ctx, http.MethodPost, "access/ticket", url.Values{"username": {s.User}, "password": {s.Password}}, &login)
		if err != nil {
			return nil, err
		}
		t.header.Set("Cookie", (&http.Cookie{Name: "PBSAuthCookie", Value: url.QueryEscape(login.Ticket)}).String())
	}
	return found, t.ask(ctx, http.MethodGet, "admin/datastore", nil, &found)
}

// trust accepts the certificate with a fingerprint, or those that the node's own
// authorities vouch for.
func trust(fingerprint string) *tls.Config {
	if fingerprint == "" {
		return nil
	}
	want, err := hex.DecodeString(strings.ReplaceAll(fingerprint, ":", ""))
	return &tls.Config{
		InsecureSkipVerify: true, // the fingerprint says more than any authority
		VerifyConnection: func(c tls.ConnectionState) error {
			var leaf *x509.Certificate
			if len(c.PeerCertificates) > 0 {
				leaf = c.PeerCertificates[0]
			}
			if err != nil || leaf == nil {
				return errors.New("no fingerprint to compare")
			}
			if sum := sha256.Sum256(leaf.Raw); subtle.ConstantTimeCompare(sum[:], want) != 1 {
				return errors.New("the fingerprint does not match the server's certificate")
			}
			return nil
		},
	}
}

// A talker asks one server.
type talker struct {
	client *http.Client
	base   string
	header http.Header
}

func (t talker) ask(ctx context.Context, method, path string, form url.Values, into any) error {
	r, err := http.NewRequestWithContext(ctx, method, t.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	r.Header = t.header.Clone()
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	reply, err := t.client.Do(r)
	if err != nil {
		return err
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(io.LimitReader(reply.Body, maxReply))
	if err != nil {
		return err
	}
	if reply.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", path, reply.Status, strings.TrimSpace(string(text)))
	}
	if err := json.Unmarshal(text, &struct{ Data any }{into}); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

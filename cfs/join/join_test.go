package join

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"net/netip"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func authority(t *testing.T) *Authority {
	t.Helper()
	a, err := NewAuthority(now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func issue(t *testing.T, a *Authority, node, domain string) *x509.Certificate {
	t.Helper()
	key, _, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	text, err := a.Issue(node, domain, []netip.Addr{netip.MustParseAddr("10.0.0.1")}, key.Public(), now)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ParseCertificate(text)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestCertificateIsGoodForItsNodeOnly(t *testing.T) {
	a, other := authority(t), authority(t)
	cert := issue(t, a, "n1", "example.com")
	for _, c := range []struct {
		by   *Authority
		node string
		when time.Time
		want bool
	}{
		{a, "n1", now, true},
		{a, "n2", now, false},
		{other, "n1", now, false},
		{a, "n1", cert.NotAfter.Add(-RenewBefore - time.Hour), true},
		{a, "n1", cert.NotAfter.Add(-RenewBefore + time.Hour), false},
	} {
		if got := c.by.Signed(cert, c.node, c.when); got != c.want {
			t.Errorf("Signed(%s, %v) = %v", c.node, c.when, got)
		}
	}
	for _, name := range []string{"n1", "n1.example.com", "localhost", "10.0.0.1", "127.0.0.1"} {
		if err := cert.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
}

func TestAuthorityIsLoadedFromItsFiles(t *testing.T) {
	a := authority(t)
	cert, key, err := a.PEM()
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadAuthority(cert, key)
	if err != nil || !again.Signed(issue(t, a, "n1", ""), "n1", now) {
		t.Errorf("loaded authority differs: %v", err)
	}
	_, foreign, err := authority(t).PEM()
	if err != nil {
		t.Fatal(err)
	}
	for name, pair := range map[string][2][]byte{
		"another's key": {cert, foreign}, "empty": {nil, nil}, "swapped": {key, cert},
	} {
		if _, err := LoadAuthority(pair[0], pair[1]); err == nil {
			t.Errorf("%s: loaded", name)
		}
	}
}

func TestKeysOfAnAdoptedClusterAreRead(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	old := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	if _, err := parseKey(old); err != nil {
		t.Error(err)
	}
}

func TestInformationSurvivesMail(t *testing.T) {
	cert := issue(t, authority(t), "n1", "")
	want := Information{"10.0.0.1", 5405, Fingerprint(cert), "lab", "token"}
	printed := want.String()
	wrapped := " " + printed[:20] + "\r\n" + printed[20:] + "\n"
	if got, err := ParseInformation(wrapped); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{"", "???", "aGVsbG8=", Information{Address: "x"}.String(), Information{Address: "10.0.0.1"}.String(), strings.Repeat("A", maxInformation+1)} {
		if _, err := ParseInformation(bad); err == nil {
			t.Errorf("%.20q was taken", bad)
		}
	}
}

func TestTokenExpiresAndCannotBeForged(t *testing.T) {
	secret := []byte("secret of the cluster")
	token, err := NewToken(secret, now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	later, _ := strings.CutPrefix(token, token[:8])
	for _, c := range []struct {
		name, token, secret string
		when                time.Time
		ok                  bool
	}{
		{"good", token, string(secret), now, true},
		{"expired", token, string(secret), now.Add(time.Hour), false},
		{"another cluster", token, "other", now, false},
		{"prolonged", "ffffffff" + later, string(secret), now, false},
		{"empty", "", string(secret), now, false},
		{"only a head", strings.Split(token, ".")[0], string(secret), now, false},
	} {
		if err := CheckToken([]byte(c.secret), c.token, c.when); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func FuzzParseInformation(f *testing.F) {
	f.Add(Information{"10.0.0.1", 5405, strings.Repeat("AA:", 31) + "AA", "lab", "t"}.String())
	f.Fuzz(func(t *testing.T, printed string) {
		if i, err := ParseInformation(printed); err == nil {
			if again, err := ParseInformation(i.String()); err != nil || again != i {
				t.Errorf("%+v became %+v, %v", i, again, err)
			}
		}
	})
}

package peer

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long a test waits for what is bound to come: the machine may be busy.
const patience = time.Minute

// An authority signs certificates for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{pool: x509.NewCertPool()}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotAfter: time.Now().Add(time.Hour)}
	a.cert, a.key = sign(t, template, template, nil)
	a.pool.AddCert(a.cert)
	return a
}

func (a *authority) identity(t testing.TB, name string) Identity {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour)}
	cert, key := sign(t, template, a.cert, a.key)
	return Identity{tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}, a.pool, "g1"}
}

func sign(t testing.TB, template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// A cluster is the directory of a test: names with addresses.
type cluster struct {
	mu        sync.Mutex
	addresses map[string]string
}

func (c *cluster) set(node, address string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if address == "" {
		delete(c.addresses, node)
		return
	}
	c.addresses[node] = address
}

// A seat is one node's view of the cluster.
type seat struct {
	*cluster
	identity Identity
}

func (s seat) Addresses(node string) ([]string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := s.addresses[node]
	if !ok {
		return nil, false
	}
	return strings.Fields(a), true
}

func (s seat) address(node string) string {
	list, _ := s.Addresses(node)
	return list[0]
}

func (s seat) Identity() (Identity, error) { return s.identity, nil }

// An inbox collects messages and answers requests by repeating them.
type inbox struct{ got chan string }

func (i inbox) Message(from string, kind uint8, body []byte) {
	i.got <- fmt.Sprintf("%s %d %s", from, kind, body)
}

func (i inbox) Lost(string) {}

func (i inbox) Summoned(_ context.Context, from string, kind uint8, body []byte) ([]byte, error) {
	if kind == 9 {
		return nil, errors.New("stays")
	}
	return fmt.Appendf(nil, "%s %d %s", from, kind, body), nil
}

func (i inbox) Answer(_ context.Context, from string, kind uint8, body []byte) ([]byte, error) {
	if kind == 9 {
		return nil, errors.New("refused: " + string(body))
	}
	return append([]byte(from+":"), body...), nil
}

// A door admits whoever knows the word.
type door struct{}

func (door) Admit(_ context.Context, _ string, body []byte) ([]byte, error) {
	if string(body) != "sesame" {
		return nil, errors.New("wrong word")
	}
	return []byte("come in"), nil
}

// start runs a node until the test ends.
func start(t *testing.T, c *cluster, name string, identity Identity) (*Peers, inbox, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	in := inbox{make(chan string, 1000)}
	p := New(name, seat{c, identity}, in, door{}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return p, in, l.Addr().String()
}

func pair(t *testing.T) (c *cluster, a *authority, p1, p2 *Peers, in2 inbox) {
	c, a = &cluster{addresses: map[string]string{}}, newAuthority(t)
	p1, _, addr1 := start(t, c, "n1", a.identity(t, "n1.example.com"))
	p2, in2, addr2 := start(t, c, "n2", a.identity(t, "n2"))
	c.set("n1", addr1)
	c.set("n2", addr2)
	return c, a, p1, p2, in2
}

func TestMessagesArriveInOrder(t *testing.T) {
	_, _, p1, _, in2 := pair(t)
	for i := range 100 {
		send(t, p1, "n2", fmt.Sprint(i))
	}
	for i := range 100 {
		select {
		case got := <-in2.got:
			if want := fmt.Sprintf("n1 1 %d", i); got != want {
				t.Fatalf("message %d is %q, want %q", i, got, want)
			}
		case <-time.After(patience):
			t.Fatalf("message %d did not arrive", i)
		}
	}
}

// send queues a message, waiting for Run to have begun.
func send(t *testing.T, p *Peers, to, body string) {
	t.Helper()
	for deadline := time.Now().Add(patience); !p.Send(to, 1, []byte(body)); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("message to %s was never taken", to)
		}
	}
}

// call asks until the peer is reached.
func call(t *testing.T, p *Peers, to string, kind uint8, body []byte) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		answer, err := p.Call(ctx, to, kind, body)
		if !errors.Is(err, ErrUnreachable) || ctx.Err() != nil {
			return answer, err
		}
		time.Sleep(time.Millisecond)
	}
}

func TestRequestsAreAnswered(t *testing.T) {
	_, _, p1, _, _ := pair(t)
	big := bytes.Repeat([]byte("x"), MaxBody-100)
	if got, err := call(t, p1, "n2", 2, big); err != nil || len(got) != len(big)+3 {
		t.Errorf("answer of %d bytes, %v", len(got), err)
	}
	if _, err := call(t, p1, "n2", 9, []byte("why")); err == nil || !strings.Contains(err.Error(), "refused: why") {
		t.Errorf("error = %v", err)
	}
}

func TestAPeerThatIsGoneBlocksNobody(t *testing.T) {
	c, _, p1, _, _ := pair(t)
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts, then says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c.set("mute", l.Addr().String())
	send(t, p1, "mute", "first")
	body := make([]byte, 100<<10)
	began := time.Now()
	for range 10 * queueLength {
		p1.Send("mute", 1, body)
	}
	if took := time.Since(began); took > patience { // one that waited would do so ten times the queue's length
		t.Errorf("sending to a mute peer took %v", took)
	}
	if p1.Send("mute", 1, body) {
		t.Error("the queue of a mute peer has no bound")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := p1.Call(ctx, "mute", 1, nil); !errors.Is(err, ErrUnreachable) {
		t.Errorf("call to a mute peer: %v", err)
	}
}

// reach tries to speak to address as identity and returns what comes back.
func reach(t *testing.T, address string, config *tls.Config) ([]byte, error) {
	t.Helper()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", address, config)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	w := bufio.NewWriter(conn)
	for _, f := range []frame{{role: message, kind: 1, body: []byte("spy")}, {role: request, kind: 2, id: 1, body: []byte("tell")}} {
		if err := f.write(w); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		return nil, err
	}
	if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return io.ReadAll(conn)
}

func TestStrangersLearnNothing(t *testing.T) {
	c, a, p1, _, in2 := pair(t)
	address := seat{cluster: c}.address("n2")
	other := newAuthority(t)
	for name, certs := range map[string][]tls.Certificate{
		"no certificate":     nil,
		"another authority":  {other.identity(t, "n1").Certificate},
		"no longer a member": {a.identity(t, "n9").Certificate},
		"no group":           {a.identity(t, "n1").Certificate},
	} {
		got, err := reach(t, address, &tls.Config{Certificates: certs, InsecureSkipVerify: true})
		if len(got) != 0 || err == nil && name != "no group" { // which ends without a word
			t.Errorf("%s: read %q, %v", name, got, err)
		}
	}
	raw, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if _, err := raw.Write(bytes.Repeat([]byte("garbage"), 100)); err != nil {
		t.Fatal(err)
	}
	send(t, p1, "n2", "after")
	if got := <-in2.got; got != "n1 1 after" {
		t.Errorf("first message is %q", got)
	}
}

func TestAnImpostorIsNotSpokenTo(t *testing.T) {
	c, a, p1, _, _ := pair(t)
	_, in3, addr3 := start(t, c, "n3", a.identity(t, "n3"))
	c.set("n2", addr3) // the address of n2 is answered by n3
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if _, err := p1.Call(ctx, "n2", 2, []byte("secret")); !errors.Is(err, ErrUnreachable) {
		t.Errorf("call = %v", err)
	}
	if len(in3.got) != 0 {
		t.Error("the impostor was told something")
	}
}

// TestAnotherGroupIsNotSpokenTo has a node with a good certificate and a known
// name, but of the group that a survivor left behind.
func TestAnotherGroupIsNotSpokenTo(t *testing.T) {
	c, a, _, _, in2 := pair(t)
	left := a.identity(t, "n1")
	left.Group = "g0"
	p1, in1, _ := start(t, c, "n1", left)
	send(t, p1, "n2", "of another group")
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if answer, err := p1.Call(ctx, "n2", 2, nil); err == nil {
		t.Errorf("another group was answered %q", answer)
	}
	address := seat{cluster: c}.address("n2")
	got, err := reach(t, address, &tls.Config{Certificates: []tls.Certificate{left.Certificate}, NextProtos: []string{left.protocol()}, InsecureSkipVerify: true})
	if len(got) != 0 || err == nil {
		t.Errorf("read %q, %v", got, err)
	}
	if len(in2.got)+len(in1.got) != 0 {
		t.Error("another group was heard")
	}
}

func TestARemovedMemberIsCutOff(t *testing.T) {
	c, a, _, _, in2 := pair(t)
	addr2 := seat{cluster: c}.address("n2")
	own := &cluster{addresses: map[string]string{"n2": addr2}} // n9 goes on knowing n2
	p9, _, addr9 := start(t, own, "n9", a.identity(t, "n9"))
	c.set("n9", addr9)
	send(t, p9, "n2", "before")
	<-in2.got
	c.set("n9", "")
	send(t, p9, "n2", "after")
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if answer, err := p9.Call(ctx, "n2", 2, nil); err == nil {
		t.Errorf("a removed member was answered %q", answer)
	}
	if len(in2.got) != 0 {
		t.Errorf("a removed member was heard: %q", <-in2.got)
	}
}

func TestStrangersSpeakToTheDoormanOnly(t *testing.T) {
	c, _, p1, p2, _ := pair(t)
	if _, err := call(t, p1, "n2", 2, nil); err != nil { // both run
		t.Fatal(err)
	}
	address := seat{cluster: c}.address("n2")
	identity, err := p2.directory.Identity()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(identity.Certificate.Certificate[0])
	right, ctx := hex.EncodeToString(sum[:]), context.Background()
	if got, err := Contact(ctx, address, right, []byte("sesame")); err != nil || string(got) != "come in" {
		t.Errorf("answer %q, %v", got, err)
	}
	if _, err := Contact(ctx, address, right, []byte("open")); err == nil || !strings.Contains(err.Error(), "wrong word") {
		t.Errorf("error = %v", err)
	}
	if _, err := Contact(ctx, address, strings.Repeat("00", 32), []byte("sesame")); err == nil || !strings.Contains(err.Error(), "fingerprint") {
		t.Errorf("error = %v", err)
	}
	if _, err := Contact(ctx, address, right, make([]byte, maxContact+1)); err == nil {
		t.Error("a stranger may send as much as it likes")
	}
	got, err := reach(t, address, &tls.Config{NextProtos: []string{contactProtocol}, InsecureSkipVerify: true})
	if len(got) != 0 {
		t.Errorf("a stranger was told %q, %v", got, err)
	}
}

func FuzzReadFrame(f *testing.F) {
	var b bytes.Buffer
	w := bufio.NewWriter(&b)
	if err := (frame{role: request, kind: 3, id: 7, body: []byte("hello")}).write(w); err != nil {
		f.Fatal(err)
	}
	w.Flush()
	f.Add(b.Bytes())
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bufio.NewReader(bytes.NewReader(in))
		for {
			got, err := readFrame(r)
			if err != nil {
				return
			}
			if len(got.body) > MaxBody {
				t.Fatalf("body of %d bytes", len(got.body))
			}
			var out bytes.Buffer
			w := bufio.NewWriter(&out)
			if err := got.write(w); err != nil {
				t.Fatal(err)
			}
			w.Flush()
			again, err := readFrame(bufio.NewReader(&out))
			if err != nil || again.id != got.id || !bytes.Equal(again.body, got.body) {
				t.Fatalf("%v became %v, %v", got, again, err)
			}
		}
	})
}

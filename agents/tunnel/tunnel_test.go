package tunnel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"etcpve/cfs/join"
)

// newTree is a cluster of nodes on this machine, with certificates.
func newTree(t *testing.T, nodes ...string) string {
	t.Helper()
	tree := t.TempDir()
	authority, err := join.NewAuthority(time.Now())
	must(t, err)
	cert, _, err := authority.PEM()
	must(t, err)
	write(t, tree, "pve-root-ca.pem", cert)
	for _, node := range nodes {
		certify(t, authority, tree, node)
	}
	var list []string
	for i, node := range nodes {
		list = append(list, fmt.Sprintf(`"%s": {"id": %d, "online": 1, "ip": "127.0.0.1"}`, node, i+1))
	}
	write(t, tree, ".members", []byte(`{"nodename": "n1", "nodelist": {`+strings.Join(list, ",")+`, "off": {"online": 0, "ip": "127.0.0.9"}}}`))
	return tree
}

func certify(t *testing.T, authority *join.Authority, tree, node string) {
	t.Helper()
	key, text, err := join.NewKey()
	must(t, err)
	cert, err := authority.Issue(node, "", nil, key.Public(), time.Now())
	must(t, err)
	write(t, tree, "nodes/"+node+"/pve-ssl.pem", cert)
	write(t, tree, "nodes/"+node+"/pve-ssl.key", text)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, tree, name string, content []byte) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(filepath.Join(tree, name)), 0o755))
	must(t, os.WriteFile(filepath.Join(tree, name), content, 0o600))
}

// serve listens for n2 on n1 and handles what comes until the test ends.
func serve(t *testing.T, tree string, handle func(context.Context, *Conn)) (address string, refused chan error) {
	t.Helper()
	l, err := Node{tree, "n1"}.Listen("n2", "127.0.0.0/8")
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	refused = make(chan error, 10)
	go func() {
		defer close(done)
		l.Serve(ctx, handle, func(err error) { refused <- err })
	}()
	t.Cleanup(func() { cancel(); <-done })
	return l.Address, refused
}

func TestOnlyTheExpectedNodeComesIn(t *testing.T) {
	tree := newTree(t, "n1", "n2", "n3")
	address, refused := serve(t, tree, func(_ context.Context, c *Conn) {
		var text string
		if c.Receive(&text) == nil {
			_ = c.Send(text + "!")
		}
	})
	talk := func(n Node) error {
		c, err := n.Dial(t.Context(), "n1", address)
		if err != nil {
			return err
		}
		defer c.Close()
		var answer string
		if err := errors.Join(c.Send("hello"), c.Receive(&answer)); err != nil {
			return err
		}
		if answer != "hello!" {
			t.Errorf("the answer is %q", answer)
		}
		return nil
	}
	must(t, talk(Node{tree, "n2"}))
	if err := talk(Node{tree, "n3"}); err == nil {
		t.Error("n3 came in")
	}
	if err := <-refused; !strings.Contains(err.Error(), "certificate of node 'n3', not of 'n2'") {
		t.Error(err)
	}

	stranger := newTree(t, "n1", "n2") // the same names under another authority
	if err := talk(Node{stranger, "n2"}); err == nil {
		t.Error("a node of another cluster came in")
	}

	// An old certificate of the node, as one has that was removed and came again.
	old, err := os.ReadFile(filepath.Join(tree, "nodes/n3/pve-ssl.pem"))
	must(t, err)
	other := t.TempDir()
	must(t, os.CopyFS(other, os.DirFS(tree)))
	write(t, tree, "nodes/n2/pve-ssl.pem", old)
	if err := talk(Node{other, "n2"}); err == nil {
		t.Error("a certificate that the cluster does not know came in")
	}
}

func TestTheOtherEndIsTheNodeThatWasMeant(t *testing.T) {
	tree := newTree(t, "n1", "n2", "n3")
	address, _ := serve(t, tree, func(context.Context, *Conn) {})
	if _, err := (Node{tree, "n2"}).Dial(t.Context(), "n3", address); err == nil {
		t.Error("n1 was taken for n3")
	}
}

func TestStreamsEndAsTheirSenderMeant(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 100_000)
	for name, c := range map[string]struct {
		limit int64
		end   func(*Conn, *Sender) error
		want  error
	}{
		"whole":     {int64(len(content)), func(_ *Conn, s *Sender) error { return s.Close() }, nil},
		"given up":  {int64(len(content)), func(_ *Conn, s *Sender) error { return s.Abandon() }, ErrBroken},
		"cut off":   {int64(len(content)), func(c *Conn, _ *Sender) error { return c.Close() }, io.ErrUnexpectedEOF},
		"too large": {int64(len(content)) - 1, func(_ *Conn, s *Sender) error { return s.Close() }, ErrTooLong},
	} {
		t.Run(name, func(t *testing.T) {
			tree := newTree(t, "n1", "n2")
			type result struct {
				got []byte
				err error
			}
			results := make(chan result, 1)
			address, _ := serve(t, tree, func(_ context.Context, conn *Conn) {
				got, err := io.ReadAll(conn.Reader(c.limit))
				results <- result{got, err}
			})
			conn, err := Node{tree, "n2"}.Dial(t.Context(), "n1", address)
			must(t, err)
			defer conn.Close()
			s := conn.Stream(t.Context(), 0)
			if _, err := s.Write(content); err != nil && c.want == nil {
				t.Fatal(err)
			}
			_ = c.end(conn, s) // the other end may have closed already
			r := <-results
			if !errors.Is(r.err, c.want) || c.want == nil && !bytes.Equal(r.got, content) {
				t.Errorf("%d of %d bytes, %v", len(r.got), len(content), r.err)
			}
		})
	}
}

func TestStreamKeepsItsLimit(t *testing.T) {
	tree := newTree(t, "n1", "n2")
	address, _ := serve(t, tree, func(_ context.Context, c *Conn) { _, _ = io.Copy(io.Discard, c.Reader(1<<30)) })
	conn, err := Node{tree, "n2"}.Dial(t.Context(), "n1", address)
	must(t, err)
	defer conn.Close()
	began := time.Now()
	s := conn.Stream(t.Context(), 10<<20)
	_, err = s.Write(make([]byte, 2<<20))
	must(t, err)
	if took := time.Since(began); took < 190*time.Millisecond {
		t.Errorf("2 MiB at 10 MiB/s took %v", took)
	}
}

func TestHoldEndsWithEitherEnd(t *testing.T) {
	tree := newTree(t, "n1", "n2")
	ended := make(chan error, 2)
	address, _ := serve(t, tree, func(ctx context.Context, c *Conn) { ended <- c.Hold(ctx) })
	conn, err := Node{tree, "n2"}.Dial(t.Context(), "n1", address)
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	here := make(chan error, 1)
	go func() { here <- conn.Hold(ctx) }()
	cancel()
	if err := <-here; err != nil {
		t.Error(err)
	}
	if err := <-ended; err == nil {
		t.Error("the other end did not see that this one has let go")
	}
}

func TestJoinPassesBothDirectionsAndTheirEnd(t *testing.T) {
	tree := newTree(t, "n1", "n2")
	local, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	must(t, err)
	defer local.Close()
	go func() { // answers when all has come
		c, err := local.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		text, _ := io.ReadAll(c)
		fmt.Fprintf(c, "got %s", text)
	}()
	address, _ := serve(t, tree, func(_ context.Context, c *Conn) {
		s, err := net.Dial("unix", local.Addr().String())
		if err == nil {
			err = c.Join(s)
		}
		if err != nil {
			t.Error(err)
		}
	})
	conn, err := Node{tree, "n2"}.Dial(t.Context(), "n1", address)
	must(t, err)
	defer conn.Close()
	_, err = conn.Write([]byte("a message"))
	must(t, errors.Join(err, conn.CloseWrite()))
	if got, err := io.ReadAll(conn); string(got) != "got a message" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestMembersAreOnlineOrNot(t *testing.T) {
	m, err := ReadMembers(newTree(t, "n1", "n2"))
	must(t, err)
	for node, want := range map[string]string{"n2": "<nil>", "off": "node 'off' is not online", "other": "no such cluster node 'other'"} {
		if got := fmt.Sprint(m.Online(node)); got != want {
			t.Errorf("%s: %s", node, got)
		}
	}
}

// FuzzFrames: nothing that a peer sends makes a reader fail otherwise than with
// an error, or give more than it may.
func FuzzFrames(f *testing.F) {
	f.Add([]byte{0, 0, 0, 2, 'a', 'b', 0, 0, 0, 0}, int64(10))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff}, int64(0))
	f.Fuzz(func(t *testing.T, sent []byte, limit int64) {
		got, err := io.ReadAll(&reader{from: bytes.NewReader(sent), room: limit})
		if int64(len(got)) > max(limit, 0) {
			t.Errorf("%d bytes, limit %d", len(got), limit)
		}
		if err == nil && !bytes.HasSuffix(sent, []byte{0, 0, 0, 0}) && !bytes.Contains(sent, []byte{0, 0, 0, 0}) {
			t.Error("an end that was not sent")
		}
	})
}

package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"etcpve/cfs/cluster/home"
	"etcpve/cfs/command"
	"etcpve/cfs/consensus"
	"etcpve/cfs/format/corosync"
	"etcpve/cfs/join"
	"etcpve/cfs/membership"
	"etcpve/cfs/status"
	"etcpve/cfs/tree"
)

// deadEnd is a consensus that takes everything and does nothing.
type deadEnd struct{ fed int }

func (*deadEnd) Propose(context.Context, *command.Command) (tree.Result, error) {
	return tree.Result{}, consensus.ErrNoQuorum
}
func (*deadEnd) StepFrom(context.Context, uint64, []byte) error    { return nil }
func (*deadEnd) Committed(context.Context, uint64) ([]byte, error) { return nil, nil }
func (d *deadEnd) Feed(context.Context, []byte) error              { d.fed++; return nil }
func (*deadEnd) SetMember(context.Context, consensus.Status, uint64, consensus.Role) error {
	return nil
}
func (*deadEnd) SnapshotSent(uint64, bool) {}
func (*deadEnd) Unreachable(uint64)        {}
func (*deadEnd) Position(context.Context) (consensus.Position, error) {
	return consensus.Position{}, nil
}
func (*deadEnd) Holds(context.Context, consensus.Mark) (bool, error) { return false, nil }
func (*deadEnd) Status() consensus.Status                            { return consensus.Status{ID: 1} }

// member returns the part of node n1 of a cluster with n2, which runs nothing.
func member(t testing.TB, order Order) *Cluster {
	t.Helper()
	root := corosync.New("lab", corosync.Node{Name: "n1", ID: 1, Votes: 1, Addresses: map[int]string{0: "192.0.2.1"}})
	root.Add(corosync.Node{Name: "n2", ID: 2, Votes: 1, Addresses: map[int]string{0: "192.0.2.2"}})
	place := home.Home(t.TempDir())
	if err := place.Note([]byte(corosync.Format(root))); err != nil {
		t.Fatal(err)
	}
	c, err := New(Config{Node: "n1", ID: 1, Home: place, Tree: tree.New(), Store: status.New("n1", time.Now), Log: &status.Log{},
		Now: time.Now, Logger: slog.New(slog.DiscardHandler),
		Password: func(context.Context, string) error { return errors.New("wrong password") }})
	if err != nil {
		t.Fatal(err)
	}
	c.ctx = t.Context()
	c.Attach(order)
	return c
}

// FuzzMembersMessages feeds what a member may send, and what gossip may carry, to
// every decoder behind the streams.
func FuzzMembersMessages(f *testing.F) {
	c := member(f, &deadEnd{})
	state := carrier{c}.State()
	for _, seed := range [][]byte{nil, {0}, state, {anIndex, 5}, {anIndex, 0xff}, {aState}, make([]byte, 8), []byte(`{"version":1}`), append([]byte{0, 0, 0, 9, 0, 0, 0, 0}, "pieces"...)} {
		for kind := range kindExpect + 2 {
			f.Add(kind, seed)
		}
	}
	f.Fuzz(func(t *testing.T, kind uint8, body []byte) {
		order := &deadEnd{}
		c := member(t, order)
		for _, from := range []string{"n2", "n9"} {
			c.Message(from, kind, body)
			if answer, err := c.Answer(t.Context(), from, kind, body); err == nil && len(answer) > maxOrder {
				t.Errorf("an answer of %d bytes", len(answer))
			}
		}
		carrier{c}.News(body)
		carrier{c}.Merge(body)
		if _, err := c.Summoned(t.Context(), "n2", kind, body); err == nil && kind != kindDeed {
			t.Error("this node follows whoever says so")
		}
		if _, err := (reception{c}).Admit(t.Context(), "192.0.2.9:1", body); err == nil {
			t.Error("a witness was called without the password")
		}
		if len(c.pieces.parts["n2"]) > maxTree {
			t.Error("pieces without a bound")
		}
	})
}

// FuzzRelayedEntries feeds a real log what a member may tell of committed entries.
func FuzzRelayedEntries(f *testing.F) {
	m := lone(f)
	bundle, err := m.order.Committed(f.Context(), 1)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(bundle)
	f.Add([]byte{})
	f.Add(message(f, raftpb.MsgApp, 2, 99, 1, 1, 1))
	f.Add(message(f, raftpb.MsgSnap, 2, 99, 1, 1, 1))
	f.Fuzz(func(t *testing.T, bundle []byte) {
		before := m.order.Status()
		err := m.order.Feed(t.Context(), bundle)
		if errors.Is(err, consensus.ErrStopped) {
			t.Fatal("consensus ended")
		}
		if after := m.order.Status(); after.Commit < before.Commit {
			t.Errorf("commit went from %d to %d", before.Commit, after.Commit)
		}
	})
}

func message(t testing.TB, kind raftpb.MessageType, from, term, index, logTerm, commit uint64) []byte {
	t.Helper()
	to := uint64(1)
	b, err := proto.Marshal(&raftpb.Message{Type: &kind, From: &from, To: &to, Term: &term, Index: &index, LogTerm: &logTerm, Commit: &commit})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// lone is a machine that is no cluster.
func lone(t testing.TB) *machine {
	m := newMachine(t, 1)
	m.start()
	for i := range 10 {
		m.save("file", strings.Repeat("x", i))
	}
	return m
}

func TestNobodySpeaksForAnotherMember(t *testing.T) {
	m := lone(t)
	for name, in := range map[string][]byte{
		"of another member": message(t, raftpb.MsgHeartbeat, 3, 99, 0, 0, 0),
		"no message":        []byte("garbage"),
		"of a local kind":   message(t, raftpb.MsgHup, 2, 0, 0, 0, 0),
	} {
		if err := m.order.StepFrom(t.Context(), 2, in); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if err := m.write("after", "x"); err != nil {
		t.Error(err)
	}
}

// TestAnOldRecordingHasNoEffect sends again what was true once.
func TestAnOldRecordingHasNoEffect(t *testing.T) {
	m := lone(t)
	recorded, err := m.order.Committed(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	m.save("file", "newest")
	was := m.order.Status()
	for range 3 {
		if err := m.order.Feed(t.Context(), recorded); err == nil {
			t.Error("a recording was taken by who had made it")
		}
	}
	if is := m.order.Status(); is.Commit != was.Commit || is.Term != was.Term || !m.has("file", "newest")() {
		t.Errorf("before %+v, after %+v", was, is)
	}
	c := member(t, &deadEnd{})
	for i, index := range []byte{9, 9, 3} {
		if _, news := (carrier{c}).News([]byte{anIndex, index}); news != (i == 0) {
			t.Errorf("announcement %d: news %v", i, news)
		}
	}
}

// TestAWitnessTellsNothingWithoutThePassword is the door of a machine that waits.
func TestAWitnessTellsNothingWithoutThePassword(t *testing.T) {
	c := member(t, &deadEnd{})
	c.config.Witness, c.config.Restart.Empty = true, func() { t.Error("the witness begins anew") }
	for name, s := range map[string]summons{
		"wrong password":  {Version: recruitVersion, Password: "x", Address: netip.MustParseAddr("192.0.2.9"), Information: join.Information{Address: "192.0.2.1"}},
		"another version": {Version: 9},
	} {
		body, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if answer, err := (reception{c}).Admit(t.Context(), "192.0.2.9:1", body); err == nil || len(answer) > 0 {
			t.Errorf("%s: %q, %v", name, answer, err)
		}
	}
	var _ membership.Carrier = carrier{c}
}

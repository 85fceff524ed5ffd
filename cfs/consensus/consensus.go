// Package consensus orders the changes of a cluster by Raft.
//
// It owns the loop that drives Raft, the proposals in flight and the knowledge
// of who may vote. A lone node is a group of one and takes the same path. It
// never looks at the meaning of a change, never touches a disk or a network by
// itself, and acknowledges nothing that its Storage has not made durable.
package consensus

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"etcpve/cfs/command"
	"etcpve/cfs/layout"
	"etcpve/cfs/tree"
)

// Time of the group, in ticks.
const (
	TickEvery     = 100 * time.Millisecond
	electionTicks = 5 // randomized up to twice as much
	// repeatTicks is after how long a proposal without a result is made again.
	repeatTicks = 10
	// candidateTicks is how long votes are waited for.
	candidateTicks = 2
)

// Bounds of what one round takes together.
const (
	batchProposals = 1024
	batchBytes     = 8 << 20
	messageBytes   = 1 << 20
)

// Reasons for which a proposal has no result.
var (
	ErrNoQuorum = errors.New("no quorum")
	ErrStopped  = errors.New("consensus has stopped")
	// ErrBehind ends Run on a node whose log lacks what it once confirmed: it must
	// begin anew with an empty one, and not as a voter.
	ErrBehind = errors.New("the log has lost entries")
	// ErrBroken ends Run when nothing is left to rely on: the log cannot be read, or
	// a member has broken the protocol.
	ErrBroken = errors.New("the node cannot go on")
)

// Storage keeps the log. Its methods are called by one goroutine, except Room.
type Storage interface {
	// Recovered returns what was found at the start, and the present Base.
	Recovered() command.Recovered
	// Append makes its arguments durable before it returns, replacing entries
	// from the index of the first new one on.
	Append(hard command.HardState, entries []command.Entry) error
	// Entries returns at least one entry from lo on, below hi, within limit bytes.
	Entries(lo, hi, limit uint64) ([]command.Entry, error)
	// Term returns the term of an entry after, or at, Base.
	Term(index uint64) (uint64, error)
	// Room returns an error while nothing more should be accepted.
	Room() error
}

// Applier carries out what was agreed on. Its methods are called by one goroutine.
type Applier interface {
	// Apply carries out entries in order and returns a result for each. members,
	// if not nil, are the members from the last of the entries on; what is kept
	// of the two never disagrees.
	Apply(entries []command.Entry, members []byte) ([]tree.Result, []tree.Change, error)
	// Bootstrap makes the present state the beginning of a new group.
	Bootstrap(members []byte) error
	Snapshot() (command.Snapshot, error)
	// Install replaces the state and returns how the tree differs from the one
	// that was. It is durable before Install returns.
	Install(command.Snapshot) ([]tree.Change, error)
}

// Transport carries messages to other members. Send must not block; what cannot
// be sent may be dropped.
type Transport interface {
	Send(to uint64, message []byte)
}

// Options of a Node.
type Options struct {
	// ID of this node, never 0, and never that of another node, not even of one
	// that is gone.
	ID        uint64
	Storage   Storage
	Applier   Applier
	Transport Transport // nil on a node that is alone
	Log       *slog.Logger
	// Join waits for a group to send its state; otherwise a node that has no
	// group yet forms one of its own.
	Join bool
	// Alone makes the group one of this node only, whatever was stored: the way
	// out when a majority is gone for good.
	Alone bool
	// Ticks replaces the clock: one value every TickEvery.
	Ticks <-chan time.Time
	// Changes is told what was applied, in order, and what a snapshot changed,
	// from the goroutine that applies: it must not block.
	Changes func([]tree.Change)
	// Replaced is told that the whole tree was replaced by a snapshot, after
	// Changes.
	Replaced func()
}

// Node is a member of a group.
type Node struct {
	opt     Options
	log     *slog.Logger
	raft    *raft.RawNode
	window  *window
	hard    command.HardState
	saved   uint64 // last index on disk
	members *raftpb.ConfState

	proposals chan *proposal
	messages  chan *raftpb.Message
	reports   chan report
	calls     chan func() error // to be done by the goroutine of Run
	stopped   chan struct{}
	turns     chan struct{} // has one when the quorum came or went

	pending   map[uint64]*proposal
	changing  uint64 // ID of the last change of the members
	proposed  uint64 // number of proposals taken so far
	ticks     uint64
	elected   int               // ticks for which votes have been counted
	missed    bool              // a message to the leader was lost
	silent    uint64            // ticks since the last sign of a majority
	heard     map[uint64]uint64 // tick of the last message of each node
	snapshots map[uint64]uint64 // tick at which a snapshot counts as lost, by receiver
	learners  learners          // as the leader sees them
	confirmed confirmation      // the last one that was sent
	pulse     *pulse            // nil if the ticks come from elsewhere

	status atomic.Pointer[Status]
}

// Status is where a node stands.
type Status struct {
	ID, Leader, Term uint64 // Leader 0 = unknown
	Commit, Applied  uint64
	Voters, Learners []uint64
	Quorate          bool
}

// proposal is a change that waits for its result.
type proposal struct {
	id     uint64
	data   []byte       // a command, or
	change *change      // of the members
	number uint64       // rises with each proposal of this node
	made   uint64       // tick of the last attempt
	handed bool         // to a leader, or on the way to one; a change: in the log
	done   chan outcome // has room for the one result
	ctx    context.Context
}

type outcome struct {
	result tree.Result
	err    error
}

// report is what the transport has to say of a member.
type report struct {
	to       uint64
	snapshot bool // else the member cannot be reached
	arrived  bool
}

// New prepares a node. It forms a group of one if it has none.
func New(opt Options) (*Node, error) {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	n := &Node{
		opt: opt, log: opt.Log,
		proposals: make(chan *proposal, batchProposals),
		messages:  make(chan *raftpb.Message, batchProposals),
		reports:   make(chan report, 64),
		calls:     make(chan func() error),
		stopped:   make(chan struct{}),
		turns:     make(chan struct{}, 1),
		pending:   map[uint64]*proposal{},
		heard:     map[uint64]uint64{},
		snapshots: map[uint64]uint64{},
		silent:    quorumTicks,
	}
	if opt.Storage.Recovered().Base == 0 && !opt.Join {
		if err := opt.Applier.Bootstrap(encodeMembers(&raftpb.ConfState{Voters: []uint64{opt.ID}})); err != nil {
			return nil, fmt.Errorf("consensus: form a group: %w", err)
		}
	}
	r := opt.Storage.Recovered()
	n.hard, n.saved = r.HardState, r.Last
	n.hard.Commit = max(n.hard.Commit, r.Applied)
	n.members = &raftpb.ConfState{}
	if err := proto.Unmarshal(r.Members, n.members); err != nil {
		return nil, fmt.Errorf("consensus: stored members: %w", err)
	}
	if opt.Alone {
		n.members = &raftpb.ConfState{Voters: []uint64{opt.ID}}
	}
	n.window = newWindow(opt.Storage, opt.Applier, n.hard, n.members, r)
	var err error
	n.raft, err = raft.NewRawNode(&raft.Config{
		ID: opt.ID, Applied: r.Applied, Storage: n.window,
		ElectionTick: electionTicks, HeartbeatTick: 1,
		MaxSizePerMsg: messageBytes, MaxInflightMsgs: 256, MaxCommittedSizePerReady: batchBytes,
		CheckQuorum: true, PreVote: true, StepDownOnRemoval: true,
		Logger: &raft.DefaultLogger{Logger: slog.NewLogLogger(n.log.Handler(), slog.LevelDebug)},
	})
	if err != nil {
		return nil, fmt.Errorf("consensus: %w", err)
	}
	n.publishStatus(r.Applied)
	return n, nil
}

// Quorate reports whether proposals can be accepted.
func (n *Node) Quorate() bool { return n.status.Load().Quorate }

// Turns has something to receive when the quorum has come or gone since the last
// time. It is for one receiver.
func (n *Node) Turns() <-chan struct{} { return n.turns }

// Status returns where the node stands.
func (n *Node) Status() Status { return *n.status.Load() }

// Propose has c carried out by the whole group and returns its result once this
// node has applied it. After ErrNoQuorum, unless it is ErrUncertain, the change
// does not happen; after ErrUncertain, ErrStopped or an error of ctx it still may.
func (n *Node) Propose(ctx context.Context, c *command.Command) (tree.Result, error) {
	if c.ID == 0 {
		identified := *c
		identified.ID = newID()
		c = &identified
	}
	if c.Check() != nil {
		if len(c.Data) > layout.MaxFile {
			return tree.Result{Err: tree.ErrTooBig}, nil
		}
		return tree.Result{Err: tree.ErrInvalid}, nil
	}
	if len(c.Data) > 0 {
		if err := n.opt.Storage.Room(); err != nil {
			return tree.Result{}, err
		}
	}
	return n.await(ctx, &proposal{id: c.ID, data: c.Marshal()})
}

func (n *Node) await(ctx context.Context, p *proposal) (tree.Result, error) {
	if !n.Quorate() {
		return tree.Result{}, ErrNoQuorum
	}
	p.done, p.ctx = make(chan outcome, 1), ctx
	select {
	case n.proposals <- p:
	case <-ctx.Done():
		return tree.Result{}, ctx.Err()
	case <-n.stopped:
		return tree.Result{}, ErrStopped
	}
	select {
	case o := <-p.done:
		return o.result, o.err
	case <-ctx.Done():
		return p.outcomeOr(ctx.Err())
	case <-n.stopped:
		return p.outcomeOr(ErrStopped)
	}
}

// outcomeOr returns the result of a proposal that is no longer waited for, if there
// is one all the same: what was carried out just before the end is acknowledged.
func (p *proposal) outcomeOr(err error) (tree.Result, error) {
	select {
	case o := <-p.done:
		return o.result, o.err
	default:
		return tree.Result{}, err
	}
}

// Step takes a message of another member.
func (n *Node) Step(ctx context.Context, message []byte) error {
	m := &raftpb.Message{}
	if err := proto.Unmarshal(message, m); err != nil {
		return fmt.Errorf("consensus: message: %w", err)
	}
	return n.take(ctx, m)
}

// take hands a message to the goroutine of Run.
func (n *Node) take(ctx context.Context, m *raftpb.Message) error {
	if _, known := raftpb.MessageType_name[int32(m.GetType())]; !known || raft.IsLocalMsg(m.GetType()) {
		return fmt.Errorf("consensus: message of type %v is not for others", m.GetType())
	}
	select {
	case n.messages <- m:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-n.stopped:
		return ErrStopped
	}
}

// Unreachable says that a message to a member was lost.
func (n *Node) Unreachable(to uint64) { n.report(report{to: to}) }

// SnapshotSent says whether a message that carried a snapshot has arrived.
func (n *Node) SnapshotSent(to uint64, arrived bool) {
	n.report(report{to: to, snapshot: true, arrived: arrived})
}

// A lost report costs a retry, a blocked transport everything.
func (n *Node) report(r report) {
	select {
	case n.reports <- r:
	default:
	}
}

func newID() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.LittleEndian.Uint64(b[:]) | 1 // never 0
}

// Package mount is the cluster file system as programs see it: the FUSE mount.
//
// It owns the translation of system calls into commands and of results into
// errno: one save is one command, temporary names stay on this node until they
// are renamed, what a format refuses never leaves. It owns the virtual files,
// the kernel's caches and the inotify bell. It never stores anything, never
// orders changes and never asks another node: it proposes, and waits until the
// change has been applied here.
//
// No lock is held across a proposal, and nobody waits for the queue that tells
// the kernel of changes, because the kernel itself waits for requests that are
// being answered. For the same reason no system call is made here for which the
// kernel may wait for a program: none below the mount, no notification that takes
// the lock of a directory, nothing that looks into a process.
package mount

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"etcpve/cfs/command"
	"etcpve/cfs/mount/bell"
	"etcpve/cfs/mount/known"
	"etcpve/cfs/mount/listing"
	"etcpve/cfs/mount/local"
	"etcpve/cfs/mount/origin"
	"etcpve/cfs/mount/review"
	"etcpve/cfs/mount/virtual"
	"etcpve/cfs/status"
	"etcpve/cfs/tree"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// FSName is the name of the file system in the table of mounts.
const FSName = "pmxcfs"

// validity is for how long the kernel may keep what it was told: everything
// that changes is taken back explicitly.
const validity = time.Hour

// interruptGrace is for how long an interrupted request still waits for its
// result. A signal that kills nobody, such as those the Go runtime sends, must
// not turn a save into an error.
const interruptGrace = 250 * time.Millisecond

// A Proposer puts changes in order and applies them here before it returns.
type Proposer interface {
	Propose(ctx context.Context, c *command.Command) (tree.Result, error)
	// Quorate reports whether a change can be ordered now.
	Quorate() bool
}

// Locks says when a cluster-wide lock may be broken.
type Locks interface {
	Expired(path string) (version uint64, expired bool)
}

// Config is what a Mount needs. Check and History may be missing.
type Config struct {
	Dir        string // mount point
	Node       string // this node's name
	Writer     uint32 // this node's number; 0 on a standalone node
	GID        uint32 // group of everything
	Tree       *tree.Tree
	Locks      Locks
	Proposer   Proposer
	Check      func(path string) review.Checker // for the file at path
	History    virtual.History
	Status     *status.Store
	ClusterLog *status.Log
	Cluster    func() virtual.Cluster
	Bell       string // executable that is started as the bell
	Log        *slog.Logger
	Level      *slog.LevelVar // switched by writing .debug
	Now        func() time.Time
}

// Mount is a mounted file system.
type Mount struct {
	fuse.RawFileSystem // answers ENOSYS to what is not implemented

	cfg    Config
	server *fuse.Server
	place  bell.Mount
	start  time.Time
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	done   chan struct{}  // closed when nothing is mounted any more
	gone   sync.Once      // closes done
	served chan struct{}  // closed when the connection has ended
	broken chan error     // has room for the first panic
	saves  sync.RWMutex   // read: a proposal is under way; write: no more are taken
	work   sync.WaitGroup // goroutines of the mount

	ids      atomic.Uint64 // source of command ids
	handles  handles
	listings *listing.Table[fuse.DirEntry]
	locals   *local.Store
	names    *virtual.Names
	known    known.Dirs
	views    *virtual.Root
	queue    queue
	local    *origin.Proposals
	rejected *virtual.Rejected
	events   *virtual.Events
}

// New mounts the file system and serves it until Close or until it is
// unmounted from outside.
func New(cfg Config) (*Mount, error) {
	m := &Mount{
		RawFileSystem: fuse.NewDefaultRawFileSystem(),
		cfg:           cfg,
		rejected:      virtual.NewRejected(),
		events:        virtual.NewEvents(),
		start:         cfg.Now(),
		done:          make(chan struct{}),
		served:        make(chan struct{}),
		broken:        make(chan error, 1),
		local:         origin.New(),
		names:         virtual.NewNames(virtualIDs),
		locals:        local.New(localIDs),
		listings:      listing.New[fuse.DirEntry](),
	}
	m.events.Start(cfg.Tree.Index())
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.ids.Store(uint64(cfg.Now().UnixNano()))
	m.handles.init()
	m.queue.init(m)
	m.views = m.newViews()

	if err := m.attach(); err != nil {
		m.cancel()
		return nil, fmt.Errorf("mount %s: %w", cfg.Dir, err)
	}
	m.spawn("server", m.server.Serve)
	m.spawn("queue", m.queue.run)
	m.spawn("removals", m.removals)
	m.spawn("watch", m.watch)
	return m, nil
}

// attach mounts the file system. It opens the device itself: a process that
// inherited the descriptor, as the bell would, could keep the connection alive
// after the daemon's death, and everybody who uses the mount would hang.
func (m *Mount) attach() error {
	var err error
	if m.cfg.Dir, err = filepath.EvalSymlinks(m.cfg.Dir); err != nil { // as the table of mounts has it
		return err
	}
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("/dev/fuse: %w", err)
	}
	opt := m.options()
	data := fmt.Sprintf("fd=%d,rootmode=%o,user_id=0,group_id=0,default_permissions,allow_other,max_read=%d", fd, unix.S_IFDIR, opt.MaxWrite)
	if err := unix.Mount(FSName, m.cfg.Dir, "fuse."+FSName, unix.MS_NOSUID|unix.MS_NODEV, data); err != nil {
		unix.Close(fd)
		return err
	}
	m.server, err = fuse.NewServer(m, fmt.Sprintf("/dev/fd/%d", fd), opt)
	if err != nil {
		unix.Unmount(m.cfg.Dir, unix.MNT_DETACH)
		unix.Close(fd)
		return err
	}
	m.place, err = bell.Find(m.cfg.Dir)
	return err
}

// maxWrite is the most that one request carries: a read buffer of that size is
// held for each request in progress.
const maxWrite = 128 << 10

func (m *Mount) options() *fuse.MountOptions {
	return &fuse.MountOptions{
		MaxWrite:           maxWrite,
		DisableXAttrs:      true,
		DisableReadDirPlus: true,
		DisableSplice:      true, // what is read is in memory: a pipe would be filled and emptied in vain
		ExtraCapabilities:  fuse.CAP_ATOMIC_O_TRUNC,
		MaxBackground:      64,
		Logger:             log.New(io.Discard, "", 0),
		PanicHandler: func(v any) fuse.Status {
			m.panicked("request", v)
			return fuse.EIO
		},
	}
}

// String names the file system to the server.
func (m *Mount) String() string { return FSName }

// command returns a new command in the name of the caller.
func (m *Mount) command(caller *fuse.InHeader, op command.Op, path string) *command.Command {
	return &command.Command{
		ID:     m.ids.Add(1),
		Node:   m.cfg.Node,
		Writer: m.cfg.Writer,
		UID:    caller.Uid,
		Time:   m.cfg.Now().Unix(),
		Op:     op,
		Path:   path,
	}
}

// propose has a command applied and returns its result. While it waits, the
// change counts as one that the local kernel makes itself if the kernel's own
// view follows from the answer (see proposals).
func (m *Mount) propose(cancel <-chan struct{}, c *command.Command, own origin.Origin) (tree.Result, error) {
	if !m.cfg.Proposer.Quorate() {
		return tree.Result{}, errNoQuorum
	}
	if !m.saves.TryRLock() {
		return tree.Result{}, errClosing
	}
	defer m.saves.RUnlock()
	ctx, stop := context.WithCancel(m.ctx)
	defer stop()
	m.work.Go(func() {
		select {
		case <-ctx.Done():
			return
		case <-cancel:
		}
		select {
		case <-ctx.Done():
		case <-time.After(interruptGrace):
			stop()
		}
	})
	m.local.Begin(c, own)
	r, err := m.cfg.Proposer.Propose(ctx, c)
	if err != nil {
		m.local.Abandon(c)
		m.queue.forgetPath(c.Path)
		m.queue.forgetPath(c.To)
		if ctx.Err() != nil {
			return r, errInterrupted
		}
		if !m.cfg.Proposer.Quorate() {
			return r, errNoQuorum
		}
		return r, err
	}
	if r.Err != nil {
		m.local.Abandon(c) // no change will come of it
	}
	return r, r.Err
}

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"etcpve/cfs/cluster"
	"etcpve/cfs/command"
	"etcpve/cfs/consensus"
	"etcpve/cfs/database"
	"etcpve/cfs/layout"
	"etcpve/cfs/mount"
	"etcpve/cfs/status"
	"etcpve/cfs/tree"
)

// quorumPatience is for how long a start waits to be able to order changes. A
// node without quorum is mounted all the same, for reading.
const quorumPatience = 5 * time.Second

// daemon is the parts of a running file system.
type daemon struct {
	o     options
	log   *slog.Logger
	tree  *tree.Tree
	locks *tree.Locks
	db    *database.Database
	node  *consensus.Node
	mount *mount.Mount

	cluster    *cluster.Cluster
	status     *status.Store
	clusterLog *status.Log

	shown       sync.Mutex // guards what follows
	shownText   string     // what .members said last
	shownChange int        // how often that has changed

	feed feed
	work sync.WaitGroup

	retire context.CancelFunc // lets the order of changes end
	order  sync.WaitGroup     // the order of changes
	fail   chan error         // has room for the first failure
}

// run starts the parts, waits for the reason to stop, and stops them in the
// opposite order.
func run(ctx context.Context, o options, log *slog.Logger, level *slog.LevelVar, ready func()) error {
	instance, err := lock(o.database, o.mount, log)
	if err != nil {
		return err
	}
	defer instance.Close()
	if !o.witness {
		if err := prepare(o.mount); err != nil {
			return err
		}
	}
	boundMalloc()
	d := &daemon{o: o, log: log, tree: tree.New(), fail: make(chan error, 1)}
	if err := d.beginAnew(); err != nil {
		return err
	}
	if d.db, err = database.Open(o.database, d.tree, database.Options{Log: log}); err != nil {
		return err
	}
	background, stop := context.WithCancel(context.Background())
	err = d.start(background, level)
	if err == nil {
		if !o.witness {
			log.Info("mounted", "node", o.node, "path", o.mount, "index", d.tree.Index())
		}
		ready()
		err = d.wait(ctx)
	}
	err = errors.Join(err, d.stop(stop))
	if errors.Is(err, errRejoin) || d.behind(err) {
		return errors.Join(setAside(o.database, time.Now()), errRejoin)
	}
	return err
}

// start brings up the order of changes, then the mount.
func (d *daemon) start(ctx context.Context, level *slog.LevelVar) (err error) {
	begin := time.Now()
	speed, err := strconv.Atoi(os.Getenv(layout.TestSpeed))
	if err != nil {
		speed = 1
	}
	d.locks = tree.NewLocks(d.tree, func() time.Duration { return time.Since(begin) * time.Duration(speed) })
	d.status, d.clusterLog = status.New(d.o.node, time.Now), &status.Log{}
	d.clusterLog.Add(status.LogEntry{Time: time.Now().Unix(), Priority: 6, Tag: "cluster", PID: os.Getpid(), Node: d.o.node, User: "root", Message: "starting cluster log"})
	id, member, err := d.identity()
	if err != nil {
		return err
	}
	if err := d.prepareCluster(id, member); err != nil {
		return err
	}
	processors := newProcessors()
	d.work.Go(func() { processors.calm(ctx) })
	d.node, err = consensus.New(consensus.Options{ID: uint64(id), Storage: watched{d.db, processors}, Applier: d.db, Transport: d.cluster, Join: member, Alone: d.o.alone, Log: d.log,
		Changes: d.feed.put, Replaced: d.feed.replace})
	if err != nil {
		return err
	}
	d.feed.note(d.locks.Note)
	d.feed.note(d.cluster.Notice)
	d.work.Go(func() { boundMemory(ctx) })
	d.spawn("database", func() error { return d.db.Run(ctx) })
	order, retire := context.WithCancel(ctx)
	d.retire = retire
	d.order.Add(1)
	d.spawn("consensus", func() error {
		defer d.order.Done()
		return d.node.Run(order)
	})
	d.cluster.Attach(d.node)
	if err := d.startCluster(ctx); err != nil {
		return err
	}
	d.catchUp(ctx)
	if d.o.alone {
		if err := d.survive(ctx, id); err != nil {
			return err
		}
	}
	if d.o.witness {
		return nil // it votes, and nobody reads here
	}
	return d.startMount(ctx, writer(id, member), level)
}

// startMount shows the tree.
func (d *daemon) startMount(ctx context.Context, writer uint32, level *slog.LevelVar) error {
	executable, err := os.Executable()
	if err != nil {
		return err
	}
	if err := vacate(d.o.mount, d.log); err != nil {
		return err
	}
	d.mount, err = mount.New(mount.Config{
		Dir: d.o.mount, Node: d.o.node, Writer: writer, GID: group(d.log), Tree: d.tree, Locks: d.locks, Proposer: d.node, Cluster: d.members,
		Check:   d.check,
		History: past{d.db}, Status: d.status, ClusterLog: d.clusterLog, Bell: executable,
		Log: d.log, Level: level, Now: time.Now,
	})
	if err != nil {
		return err
	}
	d.feed.subscribe(d.mount)
	d.work.Go(func() { d.watchQuorum(ctx) })
	return nil
}

// spawn runs a part; its failure ends the daemon.
func (d *daemon) spawn(part string, do func() error) {
	d.work.Go(func() {
		defer func() {
			if p := recover(); p != nil {
				d.log.Error("panic", "part", part, "err", fmt.Sprint(p), "stack", string(debug.Stack()))
				d.failed(fmt.Errorf("%s: panic: %v", part, p))
			}
		}()
		if err := do(); err != nil {
			d.failed(err)
		}
	})
}

func (d *daemon) failed(err error) {
	select {
	case d.fail <- err:
	default: // the first failure is the one that counts
	}
}

// wait returns when there is a reason to stop, nil if it was asked for.
func (d *daemon) wait(ctx context.Context) error {
	var unmounted <-chan struct{}
	var broken <-chan error
	if d.mount != nil {
		unmounted, broken = d.mount.Done(), d.mount.Failed()
	}
	select {
	case <-ctx.Done():
		d.log.Info("stopping", "node", d.o.node)
		return nil
	case <-unmounted:
		d.log.Info("unmounted from outside", "path", d.o.mount)
		return nil
	case err := <-d.fail:
		return err
	case err := <-broken:
		return err
	case <-d.db.Failed():
		return d.db.Err()
	}
}

// stopPatience is for how long the parts may take to end. What a panic has left
// locked may never end; a restart needs nothing of it.
const stopPatience = 20 * time.Second

// stop ends the mount, then the order of changes, then the database.
func (d *daemon) stop(cancel context.CancelFunc) (err error) {
	late := time.AfterFunc(stopPatience, func() {
		d.log.Error("the parts do not end, leaving them", "node", d.o.node)
		os.Exit(1)
	})
	defer late.Stop()
	if d.mount != nil {
		err = d.mount.Close()
	}
	if d.retire != nil {
		d.retire()
		d.order.Wait() // a leader hands over, for which the streams must still be there
	}
	cancel()
	d.work.Wait()
	return errors.Join(err, d.db.Close())
}

// catchUp waits until this node has applied whatever was acknowledged before
// it came back, or for so long that it shows what it has instead. Its log may be
// ahead of its tree, and what of it was agreed on is known only once a leader has
// carried out something new; so that is what is asked for.
func (d *daemon) catchUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, quorumPatience)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		_, err := d.node.Propose(ctx, &command.Command{Op: command.Noop, Node: d.o.node, Time: time.Now().Unix()})
		if err == nil || !errors.Is(err, consensus.ErrNoQuorum) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// watchQuorum has the kernel look at the modes again when the quorum came or went.
func (d *daemon) watchQuorum(ctx context.Context) {
	for was := d.node.Quorate(); ; {
		select {
		case <-ctx.Done():
			return
		case <-d.node.Turns():
		}
		if now := d.node.Quorate(); now != was {
			was = now
			d.log.Info("quorum changed", "quorate", now)
			d.mount.Reset()
		}
	}
}

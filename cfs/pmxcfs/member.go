package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"etcpve/cfs/cluster"
	"etcpve/cfs/cluster/home"
	"etcpve/cfs/consensus"
	"etcpve/cfs/control"
	"etcpve/cfs/format"
	"etcpve/cfs/format/corosync"
	"etcpve/cfs/format/text"
	"etcpve/cfs/join"
	"etcpve/cfs/membership"
	"etcpve/cfs/mount/review"
	"etcpve/cfs/mount/virtual"
)

// firstID is the number of a node that forms a group of its own.
const firstID = 1

// keptDatabases is how many databases from before a join are kept.
const keptDatabases = 10

// errRejoin ends a run after which the daemon begins anew with an empty database,
// to be filled by the cluster.
var errRejoin = errors.New("begin anew with the tree of the cluster")

// errAlone ends a run after which the daemon goes on as a group of one.
var errAlone = errors.New("go on as a group of one")

func (d *daemon) home() home.Home {
	return home.Home(filepath.Join(filepath.Dir(d.o.database), "cluster"))
}

// beginAnew moves the database away that a node had before it entered its group.
func (d *daemon) beginAnew() error {
	place := d.home()
	if !place.IsAnew() || d.o.local {
		return nil
	}
	return errors.Join(setAside(d.o.database, time.Now()), place.Begun())
}

// identity returns this node's number and whether it is in a cluster.
func (d *daemon) identity() (id uint32, member bool, err error) {
	definition, _, err := d.home().Definition()
	switch {
	case errors.Is(err, fs.ErrNotExist) || d.o.local:
		return firstID, false, nil
	case err != nil:
		return 0, false, err
	}
	own, ok := definition.Node(d.o.node)
	if !ok {
		return 0, false, fmt.Errorf("node %s is not in the definition of cluster %s: was it renamed?", d.o.node, definition.Cluster)
	}
	return own.ID, true, nil
}

// writer is what the tree notes as the writer: 0 on a standalone node, as in the
// field.
func writer(id uint32, member bool) uint32 {
	if !member {
		return 0
	}
	return id
}

func (d *daemon) prepareCluster(id uint32, member bool) (err error) {
	d.cluster, err = cluster.New(cluster.Config{
		Node: d.o.node, ID: id, Home: d.home(), Timing: membership.LAN(), Fresh: member && d.db.Recovered().Base == 0,
		Tree: d.tree, Store: d.status, Log: d.clusterLog, Now: time.Now, Logger: d.log, Witness: d.o.witness,
		Password: func(ctx context.Context, password string) error { return join.CheckPassword(ctx, "root", password) },
		Restart:  cluster.Restart{Empty: func() { d.failed(errRejoin) }, Alone: func() { d.failed(errAlone) }},
	})
	if err == nil {
		d.status.OnSet(d.cluster.Tell)
		d.feed.anew(d.cluster.Reread)
	}
	return err
}

// startCluster takes part in the cluster, if there is one, and answers pvecm.
func (d *daemon) startCluster(ctx context.Context) error {
	socket, err := control.Listen(d.o.socket)
	if err != nil {
		return err
	}
	d.spawn("control", func() error { return control.Serve(ctx, socket, d.cluster.Verbs(), d.log) })
	if !d.o.local {
		d.spawn("cluster", func() error { return d.cluster.Run(ctx) })
	}
	return nil
}

// survive makes the group of one, as which this run has started, the one that
// every later run finds.
func (d *daemon) survive(ctx context.Context, id uint32) error {
	ctx, cancel := context.WithTimeout(ctx, quorumPatience)
	defer cancel()
	err := d.node.SetMember(ctx, d.node.Status(), uint64(id), consensus.Voter)
	if err == nil {
		err = d.db.Flush(ctx) // or a kill within the next seconds would bring the old group back
	}
	if err != nil {
		return fmt.Errorf("go on as a group of one: %w", err)
	}
	return nil
}

// behind reports whether a run ended because the cluster has seen more of this
// node than its database knows.
func (d *daemon) behind(err error) bool {
	if errors.Is(err, consensus.ErrBehind) {
		d.log.Warn("the database is an older copy", "path", d.o.database, "err", err)
		return true
	}
	return false
}

// members is what .members shows. Its number rises with each change.
func (d *daemon) members() virtual.Cluster {
	r := d.cluster.Report()
	c := virtual.Cluster{Name: r.Cluster, Config: int(r.Version), Quorate: r.Quorate}
	for _, n := range r.Nodes { // the quorum device is no node
		c.Nodes = append(c.Nodes, virtual.Member{Name: n.Name, ID: int(n.ID), Online: n.Online, IP: n.Address})
	}
	d.shown.Lock()
	defer d.shown.Unlock()
	if text := fmt.Sprint(c); text != d.shownText && len(c.Nodes) > 0 {
		d.shownText = text
		d.shownChange++
	}
	c.Change = d.shownChange
	return c
}

// check returns what judges a save: the format of the file, and for the
// cluster's definition also the cluster.
func (d *daemon) check(path string) review.Checker {
	c := format.NewChecker(path)
	if path != corosync.File {
		return c
	}
	return both{c, d.cluster.Review()}
}

// both refuses what either refuses; the second is asked for what the first lets
// pass.
type both struct{ first, second review.Checker }

// Write passes a part on to both.
func (b both) Write(part []byte) []text.Error {
	if refused := b.first.Write(part); len(refused) > 0 {
		return refused
	}
	return b.second.Write(part)
}

// End asks both for their verdict.
func (b both) End() (refused, warnings []text.Error) {
	refused, warnings = b.first.End()
	if len(refused) > 0 {
		return refused, warnings
	}
	refused, more := b.second.End()
	return refused, append(warnings, more...)
}

// setAside moves a database out of the way and keeps the last few.
func setAside(database string, now time.Time) error {
	dir := filepath.Join(filepath.Dir(database), "backup")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	name := fmt.Sprintf("config-%d.db", now.Unix())
	for _, suffix := range []string{"", "-wal", "-shm"} {
		err := os.Rename(database+suffix, filepath.Join(dir, name+suffix))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	kept, err := filepath.Glob(filepath.Join(dir, "config-*.db"))
	if err != nil {
		return err
	}
	slices.Sort(kept)
	for _, old := range kept[:max(0, len(kept)-keptDatabases)] {
		for _, suffix := range []string{"", "-wal", "-shm"} {
			if err := os.Remove(old + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

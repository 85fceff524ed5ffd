// Command pmxcfs is the cluster file system's daemon: it mounts /etc/pve and keeps it.
// Called as pvecm it is the tool to manage the cluster.
//
// The package owns the flags, the order in which the parts start and stop, and
// what happens when one of them fails: the daemon says so and steps out, and no
// mount is left hanging. It holds no logic of the file system itself.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"etcpve/cfs/control"
	"etcpve/cfs/format/corosync"
	"etcpve/cfs/layout"
	"etcpve/cfs/mount/bell"
	"etcpve/cfs/pvecm"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == bell.Argument {
		exit(bell.Main(os.Args[2:]))
	}
	if filepath.Base(os.Args[0]) == "pvecm" {
		os.Exit(pvecm.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	if len(os.Args) > 1 && os.Args[1] == "pvecm" {
		os.Exit(pvecm.Main(os.Args[2:], os.Stdin, os.Stdout, os.Stderr))
	}
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(0)
	}
	if err != nil {
		os.Exit(2) // it was said why
	}
	if os.Geteuid() != 0 {
		exit(errors.New("needs root, to mount " + o.mount))
	}
	if !o.foreground {
		exit(background())
	}
	exit(foreground(o))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", filepath.Base(os.Args[0]), err)
		os.Exit(1)
	}
	os.Exit(0)
}

// options are the flags of the daemon.
type options struct {
	foreground, debug, local bool
	alone                    bool // the group is to be one of this node alone
	witness                  bool // vote, and mount nothing
	mount, database, node    string
	socket                   string
}

// defaultDatabase is the database of the node itself; others are for tests and
// trials beside it.
const defaultDatabase = "/var/lib/pve-cluster/config.db"

// socket returns where the daemon of a database answers.
func socket(database string) string {
	if database == defaultDatabase {
		return control.Path
	}
	sum := crc32.ChecksumIEEE([]byte(database))
	return fmt.Sprintf("%s/pmxcfs-%08x.sock", filepath.Dir(control.Path), sum)
}

func parse(args []string) (o options, err error) {
	f := flag.NewFlagSet("pmxcfs", flag.ContinueOnError)
	f.BoolVar(&o.foreground, "f", false, "stay in the foreground")
	f.BoolVar(&o.debug, "d", false, "log debug messages")
	f.BoolVar(&o.local, "l", false, "local mode: be a cluster of one, whatever corosync.conf says")
	f.BoolVar(&o.witness, "witness", false, "be the quorum device of a cluster: vote, and mount nothing")
	f.StringVar(&o.mount, "mount", "/etc/pve", "mount point")
	f.StringVar(&o.database, "db", defaultDatabase, "database")
	f.StringVar(&o.socket, "socket", "", "socket on which pvecm is answered (default "+control.Path+", another for another database)")
	f.StringVar(&o.node, "node", "", "name of this node (default the host name)")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "pmxcfs: unexpected argument %q\n", f.Arg(0))
		return o, errors.New("usage")
	}
	if o.witness {
		o.node = corosync.Witness
	}
	if o.node == "" {
		name, err := os.Hostname()
		if err != nil {
			return o, err
		}
		o.node, _, _ = strings.Cut(name, ".")
	}
	if !o.witness && !layout.IsNodeName(o.node) {
		fmt.Fprintf(os.Stderr, "pmxcfs: no name for a node: %q has more than letters, digits and inner hyphens; change the host name, or give another by --node\n", o.node)
		return o, errors.New("usage")
	}
	for _, path := range []*string{&o.mount, &o.database} {
		if *path, err = filepath.Abs(*path); err != nil {
			return o, err
		}
	}
	if o.socket == "" {
		o.socket = socket(o.database)
	}
	return o, nil
}

// foreground runs the daemon until a signal, a failure or an unmount from outside.
func foreground(o options) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	parent := readiness()
	level := new(slog.LevelVar)
	if o.debug {
		level.Set(slog.LevelDebug)
	}
	log := newLogger(level, parent.isSet())
	mounted := false
	ready := sync.OnceFunc(func() { mounted = true; parent.ready() })
	err := run(ctx, o, log, level, ready)
	for (errors.Is(err, errRejoin) || errors.Is(err, errAlone)) && ctx.Err() == nil {
		log.Info("starting again", "node", o.node, "err", err)
		o.alone = errors.Is(err, errAlone)
		err = run(ctx, o, log, level, ready)
	}
	if err != nil && mounted { // before that, the terminal is told, and once
		log.Error("stepping out", "node", o.node, "err", err)
	}
	return advise(err)
}

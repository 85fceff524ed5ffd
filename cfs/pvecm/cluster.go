package pvecm

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"etcpve/cfs/cluster"
	"etcpve/cfs/control"
	"etcpve/cfs/format/corosync"
	"etcpve/cfs/join"
	"etcpve/cfs/peer"

	"golang.org/x/sys/unix"
)

// Waits of the verbs.
const (
	answerWithin  = 60 * time.Second
	quorateWithin = 60 * time.Second
	invitation    = time.Hour
)

// daemon is the running pmxcfs, asked through its local socket.
type daemon struct{ socket string }

// flags returns the flags of a verb, with those that all verbs of a cluster have.
func (d *daemon) flags(verb string) *flag.FlagSet {
	f := flag.NewFlagSet("pvecm "+verb, flag.ContinueOnError)
	f.StringVar(&d.socket, "socket", control.Path, "socket of the running pmxcfs")
	return f
}

func (d *daemon) ask(verb string, in, out any) error {
	ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
	defer cancel()
	return control.Call(ctx, d.socket, verb, in, out)
}

// linkFlags collects --link0 to --link7.
type linkFlags [corosync.MaxLinks]string

func (l *linkFlags) add(f *flag.FlagSet) {
	for i := range l {
		f.StringVar(&l[i], "link"+strconv.Itoa(i), "", fmt.Sprintf("address of this node for link %d", i))
	}
}

// addresses returns what was given, which must begin with link 0.
func (l *linkFlags) addresses() (list []netip.Addr, err error) {
	for i, text := range l {
		if text == "" {
			continue
		}
		if i != len(list) {
			return nil, fmt.Errorf("--link%d without --link%d", i, len(list))
		}
		text, _, _ = strings.Cut(strings.TrimPrefix(text, "address="), ",")
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("--link%d: %q is no address", i, text)
		}
		list = append(list, a)
	}
	return list, nil
}

func create(args []string, out io.Writer) error {
	var d daemon
	var links linkFlags
	f := d.flags("create")
	links.add(f)
	votes := f.Uint("votes", 1, "votes of this node")
	name, err := positional(f, args, "CLUSTERNAME")
	if err != nil {
		return err
	}
	founding := cluster.Founding{Cluster: name, Votes: uint32(*votes)}
	if founding.Addresses, err = links.addresses(); err != nil {
		return err
	}
	if len(founding.Addresses) == 0 {
		own, err := ownAddress()
		if err != nil {
			return err
		}
		founding.Addresses = []netip.Addr{own}
	}
	if err := d.ask("create", founding, nil); err != nil {
		return err
	}
	fmt.Fprintf(out, "cluster %s created, this node is reached at %s\n", name, founding.Addresses[0])
	return nil
}

// ownAddress is the address of the local host name, or else the first one that
// other nodes can reach.
func ownAddress() (netip.Addr, error) {
	if name, err := os.Hostname(); err == nil {
		if list, err := net.LookupIP(name); err == nil {
			for _, ip := range list {
				if a, ok := netip.AddrFromSlice(ip); ok && !a.Unmap().IsLoopback() {
					return a.Unmap(), nil
				}
			}
		}
	}
	list, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, err
	}
	for _, n := range list {
		if p, err := netip.ParsePrefix(n.String()); err == nil && p.Addr().IsGlobalUnicast() {
			return p.Addr(), nil
		}
	}
	return netip.Addr{}, errors.New("no address that other nodes can reach: name one with --link0")
}

func joininfo(args []string, out io.Writer) error {
	var d daemon
	f := d.flags("joininfo")
	valid := f.Duration("valid", invitation, "for how long it can be used")
	if err := none(f, args); err != nil {
		return err
	}
	var i join.Information
	if err := d.ask("invite", int64(valid.Seconds()), &i); err != nil {
		return err
	}
	fmt.Fprintln(out, i)
	return nil
}

func add(args []string, out io.Writer) error {
	var d daemon
	var links linkFlags
	f := d.flags("add")
	links.add(f)
	info := f.String("join-info", "", "file with join information (- for standard input), instead of HOSTNAME")
	fingerprint := f.String("fingerprint", "", "SHA-256 fingerprint of the member's certificate")
	votes := f.Int("votes", -1, "votes of this node (default 1)")
	nodeid := f.Uint("nodeid", 0, "id of this node (default the next free one)")
	mount := f.String("mount", "/etc/pve", "where the tree is mounted")
	if err := f.Parse(args); err != nil {
		return err
	}
	e := cluster.Entry{NodeID: uint32(*nodeid)}
	if *votes >= 0 {
		v := uint32(*votes)
		e.Votes = &v
	}
	var err error
	if e.Addresses, err = links.addresses(); err != nil {
		return err
	}
	switch {
	case *info != "" && f.NArg() == 0:
		e.Information, err = readInformation(*info)
	case *info == "" && f.NArg() == 1:
		e.Information, e.Password, err = askOperator(f.Arg(0), *fingerprint, out)
	default:
		err = errors.New("usage: pvecm add HOSTNAME | pvecm add --join-info FILE")
	}
	if err != nil {
		return err
	}
	if err := d.ask("join", e, nil); err != nil {
		return err
	}
	return d.settle(*mount, out)
}

// settle waits until the joined node has the cluster's tree and makes the node's
// directories in it.
func (d *daemon) settle(mount string, out io.Writer) error {
	node := ""
	err := d.await(out, func(r cluster.Report) bool {
		node = r.Node
		return r.Quorate && r.Applied > 0 && mounted(mount)
	})
	if err != nil {
		return fmt.Errorf("the node is known to the cluster: %w", err)
	}
	if err := updatecerts([]string{"--silent", "--mount", mount, "--node", node}, out); err != nil {
		return err
	}
	fmt.Fprintf(out, "successfully added node '%s' to cluster.\n", node)
	return nil
}

func mounted(dir string) bool {
	_, err := os.Stat(dir + "/" + corosync.File)
	return err == nil
}

func readInformation(name string) (join.Information, error) {
	in := io.Reader(os.Stdin)
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return join.Information{}, err
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, 64<<10))
	if err != nil {
		return join.Information{}, err
	}
	return join.ParseInformation(string(text))
}

// askOperator asks for root's password on the member and, if it was not given,
// whether the member's fingerprint is right.
func askOperator(host, fingerprint string, out io.Writer) (i join.Information, password string, err error) {
	addresses, err := net.LookupIP(host)
	if err != nil {
		return i, "", err
	}
	i = join.Information{Address: addresses[0].String(), Port: cluster.Port, Fingerprint: fingerprint}
	in := bufio.NewReader(os.Stdin)
	if fingerprint == "" {
		ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
		defer cancel()
		if i.Fingerprint, err = peer.Fingerprint(ctx, net.JoinHostPort(i.Address, strconv.Itoa(cluster.Port))); err != nil {
			return i, "", err
		}
		fmt.Fprintf(out, "The fingerprint of %s is %s\nAre you sure you want to continue connecting (yes/no)? ", host, i.Fingerprint)
		if answer, _ := in.ReadString('\n'); strings.TrimSpace(answer) != "yes" {
			return i, "", errors.New("fingerprint not confirmed")
		}
	}
	fmt.Fprintf(out, "Please enter superuser (root) password for '%s': ", host)
	restore := hideTyping()
	password, err = in.ReadString('\n')
	restore()
	fmt.Fprintln(out)
	if err != nil && err != io.EOF {
		return i, "", err
	}
	return i, strings.TrimRight(password, "\r\n"), nil
}

// hideTyping turns the terminal's echo off, if standard input is one.
func hideTyping() (restore func()) {
	fd := int(os.Stdin.Fd())
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return func() {}
	}
	quiet := *old
	quiet.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &quiet); err != nil {
		return func() {}
	}
	return func() { unix.IoctlSetTermios(fd, unix.TCSETS, old) }
}

func delnode(args []string, out io.Writer) error {
	var d daemon
	node, err := positional(d.flags("delnode"), args, "NODE")
	if err != nil {
		return err
	}
	if err := d.ask("remove", node, nil); err != nil {
		return err
	}
	fmt.Fprintf(out, "node %s is no member any more\n", node)
	return nil
}

// positional parses the flags of a verb with one argument, which may come before
// or after them.
func positional(f *flag.FlagSet, args []string, name string) (string, error) {
	var first []string
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		first, args = args[:1], args[1:]
	}
	if err := f.Parse(args); err != nil {
		return "", err
	}
	if first = append(first, f.Args()...); len(first) != 1 {
		return "", fmt.Errorf("usage: %s %s", f.Name(), name)
	}
	return first[0], nil
}

func none(f *flag.FlagSet, args []string) error {
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("%s: unexpected argument %q", f.Name(), f.Arg(0))
	}
	return nil
}

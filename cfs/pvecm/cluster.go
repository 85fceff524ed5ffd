package pvecm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"etcpve/agents/tools/cli"
	"etcpve/cfs/cluster"
	"etcpve/cfs/control"
	"etcpve/cfs/format/corosync"
	"etcpve/cfs/format/property"
	"etcpve/cfs/join"
	"etcpve/cfs/peer"

	"golang.org/x/sys/unix"
)

// Waits of the verbs.
const (
	answerWithin  = 60 * time.Second
	quorateWithin = 60 * time.Second
	votesWithin   = 10 * time.Second
)

// daemon is the running pmxcfs, asked through its local socket.
type daemon struct{ socket string }

// of returns the daemon that a command asks.
func of(c *cli.Call) *daemon { return &daemon{socket: or(c, "socket", control.Path)} }

func (d *daemon) ask(verb string, in, out any) error {
	ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
	defer cancel()
	return control.Call(ctx, d.socket, verb, in, out)
}

// links returns the addresses that --link0 to --link7 give, without a gap, and
// the priorities that were given.
func links(c *cli.Call) (list []netip.Addr, priorities map[int]int, err error) {
	priorities = map[int]int{}
	for i := range corosync.MaxLinks {
		name := "link" + strconv.Itoa(i)
		if !c.Has(name) {
			continue
		}
		if i != len(list) {
			return nil, nil, fmt.Errorf("--link%d without --link%d", i, len(list))
		}
		parts, err := property.Split(c.Value(name))
		if err != nil {
			return nil, nil, fmt.Errorf("--%s: %w", name, err)
		}
		for _, p := range parts {
			if p.Key == "priority" {
				priorities[i], _ = strconv.Atoi(p.Value) // its rule has let it pass
				continue
			}
			a, err := lookup(p.Value)
			if err != nil {
				return nil, nil, fmt.Errorf("--%s: %w", name, err)
			}
			list = append(list, a)
		}
	}
	return list, priorities, nil
}

// lookup returns the address of a host.
func lookup(host string) (netip.Addr, error) {
	list, err := net.LookupIP(host)
	if err != nil {
		return netip.Addr{}, err
	}
	a, ok := netip.AddrFromSlice(list[0])
	if !ok {
		return netip.Addr{}, fmt.Errorf("%s has no address", host)
	}
	return a.Unmap(), nil
}

func create(_ context.Context, c *cli.Call) (err error) {
	f := cluster.Founding{Cluster: c.Value("clustername"), Votes: 1, NodeID: count(c, "nodeid"), Totem: map[string]string{}}
	if c.Has("votes") {
		f.Votes = count(c, "votes")
	}
	if c.Has("token-coefficient") {
		f.Totem["token_coefficient"] = c.Value("token-coefficient")
	}
	if f.Addresses, f.Priorities, err = links(c); err != nil {
		return err
	}
	if len(f.Addresses) == 0 {
		own, err := ownAddress()
		if err != nil {
			return err
		}
		f.Addresses = []netip.Addr{own}
	}
	d := of(c)
	if err := d.ask("create", f, nil); err != nil {
		return err
	}
	if f.NodeID > 1 { // it starts again under that id
		if err := d.await(c.Out, func(r cluster.Report) bool { return r.Quorate && len(r.Nodes) == 1 }); err != nil {
			return err
		}
	}
	fmt.Fprintf(c.Out, "cluster %s created, this node is reached at %s\n", f.Cluster, f.Addresses[0])
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

func joininfo(_ context.Context, c *cli.Call) error {
	valid, err := time.ParseDuration(or(c, "valid", "1h"))
	if err != nil {
		return err
	}
	var i join.Information
	if err := of(c).ask("invite", int64(valid.Seconds()), &i); err != nil {
		return err
	}
	fmt.Fprintln(c.Out, i)
	return nil
}

// votesOf returns the votes that were given, if they were.
func votesOf(c *cli.Call) *uint32 {
	if !c.Has("votes") {
		return nil
	}
	n := count(c, "votes")
	return &n
}

func add(ctx context.Context, c *cli.Call) (err error) {
	e := cluster.Entry{NodeID: count(c, "nodeid"), Votes: votesOf(c), Force: c.Bool("force")}
	if e.Addresses, _, err = links(c); err != nil {
		return err
	}
	switch {
	case c.Bool("use_ssh"):
		err = errors.New("use_ssh: nodes join by TLS only: give the password when asked, or use --join-info")
	case c.Has("join-info") == c.Has("hostname"):
		err = errors.New("either the name of a member or --join-info is needed")
	case c.Has("join-info"):
		e.Information, err = readInformation(c.Value("join-info"), c.In)
	default:
		e.Information, e.Password, err = askOperator(ctx, c, c.Value("hostname"))
	}
	if err != nil {
		return err
	}
	d := of(c)
	var before cluster.Report
	if err := d.ask("status", nil, &before); err != nil {
		return err
	}
	if err := d.ask("join", e, nil); err != nil {
		return err
	}
	return d.settle(or(c, "mount", defaultMount), before, c.Out)
}

// addnode enters a node that has not asked.
func addnode(_ context.Context, c *cli.Call) (err error) {
	r := join.Request{Node: c.Value("node"), NodeID: count(c, "nodeid"), Votes: votesOf(c), Force: c.Bool("force")}
	if v := c.Value("apiversion"); v != "" && v != strconv.Itoa(join.Version) {
		return fmt.Errorf("the new node speaks version %s, this one %d", v, join.Version)
	}
	if r.Addresses, _, err = links(c); err != nil {
		return err
	}
	if name := or(c, "new_node_ip", r.Node); len(r.Addresses) == 0 {
		a, err := lookup(name)
		if err != nil {
			return err
		}
		r.Addresses = []netip.Addr{a}
	}
	var id uint32
	if err := of(c).ask("prepare", r, &id); err != nil {
		return err
	}
	fmt.Fprintf(c.Out, "node %s has the id %d, and joins with 'pvecm add --force'\n", r.Node, id)
	return nil
}

// settle waits until the joined node has started again and has the cluster's tree, and
// makes the node's directories in it. It may have had quorum before, in another group.
func (d *daemon) settle(mount string, before cluster.Report, out io.Writer) error {
	node := ""
	err := d.await(out, func(r cluster.Report) bool {
		node = r.Node
		return r.Began != before.Began && r.Quorate && r.Applied > 0 && mounted(mount)
	})
	if err != nil {
		return fmt.Errorf("the node is known to the cluster: %w", err)
	}
	if err := complete(place{mount: mount, node: node, now: time.Now(), say: func(string, ...any) {}}); err != nil {
		return err
	}
	d.awaitVotes()
	fmt.Fprintf(out, "successfully added node '%s' to cluster.\n", node)
	return nil
}

// awaitVotes waits until as many nodes vote as the cluster wants: whoever has
// added a third node relies on being able to lose one. A cluster in which some
// node does not answer may have to wait for longer than anybody here.
func (d *daemon) awaitVotes() {
	for deadline := time.Now().Add(votesWithin); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		var r cluster.Report
		if d.ask("status", nil, &r) == nil && len(strings.Fields(named(r, "voter"))) >= r.Wanted {
			return
		}
	}
}

func mounted(dir string) bool {
	_, err := os.Stat(dir + "/" + corosync.File)
	return err == nil
}

func readInformation(name string, in io.Reader) (join.Information, error) {
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

// askOperator asks for root's password on another machine and, if it was not
// given, whether the fingerprint of that machine is right.
func askOperator(ctx context.Context, c *cli.Call, host string) (i join.Information, password string, err error) {
	address, err := lookup(host)
	if err != nil {
		return i, "", err
	}
	i = join.Information{Address: address.String(), Port: cluster.Port, Fingerprint: c.Value("fingerprint")}
	in := bufio.NewReader(c.In)
	if i.Fingerprint == "" {
		ctx, cancel := context.WithTimeout(ctx, answerWithin)
		defer cancel()
		if i.Fingerprint, err = peer.Fingerprint(ctx, net.JoinHostPort(i.Address, strconv.Itoa(cluster.Port))); err != nil {
			return i, "", err
		}
		fmt.Fprintf(c.Out, "The fingerprint of %s is %s\nAre you sure you want to continue connecting (yes/no)? ", host, i.Fingerprint)
		if answer, _ := in.ReadString('\n'); strings.TrimSpace(answer) != "yes" {
			return i, "", errors.New("fingerprint not confirmed")
		}
	}
	fmt.Fprintf(c.Out, "Please enter superuser (root) password for '%s': ", host)
	restore := hideTyping()
	password, err = in.ReadString('\n')
	restore()
	fmt.Fprintln(c.Out)
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

func delnode(_ context.Context, c *cli.Call) error {
	node := c.Value("node")
	if err := of(c).ask("remove", node, nil); err != nil {
		return err
	}
	fmt.Fprintf(c.Out, "node %s is no member any more\n", node)
	return nil
}

package firewall

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"etcpve/agents/firewall"
	"etcpve/agents/firewall/scenario"
	"etcpve/agents/firewall/way"
	"etcpve/agents/tools/cli"
	fw "etcpve/cfs/format/firewall"
)

// compile prints the rule set, tool by tool.
func (p Place) compile(ctx context.Context, c *cli.Call) error {
	d, pending, err := p.agent(c).Pending(ctx)
	if err != nil {
		return err
	}
	for _, f := range d.Files {
		for _, problem := range f.Problems {
			fmt.Fprintln(c.Err, problem.Error())
		}
	}
	for _, problem := range d.Problems {
		fmt.Fprintln(c.Err, problem.Error())
	}
	if _, err := io.WriteString(c.Out, d.Rules.String()); err != nil {
		return err
	}
	if len(pending) == 0 {
		fmt.Fprintln(c.Out, "no changes")
		return nil
	}
	fmt.Fprintln(c.Out, "detected changes")
	for _, action := range pending {
		fmt.Fprintln(c.Out, "-", action)
	}
	return nil
}

// localnet prints what the presets for management and cluster traffic are.
func (p Place) localnet(ctx context.Context, c *cli.Call) error {
	d, _, err := p.agent(c).Pending(ctx)
	if err != nil {
		return err
	}
	host, _ := os.Hostname()
	fmt.Fprintf(c.Out, "local hostname: %s\n", first(p.Node, host))
	if rings := d.Node.Rings; len(rings) > 0 {
		fmt.Fprintf(c.Out, "local IP address: %s\n", rings[0].Own)
	}
	for _, network := range d.Node.LocalNetworks {
		fmt.Fprintf(c.Out, "network auto detect: %s\n", network)
	}
	if alias, ok := localAlias(d.Cluster); ok {
		fmt.Fprintf(c.Out, "using user defined local_network: %s\n", alias)
	} else if len(d.Node.LocalNetworks) > 0 {
		fmt.Fprintf(c.Out, "using detected local_network: %s\n", d.Node.LocalNetworks[0])
	}
	if len(d.Node.Rings) > 0 {
		fmt.Fprintf(c.Out, "\naccepting corosync traffic from/to:\n")
	}
	for link, ring := range d.Node.Rings {
		for _, peer := range ring.Peers {
			fmt.Fprintf(c.Out, " - %s (link: %d)\n", peer, link)
		}
	}
	return nil
}

func localAlias(cluster *fw.Document) (string, bool) {
	if cluster == nil {
		return "", false
	}
	alias, ok := cluster.Alias("local_network")
	return alias.Address.String(), ok
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// simulate sends one packet.
func (p Place) simulate(ctx context.Context, c *cli.Call) error {
	d, err := p.agent(c).Desired(ctx, "")
	if err != nil {
		return err
	}
	zones := way.Map{Guests: d.Guests}
	from, err := zones.Zone(first(c.Value("from"), "outside"))
	if err != nil {
		return err
	}
	to, err := zones.Zone(first(c.Value("to"), "host"))
	if err != nil {
		return err
	}
	packet, err := packetOf(c, from, to, d.Node)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.Out, "Test packet:\n\n")
	for _, line := range [][2]string{
		{"dest", c.Value("dest")}, {"dport", c.Value("dport")}, {"from", from.Name}, {"proto", packet.Protocol},
		{"source", c.Value("source")}, {"sport", c.Value("sport")}, {"to", to.Name},
	} {
		if line[1] != "" {
			fmt.Fprintf(c.Out, "  %-8s: %s\n", line[0], line[1])
		}
	}
	fmt.Fprintln(c.Out)
	var trace firewall.Trace
	if c.Bool("verbose") {
		trace = func(chain string, r firewall.Rule) { fmt.Fprintf(c.Out, "%s: %s\n", chain, r) }
	}
	verdict, steps := way.Send(d.Rules, packet, from, to, trace)
	if trace != nil {
		for _, step := range steps {
			fmt.Fprintln(c.Out, step)
		}
	}
	fmt.Fprintf(c.Out, "ACTION: %s\n", verdict)
	return nil
}

// anyAddress stands for an address that the caller did not give: one that
// belongs to nobody here.
var anyAddress = map[bool]netip.Addr{
	true:  netip.MustParseAddr("192.0.2.1"),
	false: netip.MustParseAddr("2001:db8::1"),
}

func packetOf(c *cli.Call, from, to way.Zone, n firewall.Node) (p firewall.Packet, err error) {
	p = firewall.Packet{
		FrameType: "IPv4", Protocol: first(c.Value("protocol"), "tcp"), SourceType: "UNICAST", DestType: "UNICAST",
		LinkType: "unicast", State: "NEW", Flags: "SYN", SourcePort: firewall.NoPort, DestPort: firewall.NoPort,
	}
	if p.Source, err = addressOf(c.Value("source"), from, n); err != nil {
		return p, err
	}
	if p.Dest, err = addressOf(c.Value("dest"), to, n); err != nil {
		return p, err
	}
	// An address that was not given is of the family of the one that was.
	switch {
	case c.Value("source") == "" && p.Source.Is4() != p.Dest.Is4():
		p.Source = anyAddress[p.Dest.Is4()]
	case p.Source.Is4() != p.Dest.Is4() && c.Value("dest") == "":
		p.Dest = anyAddress[p.Source.Is4()]
	case p.Source.Is4() != p.Dest.Is4():
		return p, fmt.Errorf("source and destination are not of one family")
	}
	if p.Source.Is6() {
		p.FrameType = "IPv6"
	}
	for _, port := range []struct {
		name  string
		value *int
	}{{"sport", &p.SourcePort}, {"dport", &p.DestPort}} {
		if text := c.Value(port.name); text != "" {
			if *port.value, err = strconv.Atoi(text); err != nil {
				return p, err
			}
		}
	}
	return p, nil
}

// addressOf returns an address that was given, or one that the zone would have.
func addressOf(given string, z way.Zone, n firewall.Node) (netip.Addr, error) {
	switch {
	case given != "":
		return netip.ParseAddr(given)
	case z.Bridge == "" && len(n.Rings) > 0:
		return n.Rings[0].Own, nil
	}
	return anyAddress[true], nil
}

// test prints what failed, and how many did.
func test(_ context.Context, c *cli.Call) error {
	s, err := scenario.Load(strings.TrimSuffix(c.Value("directory"), "/tests"))
	if err != nil {
		return err
	}
	passed, failed := 0, 0
	for _, r := range s.Run() {
		if r.Err == nil {
			passed++
			continue
		}
		failed++
		fmt.Fprintf(c.Out, "tests:%d: %s: %v\n", r.Test.Line, r.Test.Text, r.Err)
	}
	fmt.Fprintf(c.Out, "%d passed, %d failed\n", passed, failed)
	if failed > 0 {
		return &cli.Coded{Code: 1, Err: fmt.Errorf("%d tests failed", failed)}
	}
	return nil
}

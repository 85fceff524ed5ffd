package scenario

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"etcpve/agents/firewall"
)

// A Test is a packet, and what should become of it.
type Test struct {
	Line              int    // of the file, where it begins
	Text              string // as written
	ID                string
	From, To          string // zones; "" stands for several
	Action            firewall.Verdict
	Proto             string
	Source, Dest      string
	Sport, Dport      string
	SrcType, DstType  string
	MAC, State, Flags string
}

// fields are the names that a test may use, and where their values go.
var fields = map[string]func(*Test) *string{
	"id":      func(t *Test) *string { return &t.ID },
	"from":    func(t *Test) *string { return &t.From },
	"to":      func(t *Test) *string { return &t.To },
	"action":  func(t *Test) *string { return (*string)(&t.Action) },
	"proto":   func(t *Test) *string { return &t.Proto },
	"source":  func(t *Test) *string { return &t.Source },
	"dest":    func(t *Test) *string { return &t.Dest },
	"sport":   func(t *Test) *string { return &t.Sport },
	"dport":   func(t *Test) *string { return &t.Dport },
	"srctype": func(t *Test) *string { return &t.SrcType },
	"dsttype": func(t *Test) *string { return &t.DstType },
	"mac":     func(t *Test) *string { return &t.MAC },
	"state":   func(t *Test) *string { return &t.State },
	"flags":   func(t *Test) *string { return &t.Flags },
}

var fieldForm = regexp.MustCompile(`^\s*([a-z]+)\s*=>\s*(?:'([^']*)'|"([^"]*)"|([\w.:/-]+))\s*(?:,|$)`)

// remark is what may follow a test.
var remark = regexp.MustCompile(`\}\s*#.*$`)

// parseTests reads the file of tests. A test may go on over several lines.
func parseTests(content string) (tests []Test, err error) {
	var open []string
	begin := 0
	for i, line := range strings.Split(content, "\n") {
		line = remark.ReplaceAllString(strings.TrimSpace(line), "}")
		if line == "" || line[0] == '#' {
			continue
		}
		if len(open) == 0 {
			begin = i + 1
		}
		open = append(open, line)
		if !strings.HasSuffix(line, "}") {
			continue
		}
		t, err := parseTest(strings.Join(open, " "))
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", begin, err)
		}
		t.Line = begin
		tests, open = append(tests, t), nil
	}
	if len(open) > 0 {
		return nil, fmt.Errorf("line %d: not closed", begin)
	}
	return tests, nil
}

func parseTest(text string) (t Test, err error) {
	t = Test{Text: text, Proto: "tcp", SrcType: "UNICAST", DstType: "UNICAST", State: "NEW", Flags: "SYN"}
	body, opened := strings.CutPrefix(text, "{")
	body, closed := strings.CutSuffix(body, "}")
	if !opened || !closed {
		return t, fmt.Errorf("not of the form { field => value, … }")
	}
	for strings.TrimSpace(body) != "" {
		m := fieldForm.FindStringSubmatch(body)
		if m == nil {
			return t, fmt.Errorf("cannot read '%s'", strings.TrimSpace(body))
		}
		field, ok := fields[m[1]]
		if !ok {
			return t, fmt.Errorf("unknown field '%s'", m[1])
		}
		*field(&t) = m[2] + m[3] + m[4]
		body = body[len(m[0]):]
	}
	switch {
	case t.Action != firewall.Accept && t.Action != firewall.Drop && t.Action != firewall.Reject:
		return t, fmt.Errorf("action '%s' is not ACCEPT, DROP or REJECT", t.Action)
	case t.From == "" && t.To == "":
		return t, fmt.Errorf("neither from nor to is given")
	}
	return t, nil
}

// Packet returns the packet of a test between two zones.
func (t Test) Packet(from, to string) (p firewall.Packet, err error) {
	p = firewall.Packet{
		FrameType: "IPv4", Protocol: t.Proto, SourceType: t.SrcType, DestType: t.DstType,
		LinkType: "unicast", SourceMAC: t.MAC, State: t.State, Flags: t.Flags,
	}
	if p.Source, err = netip.ParseAddr(preset(t.Source, from, "100.100.1.2")); err != nil {
		return p, err
	}
	if p.Dest, err = netip.ParseAddr(preset(t.Dest, to, "100.200.3.4")); err != nil {
		return p, err
	}
	switch {
	case t.Proto == "arp":
		p.FrameType = "ARP"
	case p.Source.Is6():
		p.FrameType = "IPv6"
	}
	if p.SourcePort, err = port(t.Sport); err != nil {
		return p, err
	}
	if strings.HasPrefix(t.Proto, "icmp") || t.Proto == "ipv6-icmp" {
		p.DestPort, p.ICMPType = firewall.NoPort, t.Dport
		return p, nil
	}
	p.DestPort, err = port(t.Dport)
	return p, err
}

// preset returns an address that a test may leave out.
func preset(given, zone, other string) string {
	switch {
	case given != "":
		return given
	case zone == "host":
		return selfAddress
	}
	return other
}

func port(text string) (int, error) {
	if text == "" {
		return firewall.NoPort, nil
	}
	n, err := strconv.ParseUint(text, 10, 16)
	return int(n), err
}

package firewall

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"etcpve/cfs/format/text"
)

var (
	ifaceForm    = regexp.MustCompile(`^(?i)[a-z][a-z0-9_]{1,20}([:.]\d+)?$`)
	guestIface   = regexp.MustCompile(`^net\d+$`)
	lowerName    = regexp.MustCompile(`^[a-z][a-z0-9_-]+$`)
	longestGroup = longestName["group"]
)

// check returns why the rule means nothing, as far as its own line can tell.
func (u *Rule) check(p piece, scope Scope, inGroup bool) *text.Error {
	for _, step := range []struct {
		name string
		err  error
	}{
		{"action", u.checkAction(inGroup)},
		{"i", u.checkIface(scope, inGroup)},
		{"p", u.checkProto()},
		{"dport", u.checkDport()},
		{"sport", u.checkSport()},
		{"icmp-type", u.checkICMPType()},
		{"source", checkAddress(u.Source)},
		{"dest", checkAddress(u.Dest)},
		{"source", u.checkFamily()},
		{"action", u.checkMacro()},
	} {
		if step.err != nil {
			return &text.Error{Line: p.line, Column: u.column(step.name), Key: step.name, Message: step.err.Error()}
		}
	}
	return nil
}

// column returns where the value of an option stands in the line, or where the
// rule begins.
func (u *Rule) column(name string) int {
	for _, n := range []string{name, longName[name]} {
		if c, ok := u.columns[n]; ok {
			return c
		}
	}
	return 0
}

// longName maps the short options to their other names; the empty name stands
// for the begin of the rule.
var longName = map[string]string{"p": "proto"}

func (u *Rule) checkAction(inGroup bool) error {
	if u.Type == "group" {
		switch {
		case inGroup:
			return errors.New("a group cannot contain another group")
		case !lowerName.MatchString(u.Action) || len(u.Action) > longestGroup:
			return fmt.Errorf("bad name of a group '%s'; expected lower case letters, digits, '-' or '_'", u.Action)
		}
		return nil
	}
	if !contains([]string{"ACCEPT", "DROP", "REJECT"}, u.Action) {
		return fmt.Errorf("unknown action '%s'; expected ACCEPT, DROP, REJECT or Macro(ACTION)", u.Action)
	}
	if u.Macro != "" {
		if _, ok := FindMacro(u.Macro); !ok {
			return fmt.Errorf("unknown macro '%s'", u.Macro)
		}
	}
	return nil
}

func (u *Rule) checkIface(scope Scope, inGroup bool) error {
	switch {
	case u.Iface == "":
		return nil
	case inGroup:
		return errors.New("a rule of a group cannot name an interface")
	case scope == Guest && !guestIface.MatchString(u.Iface):
		return fmt.Errorf("unknown interface '%s'; expected net0, net1, … of the guest", u.Iface)
	case !ifaceForm.MatchString(u.Iface):
		return fmt.Errorf("'%s' is not the name of an interface", u.Iface)
	}
	return nil
}

func (u *Rule) checkProto() error {
	if u.Proto != "" && !IsProtocol(u.Proto) {
		return fmt.Errorf("unknown protocol '%s'", u.Proto)
	}
	return nil
}

func (u *Rule) checkDport() error {
	switch {
	case u.Dport == "":
		return nil
	case u.Proto == "":
		return errors.New("a port needs a protocol; add -p tcp or -p udp")
	case HasPorts(u.Proto):
		_, err := ParsePorts(u.Dport)
		return err
	case icmpFamily(u.Proto) != 0:
		return checkType(u.Proto, u.Dport)
	}
	return fmt.Errorf("protocol '%s' has no ports", u.Proto)
}

func (u *Rule) checkSport() error {
	switch {
	case u.Sport == "":
		return nil
	case u.Proto == "":
		return errors.New("a port needs a protocol; add -p tcp or -p udp")
	case !HasPorts(u.Proto):
		return fmt.Errorf("protocol '%s' has no source ports", u.Proto)
	}
	_, err := ParsePorts(u.Sport)
	return err
}

func (u *Rule) checkICMPType() error {
	switch {
	case u.ICMPType == "":
		return nil
	case icmpFamily(u.Proto) == 0:
		return errors.New("an ICMP type needs -p icmp or -p ipv6-icmp")
	case u.Dport != "":
		return errors.New("the ICMP type is given by -dport already")
	}
	return checkType(u.Proto, u.ICMPType)
}

func checkType(proto, value string) error {
	if !IsICMPType(proto, value) {
		return fmt.Errorf("unknown ICMP type '%s' of protocol '%s'", value, proto)
	}
	return nil
}

func checkAddress(spec string) error {
	if spec == "" {
		return nil
	}
	if len(spec) > 512 {
		return errors.New("longer than 512 characters")
	}
	_, err := ParseAddress(spec)
	return err
}

// checkFamily refuses a rule that no packet can match because it asks for both
// IPv4 and IPv6.
func (u *Rule) checkFamily() error {
	family := icmpFamily(u.Proto)
	for _, spec := range []string{u.Source, u.Dest} {
		a, err := ParseAddress(spec)
		if err != nil || a.Family() == 0 {
			continue
		}
		if family != 0 && family != a.Family() {
			return errors.New("the rule mixes IPv4 and IPv6")
		}
		family = a.Family()
	}
	return nil
}

// checkMacro refuses options that say something else than the macro.
func (u *Rule) checkMacro() error {
	m, ok := FindMacro(u.Macro)
	if !ok {
		return nil
	}
	for _, part := range m.Rules {
		for _, pair := range [][3]string{
			{"-p", u.Proto, part.Proto}, {"-dport", u.Dport, part.Dport},
			{"-sport", u.Sport, part.Sport}, {"-icmp-type", u.ICMPType, part.ICMPType},
		} {
			if pair[1] != "" && pair[2] != "" && pair[1] != pair[2] {
				return fmt.Errorf("option %s %s contradicts the macro '%s', which says '%s'", pair[0], pair[1], m.Name, pair[2])
			}
		}
	}
	return nil
}

// A PortRange is one or more ports.
type PortRange struct{ First, Last uint16 }

// ParsePorts reads a list of ports, ranges a:b and names of services.
func ParsePorts(spec string) ([]PortRange, error) {
	var ports []PortRange
	for _, part := range strings.Split(spec, ",") {
		first, last, ranged := strings.Cut(part, ":")
		a, errA := parsePort(first, !ranged)
		if !ranged {
			last = first
		}
		b, errB := parsePort(last, !ranged)
		if errA != nil || errB != nil || b < a {
			return nil, fmt.Errorf("'%s' is not a port; expected 0 to 65535, a range a:b or the name of a service", part)
		}
		ports = append(ports, PortRange{a, b})
	}
	return ports, nil
}

func parsePort(s string, named bool) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err == nil || !named {
		return uint16(n), err
	}
	if port, ok := services[strings.ToLower(s)]; ok {
		return port, nil
	}
	return 0, err
}

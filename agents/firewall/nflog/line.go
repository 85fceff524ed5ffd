package nflog

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// A line is being put together, word by word.
type line struct{ strings.Builder }

func (l *line) word(format string, args ...any) {
	l.WriteByte(' ')
	fmt.Fprintf(l, format, args...)
}

// line returns the record as a line of the log:
//
//	100 6 tap100i0-IN 21/Nov/2026:10:00:00 +0000 policy DROP: IN=fwbr100i0 …
//
// Guest, level and chain come from the prefix, as package firewall writes it.
func (r record) line(name func(uint32) string) string {
	var l line
	vmid, level, chain, message := splitPrefix(r.prefix)
	at := r.time
	if at.IsZero() {
		at = time.Now()
	}
	l.WriteString(vmid)
	l.word("%s %s %s %s", level, chain, at.Format("02/Jan/2006:15:04:05 -0700"), message)
	l.word("IN=%s OUT=%s", name(r.in), name(r.out))
	for _, port := range []struct {
		key   string
		index uint32
	}{{"PHYSIN", r.portIn}, {"PHYSOUT", r.portOut}} {
		if port.index != 0 {
			l.word("%s=%s", port.key, name(port.index))
		}
	}
	if len(r.frame) > 0 {
		l.word("MAC=%s", colons(r.frame))
	}
	switch {
	case r.family == 4 && len(r.packet) >= 20:
		l.ipv4(r.packet)
	case r.family == 6 && len(r.packet) >= 40:
		l.ipv6(r.packet)
	}
	return strings.ToValidUTF8(strings.ReplaceAll(l.String(), "\n", " "), "?")
}

// splitPrefix takes ":100:6:tap100i0-IN: policy DROP: " apart. A rule that is
// not the firewall's may log to the same group: then all is message.
func splitPrefix(prefix string) (vmid, level, chain, message string) {
	parts := strings.SplitN(prefix, ":", 5)
	if len(parts) < 5 || parts[0] != "" {
		return "0", "-", "-", strings.TrimSpace(prefix)
	}
	return parts[1], parts[2], parts[3], strings.TrimSpace(parts[4])
}

func colons(b []byte) string {
	words := make([]string, len(b))
	for i, c := range b {
		words[i] = fmt.Sprintf("%02x", c)
	}
	return strings.Join(words, ":")
}

func (l *line) ipv4(p []byte) {
	source, dest := netip.AddrFrom4([4]byte(p[12:16])), netip.AddrFrom4([4]byte(p[16:20]))
	l.word("SRC=%s DST=%s LEN=%d TOS=0x%02X PREC=0x%02X TTL=%d ID=%d", source, dest,
		binary.BigEndian.Uint16(p[2:]), p[1]&0x1e, p[1]&0xe0, p[8], binary.BigEndian.Uint16(p[4:]))
	fragment := binary.BigEndian.Uint16(p[6:])
	if fragment&0x4000 != 0 {
		l.word("DF")
	}
	if fragment&0x2000 != 0 {
		l.word("MF")
	}
	if header := int(p[0]&0xf) * 4; fragment&0x1fff == 0 && header >= 20 && header <= len(p) {
		l.transport(p[9], p[header:])
		return
	}
	l.word("FRAG:%d PROTO=%d", fragment&0x1fff, p[9])
}

func (l *line) ipv6(p []byte) {
	source, dest := netip.AddrFrom16([16]byte(p[8:24])), netip.AddrFrom16([16]byte(p[24:40]))
	label := binary.BigEndian.Uint32(p)
	l.word("SRC=%s DST=%s LEN=%d TC=%d HOPLIMIT=%d FLOWLBL=%d", source, dest,
		40+int(binary.BigEndian.Uint16(p[4:])), label>>20&0xff, p[7], label&0xfffff)
	l.transport(p[6], p[40:])
}

// tcpFlagWords are the flags of TCP in the order of their bits.
var tcpFlagWords = []string{"FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"}

// transport writes what follows the IP header, as far as it was kept.
func (l *line) transport(protocol byte, p []byte) {
	ports := func(name string) {
		l.word("PROTO=%s SPT=%d DPT=%d", name, binary.BigEndian.Uint16(p), binary.BigEndian.Uint16(p[2:]))
	}
	switch {
	case protocol == 6 && len(p) >= 20:
		ports("TCP")
		l.word("SEQ=%d ACK=%d WINDOW=%d", binary.BigEndian.Uint32(p[4:]), binary.BigEndian.Uint32(p[8:]), binary.BigEndian.Uint16(p[14:]))
		for bit, flag := range tcpFlagWords {
			if p[13]>>bit&1 == 1 {
				l.word("%s", flag)
			}
		}
	case protocol == 17 && len(p) >= 8:
		ports("UDP")
		l.word("LEN=%d", binary.BigEndian.Uint16(p[4:]))
	case (protocol == 1 || protocol == 58) && len(p) >= 4:
		l.word("PROTO=%s TYPE=%d CODE=%d", map[byte]string{1: "ICMP", 58: "ICMPv6"}[protocol], p[0], p[1])
	default:
		l.word("PROTO=%d", protocol)
	}
}

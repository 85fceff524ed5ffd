package nflog

import (
	"encoding/binary"
	"iter"
	"strings"
	"time"
)

// A record is one packet that a rule logged.
type record struct {
	prefix          string
	time            time.Time // zero: the kernel did not say
	in, out         uint32    // interfaces, by number
	portIn, portOut uint32    // ports of the bridge
	frame           []byte    // header of the frame
	family          byte      // 4 or 6, from the packet itself
	packet          []byte
}

// Attributes of a logged packet.
const (
	attributeTime    = 3
	attributeIn      = 4
	attributeOut     = 5
	attributePortIn  = 6
	attributePortOut = 7
	attributePayload = 9
	attributePrefix  = 10
	attributeFrame   = 16
)

// messages returns the netlink messages of a datagram, by kind. What is cut off
// is left out.
func messages(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= 16 {
			length := int(binary.NativeEndian.Uint32(b))
			if length < 16 || length > len(b) {
				return
			}
			if !yield(binary.NativeEndian.Uint16(b[4:]), b[16:length]) {
				return
			}
			b = b[min(aligned(length), len(b)):]
		}
	}
}

// attributes returns the attributes of a message, by kind.
func attributes(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= 4 {
			length := int(binary.NativeEndian.Uint16(b))
			if length < 4 || length > len(b) {
				return
			}
			if !yield(binary.NativeEndian.Uint16(b[2:])&0x3fff, b[4:length]) {
				return
			}
			b = b[min(aligned(length), len(b)):]
		}
	}
}

func aligned(length int) int { return (length + 3) &^ 3 }

// decode returns the packets that a datagram of the kernel tells of.
func decode(b []byte) (records []record) {
	for kind, body := range messages(b) {
		if kind != messagePacket || len(body) < 4 {
			continue
		}
		var r record
		for attribute, value := range attributes(body[4:]) {
			r.set(attribute, value)
		}
		records = append(records, r)
	}
	return records
}

func (r *record) set(attribute uint16, value []byte) {
	number := map[uint16]*uint32{
		attributeIn: &r.in, attributeOut: &r.out, attributePortIn: &r.portIn, attributePortOut: &r.portOut,
	}[attribute]
	switch {
	case number != nil && len(value) == 4:
		*number = binary.BigEndian.Uint32(value)
	case attribute == attributePrefix:
		r.prefix = strings.TrimRight(string(value), "\x00")
	case attribute == attributeTime && len(value) == 16:
		r.time = time.Unix(int64(binary.BigEndian.Uint64(value)), int64(binary.BigEndian.Uint64(value[8:]))*1000)
	case attribute == attributeFrame:
		r.frame = value
	case attribute == attributePayload && len(value) > 0:
		r.packet, r.family = value, value[0]>>4
	}
}

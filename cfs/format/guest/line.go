package guest

import (
	"regexp"
	"strings"

	"etcpve/cfs/layout"
)

// A lineKind says what one line of a file is.
type lineKind int

const (
	blankLine   lineKind = iota
	headerLine           // [name]
	commentLine          // #text, part of the description
	settingLine          // key: value
	rawLine              // a raw liblxc setting
	badLine
)

// A parsedLine is one line taken apart. Column is where value begins, from 1.
type parsedLine struct {
	kind       lineKind
	key, value string
	column     int
}

var (
	headerForm  = regexp.MustCompile(`^\[([^\]]*)\]\s*$`)
	settingForm = regexp.MustCompile(`^([a-z][a-z_-]*\d*):\s*(.*\S)\s*$`)
	rawForm     = regexp.MustCompile(`^(lxc\.[a-z0-9_.-]+)(?::|\s*=)\s*(.*?)\s*$`)
)

func readLine(kind layout.Kind, line string) parsedLine {
	switch {
	case strings.TrimSpace(line) == "":
		return parsedLine{kind: blankLine}
	case line[0] == '#':
		return parsedLine{kind: commentLine, value: strings.TrimSuffix(line[1:], "\r"), column: 2}
	}
	if m := headerForm.FindStringSubmatch(line); m != nil {
		return parsedLine{kind: headerLine, value: m[1], column: 2}
	}
	form, is := settingForm, settingLine
	if kind == layout.LXC && strings.HasPrefix(line, "lxc.") {
		form, is = rawForm, rawLine
	}
	if m := form.FindStringSubmatchIndex(line); m != nil {
		value := line[m[len(m)-2]:m[len(m)-1]]
		return parsedLine{kind: is, key: line[m[2]:m[3]], value: value, column: m[len(m)-2] + 1}
	}
	return parsedLine{kind: badLine, column: 1}
}

// A sectionKind says what a section is for.
type sectionKind int

const (
	mainSection sectionKind = iota
	pendingSection
	specialSection
	snapshotSection
	unknownSection
)

// A sectionName identifies a section of a file.
type sectionName struct {
	kind sectionKind
	name string
}

var snapshotForm = regexp.MustCompile(`^(?i:[a-z][a-z0-9_-]+)$`)

// sectionOf reads what stands between the brackets of a header.
func sectionOf(kind layout.Kind, header string) sectionName {
	lower := strings.ToLower(header)
	special, isSpecial := strings.CutPrefix(lower, "special:")
	switch {
	case lower == pendingHeader(kind), kind == layout.QEMU && lower == "pending":
		return sectionName{pendingSection, "pending"}
	case kind == layout.QEMU && isSpecial && (special == "cloudinit" || special == "fleecing"):
		return sectionName{specialSection, special}
	case snapshotForm.MatchString(header):
		return sectionName{snapshotSection, header}
	}
	return sectionName{unknownSection, header}
}

func pendingHeader(kind layout.Kind) string {
	if kind == layout.LXC {
		return "pve:pending"
	}
	return "PENDING"
}

// header returns the section's header line without its end, or "" for the
// main part.
func (n sectionName) header(kind layout.Kind) string {
	switch n.kind {
	case mainSection:
		return ""
	case pendingSection:
		return "[" + pendingHeader(kind) + "]"
	case specialSection:
		return "[special:" + n.name + "]"
	}
	return "[" + n.name + "]"
}

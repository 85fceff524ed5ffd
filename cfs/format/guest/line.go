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

const blank = " \t\n\v\f\r"

// readLine takes a line apart. It is in the way of every save, so it uses no
// regular expressions.
func readLine(kind layout.Kind, line string) parsedLine {
	trimmed := strings.TrimRight(line, blank)
	switch {
	case trimmed == "":
		return parsedLine{kind: blankLine}
	case line[0] == '#':
		return parsedLine{kind: commentLine, value: strings.TrimSuffix(line[1:], "\r"), column: 2}
	case line[0] == '[' && strings.IndexByte(trimmed, ']') == len(trimmed)-1:
		return parsedLine{kind: headerLine, value: trimmed[1 : len(trimmed)-1], column: 2}
	case kind == layout.LXC && strings.HasPrefix(line, "lxc."):
		return readRaw(trimmed)
	}
	n := settingKey(trimmed)
	if n == 0 || n == len(trimmed) || trimmed[n] != ':' {
		return parsedLine{kind: badLine, column: 1}
	}
	value := strings.TrimLeft(trimmed[n+1:], blank)
	if value == "" {
		return parsedLine{kind: badLine, column: n + 1}
	}
	return parsedLine{kind: settingLine, key: trimmed[:n], value: value, column: len(trimmed) - len(value) + 1}
}

// settingKey returns the length of the key a line begins with: a letter,
// letters, '_' or '-', then digits.
func settingKey(line string) int {
	n := 0
	for n < len(line) && (line[n] >= 'a' && line[n] <= 'z' || n > 0 && (line[n] == '_' || line[n] == '-')) {
		n++
	}
	for n > 0 && n < len(line) && line[n] >= '0' && line[n] <= '9' {
		n++
	}
	return n
}

// readRaw takes "lxc.key: value" or "lxc.key = value" apart.
func readRaw(line string) parsedLine {
	n := strings.IndexFunc(line, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune("_.-", r)
	})
	if n <= len("lxc.") {
		return parsedLine{kind: badLine, column: 1}
	}
	rest := line[n:]
	if rest[0] != ':' {
		rest = strings.TrimLeft(rest, blank)
		if rest == "" || rest[0] != '=' {
			return parsedLine{kind: badLine, column: n + 1}
		}
	}
	value := strings.TrimLeft(rest[1:], blank)
	return parsedLine{kind: rawLine, key: line[:n], value: value, column: len(line) - len(value) + 1}
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

// String returns the word that messages put before "section", with a blank.
func (k sectionKind) String() string {
	switch k {
	case specialSection:
		return "special "
	case snapshotSection:
		return "snapshot "
	}
	return ""
}

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

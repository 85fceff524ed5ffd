// Package text holds what all file formats below /etc/pve share lexically:
// lines that remember every byte, the position of an error, and the percent
// encoding of free text.
//
// It owns no format: it never knows what a key means.
package text

import (
	"strconv"
	"strings"
)

// An Error says where in which file something is wrong.
type Error struct {
	File         string
	Line, Column int // from 1; 0 means not known
	Key          string
	Message      string
}

// Error returns "file:line:column: key: message"; parts that are not known
// are left out.
func (e *Error) Error() string {
	var place []string
	if e.File != "" {
		place = append(place, e.File)
	}
	for _, n := range []int{e.Line, e.Column} {
		if n > 0 {
			place = append(place, strconv.Itoa(n))
		}
	}
	var parts []string
	if len(place) > 0 {
		parts = append(parts, strings.Join(place, ":"))
	}
	if e.Key != "" {
		parts = append(parts, e.Key)
	}
	return strings.Join(append(parts, strings.TrimRight(e.Message, "\n")), ": ")
}

// A Line is one line of a file. Text and End together are its exact bytes.
type Line struct {
	Number int    // from 1
	Text   string // without the line end
	End    string // "\n", "\r\n", or "" for a last line that is not ended
}

// Raw returns the line's exact bytes.
func (l Line) Raw() string { return l.Text + l.End }

// Lines cuts content into lines. Join gives the content back.
func Lines(content string) []Line {
	lines := make([]Line, 0, strings.Count(content, "\n")+1)
	for n := 1; content != ""; n++ {
		body, rest, ended := strings.Cut(content, "\n")
		line := Line{Number: n, Text: body}
		if ended {
			line.End = "\n"
			if cut, ok := strings.CutSuffix(body, "\r"); ok {
				line.Text, line.End = cut, "\r\n"
			}
		}
		lines = append(lines, line)
		content = rest
	}
	return lines
}

// Join is the inverse of Lines.
func Join(lines []Line) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.Text)
		b.WriteString(l.End)
	}
	return b.String()
}

// Encode percent-encodes free text the way descriptions and comments are
// stored: control characters, '%', ':' and every byte beyond ASCII.
func Encode(s string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c := s[i]; c >= ' ' && c <= '~' && c != '%' && c != ':' {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		}
	}
	return b.String()
}

// Decode is the inverse of Encode. What is not a valid escape stays as it is.
func Decode(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

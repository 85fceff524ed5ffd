package guest

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"etcpve/cfs/format/schema"
	"etcpve/cfs/format/text"
	"etcpve/cfs/layout"
)

// A Problem is something in a file that its reader does not accept.
type Problem struct {
	Place   text.Error // where it is and what is wrong, for people
	Full    string     // in the wording of the tools, with its line feed
	Unknown bool       // a setting that is not known, rather than one that is wrong
	Kept    bool       // the setting was read all the same
}

// Error returns the wording of the tools.
func (p *Problem) Error() string { return p.Full }

// Parse reads a configuration. A line or section with a problem is left out
// and reported, except that containers keep values they do not understand;
// reading goes on. A strict reader takes the first problem as its error.
func Parse(kind layout.Kind, vmid uint32, content string) (*Config, []*Problem) {
	r := &reader{config: New(kind, vmid), seen: map[sectionName]bool{}}
	r.config.Digest = Digest(content)
	r.section = r.config.Main
	for _, line := range text.Lines(content) {
		r.take(line)
	}
	r.endDescription()
	r.config.Main.Delete("snapstate")
	return r.config, r.problems
}

// A reader is the state between two lines.
type reader struct {
	config      *Config
	name        sectionName
	section     *Section // nil while an unknown section is skipped
	description *strings.Builder
	seen        map[sectionName]bool
	problems    []*Problem
	line        text.Line
}

func (r *reader) report(column int, key, full, message string) {
	full = fmt.Sprintf("vm %d - %s", r.config.VMID, full)
	if message == "" {
		message = strings.TrimSpace(full)
	}
	r.problems = append(r.problems, &Problem{
		Place: text.Error{Line: r.line.Number, Column: column, Key: key, Message: message},
		Full:  full,
	})
}

func (r *reader) take(line text.Line) {
	r.line = line
	parsed := readLine(r.config.Kind, line.Text)
	if parsed.kind == headerLine {
		r.begin(parsed)
		return
	}
	if r.section == nil {
		return
	}
	switch parsed.kind {
	case commentLine:
		r.describe(text.Decode(parsed.value) + "\n")
	case rawLine:
		r.takeRaw(parsed)
	case settingLine:
		r.takeSetting(parsed)
	case badLine:
		r.report(parsed.column, "", "unable to parse config: "+line.Text+"\n", `expected "key: value"`)
	}
}

func (r *reader) begin(parsed parsedLine) {
	r.endDescription()
	r.name = sectionOf(r.config.Kind, parsed.value)
	if r.name.kind == unknownSection {
		r.section = nil
		r.report(parsed.column, "", "skipping unknown section: '"+parsed.value+"'\n",
			"unknown section '"+parsed.value+"': a snapshot's name is a letter followed by letters, digits, '_' or '-'")
		return
	}
	if r.seen[r.name] {
		r.report(parsed.column, "", "duplicate "+r.name.kind.String()+"section: "+r.name.name+"\n", "section '"+parsed.value+"' is already in this file")
	}
	r.seen[r.name] = true
	r.section = r.config.begin(r.name)
}

func (r *reader) describe(line string) {
	if r.description == nil {
		r.description = &strings.Builder{}
	}
	r.description.WriteString(line)
}

func (r *reader) endDescription() {
	if r.description != nil && r.section != nil {
		r.section.Set("description", strings.TrimRight(r.description.String(), " \t\r\n\f\v"))
	}
	r.description = nil
}

func (r *reader) takeRaw(parsed parsedLine) {
	if rawAllowed(parsed.key) {
		r.section.Raw = append(r.section.Raw, Raw{parsed.key, parsed.value})
		return
	}
	if reason := rawRefused[parsed.key]; reason != "" {
		r.report(1, parsed.key, parsed.key+": "+reason+"\n", reason)
		return
	}
	r.report(1, parsed.key, "unable to parse config: "+r.line.Text+"\n", "this raw setting is not allowed")
}

func (r *reader) takeSetting(parsed parsedLine) {
	key, value := parsed.key, parsed.value
	switch {
	case key == "description":
		r.describe(text.Decode(value))
	case key == "snapstate":
		if value == "prepare" || value == "delete" {
			r.section.Set(key, value)
			return
		}
		r.takeValue(parsed)
	case key == "args" && r.config.Kind == layout.QEMU:
		r.section.Set(key, value)
	case key == "delete":
		if r.name.kind != pendingSection {
			message := "property 'delete' is only allowed in [" + pendingHeader(r.config.Kind) + "]"
			r.report(1, key, message+"\n", message)
			return
		}
		r.section.Set(key, value)
	case r.name == sectionName{specialSection, "cloudinit"}:
		r.section.Set(key, value)
	default:
		r.takeValue(parsed)
	}
}

func (r *reader) takeValue(parsed parsedLine) {
	key := parsed.key
	value, err := readValue(r.table()[key], key, parsed.value)
	if err != nil {
		column, message := parsed.column, err.Reason
		if err.Column > 0 {
			column += err.Column - 1
		}
		if err.Key != "" {
			message = err.Key + ": " + message
		}
		unknown := r.table()[key] == nil
		if unknown {
			column = 1
		}
		r.report(column, key, "unable to parse value of '"+key+"' - "+err.Message, message)
		p := r.problems[len(r.problems)-1]
		p.Unknown, p.Kept = unknown, r.config.Kind == layout.LXC
		if !p.Kept {
			return
		}
		value = parsed.value
	}
	if key == "cdrom" && r.config.Kind == layout.QEMU {
		key = "ide2"
	}
	r.section.Set(key, value)
}

func (r *reader) table() schema.Keys {
	if r.name == (sectionName{specialSection, "fleecing"}) {
		return fleecingKeys
	}
	return Keys(r.config.Kind)
}

var (
	wholeForm  = regexp.MustCompile(`^\d+$`)
	numberForm = regexp.MustCompile(`^\d+(\.\d+)?$`)
	quotedForm = regexp.MustCompile(`^"(.*)"$`)
)

// readValue turns a value into the form it is kept in. Limits and
// enumerations of the whole value are not judged here: a file that holds an
// outdated value must still be read. Message keeps the tools' wording.
func readValue(p *schema.Property, key, value string) (string, *schema.Error) {
	if p == nil {
		return "", &schema.Error{Message: "unknown setting '" + key + "'\n", Reason: "unknown setting '" + key + "'"}
	}
	ok := true
	switch p.Type {
	case "boolean":
		var truth bool
		truth, ok = schema.Bool(value)
		if ok {
			value = orElse(truth, "1", "0")
		}
	case "integer":
		if ok = wholeForm.MatchString(value); ok {
			value = orElse(strings.Trim(value, "0") == "", "0", strings.TrimLeft(value, "0"))
		}
	case "number":
		ok = numberForm.MatchString(value)
	default:
		return readText(p, value)
	}
	if !ok {
		reason := "type check ('" + p.Type + "') failed - got '" + value + "'"
		return "", &schema.Error{Message: reason + "\n", Reason: reason}
	}
	return value, nil
}

func orElse(ok bool, a, b string) string {
	if ok {
		return a
	}
	return b
}

func readText(p *schema.Property, value string) (string, *schema.Error) {
	if p.Format.IsZero() {
		return quotedForm.ReplaceAllString(value, "$1"), nil
	}
	var refusal *schema.Error
	errors.As(p.Format.Check(value), &refusal)
	return value, refusal
}

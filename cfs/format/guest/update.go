package guest

import (
	"cmp"
	"slices"
	"strings"

	"etcpve/cfs/format/text"
	"etcpve/cfs/layout"
)

// Update returns content changed so that it says what c says. Lines that
// already say it, lines that are not understood and sections that are not
// known stay byte-identical; new settings take their place in sorted order.
func Update(content string, c *Config) string {
	c = c.normal()
	old, problems := Parse(c.Kind, c.VMID, content)
	dropped := map[int]bool{}
	for _, p := range problems {
		dropped[p.Place.Line] = !p.Kept
	}
	blocks := cut(c.Kind, content)
	last := map[sectionName]int{}
	for i, b := range blocks {
		last[b.name] = i
	}
	wanted := c.sections()
	var out []block
	for i, b := range blocks {
		switch {
		case b.name.kind == unknownSection:
			out = append(out, b)
		case !slices.Contains(wanted, b.name):
		case last[b.name] != i:
			out = append(out, b)
		default:
			e := editor{kind: c.Kind, name: b.name, old: old.section(b.name), new: c.section(b.name), dropped: dropped}
			b.body = e.edit(b.body)
			out = append(out, b)
		}
	}
	for _, name := range wanted {
		if _, have := last[name]; !have {
			out = insert(out, newBlock(c, name))
		}
	}
	return join(out)
}

// A block is a section's header with the blank lines before it, and the lines
// below it.
type block struct {
	name sectionName
	lead []text.Line
	body []text.Line
}

func cut(kind layout.Kind, content string) []block {
	blocks := []block{{}}
	for _, line := range text.Lines(content) {
		current := &blocks[len(blocks)-1]
		parsed := readLine(kind, line.Text)
		if parsed.kind != headerLine {
			current.body = append(current.body, line)
			continue
		}
		n := len(current.body)
		for n > 0 && readLine(kind, current.body[n-1].Text).kind == blankLine {
			n--
		}
		lead := append(slices.Clone(current.body[n:]), line)
		current.body = current.body[:n]
		blocks = append(blocks, block{name: sectionOf(kind, parsed.value), lead: lead})
	}
	return blocks
}

func newBlock(c *Config, name sectionName) block {
	b := block{name: name, lead: []text.Line{{End: "\n"}, {Text: name.header(c.Kind), End: "\n"}}}
	e := editor{kind: c.Kind, name: name, old: NewSection(), new: c.section(name)}
	b.body = e.edit(nil)
	return b
}

// insert puts a block behind the last one that is written before it.
func insert(blocks []block, b block) []block {
	at := 1
	for i, other := range blocks {
		if other.name.kind != unknownSection && compare(other.name, b.name) < 0 {
			at = i + 1
		}
	}
	return slices.Insert(blocks, min(at, len(blocks)), b)
}

func compare(a, b sectionName) int {
	return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.name, b.name))
}

// join returns the text of the blocks; every line but the last of the file
// gets an end if it has none.
func join(blocks []block) string {
	var lines []text.Line
	for _, b := range blocks {
		lines = append(append(lines, b.lead...), b.body...)
	}
	for i := range lines[:max(0, len(lines)-1)] {
		lines[i].End = cmp.Or(lines[i].End, "\n")
	}
	return text.Join(lines)
}

// An editor makes one section's lines say what new says.
type editor struct {
	kind     layout.Kind
	name     sectionName
	old, new *Section
	dropped  map[int]bool // lines by number that were not understood
}

func (e *editor) edit(body []text.Line) []text.Line {
	sameDescription := slices.Equal(e.old.descriptionLines(true), e.new.descriptionLines(true))
	sameRaw := slices.Equal(e.old.Raw, e.new.Raw)
	var lines []text.Line
	if !sameDescription {
		for _, line := range e.new.descriptionLines(e.name.kind == pendingSection) {
			lines = append(lines, text.Line{Text: line, End: "\n"})
		}
	}
	effective := e.effective(body)
	for i, line := range body {
		parsed := readLine(e.kind, line.Text)
		switch {
		case e.dropped[line.Number]:
			lines = append(lines, line)
		case parsed.kind == commentLine || parsed.key == "description":
			if sameDescription {
				lines = append(lines, line)
			}
		case parsed.kind == rawLine:
			if sameRaw {
				lines = append(lines, line)
			}
		case parsed.kind == settingLine:
			if kept, ok := e.setting(line, parsed, effective[e.stored(parsed.key)] == i); ok {
				lines = append(lines, kept)
			}
		default:
			lines = append(lines, line)
		}
	}
	for _, key := range e.new.Keys() {
		if _, have := effective[key]; !have {
			lines = e.add(lines, key)
		}
	}
	if !sameRaw {
		for _, raw := range e.new.Raw {
			lines = append(lines, text.Line{Text: raw.Key + ": " + raw.Value, End: "\n"})
		}
	}
	return lines
}

// stored returns the key under which a written key is kept.
func (e *editor) stored(key string) string {
	if key == "cdrom" && e.kind == layout.QEMU {
		return "ide2"
	}
	return key
}

// effective says which line each setting comes from: the last one that was
// understood.
func (e *editor) effective(body []text.Line) map[string]int {
	at := map[string]int{}
	for i, line := range body {
		if parsed := readLine(e.kind, line.Text); parsed.kind == settingLine && !e.dropped[line.Number] {
			at[e.stored(parsed.key)] = i
		}
	}
	return at
}

// setting keeps, changes or removes the line of one setting.
func (e *editor) setting(line text.Line, parsed parsedLine, effective bool) (text.Line, bool) {
	key := e.stored(parsed.key)
	value, wanted := e.new.Lookup(key)
	if !wanted {
		return line, false
	}
	if was, ok := e.old.Lookup(key); effective && (!ok || was != value) {
		line.Text = key + ": " + value
	}
	return line, true
}

// add puts a new setting before the first one that sorts behind it, else
// behind the last one.
func (e *editor) add(lines []text.Line, key string) []text.Line {
	at := 0
	for i, line := range lines {
		parsed := readLine(e.kind, line.Text)
		if parsed.kind == settingLine && strings.Compare(parsed.key, key) > 0 && parsed.key != "description" {
			at = i
			break
		}
		if parsed.kind == settingLine || parsed.kind == commentLine {
			at = i + 1
		}
	}
	if at > 0 {
		lines[at-1].End = cmp.Or(lines[at-1].End, "\n")
	}
	return slices.Insert(lines, at, text.Line{Text: key + ": " + e.new.Get(key), End: "\n"})
}

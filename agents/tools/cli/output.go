package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"etcpve/cfs/format/schema"
)

// OutputKeys are the options of commands that print records. They are read by
// Print.
func OutputKeys() schema.Keys {
	about := func(p *schema.Property, text string) *schema.Property { p.Description = text; return p }
	return schema.Keys{
		"human-readable": about(schema.Truth(), "Show values as people read them; on unless switched off."),
		"noborder":       about(schema.Truth(), "Draw no lines around a table."),
		"noheader":       about(schema.Truth(), "Leave out the names of the columns."),
		"output-format":  about(schema.Choice("text", "json", "json-pretty", "yaml"), "The form of the output; text is a table."),
		"quiet":          about(schema.Truth(), "Print nothing."),
	}
}

// A Record is one thing to print, a value by name: text, a number or a list of
// texts.
type Record map[string]any

// Print prints records as the options of the call ask for: a table of columns,
// or everything that is known of each as JSON or YAML.
func (c *Call) Print(columns []string, records []Record) error {
	if c.Bool("quiet") {
		return nil
	}
	var out string
	switch c.Value("output-format") {
	case "json", "json-pretty":
		if records == nil {
			records = []Record{}
		}
		text, err := json.Marshal(records)
		if c.Value("output-format") == "json-pretty" {
			text, err = json.MarshalIndent(records, "", "   ")
		}
		if err != nil {
			return err
		}
		out = string(text) + "\n"
	case "yaml":
		out = yaml(records)
	default:
		out = c.table(columns, records)
	}
	_, err := fmt.Fprint(c.Out, out)
	return err
}

// plain is a text that means itself in YAML.
var plain = regexp.MustCompile(`^[A-Za-z_/][A-Za-z0-9_/.-]*$`)

// word is a value in YAML: JSON, but for the simplest of texts.
func word(value any) string {
	if s, ok := value.(string); ok && plain.MatchString(s) && !slices.Contains([]string{"true", "false", "yes", "no", "on", "off", "null", "y", "n"}, strings.ToLower(s)) {
		return s
	}
	text, err := json.Marshal(value)
	if err != nil {
		return "null" // a Record holds nothing else that JSON cannot say
	}
	return string(text)
}

func yaml(records []Record) string {
	if len(records) == 0 {
		return "--- []\n"
	}
	var b strings.Builder
	b.WriteString("---\n")
	for _, r := range records {
		mark := "- "
		for _, name := range slices.Sorted(maps.Keys(r)) {
			fmt.Fprintf(&b, "%s%s: %s\n", mark, name, word(r[name]))
			mark = "  "
		}
	}
	return b.String()
}

// A frame is what the lines of a table are drawn with.
type frame struct{ side, line, strong, top, head, middle, bottom string }

// frames are those of terminals that know UTF-8, and of all others. Each rule is
// drawn with its left end, a crossing and its right end.
var (
	fine   = frame{side: "│", line: "─", strong: "═", top: "┌┬┐", head: "╞╪╡", middle: "├┼┤", bottom: "└┴┘"}
	coarse = frame{side: "|", line: "-", strong: "=", top: "+++", head: "+++", middle: "+++", bottom: "+++"}
)

// table lays records out in columns.
func (c *Call) table(columns []string, records []Record) string {
	rows := make([][]string, 0, len(records)+1)
	if !c.Bool("noheader") {
		rows = append(rows, columns)
	}
	for _, r := range records {
		var row []string
		for _, name := range columns {
			row = append(row, cell(r[name]))
		}
		rows = append(rows, row)
	}
	widths := make([]int, len(columns))
	for _, row := range rows {
		for i, text := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(text))
		}
	}
	if c.Bool("noborder") {
		return unframed(rows, widths)
	}
	f := coarse
	if speaksUTF8() {
		f = fine
	}
	return f.around(rows, widths, !c.Bool("noheader"))
}

// cell is a value on one line.
func cell(value any) string {
	switch v := value.(type) {
	case nil:
		return ""
	case []string:
		return strings.Join(v, ",")
	}
	return strings.ReplaceAll(strings.TrimRight(fmt.Sprint(value), "\n"), "\n", " ")
}

func pad(text string, width int) string {
	return text + strings.Repeat(" ", width-utf8.RuneCountInString(text))
}

func unframed(rows [][]string, widths []int) string {
	var b strings.Builder
	for _, row := range rows {
		var cells []string
		for i, text := range row {
			cells = append(cells, pad(text, widths[i]))
		}
		b.WriteString(strings.TrimRight(strings.Join(cells, " "), " ") + "\n")
	}
	return b.String()
}

func (f frame) around(rows [][]string, widths []int, titled bool) string {
	var b strings.Builder
	rule := func(ends, line string) {
		parts := make([]string, len(widths))
		for i, w := range widths {
			parts[i] = strings.Repeat(line, w+2)
		}
		e := []rune(ends)
		fmt.Fprintf(&b, "%c%s%c\n", e[0], strings.Join(parts, string(e[1])), e[2])
	}
	rule(f.top, f.line)
	for n, row := range rows {
		switch {
		case n == 1 && titled:
			rule(f.head, f.strong)
		case n > 0:
			rule(f.middle, f.line)
		}
		for i, text := range row {
			fmt.Fprintf(&b, "%s %s ", f.side, pad(text, widths[i]))
		}
		b.WriteString(f.side + "\n")
	}
	rule(f.bottom, f.line)
	return b.String()
}

// speaksUTF8 reports whether the locale says that the terminal knows UTF-8.
func speaksUTF8() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if locale := os.Getenv(name); locale != "" {
			locale = strings.ToLower(locale)
			return strings.Contains(locale, "utf-8") || strings.Contains(locale, "utf8")
		}
	}
	return false
}

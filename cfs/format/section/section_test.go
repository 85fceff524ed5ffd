package section

import (
	"strings"
	"testing"

	"etcpve/cfs/format/schema"
	"etcpve/cfs/format/text"
)

// boxes is a definition with every kind of rule.
func boxes() *Definition {
	number := func(n float64) *float64 { return &n }
	return &Definition{
		ID: &schema.Property{Type: "string", Format: schema.Format{Name: "pve-configid"}},
		Base: schema.Keys{
			"type":    {Type: "string"},
			"comment": {Type: "string", Optional: true},
			"disable": {Type: "boolean", Optional: true},
			"nodes":   {Type: "string", Format: schema.Format{Name: "pve-node-list"}, Optional: true},
		},
		Types: map[string]*Type{
			"wood": {
				Properties: schema.Keys{
					"width": {Type: "integer", Minimum: number(1)},
					"tag":   {Type: "array", Items: &schema.Property{Type: "string"}},
				},
				Options: map[string]Option{"width": {Fixed: true}, "tag": {Optional: true}, "comment": {Optional: true}, "disable": {Optional: true}, "nodes": {Optional: true}},
			},
			"steel": {
				Properties: schema.Keys{"grade": {Type: "string", Enum: []string{"a", "b"}}},
				Options:    map[string]Option{"grade": {}, "comment": {Optional: true}, "width": {Optional: true}},
			},
		},
	}
}

const stock = "# stock\nwood: crate\n\twidth 007\n\tdisable\n\ttag x\n\ttag y z\n\tcomment for tea\n\nsteel: safe\n  grade a  \n"

func TestDocumentKeepsEveryByte(t *testing.T) {
	for _, content := range []string{"", "\n", stock, "wood: a\r\n\twidth 1\r\n\r\n", "x", "wood: a\n\t\n"} {
		if got := ParseDocument(content, "").String(); got != content {
			t.Errorf("%q; want %q", got, content)
		}
	}
}

func TestDocumentEditsTouchOneLine(t *testing.T) {
	d := ParseDocument(stock, "")
	for _, err := range []error{d.Set("crate", "width", "8"), d.Set("crate", "tag"), d.Set("safe", "comment", "new"), d.Add("wood", "box"), d.Set("box", "width", "1")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	want := "# stock\nwood: crate\n\twidth 8\n\tdisable\n\tcomment for tea\n\nsteel: safe\n  grade a  \n\tcomment new\n\nwood: box\n\twidth 1\n\n"
	if got := d.String(); got != want {
		t.Errorf("%q; want %q", got, want)
	}
	if err := d.Remove("safe"); err != nil || strings.Contains(d.String(), "safe") || len(d.Sections) != 2 {
		t.Errorf("%v: %q", err, d)
	}
	if d.Set("none", "a", "b") == nil || d.Remove("none") == nil || d.Add("wood", "box") == nil {
		t.Error("an impossible edit was done")
	}
}

func TestParseAndWriteAreCanonical(t *testing.T) {
	d := boxes()
	c := Parse(d, "stock", stock, false)
	if len(c.Warnings) > 0 {
		t.Errorf("warnings %q", c.Warnings)
	}
	want := "wood: crate\n\tcomment for tea\n\tdisable\n\twidth 7\n\ttag x\n\ttag y z\n\nsteel: safe\n\tgrade a\n\n"
	if got, err := Write(d, c, false); err != nil || got != want {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
}

func TestParseWarnsAndGoesOn(t *testing.T) {
	c := Parse(boxes(), "f", "junk\nwood: a\n\twidth 0\n\twidth 3\n\twidth 4\njunk\n\tgrade a\n\tshape round\n\ngold: b\n\tx y\n\nsteel: c\n\nwood: a\n\twidth 9\n", false)
	want := []string{
		"file f line 1 - ignore config line: junk\n",
		"file f line 3 (section 'a') - unable to parse value of 'width': value must have a minimum value of 1\n",
		"file f line 5 (section 'a') - unable to parse value of 'width': duplicate attribute\n",
		"file f line 6 (section 'a') - ignore config line: junk\n",
		"file f line 7 (section 'a') - unable to parse value of 'grade': unexpected property 'grade'\n",
		"file f line 8 (section 'a') - unable to parse value of 'shape': unknown property type\n",
		"file f line 10 (skip section 'b'): unsupported type 'gold'\n",
		"file f line 14 (skip section 'c'): missing value for required option 'grade'\n",
	}
	if got := strings.Join(c.Warnings, ""); got != strings.Join(want, "") {
		t.Errorf("warnings\n%s; want\n%s", got, strings.Join(want, ""))
	}
	if len(c.Sections) != 2 || !c.Sections[0].Broken || c.Sections[1].Order != 3 || c.Sections[1].Values["width"][0] != "9" {
		t.Errorf("sections %+v", c.Sections)
	}
}

func TestUnknownSectionsSurviveIfAllowed(t *testing.T) {
	c := Parse(boxes(), "f", "gold: b\n\tz 1\n\ta 2\n\ta 3\n", true)
	if got, err := Write(boxes(), c, true); err != nil || got != "gold: b\n\ta 2\n\ta 3\n\tz 1\n\n" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := Write(boxes(), c, false); err == nil {
		t.Error("an unknown type was written")
	}
}

func read(content string) (refused, warnings []text.Error) {
	r := NewReader(boxes(), "f")
	for _, l := range text.Lines(content) {
		r.Line(l)
	}
	return r.End()
}

func TestReaderRefuses(t *testing.T) {
	for _, c := range []struct {
		content      string
		line, column int
		key, reason  string
	}{
		{"junk\n", 1, 1, "", "section header"},
		{"wood: aa\n\twidth 1\nsteel: bb\n", 3, 1, "", "an empty line before a section header"},
		{"wood: aa\n\twidth 1\nwidth: 2\n", 3, 1, "", "indented"},
		{"wood: aa\n\twidth 0\n", 2, 8, "width", "minimum value of 1"},
		{"wood: aa\n\twidth\n", 2, 2, "width", "no value"},
		{"wood: aa\n\n", 1, 1, "width", "required"},
		{"wood: aa\n\twidth 1\n\twidth 2\n", 3, 2, "width", "twice"},
		{"wood: aa\n\twidth 1\n\nwood: aa\n\twidth 1\n", 4, 7, "", "already on line 1"},
		{"wood: aa\n\twidth 1\n\tnodes ok,_\n", 3, 8, "nodes", "node name"},
		{"wood: 1a\n\twidth 1\n", 1, 7, "", "invalid configuration ID"},
		{"steel: aa\n  grade c\n", 2, 9, "grade", "enumeration"},
	} {
		refused, _ := read(c.content)
		if len(refused) == 0 {
			t.Errorf("%q was accepted", c.content)
			continue
		}
		if e := refused[0]; e.Line != c.line || e.Column != c.column || e.Key != c.key || !strings.Contains(e.Message, c.reason) {
			t.Errorf("%q: %v; want %d:%d %s …%s…", c.content, &e, c.line, c.column, c.key, c.reason)
		}
	}
}

func TestReaderOnlyWarnsOfWhatItDoesNotKnow(t *testing.T) {
	refused, warnings := read("gold: a\n\tanything goes\n\nwood: bb\n\twidth 1\n\tshape round\n")
	if len(refused) > 0 || len(warnings) != 2 {
		t.Errorf("refused %v, warnings %v", refused, warnings)
	}
	if refused, warnings := read(stock); len(refused) > 0 || len(warnings) > 0 {
		t.Errorf("refused %v, warnings %v", refused, warnings)
	}
}

func TestBareHeadersAreIds(t *testing.T) {
	d := &Definition{Bare: "map", Types: map[string]*Type{"map": {Properties: schema.Keys{"map": {Type: "array", Items: &schema.Property{Type: "string"}}}, Options: map[string]Option{"map": {}}}}}
	c := Parse(d, "f", "dev\n\tmap a\n\tmap b\n", false)
	if got, err := Write(d, c, false); err != nil || got != "dev\n\tmap a\n\tmap b\n\n" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestVerifyRefusesContradictions(t *testing.T) {
	if err := boxes().Verify(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*Definition){
		"undefined property 'depth'":                                      func(d *Definition) { d.Types["wood"].Options["depth"] = Option{} },
		"duplicate property 'grade'":                                      func(d *Definition) { d.Types["wood"].Properties["grade"] = &schema.Property{} },
		"cannot use property 'width' from isolated plugin 'wood'":         func(d *Definition) { d.Types["wood"].Isolate = true },
		"isolated plugin cannot use property 'width' from foreign plugin": func(d *Definition) { d.Types["steel"].Isolate = true },
	} {
		d := boxes()
		change(d)
		if err := d.Verify(); err == nil || err.Error() != want {
			t.Errorf("%v; want %s", err, want)
		}
	}
}

func TestDerivedSchemas(t *testing.T) {
	d := boxes()
	create, err := d.Schema(Call{})
	if err != nil || create.Properties["width"].Optional != true || len(create.Properties["type"].Enum) != 2 {
		t.Errorf("create %+v, %v", create, err)
	}
	update, err := d.Schema(Call{Update: true, SingleType: "wood"})
	if err != nil || update.Properties["grade"] != nil || update.Properties["type"] != nil || update.Properties["digest"] == nil || update.Properties["tag"] == nil {
		t.Errorf("update %+v, %v", update, err)
	}
	delete(d.Types["steel"].Options, "width")
	d.Isolated = true
	isolated, err := d.Schema(Call{Update: true})
	if err != nil || len(isolated.AllOf) != 2 || isolated.AllOf[1].OneOf[1].Properties["width"] != nil {
		t.Errorf("isolated %+v, %v", isolated, err)
	}
	if _, err := d.Schema(Call{SkipType: true}); err == nil {
		t.Error("the type was left out although there are two")
	}
}

func FuzzDocument(f *testing.F) {
	f.Add(stock)
	f.Add("wood: a\r\n\twidth 1\n\n\nx")
	f.Fuzz(func(t *testing.T, content string) {
		d := ParseDocument(content, "")
		if d.String() != content {
			t.Fatal("bytes were lost")
		}
		refused, _ := read(content)
		for _, e := range refused {
			if e.Line < 1 || e.Column < 1 {
				t.Fatalf("no place: %+v", e)
			}
		}
		c := Parse(boxes(), "f", content, true)
		written, err := Write(boxes(), c, true)
		if err != nil || strings.ContainsRune(content, '\r') {
			return
		}
		again, err := Write(boxes(), Parse(boxes(), "f", written, true), true)
		if err != nil || again != written {
			t.Fatalf("%q is read back as %q, %v", written, again, err)
		}
	})
}

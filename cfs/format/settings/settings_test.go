package settings

import (
	"strings"
	"testing"

	"etcpve/cfs/format/schema"
	"etcpve/cfs/format/text"
)

var keys = schema.Keys{
	"console": {Type: "string", Enum: []string{"html5", "vv"}},
	"note":    {Type: "string"},
	"mail":    {Type: "string", Format: schema.Format{Name: "email-opt"}},
	"workers": {Type: "integer"},
	"crs": {Type: "string", Format: schema.Format{Keys: schema.Keys{
		"ha":    {Type: "string", Enum: []string{"basic", "static"}, Optional: true},
		"start": {Type: "boolean", Optional: true},
	}}},
}

func TestEditsTouchOneLine(t *testing.T) {
	d := Parse("#one%3A\n console:  vv \r\nfuture: x:y\n# two")
	if v, _ := d.Get("future"); v != "x:y" || d.Description() != "one:\n two\n" {
		t.Errorf("%q, %q", v, d.Description())
	}
	d.Set("console", "html5")
	d.Set("workers", "4")
	d.Delete("note")
	if got, want := d.String(), "#one%3A\nconsole: html5\r\nfuture: x:y\n# two\nworkers: 4\n"; got != want {
		t.Errorf("%q; want %q", got, want)
	}
}

func TestReaderRefuses(t *testing.T) {
	for _, c := range []struct {
		content string
		column  int
		reason  string
	}{
		{"crs:\n", 5, "expected some of ha=…, start=…"},
		{"crs: ha=basic,ha=static\n", 15, "duplicate"},
		{"crs: ha=best\n", 6, "enumeration"},
		{"console: \n", 10, "expected one of html5, vv"},
		{"console: tty\n", 10, "enumeration"},
		{"workers: many\n", 10, "integer"},
		{"workers: 1\nworkers: 2\n", 1, "twice"},
		{"workers 1\n", 1, "expected 'key: value'"},
	} {
		r := NewReader(keys, "f")
		for _, l := range text.Lines(c.content) {
			r.Line(l)
		}
		refused, _ := r.End()
		if len(refused) != 1 || refused[0].Column != c.column || !strings.Contains(refused[0].Message, c.reason) {
			t.Errorf("%q: %+v; want column %d: %s", c.content, refused, c.column, c.reason)
		}
	}
}

func TestReaderAccepts(t *testing.T) {
	r := NewReader(keys, "f")
	for _, l := range text.Lines("# x\n\nnote:\nmail:\ncrs: ha=static,start=yes\nfuture: 1\n") {
		r.Line(l)
	}
	if refused, warnings := r.End(); len(refused) > 0 || len(warnings) != 1 || warnings[0].Key != "future" {
		t.Errorf("refused %v, warnings %v", refused, warnings)
	}
}

func FuzzSettings(f *testing.F) {
	f.Add("#one\nconsole: vv\ncrs: ha=basic\n")
	f.Fuzz(func(t *testing.T, content string) {
		d := Parse(content)
		if d.String() != content {
			t.Fatal("bytes were lost")
		}
		d.Set("console", "vv")
		if v, ok := d.Get("console"); !ok || v != "vv" {
			t.Fatalf("%q after a set: %q", content, v)
		}
		d.Delete("console")
		if _, ok := d.Get("console"); ok {
			t.Fatal("a deleted key is there")
		}
	})
}

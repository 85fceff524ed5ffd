package text

import (
	"strings"
	"testing"
)

func TestErrorNamesWhatIsKnown(t *testing.T) {
	tests := []struct {
		err  Error
		want string
	}{
		{Error{"100.conf", 3, 8, "cores", "too small\n"}, "100.conf:3:8: cores: too small"},
		{Error{Line: 3, Message: "too small"}, "3: too small"},
		{Error{File: "a", Key: "b", Message: "c"}, "a: b: c"},
		{Error{Message: "c"}, "c"},
	}
	for _, test := range tests {
		if got := test.err.Error(); got != test.want {
			t.Errorf("%+v reads %q, want %q", test.err, got, test.want)
		}
	}
}

func TestLinesKeepTheirEnds(t *testing.T) {
	lines := Lines("a\r\n\nb\rc")
	want := []Line{{1, "a", "\r\n"}, {2, "", "\n"}, {3, "b\rc", ""}}
	if len(lines) != len(want) {
		t.Fatalf("lines %v", lines)
	}
	for i, line := range lines {
		if line != want[i] {
			t.Errorf("line %v, want %v", line, want[i])
		}
	}
	if lines[0].Raw() != "a\r\n" {
		t.Errorf("raw %q", lines[0].Raw())
	}
}

func TestEncodingIsReversible(t *testing.T) {
	for plain, coded := range map[string]string{
		"50 % of: ü\t": "50 %25 of%3A %C3%BC%09",
		"~!/?#[]":      "~!/?#[]",
	} {
		if got := Encode(plain); got != coded {
			t.Errorf("%q is encoded as %q, want %q", plain, got, coded)
		}
		if got := Decode(coded); got != plain {
			t.Errorf("%q is decoded as %q, want %q", coded, got, plain)
		}
	}
	if got := Decode("100% %zz %4"); got != "100% %zz %4" {
		t.Errorf("what is no escape became %q", got)
	}
}

func FuzzText(f *testing.F) {
	f.Add("a\r\n%41\n:\xff")
	f.Fuzz(func(t *testing.T, s string) {
		if got := Join(Lines(s)); got != s {
			t.Errorf("lines of %q join to %q", s, got)
		}
		coded := Encode(s)
		if strings.ContainsAny(coded, "\n\r:\x00") {
			t.Errorf("%q holds what must be encoded", coded)
		}
		if got := Decode(coded); got != s {
			t.Errorf("%q comes back as %q", s, got)
		}
	})
}

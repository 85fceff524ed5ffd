package property

import (
	"errors"
	"testing"
)

func TestSplitKeepsOrderAndPlace(t *testing.T) {
	parts, err := Split("local:100/a.raw, ,size=32G,opts=a=b")
	want := String{{"", "local:100/a.raw", 1}, {"size", "32G", 19}, {"opts", "a=b", 28}}
	if err != nil || len(parts) != len(want) {
		t.Fatalf("parts %v, %v", parts, err)
	}
	for i, part := range parts {
		if part != want[i] {
			t.Errorf("part %v, want %v", part, want[i])
		}
	}
	if got := parts.String(); got != "local:100/a.raw,size=32G,opts=a=b" {
		t.Errorf("joined %q", got)
	}
}

func TestSplitRefusesHalfAPair(t *testing.T) {
	for text, column := range map[string]int{"a=b,=c": 5, "a=": 1, "x,y=": 3} {
		_, err := Split(text)
		var syntax *SyntaxError
		if !errors.As(err, &syntax) || syntax.Column != column {
			t.Errorf("%q: error %v at %v, want column %d", text, err, syntax, column)
		}
	}
}

func TestEditsKeepTheRest(t *testing.T) {
	parts, err := Split("v,b=1,a=2")
	if err != nil {
		t.Fatal(err)
	}
	edited := parts.With("b", "3").With("c", "4").With("", "w").Without("a")
	if got := edited.String(); got != "w,b=3,c=4" {
		t.Errorf("edited %q", got)
	}
	if got := parts.String(); got != "v,b=1,a=2" {
		t.Errorf("the original became %q", got)
	}
	if value, ok := parts.Get("a"); value != "2" || !ok {
		t.Errorf("a is %q, %v", value, ok)
	}
	if _, ok := parts.Get("d"); ok {
		t.Error("d is there")
	}
}

func FuzzSplit(f *testing.F) {
	f.Add("v,a=b,,c=d=e")
	f.Fuzz(func(t *testing.T, s string) {
		parts, err := Split(s)
		if err != nil {
			return
		}
		again, err := Split(parts.String())
		if err != nil || again.String() != parts.String() {
			t.Errorf("%q reads as %q, then as %q, %v", s, parts, again, err)
		}
	})
}

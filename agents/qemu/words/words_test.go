package words

import (
	"slices"
	"testing"
)

func TestSplitQuotesLikeAShell(t *testing.T) {
	for _, c := range []struct {
		line string
		want []string
		fail bool
	}{
		{line: ""},
		{line: "-device  foo", want: []string{"-device", "foo"}},
		{line: `-append 'console=ttyS0 quiet'`, want: []string{"-append", "console=ttyS0 quiet"}},
		{line: `-append "a \"b\" \n \\"`, want: []string{"-append", `a "b" \n \`}},
		{line: `a\ b ''`, want: []string{"a b", ""}},
		{line: `x'y'"z"`, want: []string{"xyz"}},
		{line: `$(reboot) ; *`, want: []string{"$(reboot)", ";", "*"}},
		{line: `'open`, fail: true},
		{line: `"open`, fail: true},
		{line: `end\`, fail: true},
	} {
		got, err := Split(c.line)
		if (err != nil) != c.fail || !slices.Equal(got, c.want) {
			t.Errorf("Split(%q) = %q, %v", c.line, got, err)
		}
	}
}

func FuzzSplit(f *testing.F) {
	f.Add(`-append 'a b' "c\"d" e\ f`)
	f.Fuzz(func(t *testing.T, line string) {
		words, err := Split(line)
		if err != nil {
			return
		}
		length := 0
		for _, w := range words {
			length += len(w)
		}
		if length > len(line) {
			t.Errorf("%q grew to %q", line, words)
		}
	})
}

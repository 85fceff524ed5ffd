package virtual

import (
	"bytes"
	"fmt"
	"regexp"
	"unicode"

	"etcpve/cfs/status"
)

// Samples is .rrd: what nodes measured lately, one "key:data" line for each
// value. Its mode lets only root write.
type Samples struct{ Store *status.Store }

var (
	_ View   = Samples{}
	_ Writer = Samples{}
)

// Stat describes the file.
func (s Samples) Stat(path string) (Info, error) {
	content, err := s.Read(path, 0)
	return Info{Mode: 0o440, Size: len(content)}, err
}

// Read returns the samples of all nodes.
func (s Samples) Read(path string, _ uint32) ([]byte, error) {
	if path != "" {
		return nil, ErrNotExist
	}
	var b bytes.Buffer
	for _, v := range s.Store.List(status.RRD) {
		fmt.Fprintf(&b, "%s:%s\n", v.Key, bytes.TrimRight(v.Data, "\x00\n"))
	}
	return b.Bytes(), nil
}

// Write takes what agents measured, in the name of this node; one bad line
// refuses all. A line that says what is known already says nothing: who appends
// to the file writes all of it anew.
func (s Samples) Write(_ string, content []byte) error {
	lines, err := parseSamples(content)
	if err != nil {
		return err
	}
	for _, l := range lines {
		if known, ok := s.Store.Latest(status.RRD, l.key); ok && bytes.Equal(known.Data, l.data) {
			continue
		}
		if _, err := s.Store.Set(status.RRD, l.key, l.data); err != nil {
			return err
		}
	}
	return nil
}

type sampleLine struct {
	key  string
	data []byte
}

// sampleKey is what a sample is called: the name of its form, then whose it is.
var sampleKey = regexp.MustCompile(`^pve[a-z0-9.-]{0,30}(/[A-Za-z0-9_.-]{1,100}){1,2}$`)

func parseSamples(content []byte) (list []sampleLine, err error) {
	for line := range bytes.Lines(content) {
		line = bytes.TrimRight(line, "\n")
		if len(line) == 0 {
			continue
		}
		key, data, ok := bytes.Cut(line, []byte(":"))
		if !ok || !sampleKey.Match(key) || bytes.IndexFunc(data, unicode.IsControl) >= 0 {
			return nil, ErrInvalid
		}
		list = append(list, sampleLine{string(key), data})
	}
	return list, nil
}

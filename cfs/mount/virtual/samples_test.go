package virtual

import (
	"testing"
	"time"

	"etcpve/cfs/status"
)

// FuzzSamples: what is taken can be read back, and taken again.
func FuzzSamples(f *testing.F) {
	f.Add([]byte("pve-node-9.0/n1:1:2:3\npve-storage-9.0/n1/local:1\n"))
	f.Add([]byte("pve2-node/n1:\n\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		s := Samples{status.New("n1", func() time.Time { return time.Unix(1700000000, 0) })}
		if s.Write("", content) != nil {
			return
		}
		shown, err := s.Read("", 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Write("", shown); err != nil {
			t.Errorf("%q was shown for %q and is refused", shown, content)
		}
		if again, _ := s.Read("", 0); string(again) != string(shown) {
			t.Errorf("%q became %q", shown, again)
		}
	})
}

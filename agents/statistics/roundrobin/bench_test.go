package roundrobin

import (
	"fmt"
	"testing"
	"time"

	"etcpve/agents/sample"
)

// BenchmarkMinute is what a minute of 100 guests costs: six rows each.
func BenchmarkMinute(b *testing.B) {
	needRRDtool(b)
	f := &Files{Dir: b.TempDir()}
	at := time.Now().Unix()
	var values []string
	for range columns[sample.GuestForm] {
		values = append(values, "12345678")
	}
	for b.Loop() {
		for range 6 {
			at += 10
			var rows []sample.Row
			for vmid := range 100 {
				rows = append(rows, sample.Row{Key: fmt.Sprintf("%s/%d", sample.GuestForm, 100+vmid), Time: at, Values: values})
			}
			f.Add(rows, time.Unix(at, 0))
		}
		if err := f.Flush(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

package sample

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

var at = time.Unix(1700000000, 0)

func TestLinesHaveTheOrderOfTheForms(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{Node{Name: "n1", Time: at}.Line(), "pve-node-9.0/n1:U::1700000000:U:U:U:U:U:U:U:U:U:U:U:U:U:U:U:U:U:U:U\n"},
		{Node{Name: "n1", Time: at, Uptime: Count(1), Load: Share(0.5), CPUs: Count(2), CPU: Share(0.25), Wait: Share(0), Memory: Count(3), MemoryUsed: Count(4),
			Swap: Count(5), SwapUsed: Count(6), Root: Count(7), RootUsed: Count(8), NetIn: Count(9), NetOut: Count(10), MemoryFree: Count(11), ARC: Count(12),
			Pressure: Pressure{Share(13), Share(0), Share(14), Share(15), Share(16), Share(17)}}.Line(),
			"pve-node-9.0/n1:1::1700000000:0.5:2:0.25:0:3:4:5:6:7:8:9:10:11:12:13:14:15:16:17\n"},
		{Guest{VMID: 100, Name: "a:b\n", Status: "running", Time: at, Uptime: Count(1), CPUs: Count(2), CPU: Share(0.3), Memory: Count(4), MemoryUsed: Count(5),
			Disk: Count(6), DiskUsed: Count(7), NetIn: Count(8), NetOut: Count(9), DiskRead: Count(10), DiskWrite: Count(11), MemoryHost: Count(12),
			Pressure: Pressure{Share(13), Share(14), Share(15), Share(16), Share(17), Share(18)}}.Line(),
			"pve-vm-9.0/100:1:a_b_:running:0:1700000000:2:0.3:4:5:6:7:8:9:10:11:12:13:14:15:16:17:18\n"},
		{Guest{VMID: 9, Status: "stopped", Template: true, Time: at}.Line(), "pve-vm-9.0/9:U::stopped:1:1700000000:U:U:U:U:U:U:U:U:U:U:U:U:U:U:U:U:U\n"},
		{Storage{Node: "n1", ID: "local", Time: at, Total: Count(5), Used: Count(-1)}.Line(), "pve-storage-9.0/n1/local:1700000000:5:U\n"},
	} {
		if c.got != c.want {
			t.Errorf("got  %swant %s", c.got, c.want)
		}
	}
}

func TestRowsHoldTheNumbers(t *testing.T) {
	got := Rows([]byte("pve-node-9.0/n1:1::1700000000:0.5:U\n" +
		"pve-vm-9.0/100:1:name:running:0:1700000001:2\n" +
		"pve-storage-9.0/n1/local:1700000002:5:6\n" +
		"pve2-node/n1:1:2:3\nno line\npve-vm-9.0/100:1:a\npve-storage-9.0/n1/x:now:1\npve-storage-9.0/n1/x:1700000000:1;2\npve-storage-9.0/n1/x:1700000000:Inf:NaN\n"))
	want := []Row{
		{"pve-node-9.0/n1", 1700000000, []string{"0.5", "U"}},
		{"pve-vm-9.0/100", 1700000001, []string{"2"}},
		{"pve-storage-9.0/n1/local", 1700000002, []string{"5", "6"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// FuzzRows: whatever the file holds, a row has a key of a known form and
// numbers only.
func FuzzRows(f *testing.F) {
	f.Add([]byte("pve-node-9.0/n1:1::1700000000:0.5:U\npve-vm-9.0/100:1:name:running:0:1700000001:2\npve-storage-9.0/n1/local:1700000002:5:6\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		for _, r := range Rows(content) {
			form, _, _ := strings.Cut(r.Key, "/")
			if _, known := leading[form]; !known {
				t.Errorf("key %q", r.Key)
			}
			for _, v := range r.Values {
				if strings.ContainsAny(v, " \n:") {
					t.Errorf("value %q", v)
				}
			}
		}
	})
}

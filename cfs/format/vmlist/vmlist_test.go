package vmlist

import (
	"slices"
	"strings"
	"testing"

	"etcpve/cfs/layout"
)

func TestParse(t *testing.T) {
	for content, want := range map[string][]layout.Guest{
		"{\n\"version\": 1\n\n}\n": nil,
		"{\n\"version\": 7,\n\"ids\": {\n\"1000\": { \"node\": \"n2\", \"type\": \"lxc\", \"version\": 3 },\n" +
			"\"200\": { \"node\": \"n1\", \"type\": \"qemu\", \"version\": 4 },\n\"x\": { \"node\": \"n1\", \"type\": \"qemu\", \"version\": 4 }}\n\n}\n": {
			{VMID: 200, Node: "n1", Kind: layout.QEMU}, {VMID: 1000, Node: "n2", Kind: layout.LXC}},
	} {
		got, err := Parse([]byte(content))
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v; want %v", content, got, err, want)
		}
	}
	if _, err := Parse([]byte("{")); err == nil || !strings.HasPrefix(err.Error(), ".vmlist: ") {
		t.Errorf("half a file: %v", err)
	}
}

package sim

import (
	"fmt"

	"etcpve/agents/ha"
)

// Example returns a cluster to play with: three nodes that are off, and six
// guests spread over them.
func Example() Scenario {
	s := Scenario{
		Hardware:  map[string]Hardware{},
		Resources: map[string]ha.Resource{},
		Settings:  ha.DefaultSettings,
	}
	for i := 1; i <= 3; i++ {
		s.Hardware[fmt.Sprintf("node%d", i)] = Hardware{Version: defaultVersion}
	}
	for i, sid := range []string{"vm:101", "vm:102", "vm:103", "vm:104", "ct:105", "ct:106"} {
		r := ha.DefaultResource
		r.Node = fmt.Sprintf("node%d", i%3+1)
		if i > 2 {
			r.Request = ha.WantStopped
		}
		s.Resources[sid] = r
	}
	return s
}

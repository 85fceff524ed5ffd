package node

import (
	"etcpve/agents/ha/crm"
)

// explain says of ha/resources.cfg what the master decided and why.
func (a *Agent) explain(out crm.Outcome) {
}

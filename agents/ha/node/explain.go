package node

import (
	"os"
	"path/filepath"

	"etcpve/agents/ha/crm"
	"etcpve/agents/ha/files"
	"etcpve/agents/reconcile"
)

// explain says of ha/resources.cfg what the master decided and why. The next
// master says it after its first round; the newest document is shown.
func (a *Agent) explain(out crm.Outcome) {
	text, err := os.ReadFile(filepath.Join(a.Tree, files.Resources))
	if err != nil && !os.IsNotExist(err) {
		a.Log.Warn("decisions not explained", "path", files.Resources, "err", err)
		return
	}
	report := reconcile.Report{Path: files.Resources, Content: text}
	for _, v := range out.Explain() {
		report.Lines = append(report.Lines, reconcile.Line{Key: v.SID, Value: v.String()})
	}
	a.say(report)
}

// say publishes what is known of a file.
func (a *Agent) say(r reconcile.Report) {
	if err := a.publisher.Publish(r, nil); err != nil {
		a.Log.Warn("status not published", "path", r.Path, "err", err)
	}
}

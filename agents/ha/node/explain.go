package node

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"

	"etcpve/agents/ha/crm"
	"etcpve/agents/ha/files"
	"etcpve/agents/reconcile"
)

// explained is how many bytes of reasons are published. What an agent may say of
// one file is limited.
const explained = 24 << 10

// explain says of ha/resources.cfg what the master decided and why, and of
// ha/rules.cfg which rules do not hold. The next master says it after its first
// round; the newest document is shown.
func (a *Agent) explain(out crm.Outcome) {
	a.explainRules(out.Ignored)
	text, err := os.ReadFile(filepath.Join(a.Tree, files.Resources))
	if err != nil && !os.IsNotExist(err) {
		a.Log.Warn("decisions not explained", "path", files.Resources, "err", err)
		return
	}
	report := reconcile.Report{Path: files.Resources, Content: text}
	report.Lines = lines(out.Explain(), explained)
	a.say(report)
}

func (a *Agent) explainRules(ignored []crm.Ignored) {
	text, err := os.ReadFile(filepath.Join(a.Tree, files.Rules))
	if err != nil {
		return // without rules there is nothing to say
	}
	report := reconcile.Report{Path: files.Rules, Content: text}
	if len(ignored) == 0 {
		report.Lines = []reconcile.Line{{Key: "rules", Value: "all that are switched on hold"}}
	}
	for _, i := range ignored {
		report.Lines = append(report.Lines, reconcile.Line{Key: cmp.Or(i.Rule, "rules"), Value: "ignored: " + i.Reason})
	}
	a.say(report)
}

// lines are the verdicts, a line each, as far as there is room for them: in a
// large cluster those go without reasons that no rule speaks of, and then the
// last ones are left out.
func lines(all []crm.Verdict, room int) (said []reconcile.Line) {
	full := 0
	for _, v := range all {
		said = append(said, reconcile.Line{Key: v.SID, Value: v.String()})
		full += lengthOf(said[len(said)-1])
	}
	if full <= room {
		return said
	}
	for i, v := range all {
		if v.Free {
			said[i].Value = v.Brief()
		}
		if room -= lengthOf(said[i]); room < 0 {
			return append(said[:i], reconcile.Line{Key: "more", Value: fmt.Sprintf("%d services are left out here", len(all)-i)})
		}
	}
	return said
}

func lengthOf(l reconcile.Line) int { return len(l.Key) + len(": ") + len(l.Value) + len("\n") }

// say publishes what is known of a file.
func (a *Agent) say(r reconcile.Report) {
	if err := a.publisher.Publish(r, nil); err != nil {
		a.Log.Warn("status not published", "path", r.Path, "err", err)
	}
}

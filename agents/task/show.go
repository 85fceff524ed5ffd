package task

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"etcpve/agents/reconcile"
)

// maxShown is how much of a log other nodes are shown, in bytes: the end of it.
const maxShown = 16 << 10

// A shown is what other nodes were told last of a task's log.
type shown struct{ size int64 }

// show publishes how far a task is, for those who cannot read its log because
// they are on another node. An end is said once, anything else when there is more.
func (a *Agent) show(f File, s *shown, status string) {
	log, err := os.ReadFile(logPath(a.LogDir, f.UPID))
	if err != nil || status == "" && int64(len(log)) == s.size {
		return
	}
	s.size = int64(len(log))
	content, err := os.ReadFile(a.path(f.Name))
	if err != nil {
		return // away, or removed
	}
	r := reconcile.Report{Path: filepath.Join(Dir(a.Node), f.Name), Content: content, Lines: lastLines(string(log))}
	var failure error
	switch {
	case status == "":
		r.Pending = []reconcile.Pending{{Key: "task", Reason: "running"}}
	case !fine(status):
		failure = errors.New(status)
	}
	if err := a.publisher().Publish(r, failure); err != nil {
		a.Log.Warn("log of a task not shown to other nodes", "upid", f.Name, "err", err)
	}
}

// hide withdraws what was shown of a task.
func (a *Agent) hide(name string) {
	// What stays goes with the node.
	_ = a.publisher().Publish(reconcile.Report{Path: filepath.Join(Dir(a.Node), name)}, nil)
}

func (a *Agent) publisher() reconcile.Publisher {
	return reconcile.Publisher{Tree: a.Tree, Node: a.Node}
}

// lastLines are the last whole lines of a log, and the number of the first of them.
func lastLines(log string) (lines []reconcile.Line) {
	first := 1
	if over := len(log) - maxShown; over > 0 {
		cut := over + strings.IndexByte(log[over:], '\n') + 1
		first += strings.Count(log[:cut], "\n")
		log = log[cut:]
	}
	lines = append(lines, reconcile.Line{Key: "first", Value: strconv.Itoa(first)})
	for line := range strings.Lines(log) {
		if strings.HasSuffix(line, "\n") {
			lines = append(lines, reconcile.Line{Key: "log", Value: strings.TrimSuffix(line, "\n")})
		}
	}
	return lines
}

// fine reports whether a task has done what it was asked for.
func fine(status string) bool { return status == "OK" || strings.HasPrefix(status, "WARNINGS") }

// A tale is what another node says of a task.
type tale struct {
	over  bool
	first int // number of the first line
	lines []string
}

// readTale reads what another node shows of a task.
func readTale(tree, node, name string) (t tale, err error) {
	text, err := os.ReadFile(filepath.Join(tree, ".status", Dir(node), name))
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch key {
		case "state":
			t.over = value != string(reconcile.Deferred)
		case "first":
			t.first, _ = strconv.Atoi(value) // the line is ours
		case "log":
			t.lines = append(t.lines, value)
		}
	}
	return t, err
}

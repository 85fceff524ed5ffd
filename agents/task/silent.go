package task

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"etcpve/cfs/format/members"
)

// silentAfter is how long a node may not answer before its tasks are said to
// have an unknown end.
const silentAfter = time.Minute

// unknown begins the status of a task whose node does not answer. The node
// itself, when it is back, writes how the task ended.
const unknown = "unknown: "

// watchNodes looks at the other nodes until ctx ends. Of those that are silent,
// the first node that answers says so in the files of their tasks.
func (a *Agent) watchNodes(ctx context.Context) {
	limit := a.SilentAfter
	if limit == 0 {
		limit = silentAfter
	}
	poll := time.NewTicker(limit / 10)
	defer poll.Stop()
	silent := map[string]time.Time{} // since when
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-poll.C:
			online := a.members()
			for node, answers := range online {
				since, known := silent[node]
				switch {
				case answers:
					delete(silent, node)
				case !known:
					silent[node] = now
				case now.Sub(since) >= limit && a.speaks(online):
					a.giveUpOn(node)
				}
			}
		}
	}
}

// members tells which nodes answer; none, if this is not a cluster with quorum.
func (a *Agent) members() map[string]bool {
	text, err := os.ReadFile(filepath.Join(a.Tree, ".members"))
	if err != nil {
		return nil
	}
	m, err := members.Parse(text)
	if err != nil || !m.Quorate {
		return nil
	}
	online := map[string]bool{}
	for name, n := range m.Nodes {
		online[name] = n.Online
	}
	return online
}

// speaks reports whether this node is the first of those that answer.
func (a *Agent) speaks(online map[string]bool) bool {
	var up []string
	for name, answers := range online {
		if answers {
			up = append(up, name)
		}
	}
	return len(up) > 0 && slices.Min(up) == a.Node
}

// giveUpOn writes into the files of a silent node's tasks that their end is
// unknown. Requests that it has not claimed wait for it.
func (a *Agent) giveUpOn(node string) {
	dir := filepath.Join(a.Tree, Dir(node))
	entries, _ := os.ReadDir(dir) // gone, or tried again
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		text, err := os.ReadFile(path)
		f := parseFile(e.Name(), string(text))
		if err != nil || f.UPID.Type == "" || f.Status != "" || strings.Contains(e.Name(), ".tmp.") {
			continue
		}
		status := fmt.Sprintf("%snode '%s' does not answer", unknown, node)
		if err := appendTo(path, fmt.Sprintf("status: %s\nendtime: %d\n", status, time.Now().Unix())); err != nil {
			a.Log.Warn("task of a silent node", "node", node, "upid", e.Name(), "err", err)
			continue
		}
		a.Log.Info("task of a silent node", "node", node, "upid", e.Name())
	}
}

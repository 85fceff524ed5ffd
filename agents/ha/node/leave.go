package node

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"etcpve/agents/ha/lrm"
	"etcpve/agents/host"
)

// leaveFile, in the run directory, says why the node is left where no systemd
// runs: reboot or shutdown.
const leaveFile = "leave"

// jobTimeout is how long systemd may take to list its jobs.
const jobTimeout = 5 * time.Second

// targets are the jobs by which systemd takes a node down. A reboot stops at
// shutdown.target too, which is why they have an order.
var targets = []struct {
	unit string
	why  lrm.Leave
}{
	{"reboot.target", lrm.Reboot}, {"kexec.target", lrm.Reboot}, {"soft-reboot.target", lrm.Reboot},
	{"poweroff.target", lrm.Shutdown}, {"halt.target", lrm.Shutdown}, {"shutdown.target", lrm.Shutdown},
}

// A system runs commands.
type system interface {
	Run(ctx context.Context, c host.Command) ([]byte, error)
}

// reason tells why the agent is asked to end: with the node, or alone.
func (a *Agent) reason(ctx context.Context, s system) lrm.Leave {
	if text, err := os.ReadFile(filepath.Join(a.RunDir, leaveFile)); err == nil {
		switch why := lrm.Leave(strings.TrimSpace(string(text))); why {
		case lrm.Reboot, lrm.Shutdown:
			return why
		}
	}
	ctx, cancel := context.WithTimeout(ctx, jobTimeout)
	defer cancel()
	out, err := s.Run(ctx, host.Command{Argv: []string{"systemctl", "list-jobs", "--full", "--no-legend", "--plain"}})
	if err != nil {
		return lrm.Restart // no systemd
	}
	starting := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		if words := strings.Fields(line); len(words) >= 3 && words[2] == "start" {
			starting[words[1]] = true
		}
	}
	for _, t := range targets {
		if starting[t.unit] {
			return t.why
		}
	}
	return lrm.Restart
}

// Package begun finds a QEMU that an agent was killed over while it started it.
//
// It owns how such a process is told from others: by the pid file it will write
// among its arguments. It never starts or ends one.
package begun

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"etcpve/agents/host"
)

// beginWait is how long a QEMU that an earlier agent started may take to write
// its pid file.
const beginWait = 10 * time.Second

// Wait returns the QEMU that written finds by the pid file, if there is one. One
// that is still coming up is waited for: a second one beside it would fail for
// the lock on the disks, and the cleaning up after that would lose the first.
func Wait(ctx context.Context, pidFile string, written func() (host.Process, bool)) (p host.Process, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, beginWait)
	defer cancel()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		// Asked in this order: one that writes the file in between is found next time.
		pid := comingUp(pidFile)
		if p, ok := written(); ok || pid == 0 {
			return p, ok, nil
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return p, false, fmt.Errorf("process %d, started by an earlier agent, does not come up: %w", pid, ctx.Err())
		}
	}
}

// launchers begin the names of the programs that a QEMU is on its way through.
var launchers = []string{"qemu-system", "taskset"}

// comingUp returns a process that is, or becomes, the QEMU of a VM, 0 if none is.
func comingUp(pidFile string) int {
	names, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return 0
	}
	for _, name := range names {
		comm, err := os.ReadFile(name)
		if err != nil || !slices.ContainsFunc(launchers, func(l string) bool { return strings.HasPrefix(string(comm), l) }) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err != nil {
			continue
		}
		p, err := host.Proc.Find(pid)
		if err != nil {
			continue
		}
		if argv, err := host.Proc.Argv(p); err == nil && slices.Contains(argv, pidFile) {
			return pid
		}
	}
	return 0
}

package verbs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestNewVMsAreStartedThoughTheAgentDied kills the agents when a new VM is
// complete and waits for the lock of its pool's file; those that come next make it
// a member, and start it. One that was told to be off meanwhile stays off.
func TestNewVMsAreStartedThoughTheAgentDied(t *testing.T) {
	for _, c := range []struct {
		verb, said, status string
	}{{Create, "", "running"}, {Create, "stopped\n", "stopped"}, {Restore, "", "running"}} {
		t.Run(c.verb+"/"+c.status, func(t *testing.T) {
			n := newNode(t)
			n.end()
			params := blank("pool", "web", "start", "1")
			if c.verb == Restore {
				params = []string{"archive", n.makeArchive("one"), "storage", "local", "pool", "web", "start", "1", "kvm", "0"}
			}
			n.must(n.Write(t.Context(), "user.cfg", "user:a@pve:1:0::::::\n\npool:web::::\n"))
			held := filepath.Join(n.Tree, "priv/lock/file-user_cfg")
			n.must(os.MkdirAll(held, 0o755))
			kill := n.spawn()
			n.drop(c.verb, 103, params...)
			n.until("the VM", func() bool {
				return strings.Contains(n.claimed(c.verb), "\ncomplete: ") && !strings.Contains(n.conf(103), "lock: create")
			})
			kill()
			if text, err := os.ReadFile(filepath.Join(n.Tree, "power/103")); err == nil {
				t.Fatalf("it was killed too late: power/103 says %q", text)
			}
			if c.said != "" {
				n.must(os.WriteFile(filepath.Join(n.Tree, "power/103"), []byte(c.said), 0o640))
			}
			n.must(os.Remove(held))
			n.spawn()
			n.until("the end of the task", func() bool { return strings.Contains(n.claimed(c.verb), "\nstatus: ") })
			n.status(103, c.status)
			if text, err := os.ReadFile(filepath.Join(n.Tree, "user.cfg")); err != nil || !strings.Contains(string(text), "pool:web::103:") {
				t.Errorf("%q, %v", text, err)
			}
			n.has(103, "!lock:")
		})
	}
}

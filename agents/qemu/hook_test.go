package qemu

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestHookscriptIsToldEveryPhaseAndCanRefuse(t *testing.T) {
	n := newNode(t)
	n.write("storage.cfg", "dir: local\n\tpath "+n.images+"\n\tcontent images,iso,snippets\n")
	script, log := filepath.Join(n.images, "snippets/hook"), filepath.Join(n.images, "phases")
	n.must(os.MkdirAll(filepath.Dir(script), 0o755))
	n.must(os.WriteFile(script, fmt.Appendf(nil, "#!/bin/sh\necho $1 $2 >> %s\ntest ! -e %s.$2\n", log, script), 0o755))
	phases := func() string {
		content, _ := os.ReadFile(log)
		return strings.ReplaceAll(strings.TrimSpace(string(content)), "\n", ", ")
	}
	n.must(os.WriteFile(script+".pre-start", nil, 0o644))
	n.conf(append(small, "startup: down=0", "hookscript: local:snippets/hook")...)
	n.power(Running)
	n.begin()
	n.await("the refusal", func() bool { return strings.Contains(n.status("error"), "hookscript: pre-start:") })
	if n.status("guest") != "stopped" {
		t.Errorf("the guest is %s", n.status("guest"))
	}
	n.must(os.Remove(script + ".pre-start"))
	n.must(os.Remove(log))
	n.power(Running)
	n.awaitStatus("guest", "running")
	n.must(os.WriteFile(script+".pre-stop", nil, 0o644)) // which must not matter
	n.power(Stopped)
	n.awaitStatus("guest", "stopped")
	if got, want := phases(), "100 pre-start, 100 post-start, 100 pre-stop, 100 post-stop"; got != want {
		t.Errorf("phases %s, want %s", got, want)
	}
}

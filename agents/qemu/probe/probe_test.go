package probe

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// fake writes a program that stands in for QEMU and counts its starts.
func fake(t *testing.T, script string) (binary string, starts func() int) {
	t.Helper()
	dir := t.TempDir()
	binary, log := filepath.Join(dir, "qemu"), filepath.Join(dir, "starts")
	if err := os.WriteFile(binary, []byte("#!/bin/sh\necho x >> "+log+"\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	return binary, func() int {
		text, _ := os.ReadFile(log)
		return strings.Count(string(text), "x")
	}
}

func TestAnswerIsKeptUntilTheNextBoot(t *testing.T) {
	if _, err := os.Stat("/dev/kvm"); err != nil {
		t.Skip(err)
	}
	binary, starts := fake(t, `echo "VFS: Cannot open root device"`)
	cache := filepath.Join(t.TempDir(), "kvm")
	ask := func(boot string) Answer {
		return (&Prober{Binary: binary, Kernel: "/boot/vmlinuz", Cache: cache, BootID: boot, Timeout: time.Minute}).Ask(t.Context())
	}
	for _, boot := range []string{"a", "a", "b"} {
		if a := ask(boot); !a.KVM {
			t.Errorf("boot %s: %+v", boot, a)
		}
	}
	if n := starts(); n != 2 {
		t.Errorf("probed %d times in two boots", n)
	}
}

func TestProcessesOfOneMachineProbeOnce(t *testing.T) {
	if _, err := os.Stat("/dev/kvm"); err != nil {
		t.Skip(err)
	}
	binary, starts := fake(t, `sleep 0.2; echo "VFS: Cannot open root device"`)
	cache := filepath.Join(t.TempDir(), "new", "kvm")
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			p := &Prober{Binary: binary, Kernel: "/boot/vmlinuz", Cache: cache, BootID: "a", Timeout: time.Minute}
			if a := p.Ask(t.Context()); !a.KVM {
				t.Errorf("%+v", a)
			}
		})
	}
	all.Wait()
	if n := starts(); n != 1 {
		t.Errorf("probed %d times", n)
	}
}

func TestHangingGuestMeansNoKVM(t *testing.T) {
	if _, err := os.Stat("/dev/kvm"); err != nil {
		t.Skip(err)
	}
	for name, c := range map[string]struct {
		script, reason string
		timeout        time.Duration
	}{
		"hangs":  {"exec sleep 600", "hangs", 300 * time.Millisecond},
		"fails":  {"echo could not access KVM kernel module >&2; exit 1", "could not access", time.Minute},
		"silent": {"exit 0", "no guest runs", time.Minute},
	} {
		binary, _ := fake(t, c.script)
		p := &Prober{Binary: binary, Kernel: "/boot/vmlinuz", Cache: filepath.Join(t.TempDir(), "kvm"), Timeout: c.timeout}
		if a := p.Ask(t.Context()); a.KVM || !strings.Contains(a.Reason, c.reason) {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

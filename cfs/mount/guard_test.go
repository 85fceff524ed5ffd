package mount

import (
	"bytes"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// asGuard makes the test binary the guard of the mount that it names: these
// tests use the mount of their own process, so if that is killed a request of
// its own would keep it alive for ever.
const asGuard = "MOUNT_TEST_GUARD"

// beGuard ends the mount when the process that started this one dies.
func beGuard(dir string) {
	for parent := os.Getppid(); !isDead(parent); {
		time.Sleep(100 * time.Millisecond)
	}
	unix.Unmount(dir, unix.MNT_FORCE|unix.MNT_DETACH)
	os.Exit(0)
}

// isDead reports whether a process has ended, or has been killed and cannot end.
func isDead(pid int) bool {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return true
	}
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch key {
		case "State":
			if value == "" || value[0] == 'Z' || value[0] == 'X' {
				return true
			}
		case "SigPnd", "ShdPnd":
			if set, err := strconv.ParseUint(value, 16, 64); err == nil && set&(1<<(unix.SIGKILL-1)) != 0 {
				return true
			}
		}
	}
	return false
}

// guard starts the guard of a mount that is about to be made.
func guard(t testing.TB, dir string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), asGuard+"="+dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
}

// TestAKilledTestIsGone: the tests themselves must not leave what cannot be ended.
func TestAKilledTestIsGone(t *testing.T) {
	if os.Getenv("MOUNT_TEST_OWN") != "" {
		r := newRig(t)
		r.hold = make(chan struct{}) // for ever
		go os.Mkdir(r.path("d"), 0o755)
		eventually(t, "a request", func() bool { return r.waiting.Load() > 0 })
		unix.Kill(os.Getpid(), unix.SIGKILL)
		select {}
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestAKilledTestIsGone$")
	cmd.Env = append(os.Environ(), "MOUNT_TEST_OWN=1", "TMPDIR="+t.TempDir())
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &out, time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	inTime(t, "the end of a test that was killed", patience, func() { cmd.Wait() })
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != unix.SIGKILL {
		t.Errorf("it was not killed: %v: %s", cmd.ProcessState, out.String())
	}
}

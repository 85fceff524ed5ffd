package backend

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"etcpve/agents/host"
	"etcpve/agents/qemu/cmdline"
)

func TestServersOfDirectoriesAreToldTheOptions(t *testing.T) {
	s := cmdline.Share{Dir: "/srv", Socket: "/run/x", Cache: "never", DirectIO: true, ACL: true, XAttr: true}
	for _, c := range []struct {
		qemu bool
		want string
	}{
		{false, "--shared-dir /srv --socket-path /run/x --cache never --announce-submounts --allow-direct-io --xattr --posix-acl"},
		{true, "--socket-path=/run/x -o source=/srv -o cache=none -o announce_submounts -o xattr -o posix_acl -o allow_direct_io -f"},
	} {
		if got := strings.Join(arguments(s, c.qemu), " "); got != c.want {
			t.Errorf("%s\nwant %s", got, c.want)
		}
	}
}

func TestTPMKeepsItsStateAndALeftoverIsReplaced(t *testing.T) {
	if _, err := exec.LookPath("swtpm"); err != nil {
		t.Skip(err)
	}
	dir, err := os.MkdirTemp("", "tpm") // a short path, because it is part of a socket address
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	state := filepath.Join(dir, "state.raw")
	if err := os.WriteFile(state, make([]byte, 4<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	tpm := cmdline.TPM{State: state, Socket: filepath.Join(dir, "100.swtpm"), Version2: true}
	var pids []string
	for range 2 { // nobody connects to the first, as when an agent is killed
		if err := TPM(t.Context(), host.System{}, tpm, filepath.Join(dir, "log")); err != nil {
			t.Fatal(err)
		}
		pid, err := os.ReadFile(tpm.Socket + ".pid")
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, string(pid))
		conn, err := net.Dial("unix", tpm.Socket)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	if pids[0] == pids[1] {
		t.Error("the first emulator was not replaced")
	}
	if err := Stop(t.Context(), tpm.Socket); err != nil {
		t.Fatal(err)
	}
	if _, err := net.Dial("unix", tpm.Socket); err == nil {
		t.Error("the emulator still listens")
	}
	content, err := os.ReadFile(state)
	if err != nil || len(strings.Trim(string(content), "\x00")) == 0 {
		t.Errorf("the state is empty: %v", err)
	}
}

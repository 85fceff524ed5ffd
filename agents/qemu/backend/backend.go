// Package backend runs the programs that serve a device of a VM from outside
// its QEMU: the emulator of a TPM, and the server of a shared directory.
//
// It owns their command lines and finds one that an interrupted start left
// behind, by its pid file and the socket among its arguments. Each ends by
// itself when QEMU hangs up. The package never restarts one: a device whose
// server died stays dead until its guest is started again.
package backend

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"etcpve/agents/host"
	"etcpve/agents/qemu/cmdline"
)

// Waits for a program to end, and to listen.
const (
	endWait    = 5 * time.Second
	listenWait = 10 * time.Second
)

// A Runner runs a command of the machine.
type Runner interface {
	Run(ctx context.Context, c host.Command) ([]byte, error)
}

// TPM starts the emulator of a TPM. Where the tool for it is installed, a state
// that is new first gets the keys and certificates of its maker.
func TPM(ctx context.Context, run Runner, t cmdline.TPM, log string) error {
	if err := Stop(ctx, t.Socket); err != nil {
		return err
	}
	state := "file://" + t.State
	if _, err := exec.LookPath("swtpm_setup"); err == nil {
		argv := []string{"swtpm_setup", "--tpmstate", state, "--createek", "--create-ek-cert", "--create-platform-cert",
			"--lock-nvram", "--config", "/etc/swtpm_setup.conf", "--runas", "0", "--not-overwrite"}
		if t.Version2 {
			argv = append(argv, "--tpm2", "--ecc")
		}
		if _, err := run.Run(ctx, host.Command{Argv: argv}); err != nil {
			return err
		}
	}
	argv := []string{
		"swtpm", "socket", "--tpmstate", "backend-uri=" + state + ",mode=0600",
		"--ctrl", "type=unixio,path=" + t.Socket + ",mode=0600", "--pid", "file=" + t.Socket + ".pid",
		"--terminate", "--daemon", "--log", "file=" + log + ",level=1",
	}
	if t.Version2 {
		argv = append(argv, "--tpm2")
	}
	if _, err := run.Run(ctx, host.Command{Argv: argv}); err != nil {
		return err
	}
	return listens(ctx, t.Socket)
}

// servers of shared directories, the one written in Rust first.
var servers = []string{"/usr/libexec/virtiofsd", "/usr/lib/virtiofsd", "/usr/lib/qemu/virtiofsd"}

// Share starts the server of a directory.
func Share(ctx context.Context, s cmdline.Share, log string) error {
	i := slices.IndexFunc(servers, func(path string) bool {
		_, err := os.Stat(path)
		return err == nil
	})
	if i < 0 {
		return errors.New("virtiofsd is not installed on this node")
	}
	if err := Stop(ctx, s.Socket); err != nil {
		return err
	}
	argv := append([]string{servers[i]}, arguments(s, strings.Contains(servers[i], "/qemu/"))...)
	// setsid lets it go at once, so that it is nobody's child to be waited for.
	started, err := host.System{}.Start(host.Command{Argv: append([]string{"setsid", "--fork"}, argv...)}, log)
	if err != nil {
		return err
	}
	if err := started.Wait(); err != nil {
		return fmt.Errorf("setsid: %w", err)
	}
	if err := listens(ctx, s.Socket); err != nil {
		return fmt.Errorf("%w: %s", err, lastLine(log))
	}
	return nil
}

// lastLine is what a program said last.
func lastLine(log string) string {
	content, err := os.ReadFile(log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	return lines[len(lines)-1]
}

// arguments are those of the server of QEMU itself, or of its successor.
func arguments(s cmdline.Share, qemu bool) (args []string) {
	if !qemu {
		args = []string{"--shared-dir", s.Dir, "--socket-path", s.Socket, "--cache", s.Cache, "--announce-submounts"}
		for _, o := range []struct {
			name string
			on   bool
		}{{"--allow-direct-io", s.DirectIO}, {"--xattr", s.XAttr}, {"--posix-acl", s.ACL}} {
			if o.on {
				args = append(args, o.name)
			}
		}
		return args
	}
	cache := s.Cache
	if cache == "metadata" || cache == "never" {
		cache = "none" // the nearest it knows
	}
	return []string{"--socket-path=" + s.Socket, "-o", "source=" + s.Dir, "-o", "cache=" + cache, "-o", "announce_submounts",
		"-o", either("xattr", "no_xattr", s.XAttr), "-o", either("posix_acl", "no_posix_acl", s.ACL),
		"-o", either("allow_direct_io", "no_allow_direct_io", s.DirectIO), "-f"}
}

func either(yes, no string, which bool) string {
	if which {
		return yes
	}
	return no
}

// listens waits until a program has made its socket.
func listens(ctx context.Context, socket string) error {
	ctx, cancel := context.WithTimeout(ctx, listenWait)
	defer cancel()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for {
		if _, err := os.Stat(socket); err == nil {
			return nil
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return fmt.Errorf("%s: nothing listens: %w", socket, ctx.Err())
		}
	}
}

// Stop ends the program behind a socket, if one is there, and removes the socket.
func Stop(ctx context.Context, socket string) error {
	escaped := strings.ReplaceAll(strings.TrimPrefix(socket, "/"), "/", ".")
	for _, file := range []string{socket + ".pid", filepath.Join("/var/run/virtiofsd", escaped+".pid")} {
		p, ok := host.Proc.Behind(file, socket)
		if !ok {
			continue
		}
		if err := host.Proc.Signal(p, syscall.SIGTERM); err != nil && !errors.Is(err, host.ErrGone) {
			return err
		}
		wait, cancel := context.WithTimeout(ctx, endWait)
		err := host.Proc.WaitExit(wait, p)
		cancel()
		if err != nil {
			return fmt.Errorf("%s: process %d does not end: %w", socket, p.PID, err)
		}
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

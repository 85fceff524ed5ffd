// Package mount is the types of storage that are a directory once something is
// mounted on it: "nfs", "cifs", "cephfs" and "glusterfs".
//
// It owns what is mounted and with which options, and how to tell that a server
// does not answer. A server is asked before its file system is touched, by
// commands that are killed when the time is over, so nothing waits for a dead
// one. Everything else is plugins/storage/dir. It never puts a password on a
// command line.
package mount

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"etcpve/agents/host"
	"etcpve/agents/storage"
	"etcpve/plugins/storage/dir"
)

// Plugin is one of the types.
type Plugin struct {
	dir.Plugin
	kind  string // for mount -t
	tree  string // with the secrets of storages below it
	mount func(p Plugin, c *storage.Config) (source string, options []string)
	probe func(p Plugin, c *storage.Config) []string // a command that fails if the server does not answer; nil for none

	mountinfo string // default /proc/self/mountinfo
}

// patience is how long a server may take to answer a probe.
const patience = 5 * time.Second

// Activate mounts a storage and creates the directories of its content types.
func (p Plugin) Activate(ctx context.Context, c *storage.Config) error {
	mounted, err := p.mounted(c)
	if err != nil {
		return err
	}
	if mounted {
		if _, err := p.Status(ctx, c); err != nil {
			return err
		}
		return p.Plugin.Activate(ctx, c)
	}
	if p.probe != nil {
		if err := p.ask(ctx, p.probe(p, c)); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(c.Path(), 0o755); err != nil {
		return err
	}
	source, options := p.mount(p, c)
	kind := p.kind
	if c.Bool("fuse") { // a key of CephFS alone
		kind = "fuse.ceph"
	}
	argv := []string{"mount", "-t", kind, source, c.Path()}
	if options = append(options, list(c.Value("options"))...); len(options) > 0 {
		argv = append(argv, "-o", strings.Join(options, ","))
	}
	if _, err := p.Run.Run(ctx, host.Command{Argv: argv}); err != nil {
		return err
	}
	return p.Plugin.Activate(ctx, c)
}

func list(value string) []string {
	if value == "" {
		return nil
	}
	return []string{value}
}

// ask runs a probe; whatever is wrong, the server does not answer as it should.
func (p Plugin) ask(ctx context.Context, argv []string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if _, err := p.Run.Run(ctx, host.Command{Argv: argv}); err != nil {
		return fmt.Errorf("%w: %w", storage.ErrOffline, err)
	}
	return nil
}

// Deactivate unmounts a storage.
func (p Plugin) Deactivate(ctx context.Context, c *storage.Config) error {
	mounted, err := p.mounted(c)
	if err != nil || !mounted {
		return err
	}
	_, err = p.Run.Run(ctx, host.Command{Argv: []string{"umount", c.Path()}})
	return err
}

// Status asks the file system through a command: the system call would wait
// for a server that does not answer.
func (p Plugin) Status(ctx context.Context, c *storage.Config) (s storage.Status, err error) {
	mounted, err := p.mounted(c)
	if err == nil && !mounted {
		err = fmt.Errorf("'%s' is not mounted: %w", c.Path(), storage.ErrOffline)
	}
	if err != nil {
		return s, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	out, err := p.Run.Run(ctx, host.Command{Argv: []string{"stat", "-f", "-c", "%S %b %f %a", c.Path()}})
	if err != nil {
		return s, fmt.Errorf("%w: %w", storage.ErrOffline, err)
	}
	var block, total, free, available int64
	if _, err := fmt.Sscan(string(out), &block, &total, &free, &available); err != nil {
		return s, fmt.Errorf("stat: %q: %w", out, err)
	}
	return storage.Status{Total: total * block, Used: (total - free) * block, Available: available * block}, nil
}

// mounted reports whether something is mounted on a storage's path, without
// touching it.
func (p Plugin) mounted(c *storage.Config) (bool, error) {
	name := p.mountinfo
	if name == "" {
		name = "/proc/self/mountinfo"
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return false, err
	}
	// The fifth word of a line is the mount point, with blanks as octal numbers.
	want := strings.NewReplacer(" ", `\040`, "\t", `\011`, `\`, `\134`).Replace(filepath.Clean(c.Path()))
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); len(words) > 4 && words[4] == want {
			return true, nil
		}
	}
	return false, nil
}

// bracketed is a server as it stands before a colon: IPv6 addresses need
// brackets there.
func bracketed(server string) string {
	if strings.Contains(server, ":") && !strings.HasPrefix(server, "[") {
		return "[" + server + "]"
	}
	return server
}

// NFS mounts exports of NFS servers.
func NFS(run storage.Runner) Plugin {
	return Plugin{
		Plugin: dir.Plugin{Run: run}, kind: "nfs",
		mount: func(_ Plugin, c *storage.Config) (string, []string) {
			return bracketed(c.Value("server")) + ":" + c.Value("export"), nil
		},
		probe: func(_ Plugin, c *storage.Config) []string {
			if strings.Contains(c.Value("options"), "vers=4") {
				return []string{"rpcinfo", "-T", "tcp", c.Value("server"), "nfs", "4"}
			}
			return []string{"showmount", "--no-headers", "--exports", c.Value("server")}
		},
	}
}

// CIFS mounts shares of Windows and Samba servers.
func CIFS(run storage.Runner, tree string) Plugin {
	return Plugin{
		Plugin: dir.Plugin{Run: run}, kind: "cifs", tree: tree,
		mount: func(p Plugin, c *storage.Config) (string, []string) {
			options := append([]string{"soft"}, p.cifsUser(c)...)
			if v := c.Value("domain"); v != "" {
				options = append(options, "domain="+v)
			}
			if v := c.Value("smbversion"); v != "" && v != "default" {
				options = append(options, "vers="+v)
			}
			return "//" + c.Value("server") + "/" + c.Value("share") + c.Value("subdir"), options
		},
		probe: func(p Plugin, c *storage.Config) []string {
			argv := []string{"smbclient", "//" + c.Value("server") + "/" + c.Value("share"), "-d", "0"}
			if secret, ok := p.secret("storage/" + c.ID + ".pw"); ok {
				argv = append(argv, "-U", c.Value("username"), "-A", secret)
			} else {
				argv = append(argv, "-U", "Guest", "-N")
			}
			return append(argv, "-c", "echo 1 0")
		},
	}
}

func (p Plugin) cifsUser(c *storage.Config) []string {
	if secret, ok := p.secret("storage/" + c.ID + ".pw"); ok {
		return []string{"username=" + c.Value("username"), "credentials=" + secret}
	}
	return []string{"guest", "username=guest"}
}

// secret returns the path of a file below priv, if it is there.
func (p Plugin) secret(name string) (string, bool) {
	path := filepath.Join(p.tree, "priv", name)
	_, err := os.Stat(path)
	return path, !errors.Is(err, fs.ErrNotExist)
}

// CephFS mounts the file system of a Ceph cluster, by the kernel or by FUSE.
func CephFS(run storage.Runner, tree string) Plugin {
	return Plugin{Plugin: dir.Plugin{Run: run}, kind: "ceph", tree: tree, mount: Plugin.ceph}
}

func (p Plugin) ceph(c *storage.Config) (string, []string) {
	user, subdir := cmp.Or(c.Value("username"), "admin"), cmp.Or(c.Value("subdir"), "/")
	secret, hasSecret := p.secret("ceph/" + c.ID + ".secret")
	// Monitors are listed with blanks, commas or semicolons between them.
	monitors := strings.FieldsFunc(c.Value("monhost"), func(r rune) bool { return strings.ContainsRune(" ,;", r) })
	for i := range monitors {
		if strings.Count(monitors[i], ":") > 1 {
			monitors[i] = bracketed(monitors[i])
		}
	}
	if !c.Bool("fuse") {
		options := []string{"name=" + user}
		if hasSecret {
			options = append(options, "secretfile="+secret)
		}
		if v := c.Value("fs-name"); v != "" {
			options = append(options, "fs="+v)
		}
		return strings.Join(monitors, ",") + ":" + subdir, options
	}
	options := []string{"ceph.id=" + user, "ceph.client_mountpoint=" + subdir}
	if hasSecret {
		options = append(options, "ceph.keyfile="+secret)
	}
	if len(monitors) > 0 {
		options = append(options, "ceph.mon_host="+strings.Join(monitors, ";")) // a comma would end the option
	}
	if v := c.Value("fs-name"); v != "" {
		options = append(options, "ceph.client_fs="+v)
	}
	return "none", options
}

// GlusterFS mounts volumes of Gluster servers.
func GlusterFS(run storage.Runner) Plugin {
	return Plugin{
		Plugin: dir.Plugin{Run: run}, kind: "glusterfs",
		mount: func(_ Plugin, c *storage.Config) (string, []string) {
			var options []string
			if v := c.Value("server2"); v != "" {
				options = append(options, "backup-volfile-servers="+v)
			}
			if v := c.Value("transport"); v != "" {
				options = append(options, "transport="+v)
			}
			return bracketed(c.Value("server")) + ":" + c.Value("volume"), options
		},
		probe: func(_ Plugin, c *storage.Config) []string {
			return []string{"gluster", "--remote-host=" + c.Value("server"), "peer", "status"}
		},
	}
}

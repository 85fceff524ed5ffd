// Package pbs is the storage type "pbs": backups on a Proxmox Backup Server,
// reached through proxmox-backup-client.
//
// It owns the names of backups, backup/vm/100/2026-11-20T03:00:00Z, and the
// command line of the client with the datastore, namespace, password and keys
// that belong to a storage. It never transfers backups itself: whoever makes or
// restores one runs the Command it returns. Passwords go to the client's
// environment, never to its arguments.
package pbs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"etcpve/agents/host"
	"etcpve/agents/storage"
)

// Plugin is the type.
type Plugin struct {
	run  storage.Runner
	tree string // the cluster file system, with passwords and keys
}

// New returns the type. Secrets are below the tree.
func New(run storage.Runner, tree string) Plugin { return Plugin{run, tree} }

var _ storage.Plugin = Plugin{}

// name is the form of volume names: type, group and time.
var name = regexp.MustCompile(`^backup/((vm|ct|host)/([A-Za-z0-9_][A-Za-z0-9._\-]*)/\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z)$`)

// Parse understands a volume name.
func (Plugin) Parse(text string) (storage.Volume, error) {
	m := name.FindStringSubmatch(text)
	if m == nil {
		return storage.Volume{}, fmt.Errorf("unable to parse pbs volume name '%s'", text)
	}
	v := storage.Volume{Name: text, Content: storage.Backup, File: m[1], Format: "pbs-" + m[2]}
	if m[2] != "host" {
		if _, err := fmt.Sscanf(m[3], "%d", &v.VMID); err != nil || fmt.Sprint(v.VMID) != m[3] {
			return storage.Volume{}, fmt.Errorf("unable to parse pbs volume name '%s'", text)
		}
	}
	return v, nil
}

// port is that of a backup server where the storage names none.
const port = "8007"

// Repository is the datastore of a storage as the client takes it.
func Repository(c *storage.Config) string {
	user, server := c.Value("username"), c.Value("server")
	if user == "" {
		user = "root@pam"
	}
	if strings.Contains(server, ":") {
		server = "[" + strings.Trim(server, "[]") + "]"
	}
	if p := c.Value("port"); p != "" && p != port {
		server += ":" + p
	}
	return user + "@" + server + ":" + c.Value("datastore")
}

// Path returns the address of a backup.
func (Plugin) Path(c *storage.Config, v storage.Volume, snapshot string) (string, error) {
	if snapshot != "" {
		return "", fmt.Errorf("snapshots of backups are %w", storage.ErrUnsupported)
	}
	return "pbs://" + Repository(c) + "/" + v.File, nil
}

// secret returns the content of a file below priv/storage, "" if there is none.
func (p Plugin) secret(c *storage.Config, end string) (string, error) {
	text, err := os.ReadFile(p.secretPath(c, end))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSuffix(string(text), "\n"), err
}

func (p Plugin) secretPath(c *storage.Config, end string) string {
	return filepath.Join(p.tree, "priv/storage", c.ID+end)
}

// Command returns a command of the client for a storage: words, then what they
// work on. With encrypted, backups are written or read with the storage's key.
func (p Plugin) Command(c *storage.Config, encrypted bool, words ...string) (host.Command, error) {
	argv := append([]string{"proxmox-backup-client"}, words...)
	argv = append(argv, "--repository", Repository(c))
	if ns := c.Value("namespace"); ns != "" && words[0] != "status" {
		argv = append(argv, "--ns", ns)
	}
	if encrypted {
		if _, err := os.Stat(p.secretPath(c, ".enc")); err == nil {
			argv = append(argv, "--keyfile", p.secretPath(c, ".enc"))
			if _, err := os.Stat(p.secretPath(c, ".master.pem")); err == nil && c.Value("master-pubkey") != "" {
				argv = append(argv, "--master-pubkey-file", p.secretPath(c, ".master.pem"))
			}
		} else if c.Value("encryption-key") != "" {
			// Better no backup than one that anybody can read.
			return host.Command{}, fmt.Errorf("storage '%s': encryption key: %w", c.ID, err)
		}
	}
	password, err := p.secret(c, ".pw")
	if err != nil {
		return host.Command{}, fmt.Errorf("storage '%s': password: %w", c.ID, err)
	}
	env := []string{"PROXMOX_OUTPUT_FORMAT=json", "PROXMOX_OUTPUT_NO_HEADER=1"}
	if password != "" {
		env = append(env, "PBS_PASSWORD="+password)
	}
	if f := c.Value("fingerprint"); f != "" {
		env = append(env, "PBS_FINGERPRINT="+f)
	}
	return host.Command{Argv: argv, Env: env}, nil
}

// ask reads what the client prints as JSON.
func ask[T any](ctx context.Context, p Plugin, c *storage.Config, words ...string) (said T, err error) {
	command, err := p.Command(c, false, words...)
	if err != nil {
		return said, err
	}
	out, err := p.run.Run(ctx, command)
	if err != nil {
		return said, err
	}
	if err := json.Unmarshal(out, &said); err != nil {
		return said, fmt.Errorf("%s: %w", strings.Join(words, " "), err)
	}
	return said, nil
}

// patience is how long a server may take to answer.
const patience = 2 * time.Second

// Activate sees whether the server answers.
func (p Plugin) Activate(ctx context.Context, c *storage.Config) error {
	at := port
	if v := c.Value("port"); v != "" {
		at = v
	}
	dialer := net.Dialer{Timeout: patience}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(strings.Trim(c.Value("server"), "[]"), at))
	if err != nil {
		return fmt.Errorf("%w: %w", storage.ErrOffline, err)
	}
	return conn.Close()
}

// Deactivate has nothing to undo.
func (Plugin) Deactivate(context.Context, *storage.Config) error { return nil }

// Status asks how full the datastore is.
func (p Plugin) Status(ctx context.Context, c *storage.Config) (storage.Status, error) {
	said, err := ask[struct{ Total, Used, Avail int64 }](ctx, p, c, "status")
	return storage.Status{Total: said.Total, Used: said.Used, Available: said.Avail}, err
}

// A listed is what the client says of a backup.
type listed struct {
	Type      string `json:"backup-type"`
	ID        string `json:"backup-id"`
	Time      int64  `json:"backup-time"`
	Size      int64
	Comment   string
	Protected bool
}

// subtypes are what kinds of guests are called elsewhere.
var subtypes = map[string]string{"vm": "qemu", "ct": "lxc"}

// List returns the backups.
func (p Plugin) List(ctx context.Context, c *storage.Config, q storage.Query) ([]storage.Info, error) {
	if q.Content != storage.Backup {
		return nil, nil
	}
	all, err := ask[[]listed](ctx, p, c, "snapshot", "list")
	if err != nil {
		return nil, err
	}
	var infos []storage.Info
	for _, l := range all {
		v, err := p.Parse("backup/" + l.Type + "/" + l.ID + "/" + time.Unix(l.Time, 0).UTC().Format(time.RFC3339))
		if err != nil || q.VMID != 0 && q.VMID != v.VMID {
			continue
		}
		size := l.Size
		if size == 0 {
			size = 1 // a backup of which the server does not know the size yet
		}
		infos = append(infos, storage.Info{Name: v.Name, Content: q.Content, Format: v.Format, VMID: v.VMID, Size: size, Created: l.Time,
			Subtype: subtypes[l.Type], Notes: l.Comment, Protected: l.Protected})
	}
	slices.SortFunc(infos, func(a, b storage.Info) int { return strings.Compare(a.Name, b.Name) })
	return infos, nil
}

// Alloc refuses: backups are made by a transfer.
func (Plugin) Alloc(context.Context, *storage.Config, storage.Request) (string, error) {
	return "", errors.New("can't allocate space in pbs storage")
}

// Free removes a backup. The server refuses one that is protected.
func (p Plugin) Free(ctx context.Context, c *storage.Config, v storage.Volume) error {
	command, err := p.Command(c, false, "snapshot", "forget", v.File)
	if err == nil {
		_, err = p.run.Run(ctx, command)
	}
	return err
}

// Package files is the way of high availability to the files under /etc/pve.
//
// It owns the reading and writing of ha/*, of nodes/NODE/lrm_status and of the
// HA settings in datacenter.cfg, in the form Proxmox VE gives them. Changes are
// made under the cluster lock domain-ha. It decides nothing and starts nothing.
package files

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"etcpve/agents/ha"
	"etcpve/cfs/format/section"
	"etcpve/cfs/layout"
)

// Places below the root of the tree.
const (
	Resources = "ha/resources.cfg"
	Rules     = "ha/rules.cfg"
	Groups    = "ha/groups.cfg"
	Status    = "ha/manager_status"
	Commands  = "ha/crm_commands"
)

// lockPatience is how long a change waits for others to finish theirs.
const lockPatience = 10 * time.Second

// A Tree is a mounted cluster file system, or any directory laid out like it.
type Tree struct{ Root string }

// Mistakes are what could not be understood in a file. They come with what
// could: a mistake in one place does not stop the rest from being cared for.
type Mistakes []string

func (m Mistakes) Error() string { return strings.Join(m, "; ") }

// err is nil if there are none.
func (m Mistakes) err() error {
	if len(m) == 0 {
		return nil
	}
	return m
}

// LRMStatus returns the place of a node's LRM status.
func LRMStatus(node string) string { return "nodes/" + node + "/lrm_status" }

// Read returns a file's text; a file that does not exist is empty.
func (t Tree) Read(name string) (string, error) {
	text, err := os.ReadFile(filepath.Join(t.Root, name))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(text), err
}

// Write replaces a file at once: readers see the old or the new content.
func (t Tree) Write(name, text string) error {
	path := filepath.Join(t.Root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	temporary := fmt.Sprintf("%s.tmp.%d", path, os.Getpid())
	if err := os.WriteFile(temporary, []byte(text), 0o640); err != nil {
		return err
	}
	if err := os.Rename(temporary, path); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	return nil
}

// Status returns what the master decided last.
func (t Tree) Status() (status ha.ManagerStatus, err error) {
	return status, t.readJSON(Status, &status)
}

// LRM returns what a node's LRM said last. What cannot be read as JSON says
// nothing, and is one of the Mistakes.
func (t Tree) LRM(node string) (status ha.LRMStatus, err error) {
	err = t.readJSON(LRMStatus(node), &status)
	if malformed := (*json.SyntaxError)(nil); errors.As(err, &malformed) {
		return ha.LRMStatus{}, Mistakes{err.Error()}
	}
	if unfit := (*json.UnmarshalTypeError)(nil); errors.As(err, &unfit) {
		return ha.LRMStatus{}, Mistakes{err.Error()}
	}
	return status, err
}

// WriteJSON writes a status file.
func (t Tree) WriteJSON(name string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return t.Write(name, string(text)+"\n")
}

func (t Tree) readJSON(name string, value any) error {
	text, err := t.Read(name)
	if err != nil || strings.TrimSpace(text) == "" {
		return err
	}
	if err := json.Unmarshal([]byte(text), value); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// Nodes returns the names of all nodes in order.
func (t Tree) Nodes() (names []string, err error) {
	entries, err := os.ReadDir(filepath.Join(t.Root, "nodes"))
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// Locked runs change while it holds the cluster lock for HA configuration. The
// lock is a directory: whoever makes it has it.
func (t Tree) Locked(ctx context.Context, change func() error) (err error) {
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	path := filepath.Join(t.Root, layout.LockDir, "domain-ha")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	for {
		err := os.Mkdir(path, 0o700)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("lock domain-ha: %w", err)
		}
		// A lock nobody renews any more is removed by asking for it.
		if err := os.Chtimes(path, time.Unix(0, 0), time.Unix(0, 0)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("lock domain-ha: %w", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("lock domain-ha: %w", ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
	defer func() { err = errors.Join(err, os.Remove(path)) }()
	return change()
}

// Queue adds a command for the master.
func (t Tree) Queue(ctx context.Context, command string) error {
	return t.Locked(ctx, func() error {
		text, err := t.Read(Commands)
		if err != nil {
			return err
		}
		return t.Write(Commands, text+command+"\n")
	})
}

// Queued returns the commands that wait for the master.
func (t Tree) Queued() (commands []string, err error) {
	text, err := t.Read(Commands)
	for line := range strings.SplitSeq(text, "\n") {
		if strings.TrimSpace(line) != "" {
			commands = append(commands, line)
		}
	}
	return commands, err
}

// Dequeue removes the first n commands.
func (t Tree) Dequeue(ctx context.Context, n int) error {
	if n == 0 {
		return nil
	}
	return t.Locked(ctx, func() error {
		commands, err := t.Queued()
		if err != nil {
			return err
		}
		rest := ""
		for _, c := range commands[min(n, len(commands)):] {
			rest += c + "\n"
		}
		return t.Write(Commands, rest)
	})
}

// Edit changes a section file under the lock, and leaves all lines that edit
// does not touch as they are.
func (t Tree) Edit(ctx context.Context, name string, edit func(*section.Document) error) error {
	return t.Locked(ctx, func() error {
		text, err := t.Read(name)
		if err != nil {
			return err
		}
		d := section.ParseDocument(text, "")
		if err := edit(d); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if d.String() == text {
			return nil
		}
		return t.Write(name, d.String())
	})
}

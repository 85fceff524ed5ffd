package dir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"etcpve/agents/storage"
	"etcpve/agents/storage/image"
)

// With snapshot-as-volume-chain, a state of a qcow2 image is a file of its own
// that is not written any more. The image stands on its newest state, each state
// on the one before, the oldest on the base of a linked clone or on nothing:
//
//	vm-100-disk-0.qcow2 → snap-two-vm-100-disk-0.qcow2 → snap-one-vm-100-disk-0.qcow2
//
// Names are relative, so that a chain moves with its directory. Every step
// leaves the volume whole: a new file takes the volume's name only when it is
// complete.

// stateForm is the name of a state: no volume of its own.
var stateForm = regexp.MustCompile(`^snap-.+-(?:vm|base)-\d+-.+\.qcow2$`)

// chained reports whether the states of a volume are files.
func chained(c *storage.Config, v storage.Volume) bool {
	return c.Bool("snapshot-as-volume-chain") && v.Content == storage.Images && v.Format == "qcow2"
}

func stateFile(v storage.Volume, name string) string { return "snap-" + name + "-" + v.File }

// chain returns the files of a volume, newest first, and what the last of them
// stands on, as recorded.
func chain(dir, file string) (files []string, base string, err error) {
	for next := file; !slices.Contains(files, next); {
		head, err := image.Read(filepath.Join(dir, next), "qcow2")
		if err != nil {
			return files, "", err
		}
		files = append(files, next)
		if next, base = head.Backing, head.Backing; filepath.Dir(next) == dir {
			next = filepath.Base(next) // as other tools may write it
		}
		if !stateForm.MatchString(next) || !strings.HasSuffix(next, "-"+file) {
			return files, base, nil
		}
	}
	return files, "", fmt.Errorf("%s: the chain of snapshots goes in a circle", filepath.Join(dir, file))
}

// Chain returns the paths of a volume and of its states, newest first, or nil
// if the states of this volume are inside it.
func (p Plugin) Chain(c *storage.Config, v storage.Volume) ([]string, error) {
	if !chained(c, v) {
		return nil, nil
	}
	path, err := p.Path(c, v, "")
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	files, _, err := chain(dir, v.File)
	for i, file := range files {
		files[i] = filepath.Join(dir, file)
	}
	return files, err
}

// states returns the paths of a volume and of one of its states.
func (p Plugin) states(c *storage.Config, v storage.Volume, name string) (current, state string, err error) {
	current, err = p.Path(c, v, "")
	return current, filepath.Join(filepath.Dir(current), stateFile(v, name)), err
}

// overlay lets the volume begin anew on top of a state.
func (p Plugin) overlay(ctx context.Context, current, state string) error {
	head, err := image.Read(state, "qcow2")
	if err != nil {
		return err
	}
	fresh := filepath.Join(filepath.Dir(current), "."+filepath.Base(current)+".new")
	defer os.Remove(fresh) // which is gone if all went well
	// A guest that runs holds a lock on what is underneath: it is not opened.
	if err := p.run(ctx, "qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", filepath.Base(state),
		fresh, strconv.FormatInt(head.Size, 10)); err != nil {
		return err
	}
	return os.Rename(fresh, current)
}

// extend keeps the state of a volume as a file.
func (p Plugin) extend(ctx context.Context, c *storage.Config, v storage.Volume, name string) error {
	current, state, err := p.states(c, v, name)
	if err != nil {
		return err
	}
	if !stateForm.MatchString(filepath.Base(state)) {
		return fmt.Errorf("'%s' cannot have snapshots that are files", v.Name)
	}
	undo := func() error { return os.Remove(state) }
	err = os.Link(current, state)
	switch {
	case errors.Is(err, fs.ErrExist) && same(current, state): // begun once before
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("snapshot '%s' of '%s' already exists", name, v.Name)
	case err != nil: // a file system without links, such as a share
		undo = func() error { return os.Rename(state, current) }
		if err := os.Rename(current, state); err != nil {
			return err
		}
	}
	if err := p.overlay(ctx, current, state); err != nil {
		return errors.Join(err, undo())
	}
	return nil
}

func same(a, b string) bool {
	one, err1 := os.Stat(a)
	two, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(one, two)
}

// Unchain takes the newest state back as the volume. What was written since is
// lost.
func (p Plugin) Unchain(_ context.Context, c *storage.Config, v storage.Volume, name string) error {
	current, state, err := p.states(c, v, name)
	if err != nil {
		return err
	}
	files, _, err := chain(filepath.Dir(current), v.File)
	if err == nil && (len(files) < 2 || files[1] != filepath.Base(state)) {
		err = fmt.Errorf("snapshot '%s' is not the newest of '%s'", name, v.Name)
	}
	if err != nil {
		return err
	}
	return os.Rename(state, current)
}

// shorten removes a state: the file above takes over what only the state has.
func (p Plugin) shorten(ctx context.Context, c *storage.Config, v storage.Volume, name string) error {
	current, state, err := p.states(c, v, name)
	if err != nil {
		return err
	}
	dir := filepath.Dir(current)
	files, base, err := chain(dir, v.File)
	if err != nil {
		return err
	}
	i := slices.Index(files, filepath.Base(state))
	if i > 0 {
		below, format := base, strings.TrimPrefix(filepath.Ext(base), ".")
		if i+1 < len(files) {
			below, format = files[i+1], "qcow2"
		}
		argv := []string{"qemu-img", "rebase", "-f", "qcow2", "-b", below}
		if below != "" {
			argv = append(argv, "-F", format)
		}
		if err := p.run(ctx, append(argv, filepath.Join(dir, files[i-1]))...); err != nil {
			return err
		}
	}
	err = os.Remove(state)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("snapshot not found: '%s' of '%s'", name, v.Name)
	}
	return err
}

// RollbackPossible names the newer states that a rollback would lose.
func (p Plugin) RollbackPossible(_ context.Context, c *storage.Config, v storage.Volume, name string) error {
	if !chained(c, v) {
		return nil
	}
	current, state, err := p.states(c, v, name)
	if err != nil {
		return err
	}
	files, _, err := chain(filepath.Dir(current), v.File)
	if err != nil {
		return err
	}
	switch i := slices.Index(files, filepath.Base(state)); {
	case i < 1:
		return fmt.Errorf("can't rollback, snapshot '%s' does not exist on '%s'", name, v.Name)
	case i > 1:
		var newer []string
		for _, file := range files[1:i] {
			newer = append(newer, strings.TrimSuffix(strings.TrimPrefix(file, "snap-"), "-"+v.File))
		}
		slices.Reverse(newer)
		return &storage.BlockedError{Volume: v.Name, Snapshot: name, Blockers: newer}
	}
	return nil
}

// rewind returns a volume to its newest state.
func (p Plugin) rewind(ctx context.Context, c *storage.Config, v storage.Volume, name string) error {
	if err := p.RollbackPossible(ctx, c, v, name); err != nil {
		return err
	}
	current, state, err := p.states(c, v, name)
	if err != nil {
		return err
	}
	return p.overlay(ctx, current, state)
}

// stateless refuses what cannot be done to a volume that has states.
func (p Plugin) stateless(c *storage.Config, v storage.Volume) error {
	files, err := p.Chain(c, v)
	if err == nil && len(files) > 1 {
		err = fmt.Errorf("'%s' has snapshots that are named after it: remove them first", v.Name)
	}
	return err
}

// freeStates removes the states of a volume that is gone.
func freeStates(path string) error {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if stateForm.MatchString(e.Name()) && strings.HasSuffix(e.Name(), "-"+filepath.Base(path)) {
			err = errors.Join(err, os.Remove(filepath.Join(filepath.Dir(path), e.Name())))
		}
	}
	return err
}

package qemu

import (
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"etcpve/agents/qemu/cmdline"
	guestfile "etcpve/cfs/format/guest"
	"etcpve/cfs/format/text"
	"etcpve/cfs/layout"
)

// A Power is a desired run state.
type Power string

// The run states a power file may ask for. A file that is not there, or was
// written before the node was booted, asks for nothing.
const (
	Running Power = "running"
	Stopped Power = "stopped"
	Paused  Power = "paused"
	Unsaid  Power = ""
)

// A Desired is what the files ask of one VM.
type Desired struct {
	VMID   uint32
	Text   []byte // the configuration file; nil if there is none
	Config cmdline.Config
	Lines  map[string]int // where in the file each key is
	Power  Power

	Problems []string // lines of the file that cannot be used or fulfilled
	Mark     string   // changes with every write to either file
	SkipLock bool     // its lock keeps it neither from starting nor from stopping
	keep     bool     // what waits goes on waiting
}

// Desired reads the configuration and the power file of a VM.
func (a *Agent) Desired(_ context.Context, key string) (Desired, error) {
	vmid, err := vmidOf(key)
	if err != nil {
		return Desired{}, err
	}
	d := Desired{VMID: vmid}
	path := filepath.Join(a.Tree, a.confPath(vmid))
	switch d.Text, err = os.ReadFile(path); {
	case missing(err):
		return d, nil
	case err != nil:
		return d, fmt.Errorf("vm %d: %w", vmid, err)
	}
	d.Config, d.Lines, d.Problems = readConfig(vmid, string(d.Text))
	d.Problems = append(d.Problems, a.vain(d)...)
	power := filepath.Join(a.Tree, layout.PowerDir, key)
	if d.Power, err = a.readPower(power, vmid); err != nil {
		return d, err
	}
	d.Mark, d.SkipLock = mark(path, power, d.Text), a.skipsLock(vmid)
	return d, nil
}

// vain returns the volumes that a configuration asks for in vain: of storages that
// cannot be used. Without that, the document of the file would say that they are
// to be made, and only the log why they are not.
func (a *Agent) vain(d Desired) (problems []string) {
	if a.Storage == nil {
		return nil
	}
	for _, key := range slices.Sorted(maps.Keys(d.Config)) {
		volume, _, _ := strings.Cut(strings.TrimPrefix(d.Config[key], "file="), ",")
		if storage, _, unmade := guestfile.NewVolume(volume); unmade && guestfile.IsVolume(layout.QEMU, key) {
			if err := a.Storage(storage); err != nil {
				problems = append(problems, fmt.Sprintf("%s:%d: %s: %v", a.confPath(d.VMID), d.Lines[key], key, err))
			}
		}
	}
	return problems
}

func missing(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// readPower returns what the power file asks for now.
func (a *Agent) readPower(path string, vmid uint32) (Power, error) {
	content, err := os.ReadFile(path)
	if missing(err) {
		return Unsaid, nil
	}
	if err != nil {
		return Unsaid, fmt.Errorf("vm %d: %w", vmid, err)
	}
	if a.stale(path) {
		// A guest of the HA manager waits for it for as long as that takes: it may
		// run elsewhere by now.
		managed, err := a.managed()
		if err != nil || managed[vmid] || !a.booted.Load() {
			return Unsaid, err
		}
	}
	switch p := Power(strings.TrimSpace(string(content))); p {
	case Running, Stopped, Paused:
		return p, nil
	case Unsaid:
		return Unsaid, nil
	default:
		return Unsaid, fmt.Errorf("%s/%d:1: %q is none of running, stopped, paused", layout.PowerDir, vmid, p)
	}
}

// mark tells one write of the two files from the next; the power file's part
// comes behind the slash.
func mark(conf, power string, text []byte) string {
	var when [2]time.Time
	for i, path := range []string{conf, power} {
		if info, err := os.Stat(path); err == nil {
			when[i] = info.ModTime()
		}
	}
	return fmt.Sprintf("%x %d/%d", sha1.Sum(text), when[0].UnixNano(), when[1].UnixNano())
}

// readConfig returns the settings of a configuration, changes that wait in
// [PENDING] put into effect, and the line of each setting. It says which lines
// cannot be used.
func readConfig(vmid uint32, content string) (c cmdline.Config, lines map[string]int, problems []string) {
	file, found := guestfile.Parse(layout.QEMU, vmid, content)
	c = settings(merged(file))
	for _, p := range found {
		problems = append(problems, p.Place.Error())
	}
	lines = map[string]int{}
	for _, line := range text.Lines(content) {
		key, _, setting := strings.Cut(line.Text, ":")
		if strings.HasPrefix(line.Text, "[") && !strings.HasPrefix(line.Text, "[PENDING]") {
			break
		}
		if setting && c[key] != "" {
			lines[key] = line.Number
		}
	}
	return c, lines, problems
}

// settings are the main section of a configuration.
func settings(file *guestfile.Config) cmdline.Config {
	c := cmdline.Config{}
	for _, key := range file.Main.Keys() {
		c[key] = file.Main.Get(key)
	}
	return c
}

// merged is a configuration with its pending changes in effect.
func merged(file *guestfile.Config) *guestfile.Config {
	out := file.Clone()
	for key := range file.Pending.Deletions() {
		out.Main.Delete(key)
	}
	for _, key := range file.Pending.Keys() {
		if key != "delete" {
			out.Main.Set(key, file.Pending.Get(key))
		}
	}
	out.Pending = guestfile.NewSection()
	return out
}

// settle writes the pending changes of a VM that starts into its file: they are
// in effect from now on.
func (a *Agent) settle(d Desired) error {
	file, _ := guestfile.Parse(layout.QEMU, d.VMID, string(d.Text))
	if file.Pending.Len() == 0 || d.keep {
		return nil
	}
	path := filepath.Join(a.Tree, a.confPath(d.VMID))
	return os.WriteFile(path, []byte(guestfile.Update(string(d.Text), merged(file))), 0o640)
}

// at puts file and line of a key before an error about it.
func (a *Agent) at(d Desired, err error) error {
	var about *cmdline.KeyError
	if errors.As(err, &about) && d.Lines[about.Key] > 0 {
		return fmt.Errorf("%s:%d: %w", a.confPath(d.VMID), d.Lines[about.Key], err)
	}
	return fmt.Errorf("vm %d: %w", d.VMID, err)
}

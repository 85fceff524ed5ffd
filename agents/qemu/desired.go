package qemu

import (
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"etcpve/agents/qemu/cmdline"
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
	Mark   string // changes with every write to either file
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
	d.Config, d.Lines, err = readConfig(string(d.Text))
	if err != nil {
		return d, fmt.Errorf("%s:%w", a.confPath(vmid), err)
	}
	power := filepath.Join(a.Tree, layout.PowerDir, key)
	if d.Power, err = a.readPower(power, vmid); err != nil {
		return d, err
	}
	d.Mark = mark(path, power, d.Text)
	return d, nil
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
	if !a.booted.Load() && a.stale(path) {
		return Unsaid, nil
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

// mark tells one write of the two files from the next.
func mark(conf, power string, text []byte) string {
	var when [2]time.Time
	for i, path := range []string{conf, power} {
		if info, err := os.Stat(path); err == nil {
			when[i] = info.ModTime()
		}
	}
	return fmt.Sprintf("%x %d %d", sha1.Sum(text), when[0].UnixNano(), when[1].UnixNano())
}

var (
	sectionLine = regexp.MustCompile(`^\[([^\]]+)\]\s*$`)
	settingLine = regexp.MustCompile(`^([a-z][a-z0-9_-]*):\s*(.*?)\s*$`)
)

// readConfig returns the running part of a configuration and the line of each
// of its keys.
func readConfig(content string) (cmdline.Config, map[string]int, error) {
	config, lines := cmdline.Config{}, map[string]int{}
	for _, line := range text.Lines(content) {
		body := strings.TrimSpace(line.Text)
		if sectionLine.MatchString(body) {
			break // what waits, and snapshots
		}
		if body == "" || body[0] == '#' {
			continue
		}
		parts := settingLine.FindStringSubmatch(body)
		if parts == nil {
			return nil, nil, &text.Error{Line: line.Number, Message: fmt.Sprintf("not a setting: %q", body)}
		}
		key := parts[1]
		if key == "cdrom" {
			key = "ide2"
		}
		if _, twice := config[key]; !twice {
			config[key], lines[key] = parts[2], line.Number
		}
	}
	return config, lines, nil
}

// at puts file and line of a key before an error about it.
func (a *Agent) at(d Desired, err error) error {
	var about *cmdline.KeyError
	if errors.As(err, &about) && d.Lines[about.Key] > 0 {
		return fmt.Errorf("%s:%d: %w", a.confPath(d.VMID), d.Lines[about.Key], err)
	}
	return fmt.Errorf("vm %d: %w", d.VMID, err)
}

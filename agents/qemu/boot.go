package qemu

import (
	"bytes"
	"cmp"
	"context"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"etcpve/agents/qemu/cmdline"
	"etcpve/cfs/format/section"
	"etcpve/cfs/layout"
)

// bootRetry is how long to wait before power files are written again that
// could not be, as without quorum.
const bootRetry = 2 * time.Second

func (a *Agent) bootFile() string { return filepath.Join(a.RunDir, "boot-id") }

// stale reports whether a power file speaks of the time before the node was
// booted: it is older than the kernel's start, or, where the run directory
// remembers another boot, older than this agent.
func (a *Agent) stale(path string) bool {
	since := kernelStart()
	if content, err := os.ReadFile(a.bootFile()); err == nil && strings.TrimSpace(string(content)) != a.BootID {
		since = a.began
	}
	info, err := os.Stat(path)
	return err == nil && info.ModTime().Before(since)
}

// kernelStart is when the node was booted.
func kernelStart() time.Time {
	content, err := os.ReadFile("/proc/stat")
	if err != nil {
		return time.Time{}
	}
	_, rest, _ := bytes.Cut(content, []byte("\nbtime "))
	digits, _, _ := bytes.Cut(rest, []byte("\n"))
	seconds, err := strconv.ParseInt(string(digits), 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.Unix(seconds, 0)
}

// A starter is a VM with its place in the order of start-up.
type starter struct {
	vmid   uint32
	order  int
	wait   time.Duration // after its start, before the next one's
	onboot bool
}

// startAfterBoot writes the power files as a boot of the node leaves them:
// guests with onboot run, in the order of their startup key, all others are
// stopped. It tries again until it could, and does nothing on the second start
// of an agent in one boot.
func (a *Agent) startAfterBoot(ctx context.Context) {
	for !a.bootDone() {
		err := a.writePowers(ctx)
		if err == nil {
			err = os.WriteFile(a.bootFile(), []byte(a.BootID+"\n"), 0o600)
		}
		if err == nil {
			break
		}
		a.Log.Warn("guests of the boot not started yet", "err", err)
		select {
		case <-time.After(bootRetry):
		case <-ctx.Done():
			return
		}
	}
	a.booted.Store(true)
	starters, _ := a.starters() // a resync finds those that cannot be listed now
	for _, s := range starters {
		select {
		case a.events <- strconv.FormatUint(uint64(s.vmid), 10):
		case <-ctx.Done():
			return
		}
	}
}

// bootDone reports whether an agent did this for this boot already.
func (a *Agent) bootDone() bool {
	content, err := os.ReadFile(a.bootFile())
	return err == nil && strings.TrimSpace(string(content)) == a.BootID
}

func (a *Agent) writePowers(ctx context.Context) error {
	starters, err := a.starters()
	if err != nil || a.restorePower() {
		return err
	}
	for _, s := range starters {
		path := filepath.Join(a.Tree, layout.PowerDir, strconv.FormatUint(uint64(s.vmid), 10))
		content, err := os.ReadFile(path)
		switch {
		case err == nil && !a.stale(path):
			continue // somebody said what is wanted since the boot
		case err != nil && !s.onboot:
			continue
		}
		want := Stopped
		if s.onboot {
			want = Running
		}
		if err == nil && want == Stopped && strings.TrimSpace(string(content)) == string(Stopped) {
			continue
		}
		if err := a.writePower(s.vmid, want); err != nil {
			return err
		}
		if s.onboot {
			a.Log.Info("guest started after boot", "vmid", s.vmid)
			select {
			case <-time.After(s.wait):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

// starters are the VMs of this node in the order of start-up: those with an
// order first, each group by VMID. Those that the HA manager looks after are
// left to it.
func (a *Agent) starters() ([]starter, error) {
	entries, err := os.ReadDir(filepath.Join(a.Tree, a.confDir()))
	if err != nil {
		return nil, err
	}
	managed, err := a.managed()
	if err != nil {
		return nil, err
	}
	var all []starter
	for _, e := range entries {
		g, ok := layout.GuestOf(a.confDir() + "/" + e.Name())
		if !ok || managed[g.VMID] {
			continue
		}
		content, err := os.ReadFile(filepath.Join(a.Tree, g.Path()))
		if err != nil {
			return nil, err
		}
		config, _, _ := readConfig(g.VMID, string(content))
		all = append(all, starterOf(g.VMID, config))
	}
	slices.SortFunc(all, func(x, y starter) int {
		return cmp.Or(cmp.Compare(x.order, y.order), cmp.Compare(x.vmid, y.vmid))
	})
	return all, nil
}

func starterOf(vmid uint32, c cmdline.Config) starter {
	s := starter{vmid: vmid, order: math.MaxInt, onboot: c.Bool("onboot", false) && !c.Bool("template", false)}
	o, err := c.Options("startup", "order")
	if err != nil {
		return s
	}
	if n, err := strconv.Atoi(o["order"]); err == nil {
		s.order = n
	}
	if n, err := strconv.Atoi(o["up"]); err == nil && n > 0 {
		s.wait = time.Duration(n) * time.Second
	}
	return s
}

// managed are the VMs in ha/resources.cfg.
func (a *Agent) managed() (map[uint32]bool, error) {
	content, err := os.ReadFile(filepath.Join(a.Tree, "ha/resources.cfg"))
	if err != nil && !missing(err) {
		return nil, err
	}
	managed := map[uint32]bool{}
	for _, s := range section.ParseDocument(string(content), "").Sections {
		if vmid, ok := layout.ParseVMID(s.ID); ok && s.Type == "vm" {
			managed[vmid] = true
		}
	}
	return managed, nil
}

// restorePower reports whether the cluster wants guests back as they were.
func (a *Agent) restorePower() bool {
	content, err := os.ReadFile(filepath.Join(a.Tree, "datacenter.cfg"))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(content)) {
		if key, value, ok := strings.Cut(line, ":"); ok && key == "restore-power" {
			return cmdline.Config{key: strings.TrimSpace(value)}.Bool(key, false)
		}
	}
	return false
}

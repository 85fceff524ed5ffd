package migrate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"etcpve/agents/qemu"
	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/monitor"
	"etcpve/agents/qemu/verbs/blockjob"
	config "etcpve/cfs/format/guest"
	"etcpve/cfs/layout"
)

// The endings of the sockets in the run directory that this agent listens on, for
// QEMU to reach the other node.
const (
	extMemoryOut = "migrate-out"
	extDisksOut  = "nbd-out"
)

// poll is how often QEMU is asked how far it is.
const poll = 50 * time.Millisecond

// A progress is how far QEMU is with the state.
type progress struct {
	Status string
	Error  string `json:"error-desc"`
	RAM    struct {
		Transferred int64
		Remaining   int64
		Total       int64
		Rounds      int `json:"dirty-sync-count"`
	} `json:"ram"`
}

// talk runs one QMP command.
func (j job) talk(ctx context.Context, command string, args map[string]any, result any) error {
	return j.Command(ctx, j.vmid, command, args, result)
}

// live moves a VM while it runs. When it returns, the guest stands still here and
// waits there, the same in memory and on disk.
func (m *move) live(ctx context.Context) error {
	status, err := m.Status(ctx, m.vmid)
	if err != nil {
		return err
	}
	if status != "running" && status != "paused" {
		return fmt.Errorf("VM is %s", status)
	}
	if err := m.keep(keyRan, map[bool]string{true: "1", false: "0"}[status == "running"]); err != nil {
		return err
	}
	disks, err := m.blanks(ctx)
	if err != nil {
		return err
	}
	if err := m.wake(ctx, disks); err != nil {
		return err
	}
	relays, end := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer end()
	for ext, ask := range map[string]string{extMemoryOut: askMemory, extDisksOut: askDisk} {
		if err := m.relay(relays, &running, ext, ask); err != nil {
			return err
		}
	}
	if err := m.mirror(ctx, disks); err != nil {
		return err
	}
	if err := m.sendState(ctx); err != nil {
		return err
	}
	_, err = m.remote.ask(ctx, request{Ask: askReady})
	return err
}

// blanks lets the other node make volumes for what QEMU has open, and returns
// the drives that have to be filled.
func (m *move) blanks(ctx context.Context) (disks []string, err error) {
	for _, c := range m.cargo {
		if !c.open {
			continue
		}
		q, err := m.describe(ctx, askBlank, c)
		if err != nil {
			return nil, fmt.Errorf("volume '%s': %w", c.volume, err)
		}
		a, err := m.remote.ask(ctx, q)
		if err != nil {
			return nil, fmt.Errorf("volume '%s': %w", c.volume, err)
		}
		m.moved[c.volume] = a.Volume
		if !c.state { // that of a TPM travels with the memory
			disks = append(disks, c.key)
		}
	}
	slices.Sort(disks)
	return disks, nil
}

// wake starts a QEMU on the other node that has the hardware of this one.
func (m *move) wake(ctx context.Context, disks []string) error {
	effect := cmdline.Config{}
	for key, value := range m.effect {
		effect[key] = value
		if !config.IsVolume(layout.QEMU, key) {
			continue
		}
		v, err := config.ParseVolume(layout.QEMU, key, value)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		if to := m.moved[v.Volume]; to != "" && to != v.Volume {
			v.Volume = to
			delete(v.Options, "format")
			effect[key] = v.String()
		}
	}
	m.log.Printf("starting VM %d on node '%s'", m.vmid, m.target)
	_, err := m.remote.ask(ctx, request{Ask: askStart, Disks: disks, Arrival: qemu.Arrival{
		Config: effect, On: m.hardware, Accel: m.accel,
	}})
	return err
}

// relay takes connections of QEMU and joins each with one to the other node.
func (m *move) relay(ctx context.Context, running *sync.WaitGroup, ext, ask string) error {
	path := m.socket(ext)
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	running.Go(func() {
		defer l.Close()
		stop := context.AfterFunc(ctx, func() { l.Close() })
		defer stop()
		for {
			local, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer local.Close()
				defer context.AfterFunc(ctx, func() { local.Close() })()
				c, err := m.remote.open(ctx, request{Ask: ask})
				if err == nil {
					err = c.Join(local)
					c.Close()
				}
				if err != nil && ctx.Err() == nil {
					m.log.Printf("%s: %s", ask, err)
				}
			})
		}
	})
	return nil
}

// copyJob names the block job, and the node it writes to, of a drive.
func copyJob(key string) string { return jobPrefix + key }

const jobPrefix = "migrate-"

// mirror lets QEMU copy drives to the other node, and returns when all writes go
// to both.
func (m *move) mirror(ctx context.Context, disks []string) error {
	if len(disks) == 0 {
		return nil
	}
	err := m.QMP(ctx, m.vmid, func(q *monitor.Monitor) error {
		for _, key := range disks {
			if err := m.mirrorOne(ctx, q, key); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	m.log.Printf("copying disks to node '%s': %s", m.target, strings.Join(disks, ", "))
	return m.awaitCopies(ctx, "ready")
}

func (m *move) mirrorOne(ctx context.Context, q *monitor.Monitor, key string) error {
	err := q.Run(ctx, "blockdev-add", map[string]any{
		"driver": "nbd", "node-name": copyJob(key), "export": key, "discard": "unmap",
		"server": map[string]any{"type": "unix", "path": m.socket(extDisksOut)},
	}, nil)
	if err != nil {
		return err
	}
	return q.Run(ctx, "blockdev-mirror", map[string]any{
		"job-id": copyJob(key), "device": cmdline.NodeName(key), "target": copyJob(key), "sync": "full", "speed": m.limit, "auto-dismiss": false,
	}, nil)
}

// copies are the block jobs that copy drives to another node.
func (j job) copies() blockjob.Set { return blockjob.Set{Prefix: jobPrefix, Talk: j.talk} }

// awaitCopies waits until all copies have come to a status.
func (m *move) awaitCopies(ctx context.Context, status string) error {
	all := m.copies()
	done := func(p blockjob.Progress) (bool, error) {
		switch {
		case p.Error != "":
			return false, fmt.Errorf("%s: %s", all.Name(p), p.Error)
		case p.Status == "concluded" && status == "ready":
			return false, fmt.Errorf("%s: the copy has ended", all.Name(p))
		}
		return p.Status == status, nil
	}
	return all.Await(ctx, done, func(name, progress string) { m.log.Printf("%s: %s", name, progress) })
}

// finishCopies ends copies that are the same as their source, and lets go of what
// they wrote to.
func (m *move) finishCopies(ctx context.Context) error {
	all, err := m.copies().List(ctx)
	if err != nil {
		return err
	}
	for _, b := range all {
		// Without force, it ends when the last write has come to the copy.
		if err := m.talk(ctx, "block-job-cancel", map[string]any{"device": b.ID}, nil); err != nil {
			return err
		}
	}
	if err := m.awaitCopies(ctx, "concluded"); err != nil {
		return err
	}
	return m.endCopies(ctx)
}

// endCopies ends all copies as they are.
func (j job) endCopies(ctx context.Context) error {
	all := j.copies()
	if err := all.Cancel(ctx); err != nil {
		return err
	}
	refusals, err := all.Close(ctx)
	return errors.Join(append(refusals, err)...)
}

// downtime is how long a guest may stand still, in milliseconds, where
// migrate_downtime does not say.
const downtime = 100

// maxDowntime is where raising it ends, in milliseconds.
const maxDowntime = 60_000

// roundsEach is how often memory that has changed is sent again before the guest
// may stand still for twice as long.
const roundsEach = 4

// emulated is what runs a guest without KVM. Such guests crashed, rarely, after they
// had run on while QEMU 7.2 sent their memory, so they stand still for that; their
// disks are copied while they run, as those of any other.
const emulated = "tcg"

// sendState sends memory and devices. Its last part is sent when the copies of
// disks are the same.
func (m *move) sendState(ctx context.Context) error {
	if err := m.settings(ctx, true); err != nil {
		return err
	}
	still := int64(downtime)
	if seconds, err := strconv.ParseFloat(m.config.Main.Get("migrate_downtime"), 64); err == nil {
		still = int64(seconds * 1000)
	}
	speed := m.limit
	if n, err := strconv.ParseInt(m.config.Main.Get("migrate_speed"), 10, 64); err == nil && n > 0 && (speed == 0 || n<<20 < speed) {
		speed = n << 20
	}
	if speed == 0 {
		speed = 1 << 50
	}
	if err := m.talk(ctx, "migrate-set-parameters", map[string]any{"max-bandwidth": speed, "downtime-limit": still}, nil); err != nil {
		return err
	}
	if m.accel == emulated {
		if err := m.talk(ctx, "stop", nil, nil); err != nil {
			return err
		}
	}
	if err := m.talk(ctx, "migrate", map[string]any{"uri": "unix:" + m.socket(extMemoryOut)}, nil); err != nil {
		return err
	}
	if err := m.awaitState(ctx, "pre-switchover", still); err != nil {
		return err
	}
	if err := m.finishCopies(ctx); err != nil {
		return err
	}
	if err := m.talk(ctx, "migrate-continue", map[string]any{"state": "pre-switchover"}, nil); err != nil {
		return err
	}
	return m.awaitState(ctx, "completed", still)
}

// settings make QEMU stop before the last part, and slow a guest down that changes
// memory too fast, or no longer.
func (j job) settings(ctx context.Context, on bool) error {
	return j.talk(ctx, "migrate-set-capabilities", map[string]any{"capabilities": []map[string]any{
		{"capability": "pause-before-switchover", "state": on},
		{"capability": "auto-converge", "state": on},
	}}, nil)
}

// awaitState waits until the sending of the state has come to a status. A guest
// that changes its memory faster than it is sent may stand still longer.
func (m *move) awaitState(ctx context.Context, wanted string, still int64) error {
	const report = 5 * time.Second
	rounds, said := roundsEach, time.Now()
	for {
		var p progress
		if err := m.talk(ctx, "query-migrate", nil, &p); err != nil {
			return err
		}
		switch {
		case p.Status == wanted:
			m.log.Printf("state: %s, %d of %d bytes sent", p.Status, p.RAM.Transferred, p.RAM.Total)
			return nil
		case p.Status == "failed" || p.Status == "cancelled" || p.Status == "cancelling":
			return fmt.Errorf("state not sent: %s %s", p.Status, p.Error)
		case p.Status == "active" && p.RAM.Rounds > rounds && still < maxDowntime:
			rounds, still = p.RAM.Rounds+roundsEach, still*2
			m.log.Printf("memory changes faster than it is sent: the guest may stand still for %d ms", still)
			if err := m.talk(ctx, "migrate-set-parameters", map[string]any{"downtime-limit": min(still, maxDowntime)}, nil); err != nil {
				return err
			}
		case time.Since(said) > report:
			said = time.Now()
			m.log.Printf("state: %s, %d bytes left of %d", p.Status, p.RAM.Remaining, p.RAM.Total)
		}
		select {
		case <-time.After(poll):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

package qemu

import (
	"context"
	"strconv"
	"sync"
	"time"

	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/monitor"
)

// commandTimeout is how long a QEMU may take to answer; one that takes longer
// counts as unresponsive.
const commandTimeout = 5 * time.Second

// A guest is the connection to one running VM and what it told.
type guest struct {
	agent *Agent
	vmid  uint32

	mu      sync.Mutex // guards the fields below
	mon     *monitor.Monitor
	asked   map[string]time.Time // when the guest was asked to give a device up
	ended   string               // why QEMU said that it would end
	dialing sync.Mutex           // one connection at a time; taken before mu
}

func (a *Agent) guest(vmid uint32) *guest {
	a.mu.Lock()
	defer a.mu.Unlock()
	g := a.guests[vmid]
	if g == nil {
		g = &guest{agent: a, vmid: vmid, asked: map[string]time.Time{}}
		a.guests[vmid] = g
	}
	return g
}

// drop lets go of a VM that has ended.
func (a *Agent) drop(vmid uint32) {
	a.mu.Lock()
	g := a.guests[vmid]
	delete(a.guests, vmid)
	a.mu.Unlock()
	if g != nil {
		g.disconnect()
	}
}

// lastWords tells why a QEMU that is gone said that it would end.
func (a *Agent) lastWords(vmid uint32) string {
	g := a.guest(vmid)
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.ended
}

// connect returns the connection to the VM, making it first if need be. The
// agent has a socket of its own, so that the other one is free for tools.
func (g *guest) connect(ctx context.Context) (*monitor.Monitor, error) {
	g.dialing.Lock()
	defer g.dialing.Unlock()
	if m := g.monitor(); m != nil {
		return m, nil
	}
	m, err := monitor.Dial(ctx, cmdline.RunFile(g.agent.RunDir, g.vmid, "qmp-event"))
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	g.mon = m
	g.mu.Unlock()
	g.agent.wg.Go(func() { g.listen(m) })
	return m, nil
}

func (g *guest) monitor() *monitor.Monitor {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mon == nil {
		return nil
	}
	select {
	case <-g.mon.Done():
		return nil
	default:
		return g.mon
	}
}

func (g *guest) disconnect() {
	g.dialing.Lock()
	defer g.dialing.Unlock()
	if m := g.monitor(); m != nil {
		m.Close()
	}
}

// telling are the events after which a VM is looked at anew.
var telling = map[string]bool{
	"SHUTDOWN": true, "STOP": true, "RESUME": true, "RESET": true, "DEVICE_DELETED": true, "DEVICE_TRAY_MOVED": true,
	"BLOCK_IO_ERROR": true, "GUEST_PANICKED": true, "SUSPEND": true, "WAKEUP": true, "BALLOON_CHANGE": false,
}

// listen turns events into keys until the connection ends, which is one more.
func (g *guest) listen(m *monitor.Monitor) {
	for e := range m.Events() {
		g.note(e)
		if telling[e.Event] {
			g.wake()
		}
	}
	g.wake()
}

// wake asks for a run. When nobody listens, the next resync sees to it.
func (g *guest) wake() {
	select {
	case g.agent.events <- strconv.FormatUint(uint64(g.vmid), 10):
	case <-time.After(time.Second):
	}
}

func (g *guest) note(e monitor.Event) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch e.Event {
	case "SHUTDOWN":
		reason, _ := e.Data["reason"].(string)
		if guest, _ := e.Data["guest"].(bool); !guest {
			g.ended = reason
		}
	case "RESET":
		clear(g.asked) // what it was asked for before is forgotten
	case "DEVICE_DELETED":
		id, _ := e.Data["device"].(string)
		delete(g.asked, id)
	}
	g.agent.Log.Debug("QEMU event", "vmid", g.vmid, "event", e.Event, "data", e.Data)
}

func (g *guest) release(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked[id] = time.Now()
}

// askAgain is after how long a guest is asked for a device once more: it may
// have booted a system since that listens.
const askAgain = 2 * time.Minute

func (g *guest) releasing() map[string]bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	asked := map[string]bool{}
	for id, when := range g.asked {
		if time.Since(when) < askAgain {
			asked[id] = true
		}
	}
	return asked
}

package qm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/monitor"
	"etcpve/agents/tools/cli"
	"etcpve/agents/tools/qm/console"
	"etcpve/cfs/format/schema"
)

func (p Place) consoles() []cli.Command {
	return []cli.Command{
		{Words: "monitor", Summary: "Enter the QEMU monitor of a VM: each line is a command.", Run: p.monitor, Args: vmid()},
		{Words: "sendkey", Summary: "Press keys in a VM, such as ctrl-alt-delete.", Run: p.sendKey,
			Args: and(cli.Param{Name: "key", Rule: about(schema.Text().Must(), "The keys, in QEMU's names.")}), Options: schema.Keys{"skiplock": skipLock()}},
		{Words: "terminal", Summary: "Connect to a serial port of a VM. Ctrl+O leaves it.", Run: p.terminal, Args: vmid(), Options: schema.Keys{
			"iface":  about(schema.Choice("serial0", "serial1", "serial2", "serial3"), "The port; default the first."),
			"escape": about(schema.Text(), "The character that leaves, such as ^O."),
		}},
		{Words: "vncproxy", Summary: "Pass VNC between standard input and output and a VM. The password is taken from LC_PVE_TICKET.", Run: p.vncProxy, Args: vmid()},
		{Words: "nbdstop", Summary: "Stop the NBD server of a VM.", Run: p.nbdStop, Args: vmid()},
	}
}

// qmp holds a conversation with the QEMU of a VM that runs.
func (p Place) qmp(ctx context.Context, vmid uint32, talk func(*monitor.Monitor) error) error {
	if _, err := p.load(vmid); err != nil {
		return err
	}
	if !p.observe(ctx, vmid).runs() {
		return fmt.Errorf("VM %d not running", vmid)
	}
	m, err := monitor.Dial(ctx, cmdline.RunFile(p.RunDir, vmid, "qmp"))
	if err != nil {
		return err
	}
	defer m.Close()
	return talk(m)
}

func (p Place) hmp(ctx context.Context, vmid uint32, line string) (said string, err error) {
	err = p.qmp(ctx, vmid, func(m *monitor.Monitor) error {
		return m.Run(ctx, "human-monitor-command", map[string]any{"command-line": line}, &said)
	})
	return strings.ReplaceAll(said, "\r\n", "\n"), err
}

var quit = regexp.MustCompile(`^\s*q(?:uit)?\s*$`)

// monitor passes lines to QEMU until quit or the end of input. The monitor is
// not held between two lines.
func (p Place) monitor(ctx context.Context, c *cli.Call) error {
	vmid := vmidOf(c)
	if _, err := p.hmp(ctx, vmid, "info status"); err != nil {
		return err
	}
	fmt.Fprintf(c.Out, "Entering QEMU Monitor for VM %d - type 'help' for help\nqm> ", vmid)
	if c.In == nil {
		return nil
	}
	in := bufio.NewScanner(c.In)
	for in.Scan() && !quit.MatchString(in.Text()) {
		if strings.TrimSpace(in.Text()) != "" {
			said, err := p.hmp(ctx, vmid, in.Text())
			if err != nil {
				fmt.Fprintf(c.Out, "ERROR: %s\n", err)
			}
			fmt.Fprint(c.Out, said)
		}
		fmt.Fprint(c.Out, "qm> ")
	}
	return in.Err()
}

var keyNames = regexp.MustCompile(`^[a-zA-Z0-9_]+(?:-[a-zA-Z0-9_]+)*$`)

func (p Place) sendKey(ctx context.Context, c *cli.Call) error {
	v, err := p.load(vmidOf(c))
	if err != nil {
		return err
	}
	if err := v.locked(c); err != nil {
		return err
	}
	if !keyNames.MatchString(c.Value("key")) {
		return fmt.Errorf("key: '%s' is not one or several names joined by '-'", c.Value("key"))
	}
	said, err := p.hmp(ctx, v.VMID, "sendkey "+c.Value("key"))
	if err == nil && strings.TrimSpace(said) != "" {
		err = errors.New(strings.TrimSpace(said))
	}
	return err
}

func (p Place) nbdStop(ctx context.Context, c *cli.Call) error {
	return p.qmp(ctx, vmidOf(c), func(m *monitor.Monitor) error { return m.Run(ctx, "nbd-server-stop", nil, nil) })
}

// terminal connects standard input and output with a serial port.
func (p Place) terminal(ctx context.Context, c *cli.Call) error {
	v, err := p.load(vmidOf(c))
	if err != nil {
		return err
	}
	port := c.Value("iface")
	for _, key := range []string{"serial0", "serial1", "serial2", "serial3"} {
		if port == "" && v.Main.Get(key) == "socket" {
			port = key
		}
	}
	if port == "" {
		return errors.New("unable to find a serial interface")
	}
	if v.Main.Get(port) != "socket" {
		return fmt.Errorf("serial interface '%s' is not configured", port)
	}
	if !p.observe(ctx, v.VMID).runs() {
		return fmt.Errorf("VM %d not running", v.VMID)
	}
	escape, name, err := console.Escape(c.Value("escape"))
	if err != nil {
		return err
	}
	fmt.Fprintf(c.Out, "starting serial terminal on interface %s (press %s to exit)\n", port, name)
	return console.Connect(ctx, c, cmdline.RunFile(p.RunDir, v.VMID, port), escape)
}

// vncProxy passes the VNC protocol on, after the password was set.
func (p Place) vncProxy(ctx context.Context, c *cli.Call) error {
	vmid := vmidOf(c)
	ticket := os.Getenv("LC_PVE_TICKET")
	if ticket == "" {
		return errors.New("missing VNC ticket in environment variable LC_PVE_TICKET")
	}
	err := p.qmp(ctx, vmid, func(m *monitor.Monitor) error {
		// VNC takes eight characters of it.
		err := m.Run(ctx, "set_password", map[string]any{"protocol": "vnc", "password": ticket}, nil)
		if err != nil {
			return err
		}
		return m.Run(ctx, "expire_password", map[string]any{"protocol": "vnc", "time": "+30"}, nil)
	})
	if err != nil {
		return err
	}
	return console.Connect(ctx, c, cmdline.RunFile(p.RunDir, vmid, "vnc"), 0)
}

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

func numbers(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// printItems writes the items of a JSON list or object, a line each.
func printItems[K any](b *strings.Builder, open, end, indent string, items []K, item func(K)) {
	if len(items) == 0 {
		b.WriteString(open + end)
		return
	}
	b.WriteString(open + "\n")
	for i, k := range items {
		b.WriteString(indent + "   ")
		item(k)
		if i < len(items)-1 {
			b.WriteString(",")
		}
		b.WriteString("\n")
	}
	b.WriteString(indent + end)
}

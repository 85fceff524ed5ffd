package qm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/monitor"
	"etcpve/agents/tools/cli"
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
	escape, name, err := escapeOf(c.Value("escape"))
	if err != nil {
		return err
	}
	fmt.Fprintf(c.Out, "starting serial terminal on interface %s (press %s to exit)\n", port, name)
	return p.connect(ctx, c, cmdline.RunFile(p.RunDir, v.VMID, port), escape)
}

// escapeOf reads a character such as ^O; the default is that.
func escapeOf(text string) (code byte, name string, err error) {
	if text == "" {
		text = "^O"
	}
	if len(text) != 2 || text[0] != '^' || text[1]&0x5f < 'A' || text[1]&0x5f > 'Z' {
		return 0, "", fmt.Errorf("escape: '%s' is not a control character such as ^O", text)
	}
	return text[1] & 0x1f, "Ctrl+" + strings.ToUpper(text[1:]), nil
}

// connect passes bytes both ways until one side ends or the escape comes.
func (p Place) connect(ctx context.Context, c *cli.Call, socket string, escape byte) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if f, ok := c.In.(*os.File); ok && escape != 0 {
		defer rawInput(f)()
	}
	done := make(chan error, 2)
	go func() {
		_, err := io.Copy(c.Out, conn)
		done <- err
	}()
	if c.In != nil {
		go func() { done <- pass(conn, c.In, escape) }()
	}
	err = <-done
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// pass copies input up to the escape character.
func pass(to io.Writer, from io.Reader, escape byte) error {
	buffer := make([]byte, 4096)
	for {
		n, err := from.Read(buffer)
		part := buffer[:n]
		end := -1
		if escape != 0 {
			end = slices.Index(part, escape)
		}
		if end >= 0 {
			part = part[:end]
		}
		if _, e := to.Write(part); e != nil {
			return e
		}
		switch {
		case end >= 0 || errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
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
	return p.connect(ctx, c, cmdline.RunFile(p.RunDir, vmid, "vnc"), 0)
}

// terminalMode changes the mode of a terminal and returns what puts it back; a
// file that is none is left alone.
func terminalMode(f *os.File, change func(*unix.Termios)) (restore func()) {
	before, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return func() {}
	}
	now := *before
	change(&now)
	if err := unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, &now); err != nil {
		return func() {}
	}
	return func() { _ = unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, before) } // the terminal may be gone
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

func rawInput(f *os.File) (restore func()) {
	return terminalMode(f, func(t *unix.Termios) {
		t.Iflag &^= unix.ICRNL | unix.IXON | unix.INLCR | unix.IGNCR | unix.ISTRIP
		t.Lflag &^= unix.ECHO | unix.ICANON | unix.ISIG | unix.IEXTEN
	})
}

func hideInput(f *os.File) (restore func()) {
	return terminalMode(f, func(t *unix.Termios) { t.Lflag &^= unix.ECHO })
}

// readLine reads one line and not a byte more.
func readLine(in io.Reader) (string, error) {
	var line []byte
	one := make([]byte, 1)
	for {
		n, err := in.Read(one)
		if n == 1 && one[0] == '\n' || errors.Is(err, io.EOF) {
			return string(line), nil
		}
		if err != nil {
			return "", err
		}
		line = append(line, one[:n]...)
	}
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

package qm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"etcpve/agents/qemu/agentchannel"
	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/tools/cli"
	"etcpve/agents/tools/qm/console"
	"etcpve/cfs/format/schema"
)

// agentCommands are those of the guest agent that take no arguments.
var agentCommands = []string{
	"fsfreeze-freeze", "fsfreeze-status", "fsfreeze-thaw", "fstrim", "get-fsinfo", "get-host-name", "get-memory-block-info", "get-memory-blocks",
	"get-osinfo", "get-time", "get-timezone", "get-users", "get-vcpus", "info", "network-get-interfaces", "ping", "shutdown",
	"suspend-disk", "suspend-hybrid", "suspend-ram",
}

func (p Place) guests() []cli.Command {
	return []cli.Command{
		{Words: "guest cmd", Summary: "Have the agent in the guest carry out a command, and show its answer.", Run: p.agentCommand,
			Args: and(cli.Param{Name: "command", Rule: about(schema.Choice(agentCommands...).Must(), "The command.")})},
		{Words: "guest exec", Summary: "Run a program in the guest, and show what came of it.", Run: p.agentExec,
			Args: and(cli.Param{Name: "extra-args", Rule: about(schema.Text(), "The program and its arguments."), Rest: true}), Options: schema.Keys{
				"synchronous": about(schema.Truth().Else(1), "Wait for its end."),
				"timeout":     about(schema.Integer().Min(0), "Seconds to wait; default 30, 0 for no end."),
				"pass-stdin":  about(schema.Truth().Else(0), "Pass standard input on, up to 1 MiB."),
			}},
		{Words: "guest exec-status", Summary: "Show what came of a program in the guest.", Run: p.agentExecStatus,
			Args: and(cli.Param{Name: "pid", Rule: about(schema.Integer().Must(), "Its number, as guest exec has shown it.")})},
		{Words: "guest passwd", Summary: "Set the password of a user in the guest, which is asked for.", Run: p.agentPassword, Prompt: []string{"password"},
			Args: and(cli.Param{Name: "username", Rule: about(schema.Text().Must(), "The user.")}), Options: schema.Keys{
				"crypted":  about(schema.Truth().Else(0), "The password is a hash already."),
				"password": about(password(), "The password; without it, the first line of standard input."),
			}},
	}
}

// agent begins a conversation with the agent in a guest.
func (p Place) agent(ctx context.Context, c *cli.Call) (*agentchannel.Channel, error) {
	v, err := p.load(vmidOf(c))
	if err != nil {
		return nil, err
	}
	if !p.observe(ctx, v.VMID).runs() {
		return nil, fmt.Errorf("VM %d is not running", v.VMID)
	}
	enabled := cmdline.Config{"agent": v.Main.Get("agent")}
	if o, err := enabled.Options("agent", "enabled"); err != nil || !o.Bool("enabled", false) {
		return nil, wording("No QEMU guest agent configured")
	}
	return agentchannel.Dial(ctx, cmdline.RunFile(p.RunDir, v.VMID, "qga"))
}

// show prints an answer: text as it is, anything else as JSON, nothing for
// nothing.
func show(out io.Writer, answer any) error {
	switch a := answer.(type) {
	case nil:
		return nil
	case string:
		if strings.TrimSpace(a) != "" {
			fmt.Fprintln(out, strings.TrimRight(a, "\n"))
		}
		return nil
	case map[string]any:
		if len(a) == 0 {
			return nil
		}
	case float64, bool:
		fmt.Fprintln(out, a)
		return nil
	}
	var b strings.Builder
	printJSON(&b, answer, "")
	fmt.Fprintln(out, b.String())
	return nil
}

func (p Place) agentCommand(ctx context.Context, c *cli.Call) error {
	a, err := p.agent(ctx, c)
	if err != nil {
		return err
	}
	defer a.Close()
	var answer any
	if err := a.Run(ctx, "guest-"+c.Value("command"), nil, &answer); err != nil {
		return err
	}
	return show(c.Out, answer)
}

// Limits of guest exec.
const (
	execTimeout = 30 * time.Second
	execPoll    = 200 * time.Millisecond
	maxStdin    = 1 << 20
)

func (p Place) agentExec(ctx context.Context, c *cli.Call) error {
	if len(c.Rest) == 0 {
		return errors.New("no command given")
	}
	var input []byte
	if c.Bool("pass-stdin") && c.In != nil {
		var err error
		if input, err = io.ReadAll(io.LimitReader(c.In, maxStdin+1)); err != nil {
			return err
		}
		if len(input) > maxStdin {
			return errors.New("standard input exceeds 1 MiB")
		}
	}
	a, err := p.agent(ctx, c)
	if err != nil {
		return err
	}
	defer a.Close()
	pid, err := a.Exec(ctx, c.Rest, input)
	if err != nil {
		return err
	}
	if c.Has("synchronous") && !c.Bool("synchronous") {
		return show(c.Out, map[string]any{"pid": pid})
	}
	return p.awaitProgram(ctx, c, a, pid)
}

func (p Place) awaitProgram(ctx context.Context, c *cli.Call, a *agentchannel.Channel, pid int64) error {
	limit := timeout(c, execTimeout)
	for began := time.Now(); ; {
		r, err := a.ExecStatus(ctx, pid)
		if err != nil {
			return err
		}
		if r["exited"] == 1 {
			return show(c.Out, map[string]any(r))
		}
		if limit > 0 && time.Since(began) > limit {
			fmt.Fprintf(c.Err, "timeout reached, returning pid\n")
			return show(c.Out, map[string]any{"pid": pid})
		}
		select {
		case <-time.After(execPoll):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p Place) agentExecStatus(ctx context.Context, c *cli.Call) error {
	a, err := p.agent(ctx, c)
	if err != nil {
		return err
	}
	defer a.Close()
	pid, err := strconv.ParseInt(c.Value("pid"), 10, 64)
	if err != nil {
		return err
	}
	r, err := a.ExecStatus(ctx, pid)
	if err != nil {
		return err
	}
	return show(c.Out, map[string]any(r))
}

// password is the rule of a password in a guest.
func password() *schema.Property {
	shortest := 5
	rule := schema.Text().Long(1024).Must()
	rule.MinLength = &shortest
	return rule
}

func (p Place) agentPassword(ctx context.Context, c *cli.Call) error {
	word := c.Value("password")
	if word == "" {
		var err error
		if word, err = askPassword(c); err != nil {
			return err
		}
	}
	if err := password().Check(word); err != nil {
		return fmt.Errorf("password: %w", err)
	}
	a, err := p.agent(ctx, c)
	if err != nil {
		return err
	}
	defer a.Close()
	return a.Password(ctx, c.Value("username"), word, c.Bool("crypted"))
}

// askPassword reads a line; at a terminal without showing it, and twice.
func askPassword(c *cli.Call) (string, error) {
	if c.In == nil {
		return "", errors.New("no password given")
	}
	f, ok := c.In.(*os.File)
	if !ok || !console.IsTerminal(f) {
		return console.ReadLine(c.In)
	}
	defer console.HideInput(f)()
	var words [2]string
	for i, question := range []string{"Enter new password: ", "Retype new password: "} {
		fmt.Fprint(c.Err, question)
		word, err := console.ReadLine(f)
		if fmt.Fprintln(c.Err); err != nil {
			return "", err
		}
		words[i] = word
	}
	if words[0] != words[1] {
		return "", errors.New("passwords do not match")
	}
	return words[0], nil
}

// printJSON writes JSON as the tools of Proxmox VE do: keys in order, three
// blanks deeper each, a blank before the colon.
func printJSON(b *strings.Builder, value any, indent string) {
	const step = "   "
	switch v := value.(type) {
	case map[string]any:
		printItems(b, "{", "}", indent, sortedKeys(v), func(key string) {
			name, _ := json.Marshal(key) // a string
			b.WriteString(string(name) + " : ")
			printJSON(b, v[key], indent+step)
		})
	case []any:
		printItems(b, "[", "]", indent, numbers(len(v)), func(i int) { printJSON(b, v[i], indent+step) })
	default:
		text, err := json.Marshal(v)
		if err != nil {
			text = []byte("null")
		}
		b.Write(text)
	}
}

// Package iptables brings a firewall's rule set into the kernel through
// iptables, ip6tables, ebtables and ipset.
//
// It owns the chains, hooks and sets whose names are the firewall's, and the
// order in which they change: Observe reads what is there, Plan (pure) says what
// is to do, Apply does it. It never touches a chain, rule or set of anybody
// else, and never decides what a rule set contains.
package iptables

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/coreos/go-iptables/iptables"

	"etcpve/agents/firewall"
	"etcpve/agents/host"
)

// A tool speaks for one family.
type tool struct {
	name     string
	protocol iptables.Protocol
}

var tools = map[firewall.Family]tool{
	firewall.IPv4:   {"iptables", iptables.ProtocolIPv4},
	firewall.IPv6:   {"ip6tables", iptables.ProtocolIPv6},
	firewall.Bridge: {name: "ebtables"},
}

// A Runner runs commands on the machine.
type Runner interface {
	Run(ctx context.Context, c host.Command) ([]byte, error)
}

// A Driver talks to the kernel of one network namespace: its own.
type Driver struct {
	Runner Runner
	Legacy bool   // the tools' older half, which does not use nf_tables
	Sys    string // where the kernel's settings are; default /proc/sys
}

// Observe reads what the kernel holds of the firewall.
func (d *Driver) Observe(ctx context.Context) (State, error) {
	s := State{Tables: map[Key]Table{}, Settings: d.settings()}
	for _, family := range []firewall.Family{firewall.IPv4, firewall.IPv6, firewall.Bridge} {
		out, err := d.list(ctx, d.binary(family, "-save"))
		if err != nil {
			return State{}, err
		}
		maps.Copy(s.Tables, parseTables(family, out))
	}
	out, err := d.list(ctx, "ipset", "save")
	if err != nil {
		return State{}, err
	}
	s.Sets = parseSets(out)
	return s, nil
}

// Carry carries out a plan. Where an action fails, what relies on it is left
// out: all else if IP sets are missing, or the rest of that table. One family
// that cannot be had never keeps the rules of the others away.
func (d *Driver) Carry(ctx context.Context, plan []Action) error {
	var failures []error
	broken := map[Key]bool{}
	for _, a := range plan {
		table := Key{a.family, a.table}
		if broken[table] {
			continue
		}
		err := d.Apply(ctx, a)
		if err == nil {
			continue
		}
		failures = append(failures, fmt.Errorf("%s: %w", a, err))
		if a.kind == restoreSets {
			break
		}
		broken[table] = true
	}
	return errors.Join(failures...)
}

// Apply carries out one action of a plan.
func (d *Driver) Apply(ctx context.Context, a Action) error {
	switch a.kind {
	case writeSettings:
		return d.writeSettings(a.settings)
	case restoreSets:
		_, err := d.run(ctx, a.script, "ipset", "restore")
		return err
	case restoreTable:
		argv := []string{d.binary(a.family, "-restore"), "--noflush"}
		if a.family != firewall.Bridge {
			argv = append(argv, "--wait")
		}
		_, err := d.run(ctx, a.script, argv...)
		return err
	}
	return d.hook(ctx, a)
}

// hook leads one of the kernel's chains to one of the firewall's, before all
// other rules, or takes that back.
func (d *Driver) hook(ctx context.Context, a Action) error {
	if a.family == firewall.Bridge {
		verb := map[kind]string{insertHook: "-I", deleteHook: "-D"}[a.kind]
		_, err := d.run(ctx, "", "ebtables", verb, a.hook.From, "-j", a.hook.To)
		return err
	}
	ipt, err := iptables.New(iptables.IPFamily(tools[a.family].protocol), iptables.Path(d.binary(a.family, "")))
	if err != nil {
		return fmt.Errorf("%s: %w", a, err)
	}
	if a.kind == insertHook {
		err = ipt.InsertUnique(a.table, a.hook.From, 1, "-j", a.hook.To)
	} else {
		err = ipt.DeleteIfExists(a.table, a.hook.From, "-j", a.hook.To)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", a, err)
	}
	return nil
}

// binary returns the name of a family's tool, of which part is "-save",
// "-restore" or nothing. Layer 2 has no older half that could be shared with
// other users of the table.
func (d *Driver) binary(family firewall.Family, part string) string {
	if d.Legacy && family != firewall.Bridge {
		return tools[family].name + "-legacy" + part
	}
	return tools[family].name + part
}

// list runs a tool that prints what the kernel holds. What the machine has no
// tool for, nobody can have put there.
func (d *Driver) list(ctx context.Context, argv ...string) (string, error) {
	out, err := d.run(ctx, "", argv...)
	if errors.Is(err, exec.ErrNotFound) {
		return "", nil
	}
	return out, err
}

func (d *Driver) run(ctx context.Context, stdin string, argv ...string) (string, error) {
	out, err := d.Runner.Run(ctx, host.Command{Argv: argv, Stdin: []byte(stdin)})
	return string(out), err
}

// knownSettings are the settings that a rule set may ask for.
var knownSettings = []string{
	"net/bridge/bridge-nf-call-iptables",
	"net/bridge/bridge-nf-call-ip6tables",
	"net/netfilter/nf_conntrack_max",
	"net/netfilter/nf_conntrack_tcp_timeout_established",
	"net/netfilter/nf_conntrack_tcp_timeout_syn_recv",
}

// settings reads those that exist and can be written: some belong to the whole
// machine, and cannot from within a namespace.
func (d *Driver) settings() map[string]string {
	found := map[string]string{}
	for _, name := range knownSettings {
		path := filepath.Join(d.sys(), name)
		content, err := os.ReadFile(path)
		if info, e := os.Stat(path); err != nil || e != nil || info.Mode().Perm()&0o200 == 0 {
			continue
		}
		found[name] = strings.TrimSpace(string(content))
	}
	return found
}

func (d *Driver) writeSettings(list []firewall.Setting) (err error) {
	for _, s := range list {
		err = errors.Join(err, os.WriteFile(filepath.Join(d.sys(), s.Name), []byte(s.Value), 0o644))
	}
	return err
}

func (d *Driver) sys() string {
	if d.Sys == "" {
		return "/proc/sys"
	}
	return d.Sys
}

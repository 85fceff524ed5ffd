package hamanager

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"etcpve/agents/ha/files"
	"etcpve/agents/ha/rules"
	"etcpve/agents/tools/cli"
	"etcpve/cfs/format/schema"
	"etcpve/cfs/format/section"
)

// sid completes a VMID to a service id, and makes sure that the guest exists.
func (t tool) sid(c *cli.Call) (string, error) {
	homes, err := t.Homes()
	if err != nil {
		return "", err
	}
	given := c.Value("sid")
	for _, sid := range []string{given, "vm:" + given, "ct:" + given} {
		if homes[sid] != "" {
			return sid, nil
		}
	}
	return "", fmt.Errorf("service '%s': no such guest", given)
}

// vmid is the id of a service's section.
func vmid(sid string) string { return sid[strings.IndexByte(sid, ':')+1:] }

func (t tool) add(ctx context.Context, c *cli.Call) error {
	sid, err := t.sid(c)
	if err != nil {
		return err
	}
	kind, id, _ := strings.Cut(sid, ":")
	return t.Edit(ctx, files.Resources, func(d *section.Document) error {
		if err := d.Add(kind, id); err != nil {
			return fmt.Errorf("service '%s' is a resource already", sid)
		}
		return put(d, id, c)
	})
}

func (t tool) set(ctx context.Context, c *cli.Call) error {
	id := vmid(c.Value("sid"))
	return t.Edit(ctx, files.Resources, func(d *section.Document) error { return put(d, id, c) })
}

func (t tool) remove(ctx context.Context, c *cli.Call) error {
	id := vmid(c.Value("sid"))
	return t.Edit(ctx, files.Resources, func(d *section.Document) error { return d.Remove(id) })
}

// put writes the options of a call into a section.
func put(d *section.Document, id string, c *cli.Call) error {
	for _, key := range schema.SplitList(c.Value("delete")) {
		if err := d.Set(id, key); err != nil {
			return err
		}
	}
	for _, key := range c.Given {
		if key == "delete" {
			continue
		}
		if err := d.Set(id, key, c.Value(key)); err != nil {
			return err
		}
	}
	return nil
}

// order queues a command for the master, made of a verb and arguments.
func (t tool) order(verb string, args ...string) func(context.Context, *cli.Call) error {
	return func(ctx context.Context, c *cli.Call) error {
		words := []string{verb}
		for _, name := range args {
			value := c.Value(name)
			if name == "sid" {
				var err error
				if value, err = t.sid(c); err != nil {
					return err
				}
			}
			words = append(words, value)
		}
		return t.Queue(ctx, strings.Join(words, " "))
	}
}

func (t tool) addRule(ctx context.Context, c *cli.Call) error {
	id := c.Value("rule")
	return t.editRules(ctx, func(d *section.Document) error {
		if err := d.Add(c.Value("type"), id); err != nil {
			return err
		}
		return put(d, id, c)
	})
}

func (t tool) setRule(ctx context.Context, c *cli.Call) error {
	id := c.Value("rule")
	return t.editRules(ctx, func(d *section.Document) error {
		if s, found := d.Section(id); found && s.Type != c.Value("type") {
			return fmt.Errorf("rule '%s' is of type '%s'", id, s.Type)
		}
		return put(d, id, c)
	})
}

func (t tool) removeRule(ctx context.Context, c *cli.Call) error {
	return t.editRules(ctx, func(d *section.Document) error { return d.Remove(c.Value("rule")) })
}

// editRules edits the rules and refuses what makes them contradict each other.
func (t tool) editRules(ctx context.Context, edit func(*section.Document) error) error {
	nodes, err := t.Nodes()
	if err != nil {
		return err
	}
	return t.Edit(ctx, files.Rules, func(d *section.Document) error {
		before, err := findings(d, len(nodes))
		if err != nil {
			return err
		}
		if err := edit(d); err != nil {
			return err
		}
		after, err := findings(d, len(nodes))
		if err != nil {
			return err
		}
		for _, f := range after {
			if !slices.Contains(before, f) {
				return fmt.Errorf("rule '%s': %s", f.Rule, f.Reason)
			}
		}
		return nil
	})
}

func findings(d *section.Document, nodes int) ([]rules.Finding, error) {
	all, err := rules.Parse(d.String())
	if err != nil {
		return nil, err
	}
	found, _ := rules.Check(all, nodes)
	return found, nil
}

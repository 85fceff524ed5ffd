package hamanager

import (
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"etcpve/agents/ha/files"
	"etcpve/agents/ha/rules"
	"etcpve/agents/tools/cli"
	"etcpve/cfs/format"
	"etcpve/cfs/format/definitions"
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
	if asked := c.Value("type"); asked != "" && asked != kind {
		return fmt.Errorf("service '%s' is not of type '%s'", sid, asked)
	}
	return t.edit(ctx, files.Resources, func(d *section.Document) error {
		if err := d.Add(kind, id); err != nil {
			return fmt.Errorf("service '%s' is a resource already", sid)
		}
		return put(d, id, c)
	})
}

func (t tool) set(ctx context.Context, c *cli.Call) error {
	id := vmid(c.Value("sid"))
	return t.edit(ctx, files.Resources, func(d *section.Document) error { return put(d, id, c) })
}

func (t tool) remove(ctx context.Context, c *cli.Call) error {
	id := vmid(c.Value("sid"))
	var kind string
	err := t.edit(ctx, files.Resources, func(d *section.Document) error {
		if s, found := d.Section(id); found {
			kind = s.Type
		}
		return d.Remove(id)
	})
	if err != nil || c.Value("purge") != "" && !c.Bool("purge") {
		return err
	}
	return t.edit(ctx, files.Rules, func(d *section.Document) error { return purge(d, kind+":"+id) })
}

// purge takes a service out of all rules. Rules without any service are gone.
func purge(d *section.Document, sid string) error {
	for _, s := range slices.Clone(d.Sections) {
		i := slices.IndexFunc(s.Entries, func(e section.Entry) bool { return e.Key == "resources" })
		if i < 0 {
			continue
		}
		before := schema.SplitList(s.Entries[i].Value)
		after := slices.DeleteFunc(slices.Clone(before), func(other string) bool { return other == sid })
		var err error
		switch {
		case len(after) == len(before):
		case len(after) == 0:
			err = d.Remove(s.ID)
		default:
			err = d.Set(s.ID, "resources", strings.Join(after, ","))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (t tool) addGroup(ctx context.Context, c *cli.Call) error {
	id := c.Value("group")
	return t.edit(ctx, files.Groups, func(d *section.Document) error {
		if err := d.Add("group", id); err != nil {
			return err
		}
		return put(d, id, c)
	})
}

func (t tool) setGroup(ctx context.Context, c *cli.Call) error {
	return t.edit(ctx, files.Groups, func(d *section.Document) error { return put(d, c.Value("group"), c) })
}

func (t tool) removeGroup(ctx context.Context, c *cli.Call) error {
	id := c.Value("group")
	configured, err := t.configured(c)
	if err != nil {
		return err
	}
	for _, sid := range slices.Sorted(maps.Keys(configured)) {
		if configured[sid].Group == id {
			return fmt.Errorf("group '%s' is used by service '%s'", id, sid)
		}
	}
	return t.edit(ctx, files.Groups, func(d *section.Document) error { return d.Remove(id) })
}

// A judge says what is wrong with a file.
type judge func(d *section.Document) []string

// edit edits a file and refuses a change that makes something wrong that was not
// wrong before.
func (t tool) edit(ctx context.Context, name string, change func(*section.Document) error, judges ...judge) error {
	judges = append([]judge{mistakes(name)}, judges...)
	return t.Edit(ctx, name, func(d *section.Document) error {
		before := map[string]bool{}
		for _, j := range judges {
			for _, complaint := range j(d) {
				before[complaint] = true
			}
		}
		if err := change(d); err != nil {
			return err
		}
		for _, j := range judges {
			for _, complaint := range j(d) {
				if !before[complaint] {
					return errors.New(complaint)
				}
			}
		}
		return nil
	})
}

// mistakes are what a save of the file would be refused for, without their places.
func mistakes(name string) judge {
	return func(d *section.Document) (all []string) {
		refused, _ := format.Check(name, []byte(d.String()))
		for _, e := range refused {
			if e.Key != "" {
				e.Message = e.Key + ": " + e.Message
			}
			all = append(all, e.Message)
		}
		return all
	}
}

// aside are options that are no keys of a section.
var aside = map[string]bool{"delete": true, "digest": true, "type": true}

// put writes the options of a call into a section.
func put(d *section.Document, id string, c *cli.Call) error {
	if want := c.Value("digest"); want != "" && want != fmt.Sprintf("%x", sha1.Sum([]byte(d.String()))) {
		return errors.New("detected modified configuration - file changed by other user? Try again")
	}
	for _, key := range schema.SplitList(c.Value("delete")) {
		if err := d.Set(id, key); err != nil {
			return err
		}
	}
	for _, key := range c.Given {
		if aside[key] {
			continue
		}
		var values []string
		// A rule that has the key at all is switched off.
		if key != "disable" || c.Bool(key) {
			values = append(values, c.Value(key))
		}
		if err := d.Set(id, key, values...); err != nil {
			return err
		}
	}
	return nil
}

func (t tool) addRule(ctx context.Context, c *cli.Call) error {
	id := c.Value("rule")
	if err := ofKind(c); err != nil {
		return err
	}
	return t.editRules(ctx, func(d *section.Document) error {
		if err := d.Add(c.Value("type"), id); err != nil {
			return err
		}
		return put(d, id, c)
	})
}

func (t tool) setRule(ctx context.Context, c *cli.Call) error {
	id := c.Value("rule")
	if err := ofKind(c); err != nil {
		return err
	}
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
func (t tool) editRules(ctx context.Context, change func(*section.Document) error) error {
	nodes, err := t.Nodes()
	if err != nil {
		return err
	}
	return t.edit(ctx, files.Rules, change, func(d *section.Document) (all []string) {
		parsed, _ := rules.Parse(d.String()) // mistakes are refused already
		findings, _ := rules.Check(parsed, len(nodes))
		for _, f := range findings {
			all = append(all, fmt.Sprintf("rule '%s': %s", f.Rule, f.Reason))
		}
		return all
	})
}

// ofKind refuses options that rules of a kind don't have.
func ofKind(c *cli.Call) error {
	kind := c.Value("type")
	for _, key := range c.Given {
		if _, known := definitions.HARules.Property(kind, key); !known && !aside[key] {
			return fmt.Errorf("rules of type '%s' have no option '%s'", kind, key)
		}
	}
	return nil
}

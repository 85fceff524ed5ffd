package hamanager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"etcpve/agents/ha"
	"etcpve/agents/ha/files"
	"etcpve/agents/ha/rules"
	"etcpve/agents/tools/cli"
	"etcpve/cfs/format/schema"
	"etcpve/cfs/format/section"
)

// deadAfter is how old a status may be before its writer is taken for dead.
const deadAfter = 120 * time.Second

func (t tool) config(_ context.Context, c *cli.Call) error {
	return t.showSections(c, files.Resources, func(s section.Section) string {
		if only := c.Value("type"); only != "" && only != s.Type {
			return ""
		}
		return s.Type + ":" + s.ID
	})
}

// listRules prints what the rules say, with the given columns where that is a
// table, and warns of those that do not hold.
func (t tool) listRules(columns ...string) func(context.Context, *cli.Call) error {
	return func(_ context.Context, c *cli.Call) error {
		text, err := t.Read(files.Rules)
		if err != nil {
			return err
		}
		nodes, err := t.Nodes()
		if err != nil {
			return err
		}
		wrong := faults(text, len(nodes))
		kind, sid := c.Value("type"), c.Value("resource")
		var all []cli.Record
		for _, s := range section.ParseDocument(text, "").Sections {
			r := record(s)
			if kind != "" && s.Type != kind || sid != "" && !slices.Contains(schema.SplitList(fmt.Sprint(r["resources"])), sid) {
				continue
			}
			r["state"] = "in use"
			switch reasons := wrong[s.ID]; {
			case r["enabled"] == 0:
				r["state"] = "disabled"
			case reasons != nil:
				r["state"], r["errors"] = "ignored", reasons
				if _, err := fmt.Fprintf(c.Err, "warning: rule '%s' is ignored: %s\n", s.ID, strings.Join(reasons, "; ")); err != nil {
					return err
				}
			}
			all = append(all, r)
		}
		return c.Print(columns, all)
	}
}

// record is a rule as it is printed.
func record(s section.Section) cli.Record {
	r := cli.Record{"rule": s.ID, "type": s.Type, "enabled": 1}
	for _, e := range s.Entries {
		if e.Key == "disable" {
			r["enabled"] = 0
		}
		r[e.Key] = e.Value
	}
	return r
}

// faults are the reasons why rules do not hold, by rule.
func faults(text string, nodes int) map[string][]string {
	all, _ := rules.Parse(text)
	understood := map[string]bool{}
	for _, r := range all {
		understood[r.ID] = true
	}
	wrong := map[string][]string{}
	for _, s := range section.ParseDocument(text, "").Sections {
		if !understood[s.ID] {
			wrong[s.ID] = []string{"it is not understood"}
		}
	}
	findings, _ := rules.Check(all, nodes)
	for _, f := range findings {
		if !slices.Contains(wrong[f.Rule], f.Reason) {
			wrong[f.Rule] = append(wrong[f.Rule], f.Reason)
		}
	}
	return wrong
}

func (t tool) listGroups(_ context.Context, c *cli.Call) error {
	return t.showSections(c, files.Groups, func(s section.Section) string { return s.Type + ": " + s.ID })
}

// showSections prints the sections that get a title.
func (t tool) showSections(c *cli.Call, name string, title func(section.Section) string) error {
	text, err := t.Read(name)
	if err != nil {
		return err
	}
	for _, s := range section.ParseDocument(text, "").Sections {
		head := title(s)
		if head == "" {
			continue
		}
		var b strings.Builder
		fmt.Fprintln(&b, head)
		for _, e := range s.Entries {
			fmt.Fprintln(&b, strings.TrimRight("\t"+e.Key+" "+e.Value, " "))
		}
		if _, err := fmt.Fprintln(c.Out, b.String()); err != nil {
			return err
		}
	}
	return nil
}

// standing is everything the files say of HA.
type standing struct {
	manager ha.ManagerStatus
	nodes   []string // in order
	lrms    map[string]ha.LRMStatus
	quorum  string
}

func (t tool) standing(c *cli.Call) (s standing, err error) {
	if s.manager, err = t.Status(); err != nil {
		return s, err
	}
	if s.nodes, err = t.Nodes(); err != nil {
		return s, err
	}
	s.lrms, s.quorum = map[string]ha.LRMStatus{}, t.quorum()
	for _, node := range s.nodes {
		lrm, err := t.LRM(node)
		if err = warn(c, err); err != nil {
			return s, err
		}
		if lrm.State != "" {
			s.lrms[node] = lrm
		}
	}
	return s, nil
}

func (t tool) status(_ context.Context, c *cli.Call) error {
	s, err := t.standing(c)
	if err != nil {
		return err
	}
	configured, err := t.configured(c)
	if err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "quorum %s\n", s.quorum)
	if s.manager.Master != "" {
		fmt.Fprintf(&b, "master %s (%s)\n", s.manager.Master, age("active", s.manager.Timestamp))
	}
	if d := s.manager.Disarm; d != nil {
		fmt.Fprintf(&b, "fencing %s (%s)\n", d.State, d.Mode)
	}
	for _, node := range s.nodes {
		if lrm, found := s.lrms[node]; found {
			fmt.Fprintf(&b, "lrm %s (%s)\n", node, age(activity(lrm), lrm.Timestamp))
		}
	}
	for _, sid := range slices.Sorted(maps.Keys(configured)) {
		state, node := "queued", configured[sid].Node
		if s := s.manager.Services[sid]; s != nil {
			state, node = string(s.State), s.Node
		} else if configured[sid].Request == ha.WantIgnored {
			state = string(ha.WantIgnored)
		}
		fmt.Fprintf(&b, "service %s (%s, %s)\n", sid, node, state)
	}
	if c.Bool("verbose") {
		text, err := json.MarshalIndent(map[string]any{
			"lrm_status": s.lrms, "manager_status": s.manager, "quorum": map[string]string{"quorate": s.quorum},
		}, "", "   ")
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "full cluster state:\n%s\n", text)
	}
	_, err = io.WriteString(c.Out, b.String())
	return err
}

// configured are the configured resources. Mistakes in them are warnings.
func (t tool) configured(c *cli.Call) (map[string]ha.Resource, error) {
	all, err := t.Configured()
	return all, warn(c, err)
}

// warn prints mistakes and returns every other error.
func warn(c *cli.Call, err error) error {
	var mistakes files.Mistakes
	if !errors.As(err, &mistakes) {
		return err
	}
	for _, m := range mistakes {
		if _, err := fmt.Fprintln(c.Err, "warning: "+m); err != nil {
			return err
		}
	}
	return nil
}

// quorum says whether the cluster may decide.
func (t tool) quorum() string {
	switch m, err := t.Members(); {
	case err != nil:
		return "unknown: " + err.Error()
	case !m.Quorate:
		return "No quorum!"
	}
	return "OK"
}

// activity is one word for what an LRM does.
func activity(s ha.LRMStatus) string {
	switch {
	case s.Mode != ha.ModeActive:
		return string(s.Mode) + " mode"
	case s.State == ha.LRMWait:
		return "idle"
	}
	return string(s.State)
}

// age adds to a word when it was written, and replaces it if that is too long ago.
func age(word string, timestamp int64) string {
	at := time.Unix(timestamp, 0)
	if time.Since(at) > deadAfter {
		word = "old timestamp - dead?"
	}
	return word + ", " + at.Format(time.ANSIC)
}

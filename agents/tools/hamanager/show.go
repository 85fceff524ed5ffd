package hamanager

import (
	"bytes"
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

func (t tool) listRules(_ context.Context, c *cli.Call) error {
	kind, sid := c.Value("type"), c.Value("resource")
	return t.showSections(c, files.Rules, func(s section.Section) string {
		names := func(e section.Entry) bool {
			return e.Key == "resources" && slices.Contains(schema.SplitList(e.Value), sid)
		}
		if kind != "" && s.Type != kind || sid != "" && !slices.ContainsFunc(s.Entries, names) {
			return ""
		}
		return s.Type + ": " + s.ID
	})
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

func (t tool) status(_ context.Context, c *cli.Call) error {
	status, err := t.Status()
	if err != nil {
		return err
	}
	nodes, err := t.Nodes()
	if err != nil {
		return err
	}
	configured, err := t.configured(c)
	if err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "quorum %s\n", t.quorum())
	if status.Master != "" {
		fmt.Fprintf(&b, "master %s (%s)\n", status.Master, age("active", status.Timestamp))
	}
	if d := status.Disarm; d != nil {
		fmt.Fprintf(&b, "disarm %s (%s)\n", d.State, d.Mode)
	}
	for _, node := range nodes {
		lrm, err := t.LRM(node)
		if err = warn(c, err); err != nil {
			return err
		}
		if lrm.State != "" {
			fmt.Fprintf(&b, "lrm %s (%s)\n", node, age(activity(lrm), lrm.Timestamp))
		}
	}
	for _, sid := range slices.Sorted(maps.Keys(configured)) {
		state, node := "queued", configured[sid].Node
		if s := status.Services[sid]; s != nil {
			state, node = string(s.State), s.Node
		} else if configured[sid].Request == ha.WantIgnored {
			state = string(ha.WantIgnored)
		}
		fmt.Fprintf(&b, "service %s (%s, %s)\n", sid, node, state)
	}
	if c.Bool("verbose") {
		if err := t.files(&b, append([]string{files.Status}, statusFiles(nodes)...)); err != nil {
			return err
		}
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

func statusFiles(nodes []string) (names []string) {
	for _, node := range nodes {
		names = append(names, files.LRMStatus(node))
	}
	return names
}

// files adds the content of status files, indented.
func (t tool) files(b *strings.Builder, names []string) error {
	for _, name := range names {
		text, err := t.Read(name)
		if err != nil {
			return err
		}
		var pretty bytes.Buffer
		if json.Indent(&pretty, []byte(text), "", "  ") == nil {
			fmt.Fprintf(b, "\n%s:\n%s\n", name, strings.TrimSpace(pretty.String()))
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

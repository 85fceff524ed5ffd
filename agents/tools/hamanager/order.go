package hamanager

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"etcpve/agents/ha/files"
	"etcpve/agents/ha/rules"
	"etcpve/agents/tools/cli"
)

// order queues a command for the master, made of a verb and arguments.
func (t tool) order(verb string, args ...string) func(context.Context, *cli.Call) error {
	return func(ctx context.Context, c *cli.Call) error {
		words := []string{verb}
		for _, name := range args {
			value := c.Value(name)
			var err error
			switch name {
			case "sid":
				value, err = t.managed(c)
			case "node":
				err = t.exists(value)
			}
			if err != nil {
				return err
			}
			words = append(words, value)
		}
		return t.Queue(ctx, strings.Join(words, " "))
	}
}

// motion queues the motion of a service, unless a rule forbids it, and says what
// moves with it.
func (t tool) motion(verb string) func(context.Context, *cli.Call) error {
	queue := t.order(verb, "sid", "node")
	return func(ctx context.Context, c *cli.Call) error {
		sid, err := t.managed(c)
		if err != nil {
			return err
		}
		node := c.Value("node")
		blocking, along, err := t.company(sid, node)
		if err != nil {
			return err
		}
		if len(blocking) > 0 {
			return fmt.Errorf("cannot %s service '%s' to node '%s': negative affinity with %s there", verb, sid, node, strings.Join(blocking, ", "))
		}
		if err := queue(ctx, c); err != nil || len(along) == 0 {
			return err
		}
		_, err = fmt.Fprintf(c.Out, "positive affinity with service '%s': %s to node '%s' too: %s\n", sid, verb, node, strings.Join(along, ", "))
		return err
	}
}

// company returns the services on a node that a service has to avoid, and those
// elsewhere that move there with it.
func (t tool) company(sid, node string) (blocking, along []string, err error) {
	text, err := t.Read(files.Rules)
	if err != nil {
		return nil, nil, err
	}
	nodes, err := t.Nodes()
	if err != nil {
		return nil, nil, err
	}
	status, err := t.Status()
	if err != nil {
		return nil, nil, err
	}
	all, _ := rules.Parse(text)
	_, sound := rules.Check(all, len(nodes))
	constraints := rules.Derive(sound)
	for _, other := range constraints.Apart(sid) {
		if s := status.Services[other]; s != nil && s.Node == node && (s.Target == "" || s.Target == node) {
			blocking = append(blocking, "'"+other+"'")
		}
	}
	for _, other := range constraints.Together(sid) {
		if s := status.Services[other]; s != nil && s.Node != node && s.Target != node {
			along = append(along, "'"+other+"'")
		}
	}
	return blocking, along, nil
}

// managed is the service a call names, which has to be under the care of HA.
func (t tool) managed(c *cli.Call) (string, error) {
	sid, err := t.sid(c)
	if err != nil {
		return "", err
	}
	configured, err := t.configured(c)
	if err != nil {
		return "", err
	}
	if _, found := configured[sid]; !found {
		return "", fmt.Errorf("service '%s' is not managed by HA", sid)
	}
	return sid, nil
}

func (t tool) exists(node string) error {
	nodes, err := t.Nodes()
	if err == nil && !slices.Contains(nodes, node) {
		err = fmt.Errorf("no such cluster node '%s'", node)
	}
	return err
}

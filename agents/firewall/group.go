package firewall

import fw "etcpve/cfs/format/firewall"

// ending of a chain's name for each direction of rules.
var ending = map[string]string{"in": "-IN", "out": "-OUT", "forward": "-FWD"}

// groupChain is the name of a group's chain for one direction.
func groupChain(name, way string) string {
	return "GROUP-" + name + ending[way]
}

// groups builds the chains of the groups. A group does not know who asks, so it
// says by a mark that it accepts a packet.
func (b *builder) groups() {
	if b.in.Cluster == nil {
		return
	}
	for _, g := range b.in.Cluster.Groups {
		if first, _ := b.in.Cluster.Group(g.Name); first.Line != g.Line {
			continue // of groups with one name the first counts, as for sets
		}
		for _, way := range []string{"in", "out", "forward"} {
			p := passage{
				chain: groupChain(g.Name, way), way: way, accept: follow(chainSetMark),
				scope: clusterScope(b.in), only: anyInterface,
			}
			c := Chain{rule(clearMark)}
			b.rules(&c, p, b.in.Cluster, g.Rules)
			b.chains[p.chain] = c
		}
	}
}

// callGroup appends a rule of type GROUP. What the group does not decide goes on
// to the next rule.
func (b *builder) callGroup(c *Chain, p passage, doc *fw.Document, r fw.Rule, conditions []Condition) {
	name := groupChain(r.Action, p.way)
	if b.in.Cluster == nil || !defines(b.in.Cluster, r.Action) {
		b.problems.add(doc, r.Line, r.Type, "no such group '"+r.Action+"'")
		return
	}
	c.add(jump(name), conditions...)
	c.add(p.marked, append(conditions[:len(conditions):len(conditions)], marked{})...)
}

func defines(cluster *fw.Document, group string) bool {
	_, ok := cluster.Group(group)
	return ok
}

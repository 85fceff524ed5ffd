package cluster

import (
	"errors"
	"fmt"
	"slices"

	"etcpve/cfs/consensus/voters"
	"etcpve/cfs/format/corosync"
	"etcpve/cfs/format/text"
)

// maxReview bounds what is read as a definition: 512 nodes take less.
const maxReview = 512 << 10

// A Review judges one save of the definition by what it would do to the cluster.
// That it can be read is the format's affair.
type Review struct {
	cluster *Cluster
	content []byte
}

// Review returns the judge of a save of the definition.
func (c *Cluster) Review() *Review { return &Review{cluster: c} }

// Write takes the next part of the file.
func (r *Review) Write(part []byte) []text.Error {
	if len(r.content) <= maxReview {
		r.content = append(r.content, part...)
	}
	return nil
}

// End returns the reasons for which the save is refused, or what is doubtful.
func (r *Review) End() (refused, warnings []text.Error) {
	old := r.cluster.Definition()
	if len(old.Nodes) == 0 {
		return nil, []text.Error{{File: corosync.File, Message: ErrAlone.Error() + ": the definition has no effect; use 'pvecm create'"}}
	}
	if len(r.content) > maxReview {
		return []text.Error{{File: corosync.File, Message: fmt.Sprintf("longer than %d bytes", maxReview)}}, nil
	}
	root, err := corosync.Parse(string(r.content))
	if err != nil {
		return []text.Error{placed(root, err)}, nil
	}
	d, err := corosync.Define(root)
	if err != nil {
		return []text.Error{placed(root, err)}, nil
	}
	refused, warnings = corosync.Verify(root, resolver(d.IPVersion))
	if err := follows(old, d, r.cluster.config.Node, r.cluster.Alive(), r.cluster.lost()); err != nil {
		refused = append(refused, placed(root, err))
	}
	return refused, warnings
}

// placed gives an error the line at which its key stands, if it has none yet.
func placed(root *corosync.Section, err error) text.Error {
	var e *text.Error
	if !errors.As(err, &e) {
		return text.Error{File: corosync.File, Message: err.Error()}
	}
	if root != nil && e.Line == 0 {
		e.Line = root.LineOf(e.Key)
	}
	return *e
}

// objection is why a definition is refused, at a key as text.Error names it.
func objection(key, format string, args ...any) error {
	return &text.Error{File: corosync.File, Key: key, Message: fmt.Sprintf(format, args...)}
}

// follows says why a definition cannot take the place of the old one on this
// node while these nodes answer and others are lost.
func follows(old, d corosync.Definition, node string, alive, lost []string) error {
	if d.Version <= old.Version {
		return objection("totem: config_version", "%d must be raised above %d", d.Version, old.Version)
	}
	if d.Cluster != old.Cluster {
		return objection("totem: cluster_name", "%s cannot become %s", old.Cluster, d.Cluster)
	}
	if _, stays := d.Node(node); !stays {
		return objection("nodelist", "node %s cannot remove itself: save this on another one", node)
	}
	for _, n := range d.Nodes {
		for _, o := range old.Nodes {
			switch {
			case o.Name == n.Name && o.ID != n.ID:
				return objection("node "+n.Name+": nodeid", "%d cannot become %d", o.ID, n.ID)
			case o.Name != n.Name && o.ID == n.ID:
				return objection("node "+n.Name+": nodeid", "%d was that of node %s", n.ID, o.Name)
			}
		}
	}
	if err := quorate(d, alive, lost); err != nil {
		return objection("nodelist", "%v", err)
	}
	return nil
}

// quorate refuses a definition of whose nodes too few answer. Those that are lost do
// not count, before the definition and after.
func quorate(d corosync.Definition, alive, lost []string) error {
	voting, answering := uint32(0), uint32(0)
	for _, n := range d.Nodes {
		if slices.Contains(lost, n.Name) {
			continue
		}
		v := d.Counted(n)
		voting += v
		if slices.Contains(alive, n.Name) {
			answering += v
		}
	}
	if 2*answering <= voting {
		return fmt.Errorf("only %d of %d votes would answer: no quorum", answering, voting)
	}
	return nil
}

// lost returns the nodes that a survivor has gone on without: they are in the
// definition and count again when they have come back.
func (c *Cluster) lost() (names []string) {
	s, d, alive := c.order.Status(), c.Definition(), c.Alive()
	if len(s.Voters) >= c.wanted(d) {
		return nil
	}
	for _, n := range d.Nodes {
		if !slices.Contains(s.Voters, uint64(n.ID)) && !slices.Contains(alive, n.Name) {
			names = append(names, n.Name)
		}
	}
	return names
}

// wanted is how many nodes of a definition should vote.
func (c *Cluster) wanted(d corosync.Definition) int {
	if _, ok := d.Decider(); ok {
		return 1
	}
	voting := 0
	for _, n := range d.Nodes {
		if n.Votes > 0 {
			voting++
		}
	}
	return voters.Want(voting, mostVoters(d))
}

package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"etcpve/cfs/cluster/home"
	"etcpve/cfs/command"
	"etcpve/cfs/format/corosync"
	"etcpve/cfs/join"
	"etcpve/cfs/tree"
)

// Files of the authority in the tree.
const (
	authorityFile = "pve-root-ca.pem"
	authorityKey  = "priv/pve-root-ca.key"
)

// maxNodes is how many nodes a definition may have.
const maxNodes = 512

// ErrAlone says that this node is in no cluster.
var ErrAlone = errors.New("corosync.conf does not exist - is this node part of a cluster?")

// enrolment lets the doorman take nodes in.
type enrolment struct{ *Cluster }

// Authority implements join.Cluster.
func (e enrolment) Authority() (*join.Authority, error) { return e.authority() }

// Secret implements join.Cluster.
func (e enrolment) Secret() ([]byte, error) { return e.config.Home.Secret() }

// Enroll implements join.Cluster.
func (e enrolment) Enroll(ctx context.Context, r join.Request) (id uint32, definition []byte, err error) {
	n := corosync.Node{Name: r.Node, ID: r.NodeID, Votes: 1, Addresses: links(r.Addresses), Witness: r.Witness}
	if r.Votes != nil {
		n.Votes = *r.Votes
	} else if old, known := e.Definition().Node(r.Node); known {
		n.Votes = old.Votes // as addnode was told
	}
	return e.enter(ctx, n, r.Force)
}

// enter adds a node to the definition. With force it may take the place of one of
// the same name that does not answer: a node that lost its disk, or one that
// addnode has prepared.
func (c *Cluster) enter(ctx context.Context, n corosync.Node, force bool) (id uint32, definition []byte, err error) {
	definition, err = c.edit(ctx, func(root *corosync.Section, d corosync.Definition) error {
		old, known := d.Node(n.Name)
		switch {
		case known && force && slices.Contains(c.Alive(), n.Name):
			return fmt.Errorf("node %s is a member and answers", n.Name)
		case known && force && n.ID != 0 && n.ID != old.ID:
			return fmt.Errorf("node %s: nodeid %d cannot become %d", n.Name, old.ID, n.ID)
		case known && force:
			n.ID = old.ID
			d.Nodes = slices.DeleteFunc(slices.Clone(d.Nodes), func(o corosync.Node) bool { return o.ID == old.ID })
		}
		if err := admissible(d, c.highest(), &n); err != nil {
			return err
		}
		if n.Witness {
			root.SetWitness(n)
		} else {
			root.Add(n)
		}
		return c.verify(root, n.Name)
	})
	return n.ID, definition, err
}

// verify refuses a definition with a new node that would not be one to save: a node that
// lacks a link would be cut off by a failure that the others survive.
func (c *Cluster) verify(root *corosync.Section, node string) (err error) {
	wrong, doubtful := corosync.Verify(root, resolver(root.Sections["totem"].Entries["ip_version"]))
	for _, w := range doubtful {
		c.log.Warn("the definition is doubtful", "path", corosync.File, "key", w.Key, "err", w.Message)
	}
	for _, w := range wrong {
		err = errors.Join(err, &w)
	}
	if err != nil {
		return fmt.Errorf("the definition with node %s, whose addresses --link0 to --link7 give: %w", node, err)
	}
	return nil
}

// Prepare adds a node to the definition that has not asked yet.
func (c *Cluster) Prepare(ctx context.Context, r join.Request) (id uint32, err error) {
	if err := r.Check(); err != nil {
		return 0, err
	}
	id, _, err = enrolment{c}.Enroll(ctx, r)
	return id, err
}

// highest returns the highest id in the group, which may still have a node that
// the definition has no more.
func (c *Cluster) highest() (id uint32) {
	s := c.order.Status()
	for _, member := range slices.Concat(s.Voters, s.Learners) {
		id = max(id, uint32(member))
	}
	return id
}

// admissible says whether a node may be added, giving it an id above the highest
// if it has none.
func admissible(d corosync.Definition, highest uint32, n *corosync.Node) error {
	for _, other := range d.Nodes {
		highest = max(highest, other.ID)
		switch {
		case other.Name == n.Name:
			return fmt.Errorf("node %s is a member already: remove it first with 'pvecm delnode %s'", n.Name, n.Name)
		case other.ID == n.ID:
			return fmt.Errorf("nodeid %d belongs to node %s", n.ID, other.Name)
		}
		for _, a := range n.Addresses {
			if slices.Contains(slices.Collect(maps.Values(other.Addresses)), a) {
				return fmt.Errorf("address %s belongs to node %s", a, other.Name)
			}
		}
	}
	if n.ID == 0 {
		n.ID = highest + 1
	}
	if len(d.Nodes) >= maxNodes {
		return fmt.Errorf("the cluster has %d nodes already", len(d.Nodes))
	}
	return nil
}

func links(addresses []netip.Addr) map[int]string {
	m := map[int]string{}
	for link, a := range addresses {
		m[link] = a.String()
	}
	return m
}

// edit changes the definition in the tree; somebody else's change in between
// makes it begin again. It returns the new text.
func (c *Cluster) edit(ctx context.Context, change func(*corosync.Section, corosync.Definition) error) ([]byte, error) {
	for {
		e, ok := c.config.Tree.Lookup(corosync.File)
		if !ok {
			return nil, ErrAlone
		}
		root, err := corosync.Parse(string(e.Data))
		if err != nil {
			return nil, err
		}
		d, err := corosync.Define(root)
		if err != nil {
			return nil, err
		}
		if err := change(root, d); err != nil {
			return nil, err
		}
		text := []byte(corosync.Format(root))
		err = c.put(ctx, &command.Command{Path: corosync.File, Data: text, Expect: e.Version})
		if !errors.Is(err, tree.ErrConflict) {
			return text, err
		}
	}
}

// put writes one file of the tree in the name of this node.
func (c *Cluster) put(ctx context.Context, w *command.Command) error {
	w.Op, w.Node, w.Writer, w.Time = command.Write, c.config.Node, c.config.ID, c.config.Now().Unix()
	result, err := c.order.Propose(ctx, w)
	if err = errors.Join(err, result.Err); err != nil {
		return fmt.Errorf("%s: %w", w.Path, err)
	}
	return nil
}

// authority loads the cluster's authority from the tree.
func (c *Cluster) authority() (*join.Authority, error) {
	cert, ok := c.config.Tree.Lookup(authorityFile)
	key, also := c.config.Tree.Lookup(authorityKey)
	if !ok || !also {
		return nil, fmt.Errorf("%s or %s is missing: run 'pvecm updatecerts'", authorityFile, authorityKey)
	}
	return join.LoadAuthority(cert.Data, key.Data)
}

// A Founding says how to form a cluster.
type Founding struct {
	Cluster   string       `json:"cluster"`
	Addresses []netip.Addr `json:"addresses"` // of this node, one for each link
	Votes     uint32       `json:"votes"`
	NodeID    uint32       `json:"nodeid"` // 0: the one it has
	// Totem are more entries for that section, Priorities those of the links.
	Totem      map[string]string `json:"totem"`
	Priorities map[int]int       `json:"priorities"`
}

// Create forms a cluster of this one node. If the node gets another id by it, it
// must start again as a group of one.
func (c *Cluster) Create(ctx context.Context, f Founding) error {
	if f.NodeID == 0 {
		f.NodeID = c.config.ID
	}
	if _, exists := c.config.Tree.Lookup(corosync.File); exists {
		return errors.New("this node is in a cluster already")
	}
	if len(f.Addresses) == 0 {
		return errors.New("create: no address for link 0")
	}
	authority, err := c.authority()
	if err != nil {
		return err
	}
	private, key, err := join.NewKey()
	if err != nil {
		return err
	}
	w := join.Welcome{NodeID: f.NodeID}
	if w.GossipKey, err = home.NewSecret(); err != nil {
		return err
	}
	if w.Authority, _, err = authority.PEM(); err != nil {
		return err
	}
	if w.Certificate, err = authority.Issue(c.config.Node, "", f.Addresses, private.Public(), c.config.Now()); err != nil {
		return err
	}
	root := corosync.New(f.Cluster, corosync.Node{Name: c.config.Node, ID: f.NodeID, Votes: f.Votes, Addresses: links(f.Addresses)})
	for key, value := range f.Totem {
		root.SetTotem(key, value)
	}
	for link, priority := range f.Priorities {
		root.SetPriority(link, priority)
	}
	w.Definition = []byte(corosync.Format(root))
	if err := c.config.Home.Found(w, key); err != nil {
		return err
	}
	if err := c.put(ctx, &command.Command{Path: corosync.File, Data: w.Definition, Exclusive: true}); err != nil {
		return err
	}
	c.adopt() // who has created a cluster may ask at once who is in it
	return nil
}

// Remove takes a node out of the cluster.
func (c *Cluster) Remove(ctx context.Context, node string) error {
	if node == c.config.Node {
		return errors.New("a node cannot remove itself: run this on another one")
	}
	_, err := c.edit(ctx, func(root *corosync.Section, d corosync.Definition) error {
		n, ok := d.Node(node)
		if !ok {
			return fmt.Errorf("node %s is not in the cluster", node)
		}
		d.Nodes = slices.DeleteFunc(slices.Clone(d.Nodes), func(other corosync.Node) bool { return other.ID == n.ID })
		if err := quorate(d, c.Alive(), c.lost()); err != nil {
			return fmt.Errorf("without node %s: %w", node, err)
		}
		root.Remove(node)
		return nil
	})
	return err
}

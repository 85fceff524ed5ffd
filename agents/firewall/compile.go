package firewall

import (
	"cmp"
	"slices"
	"strconv"

	fw "etcpve/cfs/format/firewall"
	"etcpve/cfs/format/text"
)

// Compile makes the rule set of a node. Rules that have no effect, because they
// name what is not there, are left out and reported.
func Compile(in Input) (*Ruleset, []text.Error) { return new(Compiler).Compile(in) }

// A Compiler makes one rule set after the other and keeps what guests that did
// not change add to it.
type Compiler struct {
	around Input // of the parts
	parts  map[uint32]part
}

// Compile makes the rule set of a node; chains and sets that are as they were
// are the same ones.
func (c *Compiler) Compile(in Input) (*Ruleset, []text.Error) {
	if in.Cluster == nil || !in.Cluster.Enabled("enable", false) {
		return &Ruleset{}, nil
	}
	r := &Ruleset{Enabled: true, Kernel: settings(in.Host)}
	problems := &problems{seen: map[text.Error]bool{}}
	r.Sets = compileSets(&in, problems)
	parts := c.compileParts(&in)
	for _, p := range parts {
		r.Sets = append(r.Sets, p.sets...)
		problems.join(p.problems)
	}
	slices.SortFunc(r.Sets, func(a, b Set) int { return cmp.Compare(a.Name, b.Name) })
	for _, family := range []Family{IPv4, IPv6} {
		b := newBuilder(&in, family, problems)
		r.Tables = append(r.Tables,
			Table{family, "filter", b.filter(parts)},
			Table{family, "raw", rawChains(in.Host, family)})
	}
	r.Tables = append(r.Tables, Table{Bridge, "filter", frameChains(&in, parts)})
	return r, problems.list
}

// problems collects what is wrong, once for all families.
type problems struct {
	list []text.Error
	seen map[text.Error]bool
}

func (p *problems) add(doc *fw.Document, line int, key, message string) {
	p.join([]text.Error{{File: doc.File, Line: line, Key: key, Message: message}})
}

func (p *problems) join(list []text.Error) {
	for _, e := range list {
		if !p.seen[e] {
			p.seen[e] = true
			p.list = append(p.list, e)
		}
	}
}

// A builder compiles the filter table of one family.
type builder struct {
	in       *Input
	family   Family
	chains   map[string]Chain
	logger   logger
	problems *problems
}

func newBuilder(in *Input, family Family, p *problems) *builder {
	return &builder{in, family, standardChains(family), newLogger(in.Cluster), p}
}

func (b *builder) filter(parts []part) map[string]Chain {
	b.intake()
	b.groups()
	b.host()
	b.guests(parts)
	b.forward()
	return b.chains
}

// A passage is a place in the rule set at which rules decide: it says what its
// chain is called and how it lets a packet pass.
type passage struct {
	chain  string
	vmid   uint32
	way    string // in, out or forward: the rules that are for it
	accept Target
	level  string // of the policy's log
	scope  scope

	// marked is what becomes of a packet that a group accepted.
	marked Target

	// only returns the condition that an interface named by a rule stands for,
	// and whether the rule can apply here.
	only func(iface string) ([]Condition, bool)
}

// policy ends a chain: what no rule decided.
func (b *builder) policy(c *Chain, p passage, policy string) {
	message := "policy " + policy
	switch policy {
	case "DROP":
		c.add(jump(chainDrop))
		b.logger.log(c, p.chain, p.vmid, p.level, message)
		c.add(drop)
	case "REJECT":
		c.add(jump(chainRejectAll))
		b.logger.log(c, p.chain, p.vmid, p.level, message)
		c.add(follow(chainReject))
	default:
		c.add(p.accept)
	}
}

// rules appends the rules of a document that are for a passage.
func (b *builder) rules(c *Chain, p passage, doc *fw.Document, rules []fw.Rule) {
	for _, r := range rules {
		if !r.Enabled || r.Invalid != nil || r.Type != p.way && r.Type != "group" {
			continue
		}
		conditions, ok := p.only(r.Iface)
		if !ok {
			continue
		}
		if len(r.Iface) > longestInterface {
			b.problems.add(doc, r.Line, r.Type, "no interface can have the name '"+r.Iface+"'")
			continue
		}
		if r.Type == "group" {
			b.callGroup(c, p, doc, r, conditions)
			continue
		}
		resolved, err := p.scope.at(doc, r.Line).resolve(r)
		if err != nil {
			b.problems.add(doc, r.Line, r.Type, err.Error())
			continue
		}
		for _, alternative := range resolved.alternatives(b.family, conditions...) {
			b.logger.log(c, p.chain, p.vmid, cmp.Or(r.Log, noLog), r.Action, alternative...)
			c.add(p.target(r.Action), alternative...)
		}
	}
}

// target returns what an action of a rule does in this passage.
func (p passage) target(action string) Target {
	switch action {
	case "ACCEPT":
		return p.accept
	case "REJECT":
		return follow(chainReject)
	}
	return drop
}

// anyInterface is for passages whose rules name none.
func anyInterface(iface string) ([]Condition, bool) { return nil, iface == "" }

// settings returns the kernel's settings that host.fw asks for.
func settings(host *fw.Document) []Setting {
	list := []Setting{
		{"net/bridge/bridge-nf-call-ip6tables", "1"},
		{"net/bridge/bridge-nf-call-iptables", "1"},
	}
	for _, s := range []struct{ option, setting string }{
		{"nf_conntrack_max", "net/netfilter/nf_conntrack_max"},
		{"nf_conntrack_tcp_timeout_established", "net/netfilter/nf_conntrack_tcp_timeout_established"},
		{"nf_conntrack_tcp_timeout_syn_recv", "net/netfilter/nf_conntrack_tcp_timeout_syn_recv"},
	} {
		if value := option(host, s.option, ""); value != "" {
			list = append(list, Setting{s.setting, value})
		}
	}
	slices.SortFunc(list, func(a, b Setting) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// number reads an option that is a number.
func number(d *fw.Document, name string, preset int) int {
	n, err := strconv.Atoi(option(d, name, ""))
	if err != nil {
		return preset
	}
	return n
}

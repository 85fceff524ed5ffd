package iptables

import (
	"crypto/sha1"
	"encoding/base64"
	"regexp"
	"slices"
	"strings"

	"etcpve/agents/firewall"
)

// State is what the kernel holds of the firewall.
type State struct {
	Tables   map[Key]Table
	Sets     map[string]string // digest of the members, by name
	Settings map[string]string // only those that the kernel knows

	rules *firewall.Ruleset // that this is known to be, if it is
}

// Empty reports whether nothing of the firewall is in the kernel.
func (s State) Empty() bool {
	for _, t := range s.Tables {
		if len(t.Chains)+len(t.Hooks) > 0 {
			return false
		}
	}
	return len(s.Sets) == 0
}

// A Table is what one table holds of the firewall.
type Table struct {
	Chains map[string]Chain
	Hooks  []firewall.Hook
}

// A Chain is known by its signature; the number of its rules tells if somebody
// else added or removed some.
type Chain struct {
	Digest string
	Rules  int
}

// ownChain matches the names of the firewall's chains.
var ownChain = regexp.MustCompile(`^(PVEFW-.+|GROUP-.+-(IN|OUT|FWD)|(tap|veth)\d+i\d+-(IN|OUT|OUT-ARP))$`)

// parseTables reads what iptables-save or ebtables-save print.
func parseTables(family firewall.Family, text string) map[Key]Table {
	tables := map[Key]Table{}
	p := tableParser{family: family}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "*"); ok {
			p.table = Table{Chains: map[string]Chain{}}
			p.rules = map[string]*strings.Builder{}
			tables[Key{family, name}] = p.table
			p.key = Key{family, name}
			continue
		}
		if p.rules != nil {
			p.line(line)
			tables[p.key] = p.table
		}
	}
	return tables
}

type tableParser struct {
	family firewall.Family
	key    Key
	table  Table
	rules  map[string]*strings.Builder // text of layer 2 chains
}

func (p *tableParser) line(line string) {
	if rest, ok := strings.CutPrefix(line, ":"); ok {
		if name, _, _ := strings.Cut(rest, " "); ownChain.MatchString(name) {
			p.table.Chains[name] = Chain{}
			if p.family == firewall.Bridge {
				p.rules[name] = &strings.Builder{}
				p.table.Chains[name] = Chain{Digest: digest("")}
			}
		}
		return
	}
	words := strings.SplitN(line, " ", 3)
	if len(words) < 3 || words[0] != "-A" {
		return
	}
	c, own := p.table.Chains[words[1]]
	if !own {
		p.hook(words[1], words[2])
		return
	}
	c.Rules++
	if b := p.rules[words[1]]; b != nil {
		b.WriteString(line + "\n")
		c.Digest = digest(b.String())
	} else if at := strings.Index(words[2], signature); at >= 0 && c.Digest == "" {
		c.Digest = strings.Trim(words[2][at+len(signature):], `" `)
	}
	p.table.Chains[words[1]] = c
}

// hook notes a rule by which one of the kernel's chains leads to one of ours.
func (p *tableParser) hook(from, rest string) {
	if to, ok := strings.CutPrefix(rest, "-j "); ok && ownChain.MatchString(to) {
		if h := (firewall.Hook{From: from, To: to}); !slices.Contains(p.table.Hooks, h) {
			p.table.Hooks = append(p.table.Hooks, h)
		}
	}
}

func digest(text string) string {
	sum := sha1.Sum([]byte(text))
	return base64.RawStdEncoding.EncodeToString(sum[:])
}

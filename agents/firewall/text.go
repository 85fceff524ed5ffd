package firewall

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"strconv"
	"strings"
)

// String returns the rule in the syntax of the table's tool, without the name
// of its chain.
func (r Rule) String() string {
	words := make([]string, 0, len(r.Conditions)+1)
	for _, c := range r.Conditions {
		words = append(words, c.String())
	}
	if t := r.Target.String(); t != "" {
		words = append(words, t)
	}
	return strings.Join(words, " ")
}

// append writes the rules of a chain as lines of a restore.
func (c Chain) append(b *bytes.Buffer, name string) {
	for _, r := range c {
		b.WriteString("-A ")
		b.WriteString(name)
		for _, condition := range r.Conditions {
			b.WriteByte(' ')
			b.WriteString(condition.String())
		}
		if t := r.Target.String(); t != "" {
			b.WriteByte(' ')
			b.WriteString(t)
		}
		b.WriteByte('\n')
	}
}

// Text returns the chain as lines of a restore.
func (c Chain) Text(name string) string {
	var b bytes.Buffer
	c.append(&b, name)
	return b.String()
}

// Digest identifies what a chain says. It fits into a comment of a rule.
func (c Chain) Digest() string {
	var b bytes.Buffer
	c.append(&b, "")
	return digest(b.Bytes())
}

// Text returns the members of the set as lines for "ipset restore", to be
// added to the set called name.
func (s Set) Text(name string) string {
	var b strings.Builder
	for _, m := range s.Members {
		b.WriteString("add " + name + " " + m.String() + "\n")
	}
	return b.String()
}

// Create returns the line that creates an empty set of this kind, called name.
func (s Set) Create(name string) string {
	family := "inet"
	if s.Family == IPv6 {
		family = "inet6"
	}
	room := 64
	for room < len(s.Members) {
		room *= 2
	}
	return "create " + name + " hash:net family " + family + " hashsize " + strconv.Itoa(room) +
		" maxelem " + strconv.Itoa(max(room, 1<<16)) + "\n"
}

// Digest identifies the set's members.
func (s Set) Digest() string { return digest([]byte(s.Create("") + s.Text(""))) }

func digest(text []byte) string {
	sum := sha1.Sum(text)
	return base64.RawStdEncoding.EncodeToString(sum[:])
}

// header names the tool whose syntax a table is in.
var header = map[Family]string{IPv4: "iptables", IPv6: "ip6tables", Bridge: "ebtables"}

// String returns the whole rule set: the sets, then each table, in the syntax
// of ipset restore and iptables-restore.
func (r *Ruleset) String() string {
	var b bytes.Buffer
	b.WriteString("# ipset\n")
	for _, s := range r.Sets {
		b.WriteString(s.Create(s.Name) + s.Text(s.Name))
	}
	for _, t := range r.Tables {
		b.WriteString("\n# " + header[t.Family] + "\n*" + t.Name + "\n")
		for _, name := range t.Names() {
			b.WriteString(":" + name + " - [0:0]\n")
		}
		for _, h := range t.Hooks() {
			b.WriteString("-A " + h.From + " -j " + h.To + "\n")
		}
		for _, name := range t.Names() {
			t.Chains[name].append(&b, name)
		}
		b.WriteString("COMMIT\n")
	}
	if len(r.Kernel) > 0 {
		b.WriteString("\n# sysctl\n")
	}
	for _, s := range r.Kernel {
		b.WriteString(strings.ReplaceAll(s.Name, "/", ".") + " = " + s.Value + "\n")
	}
	return b.String()
}

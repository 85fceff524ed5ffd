// Package cli turns one table of commands into everything a command line tool
// is made of: parsing, checks, help, completion and the synopsis of its man page.
//
// It owns the form of the command line, which is that of the Proxmox VE tools:
// positional arguments, "--option value", "-option value" and "--option=value"
// in any order, their error texts and exit codes. It knows no tool by name and
// never ends the process.
package cli

import (
	"context"
	"io"
	"maps"
	"slices"
	"strings"

	"etcpve/cfs/format/schema"
)

// A Tool is what answers under one name.
type Tool struct {
	Name     string
	Summary  string // one line, for the man page and the usage
	Commands []Command
}

// A Command is one thing a tool can do.
type Command struct {
	Words   string // "config", or several as in "disk resize"; empty if the tool has one command only
	Summary string // one sentence with its full stop
	Args    []Param
	Options schema.Keys
	Prompt  []string // options whose value may be left out, to be asked for: see Call.Secret
	Content []string // options whose value is the path of a file with what they stand for, percent-encoded
	Run     func(ctx context.Context, c *Call) error
	Hidden  bool   // left out of lists
	Alias   string // the command that this one is another way to write
}

// A Param is a positional argument.
type Param struct {
	Name     string
	Rule     *schema.Property
	Optional bool
	Rest     bool // takes all arguments that are left
}

// A Call is one use of a command.
type Call struct {
	Values   map[string]string // of arguments and options that were given
	Given    []string          // names of the options, in the order given
	Rest     []string          // of the argument that takes the rest
	In       io.Reader
	Out, Err io.Writer
}

// Has reports whether an argument or option was given.
func (c *Call) Has(name string) bool { _, ok := c.Values[name]; return ok }

// Value returns an argument or option, or "".
func (c *Call) Value(name string) string { return c.Values[name] }

// Bool returns a truth value, false if it was not given.
func (c *Call) Bool(name string) bool {
	truth, _ := schema.Bool(c.Values[name])
	return truth
}

// find returns the command with the longest match of words, and how many words
// of args that took.
func (t *Tool) find(args []string) (*Command, int) {
	args = t.expand(args)
	for n := len(args); n >= 0; n-- {
		words := strings.Join(args[:n], " ")
		for i := range t.Commands {
			if t.Commands[i].Words != words {
				continue
			}
			if other := t.Commands[i].Alias; other != "" {
				command, _ := t.find(strings.Fields(other))
				return command, n
			}
			return &t.Commands[i], n
		}
	}
	return nil, 0
}

// expand completes words of commands that are shortened, as long as one command
// only is meant; other ways to write a command have to be written whole.
func (t *Tool) expand(args []string) []string {
	expanded := slices.Clone(args)
	for i, arg := range args {
		whole, begun := false, map[string]bool{}
		for _, c := range t.Commands {
			words := strings.Fields(c.Words)
			if len(words) <= i || !slices.Equal(words[:i], expanded[:i]) {
				continue
			}
			whole = whole || words[i] == arg
			if !c.Hidden && c.Alias == "" && arg != "" && strings.HasPrefix(words[i], arg) {
				begun[words[i]] = true
			}
		}
		switch {
		case whole:
		case len(begun) == 1:
			for word := range begun {
				expanded[i] = word
			}
		default:
			return expanded
		}
	}
	return expanded
}

// below returns the visible commands that go on behind words.
func (t *Tool) below(args []string) (commands []Command) {
	words := strings.Join(t.expand(args), " ") + " "
	for _, c := range t.visible() {
		if strings.HasPrefix(c.Words, words) {
			commands = append(commands, c)
		}
	}
	return commands
}

// visible returns the commands to be shown, sorted by their words.
func (t *Tool) visible() []Command {
	shown := slices.DeleteFunc(slices.Clone(t.Commands), func(c Command) bool { return c.Hidden })
	slices.SortFunc(shown, func(a, b Command) int { return strings.Compare(a.Words, b.Words) })
	return shown
}

// An option is one or, where they are numbered, several options shown as one.
type option struct {
	name string // "net[n]" for net0, net1, …
	rule *schema.Property
}

// shown returns the options of a command, sorted, numbered ones as one.
func (c *Command) shown() (options []option) {
	members := map[string]int{}
	for name := range c.Options {
		members[stem(name)]++
	}
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(c.Options)) {
		shown := name
		if s := stem(name); s != name && members[s] > 1 {
			shown = s + "[n]"
		}
		if !seen[shown] {
			seen[shown] = true
			options = append(options, option{shown, c.Options[name]})
		}
	}
	return options
}

// stem is a name without the number at its end.
func stem(name string) string { return strings.TrimRight(name, "0123456789") }

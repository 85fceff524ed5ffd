package cli

import (
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"

	"etcpve/cfs/format/schema"
)

// A usageError is a call that does not fit the table.
type usageError struct {
	before  string // printed first, as by the option parser
	message string
}

func (e *usageError) Error() string { return "400 " + e.message }

// parse reads the arguments of a command and checks each against its rule.
func (c *Command) parse(args []string) (*Call, error) {
	call := &Call{Values: map[string]string{}}
	words, err := c.parseOptions(call, args)
	if err != nil {
		return nil, err
	}
	if err := c.parseArgs(call, words); err != nil {
		return nil, err
	}
	return call, c.check(call)
}

// parseOptions takes the options out of args.
func (c *Command) parseOptions(call *Call, args []string) (words []string, err error) {
	var unknown []string
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			words = append(words, args[i+1:]...)
			break
		}
		if len(arg) < 2 || arg[0] != '-' {
			words = append(words, arg)
			continue
		}
		given, value, attached := strings.Cut(strings.TrimPrefix(arg[1:], "-"), "=")
		name, problem := c.option(given)
		if problem != "" {
			unknown = append(unknown, problem)
			continue
		}
		rule := c.Options[name]
		bare := rule.Type == "boolean" || slices.Contains(c.Prompt, name)
		if next := i+1 < len(args); !attached && next && (!bare || !strings.HasPrefix(args[i+1], "-")) {
			i++
			value, attached = args[i], true
		}
		if !attached && !bare {
			unknown = append(unknown, fmt.Sprintf("Option %s requires an argument", given))
			continue
		}
		if slices.Contains(c.Content, name) {
			if value, err = content(value); err != nil {
				return nil, err
			}
		}
		if err := call.set(name, rule, value); err != nil {
			return nil, err
		}
	}
	if unknown != nil {
		return nil, &usageError{before: strings.Join(unknown, "\n") + "\n", message: "unable to parse option"}
	}
	return words, nil
}

// content reads the file an option names.
func content(path string) (string, error) {
	text, err := os.ReadFile(path)
	return strings.ReplaceAll(url.QueryEscape(string(text)), "+", "%20"), err
}

// option returns the name of an option that was given whole or by a beginning
// that no other option shares, or why there is none.
func (c *Command) option(given string) (name, problem string) {
	if c.Options[given] != nil {
		return given, ""
	}
	var match []string
	for _, name := range slices.Sorted(maps.Keys(c.Options)) {
		if given != "" && strings.HasPrefix(name, given) {
			match = append(match, name)
		}
	}
	switch len(match) {
	case 0:
		return "", "Unknown option: " + given
	case 1:
		return match[0], ""
	}
	return "", fmt.Sprintf("Option %s is ambiguous (%s)", given, strings.Join(match, ", "))
}

// set takes the value of an option. Lists may be given piece by piece.
func (c *Call) set(name string, rule *schema.Property, value string) error {
	if rule.Type == "boolean" {
		truth, ok := schema.Bool(value)
		if value != "" && !ok {
			return &usageError{message: "unable to parse boolean option"}
		}
		value = map[bool]string{true: "1", false: "0"}[truth || value == ""]
	}
	if before, twice := c.Values[name]; twice && strings.HasSuffix(rule.Format.Name, "-list") {
		value = before + "," + value
	} else if !twice {
		c.Given = append(c.Given, name)
	}
	c.Values[name] = value
	return nil
}

// parseArgs gives the words that are no options to the positional arguments.
func (c *Command) parseArgs(call *Call, words []string) error {
	for _, p := range c.Args {
		switch {
		case p.Rest:
			call.Rest, words = words, nil
		case len(words) > 0:
			call.Values[p.Name], words = words[0], words[1:]
		case !p.Optional:
			return &usageError{message: "not enough arguments"}
		}
	}
	if len(words) > 0 {
		return &usageError{message: "too many arguments"}
	}
	return nil
}

// check applies the rules to all values and names every one that is refused.
func (c *Command) check(call *Call) error {
	rules := maps.Clone(c.Options)
	if rules == nil {
		rules = schema.Keys{}
	}
	for _, p := range c.Args {
		rules[p.Name] = p.Rule
	}
	var refused []string
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		rule := rules[name]
		value, given := call.Values[name]
		switch {
		case rule == nil:
		case given:
			if err := rule.Check(value); err != nil {
				refused = append(refused, name+": "+strings.TrimSpace(err.Error()))
			}
			if rule.Requires != "" && !call.Has(rule.Requires) {
				refused = append(refused, fmt.Sprintf("%s: missing property - '%s' requires this property", rule.Requires, name))
			}
		case c.Options[name] != nil && !bool(rule.Optional) && !slices.Contains(c.Prompt, name):
			refused = append(refused, name+": property is missing and it is not optional")
		}
	}
	if refused != nil {
		return &usageError{message: "Parameter verification failed.\n" + strings.Join(refused, "\n")}
	}
	return nil
}

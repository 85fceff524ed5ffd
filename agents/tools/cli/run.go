package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Exit codes of the tools.
const (
	ExitOK      = 0
	ExitAbsent  = 2   // what was asked for does not exist
	ExitFailure = 255 // anything else
)

// A Coded error brings its own exit code.
type Coded struct {
	Code int
	Err  error
}

func (e *Coded) Error() string { return e.Err.Error() }

// Unwrap returns the error without its code.
func (e *Coded) Unwrap() error { return e.Err }

// Run carries out a command line and returns the exit code.
func (t *Tool) Run(ctx context.Context, args []string, in io.Reader, out, err io.Writer) int {
	command, n := t.find(args)
	switch {
	case len(args) > 0 && args[0] == "help":
		return t.help(args[1:], out, err)
	case command == nil && len(args) == 0:
		fmt.Fprintf(err, "ERROR: no command specified\n%s", t.usage())
		return ExitFailure
	case command == nil && t.below(args) != nil:
		fmt.Fprintf(err, "ERROR: incomplete command '%s %s'\n%s", t.Name, strings.Join(args, " "), t.listed(t.below(args)))
		return ExitFailure
	case command == nil:
		fmt.Fprintf(err, "ERROR: unknown command '%s %s'\n%s", t.Name, args[0], t.usage())
		return ExitFailure
	}
	call, e := command.parse(args[n:])
	if e == nil {
		call.In, call.Out, call.Err = in, out, err
		e = command.Run(ctx, call)
	}
	return t.answer(command, e, err)
}

// answer prints an error as the tools do and returns the exit code.
func (t *Tool) answer(command *Command, e error, err io.Writer) int {
	var usage *usageError
	var coded *Coded
	switch {
	case e == nil:
		return ExitOK
	case errors.As(e, &usage):
		fmt.Fprintf(err, "%s%s\n%s\n", usage.before, usage.Error(), t.synopsis(command))
		return ExitFailure
	}
	if text := strings.TrimSuffix(e.Error(), "\n"); text != "" {
		fmt.Fprintln(err, text)
	}
	if errors.As(e, &coded) {
		return coded.Code
	}
	return ExitFailure
}

// help prints what there is to know about a command, or about all.
func (t *Tool) help(args []string, out, err io.Writer) int {
	args = slices.DeleteFunc(slices.Clone(args), func(arg string) bool { return strings.HasPrefix(arg, "-") })
	if len(args) == 0 {
		fmt.Fprint(out, t.usage())
		return ExitOK
	}
	command, n := t.find(args)
	if group := t.below(args); command == nil && group != nil {
		fmt.Fprint(out, t.listed(group))
		return ExitOK
	}
	if command == nil || n == 0 {
		fmt.Fprintf(err, "no such command '%s'\n%s", strings.Join(args, " "), t.usage())
		return ExitFailure
	}
	fmt.Fprint(out, t.manual(command))
	return ExitOK
}

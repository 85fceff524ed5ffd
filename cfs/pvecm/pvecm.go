// Package pvecm is the command pvecm, with which an operator manages a cluster.
//
// It owns the verbs and what they print. It works through the mounted files and
// asks the running daemon what no file can hold; it never touches the database.
package pvecm

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

// A verb is one thing pvecm can be asked to do.
type verb struct {
	name, usage, about string
	run                func(args []string, out io.Writer) error
}

// verbs returns the table of commands.
func verbs() []verb {
	return []verb{
		{"create", "CLUSTERNAME [--link0 ADDRESS] [--votes N]", "form a cluster of this node", create},
		{"joininfo", "[--valid DURATION]", "print what another node needs to join", joininfo},
		{"add", "HOSTNAME [--fingerprint FP] | --join-info FILE [--link0 ADDRESS] [--nodeid N] [--votes N]", "add this node to the cluster of another", add},
		{"delnode", "NODE", "take another node out of the cluster", delnode},
		{"status", "", "show the cluster and its quorum", statusVerb},
		{"nodes", "", "show the nodes that answer", nodesVerb},
		{"expected", "1 [--force]", "let this node go on alone when the majority is gone for good", expected},
		{"keygen", "FILE", "write a new secret", keygen},
		{"apiver", "", "print the version of what is said when a node joins", apiver},
		{"updatecerts", "[--silent] [--mount DIR] [--node NAME]", "make this node's directories, keys and certificates where they are missing", updatecerts},
	}
}

// Main runs the verb in args and prints to out.
func Main(args []string, out io.Writer) error {
	if len(args) == 0 {
		return errors.New("which verb?\n" + usage())
	}
	if args[0] == "help" || args[0] == "--help" || args[0] == "-h" {
		fmt.Fprint(out, usage())
		return nil
	}
	for _, v := range verbs() {
		if v.name != args[0] {
			continue
		}
		err := v.run(args[1:], out)
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	return fmt.Errorf("unknown verb %q\n%s", args[0], usage())
}

func usage() string {
	var b strings.Builder
	for _, v := range verbs() {
		fmt.Fprintf(&b, "usage: pvecm %s %s\n       %s\n", v.name, v.usage, v.about)
	}
	return b.String()
}

// hostname is the default name of this node.
func hostname() (string, error) {
	name, err := os.Hostname()
	short, _, _ := strings.Cut(name, ".")
	return short, err
}

// Package pvecm is the command pvecm, with which an operator manages a cluster.
//
// It owns the verbs and what they print. It works through the mounted files and
// asks the running daemon what no file can hold; it never touches the database.
package pvecm

import (
	"context"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"etcpve/agents/tools/cli"
	"etcpve/cfs/cluster"
	"etcpve/cfs/control"
	"etcpve/cfs/format/corosync"
	"etcpve/cfs/format/schema"
)

// Main carries out a command line and returns the exit code.
func Main(args []string, in io.Reader, out, err io.Writer) int {
	return New().Run(context.Background(), args, in, out, err)
}

// New returns the table of commands.
func New() *cli.Tool {
	joininfo := cli.Command{Words: "joininfo", Summary: "Print what another node needs to join: an address, the fingerprint of the certificate there, and a secret.", Run: joininfo,
		Options: asks(schema.Keys{"valid": about(schema.Matching(`\d+[smh]`).Else("1h"), "For how long it can be used.")})}
	also := joininfo
	also.Words, also.Hidden = "join-info", true
	commands := []cli.Command{
		{Words: "create", Summary: "Form a cluster of this node.", Run: create,
			Args: []cli.Param{must("clustername", schema.Named("pve-node").Long(15), "The name of the cluster.")},
			Options: asks(linked(schema.Keys{
				"nodeid":            about(id(1), "The id of this node."),
				"votes":             about(id(1), "The votes of this node; more than 1 decide only if they are more than all others have."),
				"token-coefficient": about(schema.Integer().Min(0).Else(125), "Kept in corosync.conf; how soon a node is missed does not depend on it."),
			}))},
		joininfo, also,
		{Words: "add", Summary: "Add this node to the cluster of another. The database that it had is set aside, and it begins anew with the tree of the cluster.", Run: add,
			Args: []cli.Param{{Name: "hostname", Rule: about(schema.Text(), "A member; left out with --join-info."), Optional: true}},
			Options: asks(linked(schema.Keys{
				"fingerprint": about(schema.Matching(`([A-Fa-f0-9]{2}:){31}[A-Fa-f0-9]{2}`), "Of the member's certificate; it is shown and must be confirmed otherwise."),
				"force":       about(schema.Truth(), "Join although there are guests, or as a node that is in the definition already."),
				"join-info":   about(schema.Text(), "A file with join information, - for standard input; no password is asked for then."),
				"mount":       about(schema.Text().Else(defaultMount), "Where the tree is mounted."),
				"nodeid":      about(id(1), "The id of this node; otherwise the next free one."),
				"use_ssh":     about(schema.Truth(), "Refused: nodes join by TLS, with a password or join information."),
				"votes":       about(id(0), "The votes of this node; with 0 it never decides."),
			}))},
		{Words: "addnode", Summary: "Enter a node into the definition that joins later, with 'pvecm add --force' there.", Run: addnode,
			Args: []cli.Param{must("node", schema.Named("pve-node"), "The name of the node.")},
			Options: asks(linked(schema.Keys{
				"apiversion":  about(schema.Integer(), "What the new node speaks."),
				"force":       about(schema.Truth(), "Replace an entry of the same name that does not answer."),
				"new_node_ip": about(schema.Named("ip"), "The address for link 0, unless it is given."),
				"nodeid":      about(id(1), "The id of the node."),
				"votes":       about(id(0), "The votes of the node."),
			}))},
	}
	return &cli.Tool{Name: "pvecm", Summary: "form, join and look after a cluster", Commands: slices.Concat(commands, upkeep())}
}

// upkeep is the commands for a cluster that there is.
func upkeep() []cli.Command {
	return []cli.Command{
		{Words: "delnode", Summary: "Take another node out of the cluster. It can join again later under the same name.", Run: delnode,
			Args: []cli.Param{must("node", schema.Named("pve-node"), "The name of the node.")}, Options: asks(nil)},
		{Words: "status", Summary: "Show the cluster and its quorum.", Run: status, Options: asks(nil)},
		{Words: "nodes", Summary: "Show the nodes that answer.", Run: nodes, Options: asks(nil)},
		{Words: "expected", Summary: "Lower how many votes are expected, to no fewer than the nodes that answer have. Without quorum, let them go on without the majority, which is gone for good; that is asked for confirmation.", Run: expected,
			Args:    []cli.Param{must("expected", schema.Integer().Min(1), "The number of votes to expect; a majority of it must answer.")},
			Options: asks(schema.Keys{"force": about(schema.Truth(), "Do not ask.")})},
		{Words: "keygen", Summary: "Write a new secret to a file, which must not exist.", Run: keygen,
			Args: []cli.Param{must("filename", schema.Text(), "The file.")}},
		{Words: "qdevice setup", Summary: "Let the pmxcfs that runs as a witness at an address vote, so that two nodes survive the loss of one.", Run: setupWitness,
			Args: []cli.Param{must("address", schema.Named("ip"), "The address of the witness.")},
			Options: asks(schema.Keys{
				"fingerprint": about(schema.Matching(`([A-Fa-f0-9]{2}:){31}[A-Fa-f0-9]{2}`), "Of the certificate of the witness; it is shown and must be confirmed otherwise."),
				"force":       about(schema.Truth(), "Although the number of nodes is odd."),
				"network":     about(schema.Named("CIDR"), "The network in which this node is reached by the witness."),
			})},
		{Words: "qdevice remove", Summary: "Take the witness out of the cluster.", Run: removeWitness, Options: asks(nil)},
		{Words: "apiver", Summary: "Print the version of what is said when a node joins.", Run: apiver},
		{Words: "mtunnel", Summary: "Used by the migration of guests: hold a connection open, or do one thing at its other end.", Run: mtunnel,
			Args: []cli.Param{{Name: "extra-args", Rest: true}},
			Options: schema.Keys{
				"get_migration_ip":  about(schema.Truth().Else(0), "Print the address of this node in the network for migration."),
				"migration_network": about(schema.Named("CIDR"), "The network for migration."),
				"run-command":       about(schema.Truth(), "Run the command that follows."),
				"mount":             about(schema.Text().Else(defaultMount), "Where the tree is mounted."),
			}},
		{Words: "updatecerts", Summary: "Make this node's directories, keys and certificates where they are missing. A certificate is valid for two years and is renewed when less than 30 days are left; a second run does nothing.", Run: updatecerts,
			Options: schema.Keys{
				"force":               about(schema.Truth(), "Make a new certificate in any case."),
				"silent":              about(schema.Truth(), "Print nothing when all is well."),
				"unmerge-known-hosts": about(schema.Truth().Else(0), "Accepted: host keys are kept for each node and are never merged."),
				"mount":               about(schema.Text().Else(defaultMount), "Where the tree is mounted."),
				"node":                about(schema.Named("pve-node"), "The name of this node; otherwise the host name."),
			}},
	}
}

// defaultMount is where the tree is mounted.
const defaultMount = "/etc/pve"

// linked adds --link0 to --link7.
func linked(keys schema.Keys) schema.Keys {
	for i := range corosync.MaxLinks {
		keys["link"+strconv.Itoa(i)] = about(schema.Nested(schema.Keys{
			"address":  schema.Named("address").Must().Bare(),
			"priority": schema.Integer().Min(0).Max(255).Else(0),
		}), "The address of the node for this link, and how it is preferred.")
	}
	return keys
}

// asks adds what commands need that ask the daemon.
func asks(keys schema.Keys) schema.Keys {
	if keys == nil {
		keys = schema.Keys{}
	}
	keys["socket"] = about(schema.Text().Else(control.Path), "The socket of the running pmxcfs.")
	return keys
}

// id is a number of the definition.
func id(least float64) *schema.Property { return schema.Integer().Min(least).Max(math.MaxUint32) }

func must(name string, rule *schema.Property, text string) cli.Param {
	return cli.Param{Name: name, Rule: about(rule.Must(), text)}
}

func about(p *schema.Property, text string) *schema.Property {
	p.Description = text
	return p
}

// or returns the value of an option, or another one if it was not given.
func or(c *cli.Call, name, other string) string {
	if c.Has(name) {
		return c.Value(name)
	}
	return other
}

// count returns a number that its rule has let pass; 0 if it was not given.
func count(c *cli.Call, name string) uint32 {
	n, _ := strconv.ParseUint(c.Value(name), 10, 32)
	return uint32(n)
}

// hostname is the default name of this node.
func hostname() (string, error) {
	name, err := os.Hostname()
	short, _, _ := strings.Cut(name, ".")
	return short, err
}

// report asks the daemon how the cluster looks; a lone node is in none.
func (d *daemon) report() (r cluster.Report, err error) {
	if err := d.ask("status", nil, &r); err != nil {
		return r, err
	}
	if len(r.Nodes) == 0 {
		return r, cluster.ErrAlone
	}
	return r, nil
}

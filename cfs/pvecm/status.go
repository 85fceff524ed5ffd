package pvecm

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"etcpve/agents/tools/cli"
	"etcpve/cfs/cluster"
)

func status(_ context.Context, c *cli.Call) error {
	r, err := of(c).report()
	if err == nil {
		printStatus(c.Out, r, time.Now())
	}
	return err
}

// printStatus has the form of PVE's pvecm status. A ring is a leader's term here.
// What corosync knows nothing of comes last.
func printStatus(out io.Writer, r cluster.Report, now time.Time) {
	heading(out, "Cluster information")
	field(out, "Name", r.Cluster)
	field(out, "Config Version", r.Version)
	field(out, "Transport", "tls")
	field(out, "Secure auth", "on")
	fmt.Fprintln(out)
	heading(out, "Quorum information")
	field(out, "Date", now.Format(time.ANSIC))
	field(out, "Quorum provider", "raft")
	field(out, "Nodes", present(r))
	field(out, "Node ID", fmt.Sprintf("0x%08x", own(r).ID))
	field(out, "Ring ID", fmt.Sprintf("%x.%x", leader(r).ID, r.Term))
	field(out, "Quorate", yes(r.Quorate))
	fmt.Fprintln(out)
	heading(out, "Votequorum information")
	field(out, "Expected votes", r.Expected)
	field(out, "Highest expected", r.Highest)
	field(out, "Total votes", r.Present)
	field(out, "Quorum", r.Expected/2+1)
	field(out, "Flags", flags(r))
	fmt.Fprintln(out)
	printMembers(out, r)
	fmt.Fprintln(out)
	heading(out, "Raft information")
	field(out, "Leader", orNone(r.Leader))
	field(out, "Term", r.Term)
	field(out, "Log index", r.Applied)
	field(out, "Voters", orNone(named(r, "voter")))
	field(out, "Learners", orNone(named(r, "learner")))
	switch {
	case r.Decider != "":
		field(out, "Votes", r.Decider+" decides alone, it has more than half")
	case r.Preferred:
		field(out, "Votes", "count once for each voter; nodes with more vote rather than others")
	}
	printLinks(out, r)
}

// printLinks shows by which link this node reaches the others, if there is a choice, and
// what is wrong with its own.
func printLinks(out io.Writer, r cluster.Report) {
	if r.Trouble == "" && !slices.ContainsFunc(r.Nodes, func(n cluster.Member) bool { return len(n.Links) > 1 || absent(n) }) {
		return
	}
	fmt.Fprintln(out)
	heading(out, "Link information")
	for _, n := range r.Nodes {
		var list []string
		for _, l := range n.Links {
			state := map[bool]string{true: " (in use)"}[l.InUse]
			if l.Absent {
				state = " (no interface has it)"
			}
			list = append(list, fmt.Sprintf("%d %s%s", l.Number, l.Address, state))
		}
		field(out, n.Name, strings.Join(list, ", ")+map[bool]string{true: " (local)"}[n.Name == r.Node])
	}
	if r.Trouble != "" {
		field(out, "Not used", strings.ReplaceAll(r.Trouble, "\n", "; "))
	}
}

func absent(n cluster.Member) bool {
	return slices.ContainsFunc(n.Links, func(l cluster.Link) bool { return l.Absent })
}

// printMembers lists who answers. With a quorum device there is a column that
// says whether it is alive and votes.
func printMembers(out io.Writer, r cluster.Report) {
	heading(out, "Membership information")
	column, state := "", ""
	if w := r.Witness; w != nil {
		column, state = fmt.Sprintf("%10s ", "Qdevice"), fmt.Sprintf("%10s ", device(*w))
	}
	fmt.Fprintf(out, "    Nodeid      Votes %sName\n", column)
	for _, n := range r.Nodes {
		if n.Online {
			fmt.Fprintf(out, "0x%08x %10d %s%s%s\n", n.ID, n.Votes, state, n.Address, map[bool]string{true: " (local)"}[n.Name == r.Node])
		}
	}
	if w := r.Witness; w != nil {
		fmt.Fprintf(out, "0x%08x %10d %10s Qdevice\n", 0, w.Votes, "")
	}
}

// device is how votequorum writes a device's state: (not) alive, (no) vote, not
// master wins.
func device(w cluster.Member) string {
	alive, vote := "NA", "NV"
	if w.Online {
		alive = "A"
	}
	if w.Online && w.Role == "voter" {
		vote = "V"
	}
	return alive + "," + vote + ",NMW"
}

func flags(r cluster.Report) string {
	var list []string
	if r.Quorate {
		list = append(list, "Quorate")
	}
	if r.Witness != nil {
		list = append(list, "Qdevice")
	}
	return strings.Join(list, " ")
}

// named lists the members in a role, the quorum device among them.
func named(r cluster.Report, role string) string {
	members := r.Nodes
	if r.Witness != nil {
		members = append(slices.Clone(members), *r.Witness)
	}
	var names []string
	for _, m := range members {
		if m.Role == role {
			names = append(names, m.Name)
		}
	}
	return strings.Join(names, " ")
}

func nodes(_ context.Context, c *cli.Call) error {
	r, err := of(c).report()
	if err != nil {
		return err
	}
	fmt.Fprintln(c.Out)
	heading(c.Out, "Membership information")
	fmt.Fprintln(c.Out, "    Nodeid      Votes Name")
	for _, n := range r.Nodes {
		if n.Online {
			fmt.Fprintf(c.Out, "%10d %10d %s%s\n", n.ID, n.Votes, n.Name, map[bool]string{true: " (local)"}[n.Name == r.Node])
		}
	}
	return nil
}

func heading(out io.Writer, text string) {
	fmt.Fprintln(out, text)
	for range len(text) {
		fmt.Fprint(out, "-")
	}
	fmt.Fprintln(out)
}

func field(out io.Writer, name string, value any) {
	fmt.Fprintf(out, "%-17s %v\n", name+":", value)
}

func present(r cluster.Report) (n int) {
	for _, m := range r.Nodes {
		if m.Online {
			n++
		}
	}
	return n
}

func own(r cluster.Report) cluster.Member {
	for _, m := range r.Nodes {
		if m.Name == r.Node {
			return m
		}
	}
	return cluster.Member{}
}

func leader(r cluster.Report) cluster.Member {
	for _, m := range r.Nodes {
		if m.Name == r.Leader {
			return m
		}
	}
	return cluster.Member{}
}

func yes(b bool) string {
	if b {
		return "Yes"
	}
	return "No"
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

package pvecm

import (
	"fmt"
	"io"
	"time"

	"etcpve/cfs/cluster"
)

func statusVerb(args []string, out io.Writer) error {
	var d daemon
	var r cluster.Report
	if err := none(d.flags("status"), args); err != nil {
		return err
	}
	if err := d.ask("status", nil, &r); err != nil {
		return err
	}
	if len(r.Nodes) == 0 {
		return cluster.ErrAlone
	}
	printStatus(out, r, time.Now())
	return nil
}

// printStatus has the form of PVE's pvecm status; what corosync would say of
// itself is replaced by where the log stands.
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
	field(out, "Leader", orNone(r.Leader))
	field(out, "Term", r.Term)
	field(out, "Log index", r.Applied)
	field(out, "Quorate", yes(r.Quorate))
	fmt.Fprintln(out)
	heading(out, "Votequorum information")
	field(out, "Expected votes", r.Expected)
	field(out, "Highest expected", r.Expected)
	field(out, "Total votes", r.Present)
	field(out, "Quorum", r.Expected/2+1)
	field(out, "Flags", map[bool]string{true: "Quorate", false: ""}[r.Quorate])
	fmt.Fprintln(out)
	heading(out, "Membership information")
	fmt.Fprintln(out, "    Nodeid      Votes    Role    Name")
	for _, n := range r.Nodes {
		if n.Online {
			fmt.Fprintf(out, "0x%08x %10d    %-7s %s%s\n", n.ID, n.Votes, n.Role, n.Address, map[bool]string{true: " (local)"}[n.Name == r.Node])
		}
	}
}

func nodesVerb(args []string, out io.Writer) error {
	var d daemon
	var r cluster.Report
	if err := none(d.flags("nodes"), args); err != nil {
		return err
	}
	if err := d.ask("status", nil, &r); err != nil {
		return err
	}
	fmt.Fprintln(out)
	heading(out, "Membership information")
	fmt.Fprintln(out, "    Nodeid      Votes Name")
	for _, n := range r.Nodes {
		if n.Online {
			fmt.Fprintf(out, "%10d %10d %s%s\n", n.ID, n.Votes, n.Name, map[bool]string{true: " (local)"}[n.Name == r.Node])
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

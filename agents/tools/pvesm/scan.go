package pvesm

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"etcpve/agents/host"
	"etcpve/agents/tools/cli"
	"etcpve/cfs/format/schema"
)

// A scan asks a server or the machine what could become a storage.
type scan struct {
	kind, summary string
	arg           *cli.Param
	argv          []string // the argument of the call follows
	fields        func(line string) (left, right string)
}

// scanTable is all that can be looked for. The words before the argument are
// fixed, so that no argument is taken for an option.
func scanTable() []scan {
	server := &cli.Param{Name: "server", Rule: about(schema.Named("pve-storage-server").Must(), "Name or address of the server.")}
	portal := &cli.Param{Name: "portal", Rule: about(schema.Named("pve-storage-portal-dns").Must(), "Address of the server, with port.")}
	vg := &cli.Param{Name: "vg", Rule: about(schema.Named("pve-storage-vgname").Must(), "Volume group.")}
	first := func(line string) (string, string) { return strings.TrimSpace(line), "" }
	return []scan{
		{"nfs", "List the exports of an NFS server.", server, []string{"showmount", "--no-headers", "--exports"}, words},
		{"cifs", "List the shares of a CIFS server.", server, []string{"smbclient", "--no-pass", "--grepable", "--list"}, share},
		{"iscsi", "List the targets of an iSCSI portal.", portal,
			[]string{"iscsiadm", "--mode", "discovery", "--type", "sendtargets", "--portal"},
			func(line string) (string, string) { portal, target := words(line); return target, portal }},
		{"lvm", "List the volume groups of this node.", nil, []string{"vgs", "--noheadings", "--options", "vg_name"}, first},
		{"lvmthin", "List the thin pools of a volume group.", vg,
			[]string{"lvs", "--noheadings", "--options", "lv_name", "--select", "segtype=thin-pool"}, first},
		{"zfs", "List the ZFS pools and data sets of this node.", nil, []string{"zfs", "list", "-H", "-t", "filesystem", "-o", "name"}, first},
	}
}

// words splits a line at its first blanks.
func words(line string) (string, string) {
	fields := strings.Fields(line)
	if len(fields) == 0 {
		return "", ""
	}
	return fields[0], strings.Join(fields[1:], " ")
}

// share reads a line "Disk|NAME|COMMENT"; printers and pipes are none.
func share(line string) (string, string) {
	parts := strings.SplitN(line, "|", 3)
	if len(parts) < 3 || parts[0] != "Disk" {
		return "", ""
	}
	return parts[1], parts[2]
}

func (p Place) scans() (commands []cli.Command) {
	for _, s := range scanTable() {
		c := cli.Command{Words: "scan " + s.kind, Summary: s.summary, Run: p.scanner(s)}
		if s.arg != nil {
			c.Args = []cli.Param{*s.arg}
		}
		short := c
		short.Words, short.Hidden = s.kind+"scan", true
		commands = append(commands, c, short)
	}
	return commands
}

func (p Place) scanner(s scan) func(context.Context, *cli.Call) error {
	return func(ctx context.Context, c *cli.Call) error {
		argv := slices.Clone(s.argv)
		if s.arg != nil {
			argv = append(argv, c.Value(s.arg.Name))
		}
		out, err := p.Run.Run(ctx, host.Command{Argv: argv})
		if err != nil {
			return err
		}
		var rows [][2]string
		width := 0
		for line := range strings.Lines(string(out)) {
			if left, right := s.fields(strings.TrimRight(line, "\n")); left != "" {
				rows = append(rows, [2]string{left, right})
				width = max(width, len(left))
			}
		}
		for _, row := range rows {
			fmt.Fprintln(c.Out, strings.TrimRight(fmt.Sprintf("%-*s %s", width, row[0], row[1]), " "))
		}
		return nil
	}
}

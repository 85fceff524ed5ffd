package pvesm

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"etcpve/agents/host"
	"etcpve/agents/storage"
	"etcpve/agents/tools/cli"
	"etcpve/cfs/format/schema"
)

// A scan asks a server or the machine what could become a storage.
type scan struct {
	kind, summary string
	arg           *cli.Param
	argv          []string // the argument of the call follows
	fields        func(line string) (left, right string)
	options       schema.Keys
	command       func(*cli.Call) (host.Command, error) // instead of argv
}

// scanTable is all that can be looked for. The words before the argument are
// fixed, so that no argument is taken for an option.
func scanTable() []scan {
	server := &cli.Param{Name: "server", Rule: about(schema.Named("pve-storage-server").Must(), "Name or address of the server.")}
	portal := &cli.Param{Name: "portal", Rule: about(schema.Named("pve-storage-portal-dns").Must(), "Address of the server, with port.")}
	vg := &cli.Param{Name: "vg", Rule: about(schema.Matching(`[a-zA-Z0-9.+_][a-zA-Z0-9.+_\-]+`).Long(100).Must(), "Volume group.")}
	first := func(line string) (string, string) { return strings.TrimSpace(line), "" }
	return []scan{
		{kind: "nfs", summary: "List the exports of an NFS server.", arg: server,
			argv: []string{"showmount", "--no-headers", "--exports"}, fields: words},
		{kind: "cifs", summary: "List the shares of a CIFS server.", arg: server, fields: share, command: smbclient, options: schema.Keys{
			"username": about(schema.Text(), "User name; without it, nobody logs in."),
			"password": about(schema.Text(), "Password; asked for if only the option is given."),
			"domain":   about(schema.Text(), "Domain of the user."),
		}},
		{kind: "iscsi", summary: "List the targets of an iSCSI portal.", arg: portal,
			argv:   []string{"iscsiadm", "--mode", "discovery", "--type", "sendtargets", "--portal"},
			fields: func(line string) (string, string) { portal, target := words(line); return target, portal }},
		{kind: "lvm", summary: "List the volume groups of this node.",
			argv: []string{"vgs", "--noheadings", "--options", "vg_name"}, fields: first},
		{kind: "lvmthin", summary: "List the thin pools of a volume group.", arg: vg,
			argv: []string{"lvs", "--noheadings", "--options", "lv_name", "--select", "segtype=thin-pool"}, fields: first},
		{kind: "zfs", summary: "List the ZFS pools and data sets of this node.",
			argv: []string{"zfs", "list", "-H", "-t", "filesystem", "-o", "name"}, fields: first},
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
		c := cli.Command{Words: "scan " + s.kind, Summary: s.summary, Run: p.scanner(s), Options: s.options, Prompt: []string{"password"}}
		if s.arg != nil {
			c.Args = []cli.Param{*s.arg}
		}
		short := c
		short.Words, short.Hidden = s.kind+"scan", true
		commands = append(commands, c, short)
	}
	return append(commands, p.scanPBS())
}

// smbclient lists the shares of a server. The password is in its environment,
// where only root can see it.
func smbclient(c *cli.Call) (host.Command, error) {
	argv := []string{"smbclient", "--grepable", "--list", c.Value("server")}
	if !c.Has("username") {
		return host.Command{Argv: append(argv, "--no-pass")}, nil
	}
	if domain := c.Value("domain"); domain != "" {
		argv = append(argv, "--workgroup", domain)
	}
	if !c.Has("password") {
		return host.Command{Argv: append(argv, "--no-pass", "--user", c.Value("username"))}, nil
	}
	password, err := c.Secret("password", "Enter Password")
	return host.Command{Argv: append(argv, "--user", c.Value("username")), Env: []string{"PASSWD=" + password}}, err
}

// scanPBS asks a backup server for its datastores.
func (p Place) scanPBS() cli.Command {
	options := cli.OutputKeys()
	maps.Copy(options, schema.Keys{
		"fingerprint": about(schema.Matching(`([A-Fa-f0-9]{2}:){31}[A-Fa-f0-9]{2}`), "SHA-256 of the server's certificate."),
		"password":    about(schema.Text().Must(), "Password."),
		"port":        about(schema.Integer().Min(1).Max(65535).Else(8007), "Port of the server."),
	})
	return cli.Command{Words: "scan pbs", Summary: "List the datastores of a backup server.", Prompt: []string{"password"}, Options: options,
		Args: []cli.Param{
			{Name: "server", Rule: about(schema.Named("pve-storage-server").Must(), "Name or address of the server.")},
			{Name: "username", Rule: about(schema.Text().Must(), "User name with realm, or an API token.")},
		},
		Run: func(ctx context.Context, c *cli.Call) error {
			password, err := c.Secret("password", "Enter Password")
			if err != nil {
				return err
			}
			finder, ok := p.Plugins["pbs"].(storage.DatastoreFinder)
			if !ok {
				return fmt.Errorf("scan pbs: %w", storage.ErrUnsupported)
			}
			stores, err := finder.Datastores(ctx, storage.BackupServer{Host: c.Value("server"), Port: c.Value("port"), User: c.Value("username"),
				Password: password, Fingerprint: c.Value("fingerprint")})
			if err != nil {
				return err
			}
			var records []cli.Record
			for _, s := range stores {
				records = append(records, cli.Record{"store": s.Name, "comment": s.Comment})
			}
			return c.Print([]string{"store", "comment"}, records)
		}}
}

func (p Place) scanner(s scan) func(context.Context, *cli.Call) error {
	return func(ctx context.Context, c *cli.Call) error {
		argv := slices.Clone(s.argv)
		if s.arg != nil {
			argv = append(argv, c.Value(s.arg.Name))
		}
		command := host.Command{Argv: argv}
		if s.command != nil {
			var err error
			if command, err = s.command(c); err != nil {
				return err
			}
		}
		out, err := p.Run.Run(ctx, command)
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

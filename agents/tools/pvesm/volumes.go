package pvesm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"etcpve/agents/host"
	"etcpve/agents/storage"
	"etcpve/agents/tools/cli"
	"etcpve/cfs/format/schema"
)

func vmidOf(c *cli.Call) uint32 {
	n, err := strconv.ParseUint(c.Value("vmid"), 10, 32)
	if err != nil {
		return 0 // not given; its form was checked
	}
	return uint32(n)
}

func (p Place) list(ctx context.Context, c *cli.Call) error {
	id := c.Value("storage")
	all, err := p.List(ctx, id, c.Value("content"), vmidOf(c))
	if err != nil {
		return err
	}
	width := len("Volid")
	for _, i := range all {
		width = max(width, len(id)+1+len(i.Name))
	}
	fmt.Fprintf(c.Out, "%-*s %-7s %-9s %12s %s\n", width, "Volid", "Format", "Type", "Size", "VMID")
	for _, i := range all {
		line := fmt.Sprintf("%-*s %-7s %-9s %12d", width, id+":"+i.Name, i.Format, i.Content, i.Size)
		if i.VMID != 0 {
			line += fmt.Sprintf(" %d", i.VMID)
		}
		fmt.Fprintln(c.Out, line)
	}
	return nil
}

// formatOf takes the format from a name that ends with one.
func formatOf(name string) string {
	for _, format := range []string{"raw", "qcow2", "vmdk", "subvol"} {
		if strings.HasSuffix(name, "."+format) {
			return format
		}
	}
	return ""
}

func (p Place) alloc(ctx context.Context, c *cli.Call) error {
	r := storage.Request{VMID: vmidOf(c), Name: c.Value("filename"), Format: c.Value("format")}
	if r.Format == "" {
		r.Format = formatOf(r.Name)
	}
	bytes, err := sizeOf(c.Value("size"))
	if err != nil {
		return err
	}
	r.Bytes = bytes
	id, err := p.Alloc(ctx, c.Value("storage"), r)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.Out, "successfully created '%s'\n", id)
	return nil
}

// sizeOf reads a size in KiB, or with M or G.
func sizeOf(text string) (int64, error) {
	shift := 10
	switch {
	case strings.HasSuffix(text, "M"):
		shift = 20
	case strings.HasSuffix(text, "G"):
		shift = 30
	}
	n, err := strconv.ParseInt(strings.TrimRight(text, "MG"), 10, 64)
	if err != nil || n > 1<<62>>shift {
		return 0, fmt.Errorf("size: '%s' is too large", text)
	}
	return n << shift, nil
}

func (p Place) free(ctx context.Context, c *cli.Call) error {
	volume := c.Value("volume")
	if id := c.Value("storage"); id != "" && !strings.HasPrefix(volume, id+":") {
		volume = id + ":" + volume
	}
	if err := p.Free(ctx, volume); err != nil {
		return err
	}
	fmt.Fprintf(c.Out, "Removed volume '%s'\n", volume)
	return nil
}

func (p Place) path(_ context.Context, c *cli.Call) error {
	path, err := p.Path(c.Value("volume"))
	if err != nil {
		return err
	}
	fmt.Fprintln(c.Out, path)
	return nil
}

func (p Place) prune(ctx context.Context, c *cli.Call) error {
	id := c.Value("storage")
	keep, err := p.retention(c)
	if err != nil {
		return err
	}
	all, err := p.List(ctx, id, storage.Backup, vmidOf(c))
	if err != nil {
		return err
	}
	var backups []storage.Candidate
	for _, i := range all {
		backups = append(backups, storage.Candidate{ID: id + ":" + i.Name, VMID: i.VMID, Created: i.Created, Protected: i.Protected})
	}
	decided := storage.Prune(backups, keep, c.Value("type"), vmidOf(c), time.Local)
	if !c.Bool("dry-run") {
		return p.removeMarked(ctx, decided, c.Out)
	}
	fmt.Fprint(c.Out, "NOTE: this is only a preview and might not be what a subsequent prune call does if backups are removed/added in the meantime.\n\n")
	width := len("Backup")
	for _, b := range decided {
		width = max(width, len(b.ID))
	}
	fmt.Fprintf(c.Out, "%-*s %15s %10s\n", width, "Backup", "Backup-ID", "Prune-Mark")
	for _, b := range decided {
		owner := b.Type
		if b.VMID != 0 {
			owner += fmt.Sprintf("/%d", b.VMID)
		}
		fmt.Fprintf(c.Out, "%-*s %15s %10s\n", width, b.ID, owner, b.Mark)
	}
	return nil
}

// retention takes the rules from the call, else from the storage.
func (p Place) retention(c *cli.Call) (storage.Retention, error) {
	keep := storage.Retention{}
	for _, key := range c.Given {
		if strings.HasPrefix(key, "keep-") {
			keep[key], _ = strconv.Atoi(c.Value(key)) // its form was checked
		}
	}
	if c.Bool("keep-all") {
		keep["keep-all"] = 1
	}
	if len(keep) > 0 {
		return keep, nil
	}
	s, _, err := p.Find(c.Value("storage"))
	if err != nil {
		return nil, err
	}
	if keep, err = storage.ParseRetention(s.Value("prune-backups")); err == nil && len(keep) == 0 {
		err = errors.New("no prune-backups options configured for storage '" + s.ID + "'")
	}
	return keep, err
}

func (p Place) removeMarked(ctx context.Context, decided []storage.Candidate, out io.Writer) (failures error) {
	for _, b := range decided {
		if b.Mark != storage.Remove {
			continue
		}
		if err := p.Free(ctx, b.ID); err != nil {
			failures = errors.Join(failures, fmt.Errorf("%s: %w", b.ID, err))
			continue
		}
		fmt.Fprintf(out, "Removed volume '%s'\n", b.ID)
	}
	return failures
}

// extract shows the configuration in a backup of a container, which is a tar
// archive with a well-known member.
func (p Place) extract(ctx context.Context, c *cli.Call) error {
	at, err := p.Locate(c.Value("volume"))
	if err != nil {
		return err
	}
	a, err := storage.ParseArchive(at.Volume.File, time.Local)
	if err != nil {
		return err
	}
	if a.Format != "tar" {
		return fmt.Errorf("'%s': the configuration inside %s archives is %w", a.File, a.Format, storage.ErrUnsupported)
	}
	path, err := at.Plugin.Path(at.Config, at.Volume, "")
	if err != nil {
		return err
	}
	out, err := p.Run.Run(ctx, host.Command{Argv: []string{"tar", "-xOf", path, "./etc/vzdump/pct.conf"}})
	if err == nil {
		_, err = c.Out.Write(out)
	}
	return err
}

func streamOf(c *cli.Call) storage.Stream {
	return storage.Stream{
		Format: c.Value("format"), Snapshot: c.Value("snapshot"), Base: c.Value("base"), Snapshots: c.Bool("with-snapshots"),
	}
}

func (p Place) export(ctx context.Context, c *cli.Call) error {
	if name := c.Value("filename"); name != "-" {
		f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		err = p.Export(ctx, c.Value("volume"), streamOf(c), f)
		return errors.Join(err, f.Close())
	}
	return p.Export(ctx, c.Value("volume"), streamOf(c), c.Out)
}

func (p Place) load(ctx context.Context, c *cli.Call) error {
	from := c.In
	if name := c.Value("filename"); name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		from = f
	}
	if from == nil {
		from = bytes.NewReader(nil)
	}
	id, err := p.Import(ctx, c.Value("volume"), streamOf(c), c.Bool("allow-rename"), from)
	if err != nil {
		return err
	}
	if name := c.Value("delete-snapshot"); name != "" {
		if err := p.DeleteSnapshot(ctx, id.String(), name); err != nil {
			return err
		}
	}
	fmt.Fprintf(c.Out, "successfully imported '%s'\n", id)
	return nil
}

func apiinfo(_ context.Context, c *cli.Call) error {
	fmt.Fprintf(c.Out, "APIVER %d\nAPIAGE %d\n", apiVersion, apiAge)
	return nil
}

func (p Place) status(ctx context.Context, c *cli.Call) error {
	all, _, err := storage.ReadConfigs(p.Tree)
	if err != nil {
		return err
	}
	var shown []*storage.Config
	for _, s := range all {
		if p.shows(s, c) {
			shown = append(shown, s)
		}
	}
	if only := c.Value("storage"); only != "" && len(shown) == 0 {
		_, _, err := p.Find(only)
		return err
	}
	printStatus(c.Out, shown, p.observe(ctx, shown))
	return nil
}

// shows reports whether the options ask for a storage.
func (p Place) shows(s *storage.Config, c *cli.Call) bool {
	only := c.Value("storage")
	keeps := !c.Has("content")
	for _, content := range schema.SplitList(c.Value("content")) {
		keeps = keeps || s.Keeps(content) == nil
	}
	return keeps && (only == "" || only == s.ID) && s.OnNode(p.Node) &&
		(!c.Has("target") || s.OnNode(c.Value("target"))) && (!c.Bool("enabled") || s.Enabled())
}

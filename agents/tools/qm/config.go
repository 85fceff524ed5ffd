package qm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"etcpve/agents/qemu/shadow"
	"etcpve/agents/qemu/verbs"
	"etcpve/agents/reconcile"
	"etcpve/agents/tools/cli"
	"etcpve/cfs/format/guest"
	"etcpve/cfs/format/schema"
	"etcpve/cfs/format/text"
	"etcpve/cfs/layout"
)

// A vm is the configuration file of a VM as it was read.
type vm struct {
	*guest.Config
	path string // relative to the tree
	text string
}

// A wording is an error in the words that users and scripts know.
type wording string

func (w wording) Error() string { return string(w) }

func (p Place) confPath(vmid uint32) string {
	return layout.Guest{VMID: vmid, Node: p.Node, Kind: layout.QEMU}.Path()
}

// vmidOf returns the VMID of a call, which the table has checked.
func vmidOf(c *cli.Call) uint32 {
	vmid, _ := layout.ParseVMID(strings.TrimLeft(c.Value("vmid"), "+0"))
	return vmid
}

// load reads the configuration of a VM of this node.
func (p Place) load(vmid uint32) (vm, error) {
	path := p.confPath(vmid)
	content, err := os.ReadFile(filepath.Join(p.Tree, path))
	if os.IsNotExist(err) {
		return vm{}, &cli.Coded{Code: cli.ExitAbsent, Err: wording("Configuration file '" + path + "' does not exist")}
	}
	if err != nil {
		return vm{}, err
	}
	config, problems := guest.Parse(layout.QEMU, vmid, string(content))
	for _, problem := range problems {
		if !problem.Unknown {
			return vm{}, fmt.Errorf("%s:%d: %s", path, problem.Place.Line, strings.TrimSpace(problem.Error()))
		}
	}
	return vm{Config: config, path: path, text: string(content)}, nil
}

// save replaces a configuration in one step, after the check that the file
// system makes too: here its answer reaches the user.
func (p Place) save(path string, vmid uint32, content string) error {
	refusals, _ := guest.Check(layout.QEMU, vmid, content)
	if len(refusals) > 0 {
		return errors.Join(refused(path, refusals)...)
	}
	return p.write(path, content)
}

func refused(path string, refusals []*text.Error) (errs []error) {
	for _, r := range refusals {
		errs = append(errs, fmt.Errorf("%s:%w", path, r))
	}
	return errs
}

// write replaces a file through a temporary name.
func (p Place) write(path, content string) error {
	path = filepath.Join(p.Tree, path)
	draft := fmt.Sprintf("%s.tmp.%d", path, os.Getpid())
	if err := os.WriteFile(draft, []byte(content), 0o640); err != nil {
		return err
	}
	if err := os.Rename(draft, path); err != nil {
		return errors.Join(err, os.Remove(draft))
	}
	return nil
}

// locked refuses to touch a locked VM.
func (v vm) locked(c *cli.Call) error {
	if lock := v.Main.Get("lock"); lock != "" && !c.Bool("skiplock") {
		return fmt.Errorf("VM is locked (%s)", lock)
	}
	return nil
}

func (p Place) config(_ context.Context, c *cli.Call) error {
	v, err := p.load(vmidOf(c))
	if err != nil {
		return err
	}
	section := v.Main.Clone()
	if name := c.Value("snapshot"); name != "" {
		if section = v.Snapshots[name]; section == nil {
			return fmt.Errorf("snapshot '%s' does not exist", name)
		}
	} else if !c.Bool("current") {
		apply(section, v.Pending)
	}
	for _, key := range allKeys(section) {
		fmt.Fprintf(c.Out, "%s: %s\n", key, shown(section, key))
	}
	return nil
}

// apply puts pending changes into effect.
func apply(section, pending *guest.Section) {
	for key := range pending.Deletions() {
		section.Delete(key)
	}
	for _, key := range allKeys(pending) {
		if key != "delete" {
			section.Set(key, pending.Get(key))
		}
	}
}

// allKeys are the keys of a section with the description, sorted.
func allKeys(s *guest.Section) []string {
	keys := s.Keys()
	if s.Has("description") {
		keys = append(keys, "description")
		slices.Sort(keys)
	}
	return keys
}

// shown is a value on one line: a description is percent-encoded, as in the file.
func shown(s *guest.Section, key string) string {
	if key != "description" {
		return secret(key, s.Get(key))
	}
	var b strings.Builder
	for _, r := range s.Get(key) {
		if r < ' ' || r == ':' || r == '%' || r == 0x7f {
			fmt.Fprintf(&b, "%%%02X", r)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// pending shows what the file holds back and what the agent says waits.
func (p Place) pending(_ context.Context, c *cli.Call) error {
	v, err := p.load(vmidOf(c))
	if err != nil {
		return err
	}
	waits := reconcile.Read(p.Tree, p.confPath(v.VMID)).Pending
	waiting := func(key string) bool {
		return slices.ContainsFunc(waits, func(w reconcile.Pending) bool { return w.Key == key })
	}
	deletions := v.Pending.Deletions()
	keys := append(allKeys(v.Main), allKeys(v.Pending)...)
	slices.Sort(keys)
	for _, key := range slices.Compact(keys) {
		force, deleted := deletions[key]
		switch {
		case key == "delete":
		case deleted:
			fmt.Fprintf(c.Out, "del%s %s: %s\n", map[bool]string{true: "!"}[force], key, shown(v.Main, key))
		case waiting(key) && !v.Pending.Has(key):
			fmt.Fprintf(c.Out, "new %s: %s\n", key, shown(v.Main, key))
		default:
			printBoth(c.Out, v, key)
		}
	}
	return nil
}

func printBoth(out io.Writer, v vm, key string) {
	if v.Main.Has(key) {
		fmt.Fprintf(out, "cur %s: %s\n", key, shown(v.Main, key))
	}
	if v.Pending.Has(key) {
		fmt.Fprintf(out, "new %s: %s\n", key, shown(v.Pending, key))
	}
}

// commandOptions are options of set and create that are no settings.
var commandOptions = []string{"delete", "revert", "digest", "force", "skiplock", "start"}

// set changes the file. Where volumes are to be made or given up, that is a task.
func (p Place) set(ctx context.Context, c *cli.Call) error {
	v, err := p.load(vmidOf(c))
	if err != nil {
		return err
	}
	if len(c.Given) == 0 {
		return errors.New("no options specified")
	}
	if err := cloudInitPassword(c); err != nil {
		return err
	}
	if digest := c.Value("digest"); digest != "" && digest != v.Digest {
		return wording("detected modified configuration - file changed by other user? Try again.")
	}
	if err := v.locked(c); err != nil {
		return err
	}
	if concernsVolumes(c) {
		report(c, v.VMID)
		return p.do(ctx, c, verbs.Configure, v.VMID, parameters(c))
	}
	changed := v.Clone()
	for _, key := range schema.SplitList(c.Value("revert")) {
		changed.Pending.Delete(key)
		changed.Pending.DropDeletion(key)
	}
	for _, key := range schema.SplitList(c.Value("delete")) {
		if c.Has(key) {
			return fmt.Errorf("400 Parameter verification failed.\n%s: you can't use '-%s' and -delete %s' at the same time", key, key, key)
		}
		changed.Main.Delete(key)
		changed.Pending.Delete(key)
	}
	report(c, v.VMID)
	assign(c, changed)
	return p.save(v.path, v.VMID, guest.Update(v.text, changed))
}

// concernsVolumes reports whether a call sets or removes disks.
func concernsVolumes(c *cli.Call) bool {
	return slices.ContainsFunc(append(schema.SplitList(c.Value("delete")), c.Given...), func(key string) bool {
		series, _, _ := guest.Series(key)
		return guest.IsVolume(layout.QEMU, key) || series == "unused"
	})
}

// report says what is being set, as a log of the command would.
func report(c *cli.Call, vmid uint32) {
	var words []string
	for _, key := range slices.Sorted(slices.Values(c.Given)) {
		value := c.Value(key)
		if key == "cipassword" {
			value = "<hidden>"
		}
		if !slices.Contains([]string{"digest", "skiplock"}, key) {
			words = append(words, "-"+key+" "+value)
		}
	}
	fmt.Fprintf(c.Out, "update VM %d: %s\n", vmid, strings.Join(words, " "))
}

// assign puts the settings of a call into a configuration.
func assign(c *cli.Call, config *guest.Config) {
	for _, key := range c.Given {
		if !slices.Contains(commandOptions, key) {
			config.Main.Set(key, c.Value(key))
			config.Pending.Delete(key)
			config.Pending.DropDeletion(key)
		}
	}
}

func (p Place) create(ctx context.Context, c *cli.Call) error {
	vmid := vmidOf(c)
	if err := cloudInitPassword(c); err != nil {
		return err
	}
	if c.Has("archive") {
		return p.restore(ctx, c)
	}
	if g, ok := p.find(vmid); ok {
		return fmt.Errorf("unable to create VM %d - VM %d already exists on node '%s'", vmid, vmid, g.Node)
	}
	return p.do(ctx, c, verbs.Create, vmid, parameters(c))
}

// cloudInitPassword asks for a password that is to be set and was not given, and
// keeps its hash only: many can read what comes of it.
func cloudInitPassword(c *cli.Call) (err error) {
	if !c.Has("cipassword") {
		return nil
	}
	password := c.Value("cipassword")
	if password == "" {
		if password, err = askPassword(c); err != nil {
			return err
		}
	}
	if !shadow.IsHash(password) {
		password = shadow.Hash(password)
	}
	c.Values["cipassword"] = password
	return nil
}

// find looks for a guest on all nodes.
func (p Place) find(vmid uint32) (layout.Guest, bool) {
	id := strconv.FormatUint(uint64(vmid), 10)
	for _, kind := range []layout.Kind{layout.QEMU, layout.LXC} {
		found, _ := filepath.Glob(filepath.Join(p.Tree, "nodes/*", kind.Dir(), id+".conf")) // the pattern is well formed
		for _, path := range found {
			if rel, err := filepath.Rel(p.Tree, path); err == nil {
				return layout.GuestOf(rel)
			}
		}
	}
	return layout.Guest{}, false
}

func (p Place) unlock(_ context.Context, c *cli.Call) error {
	v, err := p.load(vmidOf(c))
	if err != nil {
		return err
	}
	changed := v.Clone()
	changed.Main.Delete("lock")
	return p.save(v.path, v.VMID, guest.Update(v.text, changed))
}

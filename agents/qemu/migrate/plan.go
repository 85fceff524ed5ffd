package migrate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"etcpve/agents/guest"
	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/storage"
	"etcpve/agents/tunnel"
	config "etcpve/cfs/format/guest"
	"etcpve/cfs/format/property"
	"etcpve/cfs/format/settings"
)

// A plan is what one migration has to do, all checks made.
type plan struct {
	target   string
	online   bool           // the VM runs, and its memory moves too
	effect   cmdline.Config // of a VM that runs: what its QEMU has
	hardware guest.Hardware // and what its state needs
	accel    string
	cargo    []cargo
	network  string // CIDR, "" for the cluster's
	limit    int64  // bytes per second; 0 for none
	config   *config.Config
}

// A cargo is a volume that the other node cannot see and so gets a copy of.
type cargo struct {
	volume    string
	key       string // where the configuration names it
	storage   string // where the copy goes
	snapshots bool   // a snapshot needs it
	open      bool   // QEMU has it open and makes the copy
	state     bool   // it holds saved memory or the state of a TPM
}

// plan checks whether the VM can go, and what has to go with it. It changes nothing.
func (j job) plan(ctx context.Context) (*plan, error) {
	p := &plan{target: j.text("target")}
	var err error
	if p.config, err = j.Load(ctx, j.vmid); err != nil {
		return nil, err
	}
	if err := guest.CheckLock(p.config); err != nil {
		return nil, err
	}
	if p.target == j.Node {
		return nil, errors.New("target is local node")
	}
	members, err := tunnel.ReadMembers(j.Tree)
	if err == nil {
		err = members.Online(p.target)
	}
	if err != nil {
		return nil, err
	}
	running, err := j.Running(ctx, j.vmid)
	switch {
	case err != nil:
		return nil, err
	case running && !j.truth("online"):
		return nil, errors.New("can't migrate running VM without --online")
	case !running && j.truth("online"):
		j.log.Printf("VM isn't running. Doing offline migration instead.")
	}
	p.online = running
	if err := j.fixedParts(p); err != nil {
		return nil, err
	}
	if p.online {
		if err := j.inEffect(ctx, p); err != nil {
			return nil, err
		}
	}
	if err := j.volumes(ctx, p); err != nil {
		return nil, err
	}
	return p, j.speeds(p)
}

// fixedParts refuses a VM that uses what only this node has.
func (j job) fixedParts(p *plan) error {
	var local []string
	for _, key := range p.config.Main.Keys() {
		series, _, _ := config.Series(key)
		value := p.config.Main.Get(key)
		switch series {
		case "hostpci", "parallel", "virtiofs", "ivshmem":
			local = append(local, key)
		case "usb":
			if first, _, _ := strings.Cut(strings.TrimPrefix(value, "host="), ","); first != "spice" {
				local = append(local, key)
			}
		case "serial":
			if value != "socket" {
				local = append(local, key)
			}
		}
	}
	slices.Sort(local)
	switch {
	case len(local) == 0:
		return nil
	case p.online:
		return fmt.Errorf("can't migrate running VM which uses local devices: %s", strings.Join(local, ", "))
	case !j.truth("force"):
		return fmt.Errorf("can't migrate VM which uses local devices: %s", strings.Join(local, ", "))
	}
	j.log.Warnf("migrating VM which uses local devices: %s", strings.Join(local, ", "))
	return nil
}

// inEffect learns what the QEMU of a running VM is.
func (j job) inEffect(ctx context.Context, p *plan) (err error) {
	r, ok, err := j.Record(j.vmid)
	if err == nil && !ok {
		err = errors.New("nothing is known of how it was started")
	}
	if err != nil {
		return err
	}
	p.effect = r.Config
	p.accel, _, _ = strings.Cut(r.Accel, " ")
	p.hardware, err = j.Hardware(ctx, j.vmid)
	return err
}

// volumes finds those that have to be copied.
func (j job) volumes(ctx context.Context, p *plan) error {
	target, err := storageMap(j.text("targetstorage"))
	if err != nil {
		return err
	}
	seen := map[string]int{}
	for _, u := range uses(p.config) {
		id, _, onStorage := u.Storage()
		switch {
		case u.Volume.Volume == "none" || u.Volume.Volume == "":
			continue
		case u.has("shared"):
			continue
		case !onStorage && u.IsCDROM():
			return fmt.Errorf("can't migrate local cdrom drive (referenced in %s)", u.Key)
		case !onStorage:
			return fmt.Errorf("can't migrate local file/device '%s' (referenced in %s)", u.Volume.Volume, u.Key)
		}
		if at, known := seen[u.Volume.Volume]; known {
			p.merge(at, u)
			continue
		}
		c, err := j.carries(ctx, p, u, target(id))
		if err != nil {
			return err
		}
		seen[u.Volume.Volume] = -1
		if c != nil {
			seen[u.Volume.Volume] = len(p.cargo)
			p.cargo = append(p.cargo, *c)
		}
	}
	return p.consistent(j.truth("with-local-disks"))
}

// has reports whether a drive has a truth value that is set.
func (u use) has(option string) bool {
	return slices.Contains([]string{"1", "on", "yes", "true"}, u.Options[option])
}

// merge notes another place that names a volume.
func (p *plan) merge(at int, u use) {
	if at >= 0 && !u.main && u.section != p.config.Pending {
		p.cargo[at].snapshots = true
	}
}

// carries returns what has to be done for one volume, nil if nothing has.
func (j job) carries(ctx context.Context, p *plan, u use, to string) (*cargo, error) {
	at, err := j.Catalog.Locate(u.Volume.Volume)
	if err != nil {
		return nil, err
	}
	there := j.on(p.target).Catalog
	if at.Config.Shared() {
		_, _, err := there.Find(at.ID.Storage)
		return nil, err
	}
	switch {
	case u.IsCDROM() && !u.IsCloudInit():
		return nil, fmt.Errorf("can't migrate local cdrom '%s' (referenced in %s)", u.Volume.Volume, u.Key)
	case at.Volume.Content != storage.Images:
		return nil, fmt.Errorf("can't migrate local file '%s' (referenced in %s)", u.Volume.Volume, u.Key)
	case at.Volume.VMID != j.vmid:
		return nil, fmt.Errorf("can't migrate '%s': it belongs to guest %d", u.Volume.Volume, at.Volume.VMID)
	}
	s, _, err := there.Find(to)
	if err == nil {
		err = s.Keeps(storage.Images)
	}
	if err != nil {
		return nil, fmt.Errorf("storage for '%s': %w", u.Volume.Volume, err)
	}
	if at.Volume.IsBase {
		if err := j.baseFree(ctx, at); err != nil {
			return nil, err
		}
	}
	c := &cargo{volume: u.Volume.Volume, key: u.Key, storage: to, snapshots: !u.main && u.section != p.config.Pending && !u.state}
	c.state = u.state || u.Bus == "tpmstate"
	if p.online && u.main && u.Bus != "unused" && !u.IsCDROM() {
		o, err := p.effect.Options(u.Key, "file")
		if err != nil {
			return nil, err
		}
		c.open = o["file"] == u.Volume.Volume
	}
	return c, nil
}

// baseFree refuses a base that linked clones stand on: they would lose it.
func (j job) baseFree(ctx context.Context, at storage.Place) error {
	all, err := j.Catalog.List(ctx, at.ID.Storage, storage.Images, 0)
	if err != nil {
		return err
	}
	for _, i := range all {
		if v, err := at.Plugin.Parse(i.Name); err == nil && v.Base == at.Volume.File && v.BaseVMID == at.Volume.VMID {
			return fmt.Errorf("base volume '%s' is still in use by linked cloned volume '%s:%s'", at.ID, at.ID.Storage, i.Name)
		}
	}
	return nil
}

// consistent refuses to move a running VM whose disks cannot follow it.
func (p *plan) consistent(localDisks bool) error {
	if !p.online {
		return nil
	}
	named := map[string]bool{}
	for _, u := range uses(p.config) {
		named[u.Volume.Volume] = true
	}
	for _, key := range append(p.effect.DriveKeys(), "efidisk0") {
		o, err := p.effect.Options(key, "file")
		if err != nil {
			return err
		}
		if file := o["file"]; file != "" && file != "none" && !named[file] {
			return fmt.Errorf("can't live migrate: '%s' (%s) is still in use but not configured any more", file, key)
		}
	}
	for _, c := range p.cargo {
		o, err := p.effect.Options(c.key, "file")
		switch {
		case err != nil:
			return err
		case !c.open && !c.snapshots:
		case !localDisks:
			return fmt.Errorf("can't live migrate attached local disks without with-local-disks option ('%s')", c.volume)
		case c.snapshots:
			return fmt.Errorf("online storage migration not possible if snapshot exists ('%s')", c.volume)
		case o.Bool("snapshot", false):
			return fmt.Errorf("can't live migrate '%s': what it has written is not in its volume (snapshot=1)", c.key)
		}
	}
	return nil
}

// storageMap reads a list of pairs FROM:TO, where a lone TO is for all others
// and 1 stands for the same.
func storageMap(list string) (func(string) string, error) {
	to, pairs := "", map[string]string{}
	for _, item := range strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(",; \x00", r) }) {
		from, other, pair := strings.Cut(item, ":")
		switch {
		case pair && pairs[from] != "":
			return nil, fmt.Errorf("targetstorage: '%s' is mapped twice", from)
		case pair:
			pairs[from] = other
		case to != "":
			return nil, errors.New("targetstorage: more than one storage for all others")
		default:
			to = item
		}
	}
	if to == "1" {
		if to = ""; len(pairs) > 0 {
			return nil, errors.New("targetstorage: 1 stands alone")
		}
	}
	return func(from string) string { return cmp.Or(pairs[from], to, from) }, nil
}

// speeds reads over which network and how fast it may go.
func (j job) speeds(p *plan) error {
	text, err := os.ReadFile(filepath.Join(j.Tree, "datacenter.cfg"))
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	datacenter := settings.Parse(string(text))
	p.network = j.text("migration_network")
	if line, ok := datacenter.Get("migration"); ok && p.network == "" {
		if parts, err := property.Split(line); err == nil {
			p.network, _ = parts.Get("network")
		}
	}
	ask := storage.Bandwidth{Operation: "migration", Can: func(string, string) bool { return true }}
	ask.Datacenter, _ = datacenter.Get("bwlimit")
	for _, c := range p.cargo {
		from, _, _ := strings.Cut(c.volume, ":")
		ask.Storages = append(ask.Storages, from, c.storage)
	}
	ask.Of = func(id string) string {
		if s, _, err := j.Catalog.Find(id); err == nil {
			return s.Value("bwlimit")
		}
		return ""
	}
	if text := j.text("bwlimit"); text != "" {
		n, err := strconv.ParseFloat(text, 64)
		if err != nil || n < 0 {
			return fmt.Errorf("bwlimit: '%s' is no number of KiB/s", text)
		}
		ask.Override = &n
	}
	if limit := ask.Limit(); limit != nil {
		p.limit = int64(*limit * 1024)
	}
	return nil
}

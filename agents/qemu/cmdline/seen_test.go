package cmdline_test

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/monitor"
)

// A witness asks a QEMU what it has.
type witness struct {
	ctx    context.Context
	m      *monitor.Monitor
	config cmdline.Config // in effect, which is little of a template
	seen   []string       // what was found as configured
	ids    map[string]bool
	types  map[string]bool // of the devices without an identifier
}

func (w *witness) ask(command string, args, result any) error {
	return w.m.Run(w.ctx, command, args, result)
}

// saw notes a key, or makes an error of what is missing.
func (w *witness) saw(key string, ok bool, format string, args ...any) error {
	if !ok {
		return fmt.Errorf("%s: QEMU shows %s", key, fmt.Sprintf(format, args...))
	}
	w.seen = append(w.seen, key)
	return nil
}

// look compares all that QEMU shows with the configuration.
func (w *witness) look() error {
	var status struct{ Status string }
	if err := w.ask("query-status", nil, &status); err != nil || status.Status != "prelaunch" {
		return fmt.Errorf("status %q, %w", status.Status, err)
	}
	for _, check := range []func() error{
		w.devices, w.identity, w.size, w.drives, w.nics, w.chardevs, w.screen, w.firmware, w.small, w.numbered, w.iommu,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	slices.Sort(w.seen)
	return nil
}

func (w *witness) devices() error {
	w.ids, w.types = map[string]bool{}, map[string]bool{}
	for path, add := range map[string]func(name, kind string){
		"/machine/peripheral":      func(name, _ string) { w.ids[name] = true },
		"/machine/peripheral-anon": func(_, kind string) { w.types[strings.TrimSuffix(strings.TrimPrefix(kind, "child<"), ">")] = true },
		"/machine/unattached":      func(_, kind string) { w.types[strings.TrimSuffix(strings.TrimPrefix(kind, "child<"), ">")] = true },
	} {
		var children []struct{ Name, Type string }
		if err := w.ask("qom-list", map[string]any{"path": path}, &children); err != nil {
			return err
		}
		for _, c := range children {
			add(c.Name, c.Type)
		}
	}
	return nil
}

func (w *witness) identity() error {
	var name struct{ Name string }
	if err := w.ask("query-name", nil, &name); err != nil {
		return err
	}
	if want := w.config["name"]; want != "" {
		if err := w.saw("name", name.Name == want, "%q", name.Name); err != nil {
			return err
		}
	}
	if id := w.config["vmgenid"]; len(id) > 1 && w.config["arch"] != "aarch64" {
		var got struct{ Guid string }
		if err := w.ask("query-vm-generation-id", nil, &got); err != nil {
			return err
		}
		if err := w.saw("vmgenid", got.Guid == id, "%q", got.Guid); err != nil {
			return err
		}
	}
	var uuid struct{ UUID string }
	if err := w.ask("query-uuid", nil, &uuid); err != nil {
		return err
	}
	o, err := w.config.Options("smbios1", "")
	if err != nil || o["uuid"] == "" || w.config.Bool("template", false) {
		return err
	}
	return w.saw("smbios1", uuid.UUID == o["uuid"], "%s", uuid.UUID)
}

// size is of CPUs and memory.
func (w *witness) size() error {
	t, err := w.config.Topology()
	if err != nil {
		return err
	}
	var cpus []struct{}
	if err := w.ask("query-cpus-fast", nil, &cpus); err != nil {
		return err
	}
	if err := w.saw("cores", len(cpus) == t.VCPUs, "%d CPUs, want %d", len(cpus), t.VCPUs); err != nil {
		return err
	}
	want, err := w.config.MemoryMB()
	if err != nil {
		return err
	}
	var memory struct {
		Base    int64 `json:"base-memory"`
		Plugged int64 `json:"plugged-memory"`
	}
	if err := w.ask("query-memory-size-summary", nil, &memory); err != nil {
		return err
	}
	got := (memory.Base + memory.Plugged) >> 20
	if err := w.saw("memory", got == int64(want), "%d MiB, want %d", got, want); err != nil {
		return err
	}
	var devices []struct{}
	if err := w.ask("query-memory-devices", nil, &devices); err != nil {
		return err
	}
	var balloon struct{ Actual int64 }
	err = w.ask("query-balloon", nil, &balloon)
	return w.saw("balloon", (err == nil) == (w.config["balloon"] != "0"), "balloon: %v", err)
}

type block struct {
	Qdev     string
	Inserted *struct {
		NodeName string `json:"node-name"`
		RO       bool
	}
}

func (w *witness) drives() error {
	var blocks []block
	if err := w.ask("query-block", nil, &blocks); err != nil {
		return err
	}
	for _, key := range w.config.DriveKeys() {
		o, err := w.config.Options(key, "file")
		if err != nil {
			return err
		}
		i := slices.IndexFunc(blocks, func(b block) bool {
			return b.Qdev == key || strings.HasPrefix(b.Qdev, "/machine/peripheral/"+key+"/")
		})
		if err := w.saw(key, i >= 0 && w.ids[key], "no such drive"); err != nil {
			return err
		}
		in := blocks[i].Inserted
		empty := o["file"] == "none"
		if !empty && (in == nil || in.NodeName != cmdline.NodeName(key)) {
			return fmt.Errorf("%s: the medium is %+v", key, in)
		}
		readOnly := o["media"] == "cdrom" || o.Bool("ro", false) || w.config.Bool("template", false)
		if !empty && in.RO != readOnly {
			return fmt.Errorf("%s: read-only is %v", key, in.RO)
		}
		if err := w.limits(key, o); err != nil {
			return err
		}
		if err := w.driveProps(key, o); err != nil {
			return err
		}
	}
	return nil
}

func (w *witness) limits(key string, o cmdline.Options) error {
	if o["file"] == "none" {
		return nil
	}
	var limits map[string]int64
	if err := w.ask("qom-get", map[string]any{"path": "/objects/throttle-drive-" + key, "property": "limits"}, &limits); err != nil {
		return err
	}
	for option, name := range map[string]string{"iops_rd": "iops-read", "iops": "iops-total", "bps_wr": "bps-write", "iops_max": "iops-total-max", "iops_max_length": "iops-total-max-length"} {
		if n, err := strconv.ParseInt(o[option], 10, 64); err == nil && limits[name] != n {
			return fmt.Errorf("%s: %s is %d, want %d", key, name, limits[name], n)
		}
	}
	return nil
}

// driveProps are those of the device that the guest sees.
func (w *witness) driveProps(key string, o cmdline.Options) error {
	boot, err := w.config.BootOrder()
	if err != nil {
		return err
	}
	want := map[string]any{}
	if index, ok := boot[key]; ok {
		want["bootindex"] = index
	}
	if o["serial"] != "" {
		plain, err := url.PathUnescape(o["serial"])
		if err != nil {
			return err
		}
		want["serial"] = plain
	}
	if o.Bool("ssd", false) {
		want["rotation_rate"] = 1
	}
	for _, name := range []string{"vendor", "product", "rerror"} {
		if o[name] != "" {
			want[name] = o[name]
		}
	}
	return w.properties(key, want)
}

// properties compares properties of a device.
func (w *witness) properties(id string, want map[string]any) error {
	for name, value := range want {
		var got any
		if err := w.ask("qom-get", map[string]any{"path": "/machine/peripheral/" + id, "property": name}, &got); err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
		if fmt.Sprint(got) != fmt.Sprint(value) {
			return fmt.Errorf("%s: %s is %v, want %v", id, name, got, value)
		}
	}
	return nil
}

func (w *witness) nics() error {
	for _, key := range w.config.Indexed("net") {
		if err := w.saw(key, w.ids[key], "no such NIC"); err != nil {
			return err
		}
		o, err := cmdline.NICOptions(w.config, key)
		if err != nil {
			return err
		}
		want := map[string]any{}
		if o["macaddr"] != "" {
			want["mac"] = strings.ToLower(o["macaddr"])
		}
		var mac string
		if err := w.ask("qom-get", map[string]any{"path": "/machine/peripheral/" + key, "property": "mac"}, &mac); err != nil {
			return err
		}
		if o["macaddr"] != "" && !strings.EqualFold(mac, o["macaddr"]) {
			return fmt.Errorf("%s: the MAC address is %s, want %s", key, mac, o["macaddr"])
		}
		if mtu, _ := strconv.Atoi(o["mtu"]); mtu > 1 {
			if err := w.properties(key, map[string]any{"host_mtu": mtu}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *witness) chardevs() error {
	var all []struct{ Label string }
	if err := w.ask("query-chardev", nil, &all); err != nil {
		return err
	}
	want := slices.Concat(w.config.Indexed("serial"), w.config.Indexed("parallel"), w.config.Indexed("virtiofs"))
	if o, err := w.config.Options("agent", "enabled"); err == nil && o.Bool("enabled", false) {
		want = append(want, "qga0")
	}
	for _, label := range want {
		found := slices.ContainsFunc(all, func(c struct{ Label string }) bool { return c.Label == label })
		if err := w.saw(label, found, "no such character device"); err != nil {
			return err
		}
	}
	return nil
}

func (w *witness) screen() error {
	o, err := w.config.Options("vga", "type")
	if err != nil {
		return err
	}
	kind := o["type"]
	none := kind == "none" || strings.HasPrefix(kind, "serial")
	if err := w.saw("vga", w.ids["vga"] != none, "%v", w.ids); err != nil {
		return err
	}
	var vnc struct{ Enabled bool }
	if err := w.ask("query-vnc", nil, &vnc); err != nil || vnc.Enabled == none {
		return fmt.Errorf("VNC is enabled: %v, %w", vnc.Enabled, err)
	}
	if strings.HasPrefix(kind, "qxl") || strings.HasPrefix(kind, "virtio") {
		var spice struct{ Enabled bool }
		if err := w.ask("query-spice", nil, &spice); err != nil {
			return err
		}
		return w.saw("spice", spice.Enabled, "no SPICE")
	}
	return nil
}

func (w *witness) firmware() error {
	if w.config["bios"] == "ovmf" {
		var nodes []struct {
			NodeName string `json:"node-name"`
		}
		if err := w.ask("query-named-block-nodes", nil, &nodes); err != nil {
			return err
		}
		found := 0
		for _, n := range nodes {
			if n.NodeName == "pflash0" || n.NodeName == "drive-efidisk0" {
				found++
			}
		}
		if err := w.saw("efidisk0", found == 2, "%d of the two flash nodes", found); err != nil {
			return err
		}
	}
	if w.config["tpmstate0"] == "" {
		return nil
	}
	var tpm []struct{ Model string }
	if err := w.ask("query-tpm", nil, &tpm); err != nil {
		return err
	}
	return w.saw("tpmstate0", len(tpm) == 1, "%v", tpm)
}

// small are the devices that exist once, by key and identifier.
func (w *witness) small() error {
	for key, id := range map[string]string{"rng0": "rng0", "watchdog": "watchdog0", "ivshmem": "ivshmem0", "audio0": "audiodev0"} {
		if w.config[key] != "" {
			if err := w.saw(key, w.ids[id], "no device %s", id); err != nil {
				return err
			}
		}
	}
	pointer := !strings.HasPrefix(w.config["vga"], "qxl") && !strings.HasPrefix(w.config["vga"], "serial")
	return w.saw("tablet", w.ids["tablet"] == w.config.Bool("tablet", pointer), "the tablet is there: %v", w.ids["tablet"])
}

// numbered are the USB devices, shared directories, devices of the node and threads.
func (w *witness) numbered() error {
	for _, key := range w.config.Indexed("usb") {
		n, _ := cmdline.Index(key, "usb")
		if err := w.saw(key, w.ids[key] || w.ids[cmdline.RedirectID(n)], "no such USB device"); err != nil {
			return err
		}
	}
	for _, key := range slices.Concat(w.config.Indexed("virtiofs"), w.config.Indexed("hostpci")) {
		if err := w.saw(key, w.ids[key] || w.ids[key+".0"], "no such device"); err != nil {
			return err
		}
	}
	var threads []struct{ ID string }
	if err := w.ask("query-iothreads", nil, &threads); err != nil {
		return err
	}
	want := 0
	for _, key := range w.config.DriveKeys() {
		o, err := w.config.Options(key, "file")
		if err != nil {
			return err
		}
		bus, _, _ := cmdline.DriveBus(key)
		if o.Bool("iothread", false) && (bus == "virtio" || bus == "scsi" && w.config["scsihw"] == "virtio-scsi-single") && !w.config.Bool("template", false) {
			want++
		}
	}
	if len(threads) != want {
		return fmt.Errorf("%d I/O threads, want %d", len(threads), want)
	}
	var backends []struct{ ID string }
	if err := w.ask("query-memdev", nil, &backends); err != nil {
		return err
	}
	return nil
}

func (w *witness) iommu() error {
	o, err := w.config.Options("machine", "type")
	if err != nil || o["viommu"] == "" {
		return err
	}
	kind := map[string]string{"intel": "intel-iommu", "virtio": "virtio-iommu-pci"}[o["viommu"]]
	return w.saw("viommu", w.types[kind], "no %s", kind)
}

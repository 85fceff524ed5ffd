package cmdline

import (
	"fmt"
	"strconv"
	"strings"

	"etcpve/agents/qemu/config"
	"etcpve/agents/qemu/qdev"
)

// A NIC is one network card of a guest.
type NIC struct {
	Key      string
	Netdev   qdev.Device // its backend, whose driver is the type
	Device   qdev.Device
	Tap      *Tap // nil for a NIC without a bridge
	LinkDown bool
}

// nicDrivers are the models and QEMU's names for them.
var nicDrivers = map[string]string{
	"virtio": "virtio-net-pci", "e1000": "e1000", "e1000-82540em": "e1000", "e1000-82544gc": "e1000-82544gc",
	"e1000-82545em": "e1000-82545em", "e1000e": "e1000e", "i82551": "i82551", "i82557b": "i82557b",
	"i82559er": "i82559er", "ne2k_isa": "ne2k_isa", "ne2k_pci": "ne2k_pci", "pcnet": "pcnet",
	"rtl8139": "rtl8139", "vmxnet3": "vmxnet3",
}

// TapName is the name of the node's side of a NIC.
func TapName(vmid uint32, key string) string {
	return fmt.Sprintf("tap%di%s", vmid, strings.TrimPrefix(key, "net"))
}

// NICOptions splits the value of a net key and puts the model and the MAC
// address under "model" and "macaddr", however they were written.
func NICOptions(c Config, key string) (Options, error) {
	o, err := c.Options(key, "model")
	if err != nil {
		return nil, err
	}
	for model := range nicDrivers {
		if mac, ok := o[model]; ok {
			o["model"], o["macaddr"] = model, mac
			delete(o, model)
		}
	}
	if nicDrivers[o["model"]] == "" {
		return nil, config.Errorf(key, "unknown model %q", o["model"])
	}
	return o, nil
}

func (b *builder) nics() error {
	for _, key := range b.config.Indexed("net") {
		n, err := b.nic(key)
		if err != nil {
			return err
		}
		b.arg("-netdev", n.Netdev.String())
		b.add(n.Device)
		if n.Tap != nil {
			b.cmd.Taps = append(b.cmd.Taps, *n.Tap)
		}
	}
	return nil
}

// NICOf returns one NIC of a guest, for plugging it in while the guest runs.
func NICOf(g Guest, h Host, key string) (NIC, error) {
	b, err := newBuilder(g, h)
	if err != nil {
		return NIC{}, err
	}
	return b.nic(key)
}

func (b *builder) nic(key string) (n NIC, err error) {
	o, err := NICOptions(b.config, key)
	if err != nil {
		return n, err
	}
	at, err := b.pci(key)
	if err != nil {
		return n, err
	}
	n = NIC{Key: key, LinkDown: o.Bool("link_down", false)}
	mtu := 0
	if bridge := o["bridge"]; bridge != "" {
		var ok bool
		if mtu, ok = b.host.Bridge(bridge); !ok {
			return n, config.Errorf(key, "bridge '%s' does not exist", bridge)
		}
		if own, _ := strconv.Atoi(o["mtu"]); own > mtu && mtu > 0 {
			return n, config.Errorf(key, "mtu %d is more than the %d of bridge '%s'", own, mtu, bridge)
		}
		n.Tap = b.tap(key, o)
	}
	if o["rate"] != "" && n.Tap == nil {
		b.warn(key, "rate is not applied to a NIC without a bridge")
	}
	queues, _ := strconv.Atoi(o["queues"])
	n.Netdev = b.netdev(key, o, queues)
	virtio := o["model"] == "virtio"
	n.Device = qdev.New(nicDrivers[o["model"]], "netdev", key).With(at...).With("id", key)
	if o["model"] == "ne2k_isa" && b.machine.ARM {
		return n, config.Errorf(key, "an aarch64 guest has no ISA bus")
	}
	if o["model"] == "ne2k_isa" {
		n.Device = qdev.New("ne2k_isa", "netdev", key, "id", key)
	}
	if o["macaddr"] != "" {
		n.Device = n.Device.With("mac", o["macaddr"])
	}
	if virtio {
		n.Device = n.Device.With(b.virtioNet(key, o, queues, mtu)...)
	}
	if index, ok := b.boot[key]; ok && o["model"] != "ne2k_isa" {
		n.Device = n.Device.With("bootindex", index)
	}
	return n, nil
}

func (b *builder) tap(key string, o Options) *Tap {
	t := &Tap{Name: TapName(b.VMID, key), Bridge: o["bridge"], Key: key, Trunks: o["trunks"], Firewall: o.Bool("firewall", false)}
	t.Tag, _ = strconv.Atoi(o["tag"])
	if rate, err := strconv.ParseFloat(o["rate"], 64); err == nil && rate > 0 {
		t.Rate = int64(rate * (1 << 20))
	}
	return t
}

// netdev is the backend: QEMU makes the tap, so that it goes with QEMU.
func (b *builder) netdev(key string, o Options, queues int) qdev.Device {
	if o["bridge"] == "" {
		name := b.config["name"]
		if name == "" {
			name = fmt.Sprintf("vm%d", b.VMID)
		}
		return qdev.New("user", "id", key, "hostname", name)
	}
	d := qdev.New("tap", "id", key, "ifname", TapName(b.VMID, key), "script", "no", "downscript", "no")
	if b.host.VhostNet && b.kvm() && o["model"] == "virtio" {
		d = d.With("vhost", true)
	}
	if queues > 1 && o["model"] == "virtio" {
		d = d.With("queues", queues)
	}
	return d
}

// virtioNet are the properties only a virtio NIC has; bridge is the MTU of its
// bridge, 0 without one.
func (b *builder) virtioNet(key string, o Options, queues, bridge int) (props []any) {
	modern := b.machine.Pinned(7, 1)
	if queues > 1 && o["bridge"] != "" {
		props = append(props, "vectors", 2*queues+2, "mq", true)
		if modern {
			props = append(props, "packed", true)
		}
	}
	if modern {
		props = append(props, "rx_queue_size", 1024, "tx_queue_size", 256)
	}
	if b.machine.PXE {
		props = append(props, "romfile", "pxe-virtio.rom")
	}
	mtu, _ := strconv.Atoi(o["mtu"])
	if mtu == 1 || mtu == 0 && b.machine.Pinned(8, 0) {
		mtu = bridge
	}
	if was, ok := b.runningMTU(key); ok {
		mtu = was
	}
	if mtu > 0 {
		props = append(props, "host_mtu", mtu)
	}
	return props
}

// RunningMTU is the setting of a saved state that has the MTU each NIC offered
// to the guest when it was saved, as "net0=1500,net1=9000".
const RunningMTU = "running-nets-host-mtu"

// runningMTU is the MTU that a NIC has to offer for a saved state to fit it.
func (b *builder) runningMTU(key string) (mtu int, ok bool) {
	for nic := range strings.SplitSeq(b.config[RunningMTU], ",") {
		if name, value, _ := strings.Cut(nic, "="); name == key {
			mtu, err := strconv.Atoi(value)
			return mtu, err == nil
		}
	}
	return 0, false
}

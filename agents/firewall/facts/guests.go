package facts

import (
	"cmp"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"etcpve/agents/firewall"
	"etcpve/cfs/format/guest"
	"etcpve/cfs/format/property"
	"etcpve/cfs/layout"
)

// cached is a guest as the content of its configuration says.
type cached struct {
	content string
	guest   firewall.Guest
}

// guestsOf reads the NICs of the node's guests, sorted by VMID.
func (r *Reader) guestsOf() (list []firewall.Guest, err error) {
	found := map[string]cached{}
	for _, kind := range []layout.Kind{layout.QEMU, layout.LXC} {
		dir := "nodes/" + r.Node + "/" + kind.Dir()
		entries, e := os.ReadDir(filepath.Join(r.Tree, dir))
		if e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
		for _, entry := range entries {
			path := dir + "/" + entry.Name()
			g, ok := layout.GuestOf(path)
			if !ok {
				continue
			}
			content, e := os.ReadFile(filepath.Join(r.Tree, path))
			if errors.Is(e, fs.ErrNotExist) {
				continue // moved away since the directory was read
			}
			if e != nil {
				err = errors.Join(err, e)
				continue
			}
			known := r.guests[path]
			if known.content != string(content) || known.guest.VMID == 0 {
				known = cached{string(content), guestOf(g, string(content))}
			}
			found[path] = known
			list = append(list, known.guest)
		}
	}
	r.guests = found
	slices.SortFunc(list, func(a, b firewall.Guest) int { return cmp.Compare(a.VMID, b.VMID) })
	return list, err
}

// guestOf reads a guest's NICs. What is wrong with its configuration is for
// others to tell; a NIC that cannot be read does not exist.
func guestOf(g layout.Guest, content string) firewall.Guest {
	out := firewall.Guest{VMID: g.VMID, Container: g.Kind == layout.LXC}
	config, _ := guest.Parse(g.Kind, g.VMID, content)
	for _, key := range config.Main.Keys() {
		series, number, ok := guest.Series(key)
		if !ok || series != "net" {
			continue
		}
		if n, ok := nicOf(number, config.Main.Get(key)); ok {
			out.NICs = append(out.NICs, n)
		}
	}
	slices.SortFunc(out.NICs, func(a, b firewall.NIC) int { return cmp.Compare(a.Number, b.Number) })
	return out
}

// nicOf reads a NIC's property string. A virtual machine's MAC address stands
// behind the name of the model.
func nicOf(number int, value string) (firewall.NIC, bool) {
	parts, err := property.Split(value)
	if err != nil {
		return firewall.NIC{}, false
	}
	n := firewall.NIC{Number: number}
	for _, p := range parts {
		switch p.Key {
		case "bridge":
			n.Bridge = p.Value
		case "firewall":
			n.Firewall = p.Value != "" && !slices.Contains([]string{"0", "no", "off", "false"}, strings.ToLower(p.Value))
		case "ip", "ip6":
			if a, err := netip.ParsePrefix(p.Value); err == nil {
				n.Addresses = append(n.Addresses, a)
			}
		default:
			// In the one form that the kernel's tools take.
			if mac, err := net.ParseMAC(p.Value); err == nil && len(mac) == 6 && n.MAC == "" {
				n.MAC = strings.ToUpper(mac.String())
			}
		}
	}
	return n, true
}

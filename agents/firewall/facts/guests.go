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

// guestsOf returns the guests of the node, sorted by VMID. Configurations that
// are known are not read again.
func (r *Reader) guestsOf() (list []firewall.Guest, err error) {
	if r.listed != nil {
		return r.listed, nil
	}
	found, fresh := map[string]cached{}, map[string]bool{}
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
			known, e := r.guest(path, g)
			if errors.Is(e, fs.ErrNotExist) {
				continue // moved away since the directory was read
			}
			if e != nil {
				err = errors.Join(err, e)
				continue
			}
			found[path], fresh[path] = known, true
			list = append(list, known.guest)
		}
	}
	slices.SortFunc(list, func(a, b firewall.Guest) int { return cmp.Compare(a.VMID, b.VMID) })
	r.guests = found
	if err == nil {
		r.fresh, r.listed = fresh, list
	}
	return list, err
}

// guest returns what a configuration says, which is read unless it is known and
// parsed unless it says what it said before.
func (r *Reader) guest(path string, g layout.Guest) (cached, error) {
	known, ok := r.guests[path]
	if ok && r.fresh[path] {
		return known, nil
	}
	content, err := os.ReadFile(filepath.Join(r.Tree, path))
	if err != nil || ok && known.content == string(content) {
		return known, err
	}
	return cached{string(content), guestOf(g, string(content))}, nil
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

package tree

import (
	"cmp"
	"maps"
	"regexp"
	"slices"

	"etcpve/cfs/layout"
)

// A Guest is one line of the list of guests.
type Guest struct {
	layout.Guest
	Version uint64 // rises with every change of any guest since the start
}

// guests is what is known of all guests by their configuration files' names.
type guests struct {
	byID    map[uint32]Guest
	version uint64 // of the list
	last    uint64 // the last version given to a guest
}

func (g *guests) set(id layout.Guest) {
	g.version++
	g.last++
	g.byID[id.VMID] = Guest{id, g.last}
}

func (g *guests) drop(vmid uint32) {
	g.version++
	delete(g.byID, vmid)
}

// Guests returns the version of the list of guests, which rises with each
// change, and the guests in the order of their VMIDs.
func (t *Tree) Guests() (version uint64, list []Guest) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	list = slices.SortedFunc(maps.Values(t.guests.byID), func(a, b Guest) int { return cmp.Compare(a.VMID, b.VMID) })
	return t.guests.version, list
}

// Guest returns where the guest with the given VMID is configured.
func (t *Tree) Guest(vmid uint32) (Guest, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	g, ok := t.guests.byID[vmid]
	return g, ok
}

// observed are the files whose changes the kvstore of the field counts, in the
// order in which .version lists them.
var observed = []string{
	"corosync.conf", "corosync.conf.new", "storage.cfg", "user.cfg", "domains.cfg", "notifications.cfg",
	"priv/notifications.cfg", "priv/shadow.cfg", "priv/acme/plugins.cfg", "priv/tfa.cfg", "priv/token.cfg",
	"priv/wg-keys.cfg", "datacenter.cfg", "vzdump.cron", "vzdump.conf", "jobs.cfg",
	"ha/crm_commands", "ha/manager_status", "ha/resources.cfg", "ha/rules.cfg", "ha/groups.cfg", "ha/fence.cfg",
	"status.cfg", "replication.cfg", "ceph.conf", "sdn/vnets.cfg", "sdn/zones.cfg", "sdn/controllers.cfg",
	"sdn/subnets.cfg", "sdn/ipams.cfg", "sdn/mac-cache.json", "sdn/pve-ipam-state.json", "sdn/dns.cfg",
	"sdn/fabrics.cfg", "sdn/route-maps.cfg", "sdn/prefix-lists.cfg", "sdn/.running-config", "virtual-guest/cpu-models.conf",
	"virtual-guest/profiles.cfg", "firewall/cluster.fw", "mapping/directory.cfg", "mapping/pci.cfg", "mapping/usb.cfg",
}

// observedAlso are files that agents and the API watch and that have no counter
// in the field's daemon. They are listed once they have changed.
var observedAlso = regexp.MustCompile(`^(firewall|sdn/firewall)/[^/]+\.fw$` +
	`|^nodes/[^/]+/(host\.fw|config|lrm_status|pve-ssl\.pem|pveproxy-ssl\.pem)$` +
	`|^mapping/[^/]+\.cfg$`)

// isObserved tells the observed files by their paths.
var isObserved = func() map[string]bool {
	m := make(map[string]bool, len(observed))
	for _, p := range observed {
		m[p] = true
	}
	return m
}()

// A Counter says how often a file has changed since the start.
type Counter struct {
	Path string
	N    uint64
}

// counters holds the files that have changed since the start.
type counters map[string]uint64

func (c counters) count(path string) {
	if isObserved[path] || observedAlso.MatchString(path) {
		c[path]++
	}
}

// Counters returns the change counters of all observed files: those that the
// field knows in its own order, then the others that have changed.
func (t *Tree) Counters() []Counter {
	t.mu.RLock()
	defer t.mu.RUnlock()
	list := make([]Counter, 0, len(observed))
	for _, p := range observed {
		list = append(list, Counter{p, t.counters[p]})
	}
	for _, p := range slices.Sorted(maps.Keys(t.counters)) {
		if !isObserved[p] {
			list = append(list, Counter{p, t.counters[p]})
		}
	}
	return list
}

// Package cloudinit writes what a guest's cloud-init reads on its first boot:
// its name, user, keys and addresses.
//
// It owns the forms nocloud, configdrive2 and opennebula, and which keys of the
// configuration they are made of. It writes no file: see package iso.
package cloudinit

import (
	"crypto/sha1"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"etcpve/agents/qemu/config"
	guestfile "etcpve/cfs/format/guest"
)

// A Node is what the data takes from the node where the guest says nothing.
type Node struct {
	Nameservers []string
	Search      string
	Snippet     func(volume string) ([]byte, error) // content of a file that cicustom names
}

// Data is what the drive holds.
type Data struct {
	Label string // of the volume
	Files map[string][]byte

	User, Meta, Network, Vendor []byte // as they are shown
}

// Drive returns the key of the drive that is for cloud-init, "" if there is none.
func Drive(c config.Config) string {
	for _, key := range c.DriveKeys() {
		o, err := c.Options(key, "file")
		if err == nil && (guestfile.Volume{Volume: o["file"]}).IsCloudInit() {
			return key
		}
	}
	return ""
}

var keys = []string{"cicustom", "cipassword", "citype", "ciupgrade", "ciuser", "nameserver", "searchdomain", "sshkeys", "name"}

// Is reports whether the data is made of a key, besides the addresses of NICs.
func Is(key string) bool {
	_, ip := config.Index(key, "ipconfig")
	return ip || slices.Contains(keys, key)
}

// Values are the settings that the data is made of, as they are kept with the
// configuration while the drive holds them.
func Values(c config.Config) map[string]string {
	out := map[string]string{}
	for key, value := range c {
		if Is(key) {
			out[key] = value
		}
	}
	return out
}

// Make returns the data of a guest.
func Make(vmid uint32, c config.Config, n Node) (Data, error) {
	g, err := read(vmid, c, n)
	if err != nil {
		return Data{}, err
	}
	kind := c["citype"]
	if kind == "" {
		kind = map[bool]string{true: "configdrive2", false: "nocloud"}[c.Windows() > 0]
	}
	var d Data
	switch kind {
	case "nocloud":
		d = g.noCloud()
	case "configdrive2":
		d, err = g.configDrive(c.Windows() > 0)
	case "opennebula":
		d = g.context()
	default:
		return d, config.Errorf("citype", "%q is none of nocloud, configdrive2, opennebula", kind)
	}
	if err != nil {
		return d, err
	}
	if err := custom(&d, c, n); err != nil {
		return d, err
	}
	d.files(kind)
	return d, nil
}

// files puts the parts where cloud-init looks for them.
func (d *Data) files(kind string) {
	switch kind {
	case "nocloud":
		d.Label = "cidata"
		d.Files = map[string][]byte{"user-data": d.User, "meta-data": d.Meta, "network-config": d.Network, "vendor-data": d.Vendor}
	case "opennebula":
		d.Label = "CONTEXT"
		d.Files = map[string][]byte{"context.sh": d.User}
	default:
		d.Label = "config-2"
		d.Files = map[string][]byte{
			"openstack/latest/user_data": d.User, "openstack/latest/meta_data.json": d.Meta,
			"openstack/content/0000": d.Network, "openstack/latest/vendor_data.json": d.Vendor,
		}
	}
	maps.DeleteFunc(d.Files, func(_ string, content []byte) bool { return content == nil })
}

// custom replaces parts by files that the guest brings along.
func custom(d *Data, c config.Config, n Node) error {
	o, err := c.Options("cicustom", "")
	if err != nil {
		return err
	}
	for name, part := range map[string]*[]byte{"user": &d.User, "meta": &d.Meta, "network": &d.Network, "vendor": &d.Vendor} {
		if o[name] == "" {
			continue
		}
		content, err := n.Snippet(o[name])
		if err != nil {
			return &config.KeyError{Key: "cicustom", Err: fmt.Errorf("%s: %w", name, err)}
		}
		*part = content
	}
	return nil
}

// A guest is the data before it is written in one of the forms.
type guest struct {
	host, domain   string
	user, password string
	keys           []string
	upgrade        bool
	nics           []nic
	nameservers    []string
	search         []string
}

func read(vmid uint32, c config.Config, n Node) (guest, error) {
	g := guest{user: c["ciuser"], password: c["cipassword"], upgrade: c.Bool("ciupgrade", true)}
	g.host, g.domain, _ = strings.Cut(c["name"], ".")
	if g.host == "" {
		g.host = fmt.Sprintf("VM%d", vmid)
	}
	list := func(key, def string) []string {
		text := c[key]
		if text == "" {
			text = def
		}
		return strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" ,;", r) })
	}
	g.nameservers = list("nameserver", strings.Join(n.Nameservers, " "))
	g.search = list("searchdomain", n.Search)
	if g.domain == "" && len(g.search) > 0 {
		g.domain = g.search[0]
	}
	if c["sshkeys"] != "" {
		plain, err := url.PathUnescape(c["sshkeys"])
		if err != nil {
			return g, &config.KeyError{Key: "sshkeys", Err: err}
		}
		for line := range strings.Lines(plain) {
			if key := strings.TrimSpace(line); key != "" {
				g.keys = append(g.keys, key)
			}
		}
	}
	var err error
	g.nics, err = nics(c)
	return g, err
}

// fqdn is the full name of the guest.
func (g guest) fqdn() string {
	if g.domain == "" {
		return g.host
	}
	return g.host + "." + g.domain
}

// userData is the part that both forms share.
func (g guest) userData() []byte {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("#cloud-config")
	line("hostname: %s", g.host)
	line("manage_etc_hosts: true")
	if g.domain != "" {
		line("fqdn: %s", g.fqdn())
	}
	if g.user == "root" {
		line("disable_root: False")
	}
	if g.user != "" {
		line("user: %s", quote(g.user))
	}
	if g.password != "" {
		line("password: %s", quote(g.password))
	}
	if len(g.keys) > 0 {
		line("ssh_authorized_keys:")
		for _, key := range g.keys {
			line("  - %s", quote(key))
		}
	}
	line("chpasswd:")
	line("  expire: False")
	if g.user != "root" {
		line("users:")
		line("  - default")
	}
	if g.upgrade {
		line("package_upgrade: true")
	}
	return []byte(b.String())
}

// quote writes a string for YAML, which takes JSON's.
func quote(s string) string {
	out, err := json.Marshal(s)
	if err != nil {
		panic(err) // there is no string it cannot write
	}
	return string(out)
}

// instance names this data: cloud-init does its work again when the name changes.
func instance(parts ...[]byte) string {
	return fmt.Sprintf("%x", sha1.Sum(slices.Concat(parts...)))
}

func (g guest) noCloud() Data {
	d := Data{User: g.userData(), Network: g.networkConfig()}
	d.Meta = fmt.Appendf(nil, "instance-id: %s\n", instance(d.User, d.Network))
	return d
}

// configDrive is the form that Windows reads, too. There, the password is in
// the meta data and the user data is for the guest's own programs.
func (g guest) configDrive(windows bool) (Data, error) {
	d := Data{User: g.userData(), Network: g.interfaces()}
	meta := map[string]any{
		"uuid":           instance(d.User, d.Network),
		"network_config": map[string]string{"content_path": "/content/0000"},
	}
	if windows {
		meta["hostname"] = g.host
		if g.password != "" {
			meta["admin_pass"] = g.password
		}
		if g.user != "" {
			meta["admin_username"] = g.user
		}
		if len(g.keys) > 0 {
			public := map[string]string{}
			for i, key := range g.keys {
				public[fmt.Sprintf("key-%d", i)] = key
			}
			meta["public_keys"] = public
		}
		d.User = nil
	}
	var err error
	d.Meta, err = json.MarshalIndent(meta, "", "  ")
	return d, err
}

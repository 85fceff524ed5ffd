package schema

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"etcpve/fixtures/golden"
)

func TestCheckSaysWhatIsExpected(t *testing.T) {
	nested := Nested(Keys{"a": Integer().Min(1).Must().Bare(), "b": Choice("x", "y"), "c": Text().Needs("b")})
	tests := []struct {
		p           *Property
		value, want string
	}{
		{Truth(), "yes", ""},
		{Truth(), "2", "type check ('boolean') failed - got '2'"},
		{Integer(), "-3", ""},
		{Integer(), "1.5", "type check ('integer') failed - got '1.5'"},
		{Number(), ".5", ""},
		{Number(), "a", "type check ('number') failed - got 'a'"},
		{Integer().Min(3), "2", "value must have a minimum value of 3"},
		{Number().Max(0.5), "1", "value must have a maximum value of 0.5"},
		{Choice("x", "y"), "z", "value 'z' does not have a value in the enumeration 'x, y'"},
		{Text().Long(2), "äöü", "value may only be 2 characters long"},
		{Matching(`a|b`), "ab", "value does not match the regex pattern"},
		{Matching(`(?^i:a)+`), "aA", ""},
		{Matching(`(?>a)b`), "anything: not a pattern we can read", ""},
		{Named("pve-vmid"), "1", "invalid format - value does not look like a valid VM ID\n"},
		{Named("nobody-knows"), "1", ""},
		{nested, "1,b=x", ""},
		{nested, "b=x", "invalid format - format error\na: property is missing and it is not optional\n"},
		{nested, "0", "invalid format - format error\na: value must have a minimum value of 1\n"},
		{nested, "1,c=3", "invalid format - format error\nb: missing property - 'c' requires this property\n"},
		{nested, "1,2", "invalid format - duplicate key in comma-separated list property: a\n"},
		{nested, "1,d=2", "invalid format - invalid key in comma-separated list property: d\n"},
		{nested, "1,=2", "invalid format - missing key in comma-separated list property\n"},
	}
	for _, test := range tests {
		got := ""
		if err := test.p.Check(test.value); err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%q: %q, want %q", test.value, got, test.want)
		}
	}
}

func TestRefusalNamesInnerKeyAndColumn(t *testing.T) {
	p := Nested(Keys{"v": Text().Bare(), "size": Named("disk-size")})
	var refusal *Error
	if !errors.As(p.Check("x,size=big"), &refusal) {
		t.Fatal("not refused")
	}
	if refusal.Key != "size" || refusal.Column != 3 || refusal.Reason != "value does not look like a valid disk size: big" {
		t.Errorf("refusal %+v", refusal)
	}
}

func TestAliasesAreOneKey(t *testing.T) {
	keys := Keys{
		"model": Choice("virtio", "e1000").Bare().Must(), "macaddr": Named("mac-addr"), "on": Truth(),
		"virtio": Same("macaddr", "model"), "e1000": Same("macaddr", "model"), "address": Same("macaddr", ""),
	}
	tests := []struct{ text, canonical, err string }{
		{"virtio=BC:24:11:00:00:01,on=yes", "virtio=BC:24:11:00:00:01,on=1", ""},
		{"on=off,model=e1000,address=BC:24:11:00:00:01", "e1000=BC:24:11:00:00:01,on=0", ""},
		{"e1000", "e1000", ""},
		{"e1000,virtio=BC:24:11:00:00:01", "", "key alias 'model' is already defined\n"},
		{"virtio=BC:24:11:00:00:01,macaddr=BC:24:11:00:00:01", "", "duplicate key in comma-separated list property: macaddr\n"},
	}
	for _, test := range tests {
		values, err := keys.Parse(test.text)
		if test.err != "" {
			if err == nil || err.Error() != test.err {
				t.Errorf("%q: error %v, want %q", test.text, err, test.err)
			}
			continue
		}
		if got := keys.Print(values); err != nil || got != test.canonical {
			t.Errorf("%q prints as %q, %v; want %q", test.text, got, err, test.canonical)
		}
	}
}

func TestPrintOrder(t *testing.T) {
	keys := Keys{"z": Text().Bare(), "m": Text().Must(), "a": Text(), "size": Named("disk-size")}
	values := Values{"z": "1", "m": "2", "a": "3", "size": "2048K", "extra": "4"}
	if got := keys.Print(values, "extra"); got != "1,m=2,a=3,size=2M" {
		t.Errorf("printed %q", got)
	}
}

func TestFormats(t *testing.T) {
	tests := []struct{ format, good, bad string }{
		{"pve-node", "n-1 a", "-n n_1"},
		{"pve-storage-id", "local-lvm a.b", "1a a-"},
		{"pve-volume-id", "local:100/a.raw", "local /dev/sda"},
		{"pve-volume-id-or-qm-path", "none cdrom /dev/sda a1:b", "a.raw"},
		{"ipv4", "10.0.0.1", "10.0.0.256 ::1"},
		{"ipv6", "fe80::1", "10.0.0.1 fe80::1%eth0"},
		{"CIDR", "10.0.0.1/8 fd00::/64", "10.0.0.1 10.0.0.1/33"},
		{"CIDRv4", "10.0.0.1/24", "fd00::/64"},
		{"CIDRv6", "fd00::1/64", "10.0.0.1/24"},
		{"ipv4mask", "255.255.255.0 0.0.0.0", "255.0.255.0 24"},
		{"pve-ipv4-config", "dhcp manual 10.0.0.1/24", "auto 10.0.0.1"},
		{"pve-ipv6-config", "auto dhcp manual fd00::1/64", "fd00::1"},
		{"mac-addr", "BC:24:11:00:00:01", "01:00:5e:00:00:01 BC:24:11:00:00"},
		{"dns-name", "a.example.com localhost", "a_b -a a..b"},
		{"address", "10.0.0.1 a.example.com", "a_b"},
		{"address-list", "10.0.0.1,a;b", "10.0.0.1,a_b"},
		{"disk-size", "32G 1.5T 100", "32g 1P"},
		{"pve-startup-order", "1 order=2,up=30,down=5 up=1", "order=a first,up=1 1,up="},
		{"pve-hotplug-features", "0 1 network,disk,usb", "network,fan"},
		{"pve-qm-bootdev-list", "scsi0;net31;ide3", "scsi31 floppy0"},
		{"pve-phys-bits", "host 8 64", "7 65 all"},
		{"pve-vlan-id-or-range-list", "1-4,5;4094", "0 4095 5-4"},
		{"pve-tag-list", "a;B-1_x", "a!"},
		{"pve-lxc-mp-string", "/mnt/a local:a", "/mnt/../a ../a ./a"},
		{"pve-lxc-dev-string", "/dev/fuse", "/etc/passwd /dev/../etc"},
		{"pve-iface", "vmbr0 eth0.100 en:1", "0eth a"},
		{"urlencoded", "a%20b", "a%zz"},
		{"storage-pair-list", "1 a1:b1,c1", "a1:b"},
		{"lxc-ip-with-ll-iface-list", "10.0.0.1;fe80::1%eth0", "a fd00::1%eth0"},
		{"email", "a.b@example.com", "a@ b"},
		{"prune-backups", "keep-last=3,keep-daily=7", "keep-last=a keep=1"},
	}
	for _, test := range tests {
		for _, value := range strings.Fields(test.good) {
			if err := CheckFormat(test.format, value); err != nil {
				t.Errorf("%s refuses %q: %v", test.format, value, err)
			}
		}
		for _, value := range strings.Fields(test.bad) {
			if CheckFormat(test.format, value) == nil {
				t.Errorf("%s accepts %q", test.format, value)
			}
		}
	}
	if err := CheckFormat("mac-addr-opt", ""); err != nil {
		t.Errorf("an optional value must not be there: %v", err)
	}
}

func TestSizes(t *testing.T) {
	for text, bytes := range map[string]int64{"0": 0, "1K": 1 << 10, "1.5M": 3 << 19, "32G": 32 << 30, "4T": 4 << 40, "1025": 1025} {
		if got, ok := ParseSize(text); got != bytes || !ok {
			t.Errorf("%s is %d, want %d", text, got, bytes)
		}
	}
	for _, text := range []string{"", "G", "1G ", "-1", "99999999999999T"} {
		if _, ok := ParseSize(text); ok {
			t.Errorf("%q is read as a size", text)
		}
	}
	for bytes, text := range map[int64]string{0: "0T", 1025: "1025", 1 << 10: "1K", 3 << 19: "1536K", 1 << 50: "1024T"} {
		if got := FormatSize(bytes); got != text {
			t.Errorf("%d is written %s, want %s", bytes, got, text)
		}
	}
}

func TestJSONShape(t *testing.T) {
	const text = `{"type":"string","optional":1,"format":{"a":{"type":"integer","minimum":3,"default_key":true},"b":{"alias":"a"}},"enum":["x"],"items":{"type":"string","format":"pve-node"}}`
	var p Property
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		t.Fatal(err)
	}
	if !p.Optional || *p.Format.Keys["a"].Minimum != 3 || p.Format.Keys["b"].Alias != "a" || p.Items.Format.Name != "pve-node" {
		t.Errorf("read as %+v", p)
	}
	again, err := json.Marshal(&p)
	if err != nil {
		t.Fatal(err)
	}
	var q Property
	if err := json.Unmarshal(again, &q); err != nil || q.Items.Format.Name != "pve-node" || !q.Format.Keys["a"].DefaultKey {
		t.Errorf("%s reads as %+v, %v", again, q, err)
	}
	if err := json.Unmarshal([]byte(`{"optional":7}`), &p); err == nil {
		t.Error("7 is taken as a truth value")
	}
}

// TestFormatsAreKnown compares with the published list of format names.
func TestFormatsAreKnown(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(golden.Dir(t, "schema"), "formats.json"))
	if err != nil {
		t.Skip(err)
	}
	var facts struct {
		Formats map[string]struct{ Kind string }
	}
	if err := json.Unmarshal(content, &facts); err != nil {
		t.Fatal(err)
	}
	elsewhere := []string{"pve-fw-", "pve-sdn-", "pve-qm-", "pve-qemu-", "pve-lxc-network", "pve-ct-", "pve-cpu-conf", "pve-vm-cpu-conf", "pem-", "string", "ldap-", "graphite-", "pve-command-batch"}
	for name := range facts.Formats {
		owned := false
		for _, prefix := range elsewhere {
			owned = owned || strings.HasPrefix(name, prefix)
		}
		if formats[name] == nil && named[name] == nil && !owned {
			t.Errorf("%s is not checked", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("virtio=BC:24:11:00:00:01,on=1")
	keys := Keys{"m": Text().Bare(), "a": Text(), "v": Same("a", "m"), "on": Truth(), "s": Named("disk-size"), "n": Named("ipv4-list")}
	f.Fuzz(func(t *testing.T, text string) {
		values, err := keys.Parse(text)
		if err != nil {
			return
		}
		printed := keys.Print(values)
		again, err := keys.Parse(printed)
		if err != nil && !strings.ContainsAny(text, " \t\n\r\v\f\u0085\u00a0") {
			t.Fatalf("%q prints as %q: %v", text, printed, err)
		}
		if err == nil && keys.Print(again) != printed {
			t.Errorf("%q prints as %q, then as %q", text, printed, keys.Print(again))
		}
	})
}

func FuzzFormats(f *testing.F) {
	f.Add("10.0.0.1/24")
	f.Fuzz(func(_ *testing.T, text string) {
		for name := range formats {
			_ = CheckFormat(name+"-list", text) // must only come back
		}
	})
}

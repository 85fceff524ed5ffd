package definitions

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"etcpve/cfs/format/section"
	lines "etcpve/cfs/format/text"
	"etcpve/fixtures/golden"
)

// TestDefinitionsAgreeWithThemselves allows for keys that several types share,
// which are all in Base.
func TestDefinitionsAgreeWithThemselves(t *testing.T) {
	for path, d := range sectioned {
		if err := d.Verify(); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		used := map[string]bool{}
		for _, kind := range d.Types {
			for key := range kind.Options {
				used[key] = true
			}
		}
		for key := range d.Base {
			if !used[key] {
				t.Errorf("%s: no type takes the key %q", path, key)
			}
		}
	}
}

func check(path, content string) (refused, warnings []lines.Error) {
	d, ok := Sectioned(path)
	if !ok {
		return nil, []lines.Error{{Message: "no definition"}}
	}
	r := section.NewReader(d, path)
	for _, l := range lines.Lines(content) {
		r.Line(l)
	}
	return r.End()
}

// files are what installations have, one section of many kinds each.
var files = map[string]string{
	"storage.cfg": `dir: local
	path /var/lib/vz
	content iso,vztmpl,backup
	prune-backups keep-last=3,keep-daily=7
	shared 0

lvmthin: local-lvm
	thinpool data
	vgname pve
	content rootdir,images

nfs: nas
	path /mnt/pve/nas
	server nas.example.org
	export /srv/vm
	options vers=4.2,soft
	nodes n1,n2
	disable

rbd: ceph
	monhost 192.0.2.1 192.0.2.2:6789
	pool rbd
	krbd 1
	content images

zfspool: tank
	pool rpool/data
	sparse 1
	mountpoint /rpool/data

pbs: backup
	server 192.0.2.9
	datastore main
	content backup
	fingerprint ` + strings.Repeat("aB:", 31) + `01
	username backup@pbs
	namespace a/b

cifs: win
	path /mnt/pve/win
	server 192.0.2.8
	share vm
	username u
	smbversion 3.11
`,
	"replication.cfg": "local: 100-0\n\ttarget n2\n\trate 10\n\tschedule */15\n\tsource n1\n",
	"jobs.cfg": `vzdump: backup-1a2b3c4d-5e6f
	schedule mon..fri 02:30
	all 1
	enabled 1
	fleecing enabled=1,storage=local-lvm
	mode snapshot
	notes-template {{guestname}} of {{node}}
	prune-backups keep-last=2
	repeat-missed 0
	storage backup
	exclude-path /tmp/?*
	exclude-path /var/tmp/?*

realm-sync: nightly
	realm corp
	schedule daily
	scope both
	remove-vanished acl;entry
`,
	"domains.cfg": `pam: pam
	comment Linux PAM standard authentication

pve: pve
	comment Own users
	default 1

ldap: corp
	base_dn dc=example,dc=org
	server1 ldap.example.org
	user_attr uid
	mode ldaps
	verify 1
	sync-defaults-options scope=users,enable-new=1

openid: sso
	client-id etcpve
	issuer-url https://sso.example.org/realms/main
	username-claim email
	autocreate 1
`,
	"status.cfg":                    "graphite: gr\n\tport 2003\n\tserver 192.0.2.4\n\tproto tcp\n\ninfluxdb: inf\n\tport 8089\n\tserver db.example.org\n\tinfluxdbproto https\n\tbucket b\n",
	"ha/resources.cfg":              "vm: 100\n\tstate started\n\tmax_restart 2\n\nct: 100\n\tstate ignored\n\tcomment a b\n",
	"ha/rules.cfg":                  "node-affinity: near\n\tresources vm:100,ct:101\n\tnodes n1:2,n2\n\tstrict 1\n\nresource-affinity: apart\n\taffinity negative\n\tresources vm:100,vm:102\n\tdisable\n",
	"ha/groups.cfg":                 "group: g1\n\tnodes n1:1,n2\n\tnofailback 1\n\trestricted 0\n",
	"mapping/pci.cfg":               "gpu\n\tdescription two cards\n\tmap id=10de:1eb8,iommugroup=12,node=n1,path=0000:01:00.0;0000:02:00,subsystem-id=10de:12a2\n\tmap id=10de:1eb8,node=n2,path=0000:41:00.0\n\tmdev 1\n",
	"mapping/usb.cfg":               "key\n\tmap id=1050:0407,node=n1\n\tmap id=1050:0407,node=n2,path=1-2.3\n",
	"sdn/zones.cfg":                 "simple: z1\n\tipam pve\n\tdhcp dnsmasq\n\nevpn: z2\n\tcontroller c1\n\tvrf-vxlan 10000\n\tmac BC:24:11:00:00:01\n\texitnodes n1,n2\n\nvxlan: z3\n\tpeers 192.0.2.1,192.0.2.2\n\tmtu 1450\n\nqinq: z4\n\tbridge vmbr0\n\ttag 20\n\nvlan: z5\n\tbridge vmbr0\n",
	"sdn/vnets.cfg":                 "vnet: v1\n\tzone z1\n\talias some (net)\n\ttag 7\n\tvlanaware 1\n",
	"sdn/subnets.cfg":               "subnet: z1-10.0.0.0-24\n\tvnet v1\n\tgateway 10.0.0.1\n\tsnat 1\n\tdhcp-range start-address=10.0.0.10,end-address=10.0.0.99\n",
	"sdn/ipams.cfg":                 "pve: pve\n\nnetbox: nb\n\ttoken t\n\turl https://nb.example.org/api\n",
	"sdn/dns.cfg":                   "powerdns: pd\n\tkey k\n\turl http://192.0.2.5:8081/api\n\tttl 600\n",
	"sdn/controllers.cfg":           "evpn: c1\n\tasn 65000\n\tpeers 192.0.2.1,192.0.2.2\n\nbgp: bgpn1\n\tasn 65001\n\tnode n1\n\tpeers 192.0.2.254\n\tebgp 1\n",
	"sdn/fabrics.cfg":               "openfabric_fabric: fab1\n\tip_prefix 192.0.2.0/24\n\thello_interval 3\n\nopenfabric_node: fab1_n1\n\tip 192.0.2.1\n\tinterfaces name=ens18,hello_multiplier=9\n\tinterfaces name=ens19\n",
	"notifications.cfg":             "sendmail: mail-to-root\n\tcomment Mails to root@pam's address\n\tmailto-user root@pam\n\torigin builtin\n\nsmtp: relay\n\tfrom-address pve@example.org\n\tserver mail.example.org\n\tmode starttls\n\tmailto a@example.org\n\tmailto b@example.org\n\nmatcher: default-matcher\n\tmode all\n\ttarget mail-to-root\n\tmatch-severity error,warning\n\tmatch-field exact:type=vzdump\n\tinvert-match true\n",
	"priv/notifications.cfg":        "smtp: relay\n\tpassword secret\n\ngotify: push\n\ttoken abc\n",
	"virtual-guest/cpu-models.conf": "cpu-model: web\n\tflags +aes;-pcid\n\thv-vendor-id proxmox\n\tphys-bits host\n\treported-model EPYC-Rome\n",
	"priv/acme/plugins.cfg":         "dns: cf\n\tapi cf\n\tdata Q0ZfVG9rZW49YWJj\n\tvalidation-delay 30\n\nstandalone: standalone\n",
	"mapping/directory.cfg":         "share\n\tmap node=n1,path=/srv/share\n",
}

func TestWhatInstallationsHavePasses(t *testing.T) {
	for path, content := range files {
		refused, warnings := check(path, content)
		for _, e := range append(refused, warnings...) {
			t.Errorf("%v", &e)
		}
	}
	for path := range sectioned {
		if files[path] == "" {
			t.Errorf("%s: no sample", path)
		}
	}
}

func TestWhatIsRefused(t *testing.T) {
	for _, c := range []struct{ path, content, reason string }{
		{"storage.cfg", "dir: ab\n\tpath /x\n\tcontent films\n", "films"},
		{"storage.cfg", "lvm: ab\n\tvgname v\n\tcontent iso\n", "'iso' is not for type 'lvm'"},
		{"storage.cfg", "dir: ab\n\tcontent iso\n", "path: section 'ab' of type 'dir' lacks"},
		{"storage.cfg", "dir: ab\n\tpath relative\n", "path"},
		{"storage.cfg", "dir: ab\n\tpath /x\n\tprune-backups keep-most=1\n", "keep-most"},
		{"storage.cfg", "dir: ab\n\tpath /x\n\tshared maybe\n", "boolean"},
		{"replication.cfg", "local: 100\n\ttarget n2\n", "pattern"},
		{"jobs.cfg", "vzdump: ab\n\tall 1\n", "schedule"},
		{"ha/resources.cfg", "vm: 100\n\tstate running\n", "enumeration"},
		{"ha/resources.cfg", "vm: web\n", "VM ID"},
		{"ha/rules.cfg", "node-affinity: ab\n\tresources vm:100\n", "nodes"},
		{"mapping/pci.cfg", "gpu\n\tmap node=n1\n", "id"},
		{"sdn/zones.cfg", "simple: toolongname\n", "8 characters"},
		{"sdn/vnets.cfg", "vnet: v1\n\tzone z\n\ttag 0\n", "minimum"},
	} {
		refused, _ := check(c.path, c.content)
		if len(refused) == 0 || !strings.Contains(refused[0].Error(), c.reason) {
			t.Errorf("%s: %q: %v; want %s", c.path, c.content, refused, c.reason)
		}
	}
}

// typesJSON is how golden data lists the keys of a type.
type typesJSON struct {
	File  string
	Types map[string]struct{ Options map[string]section.Option }
}

// TestTypesTakeTheKeysOfTheReference compares with golden data where it is.
func TestTypesTakeTheKeysOfTheReference(t *testing.T) {
	dir := golden.Dir(t, "schema")
	for _, name := range []string{"storage", "jobs", "replication", "metric-servers", "acme-plugins", "cpu-models", "ha", "mapping", "sdn"} {
		content, err := os.ReadFile(filepath.Join(dir, name+".json"))
		if err != nil {
			t.Logf("not on this machine: %v", err)
			continue
		}
		var one typesJSON
		if err := json.Unmarshal(content, &one); err != nil {
			t.Fatal(err)
		}
		all := map[string]typesJSON{"": one}
		if one.File == "" {
			all = map[string]typesJSON{}
			if err := json.Unmarshal(content, &all); err != nil {
				t.Fatal(err)
			}
		}
		for _, file := range all {
			d, ok := Sectioned(file.File)
			if !ok || len(file.Types) == 0 {
				continue
			}
			for kind, want := range file.Types {
				got := maps.Clone(d.Types[kind].Options)
				for key, p := range d.Types[kind].Properties {
					got[key] = section.Option{Optional: p.Optional}
				}
				if !maps.Equal(got, want.Options) {
					t.Errorf("%s: type %s takes %v; want %v", file.File, kind, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want.Options)))
				}
			}
		}
	}
}

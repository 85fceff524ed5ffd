package cloudinit

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"etcpve/agents/qemu/config"
)

var node = Node{
	Nameservers: []string{"192.0.2.1"}, Search: "node.test",
	Snippet: func(volume string) ([]byte, error) {
		if volume == "local:snippets/net.yml" {
			return []byte("version: 2\n"), nil
		}
		return nil, errors.New("no such file")
	},
}

func TestNoCloudHasUserAndAddresses(t *testing.T) {
	d, err := Make(100, config.Config{
		"name": "web.example.com", "ciuser": "ann", "cipassword": "$5$x", "ciupgrade": "0", "sshkeys": "ssh-ed25519%20AAA%20a%0Assh-rsa%20BBB%0A",
		"net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0", "ipconfig0": "ip=10.0.0.5/20,gw=10.0.0.1,ip6=auto",
		"net2": "virtio=BC:24:11:00:00:02", "ipconfig2": "ip=dhcp,ip6=fd00::2/64,gw6=fd00::1", "nameserver": "1.1.1.1 9.9.9.9",
	}, node)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"user-data": `#cloud-config
hostname: web
manage_etc_hosts: true
fqdn: web.example.com
user: "ann"
password: "$5$x"
ssh_authorized_keys:
  - "ssh-ed25519 AAA a"
  - "ssh-rsa BBB"
chpasswd:
  expire: False
users:
  - default
`,
		"network-config": `version: 1
config:
    - type: physical
      name: eth0
      mac_address: 'bc:24:11:00:00:01'
      subnets:
      - type: static
        address: '10.0.0.5'
        netmask: '255.255.240.0'
        gateway: '10.0.0.1'
      - type: ipv6_slaac
    - type: physical
      name: eth1
      mac_address: 'bc:24:11:00:00:02'
      subnets:
      - type: dhcp4
      - type: static6
        address: 'fd00::2/64'
        gateway: 'fd00::1'
    - type: nameserver
      address:
      - '1.1.1.1'
      - '9.9.9.9'
      search:
      - 'node.test'
`,
	}
	for name, text := range want {
		if got := string(d.Files[name]); got != text {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, text)
		}
	}
	if meta := string(d.Files["meta-data"]); !strings.HasPrefix(meta, "instance-id: ") || d.Label != "cidata" || len(d.Files) != 3 {
		t.Errorf("%s: meta-data %q, files %d", d.Label, meta, len(d.Files))
	}
}

func TestConfigDriveIsForWindowsToo(t *testing.T) {
	d, err := Make(100, config.Config{"ostype": "win11", "cipassword": "secret", "ciuser": "Admin", "net0": "e1000=BC:24:11:00:00:01", "ipconfig0": "ip=10.0.0.5/24,gw=10.0.0.1"}, node)
	if err != nil {
		t.Fatal(err)
	}
	var meta struct {
		Pass    string            `json:"admin_pass"`
		User    string            `json:"admin_username"`
		Host    string            `json:"hostname"`
		Network map[string]string `json:"network_config"`
	}
	if err := json.Unmarshal(d.Files["openstack/latest/meta_data.json"], &meta); err != nil {
		t.Fatal(err)
	}
	if meta.Pass != "secret" || meta.User != "Admin" || meta.Host != "VM100" || meta.Network["content_path"] != "/content/0000" || d.Label != "config-2" {
		t.Errorf("%s: %+v", d.Label, meta)
	}
	want := "auto lo\niface lo inet loopback\n\nauto eth0\niface eth0 inet static\n        address 10.0.0.5\n        netmask 255.255.255.0\n" +
		"        gateway 10.0.0.1\n        dns_nameservers 192.0.2.1\n        dns_search node.test\n"
	if got := string(d.Files["openstack/content/0000"]); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

func TestContextIsAListOfShellVariables(t *testing.T) {
	d, err := Make(100, config.Config{"citype": "opennebula", "ciuser": "ann", "cipassword": "it's", "name": "web",
		"net1": "virtio=BC:24:11:00:00:01", "ipconfig1": "ip=10.0.0.5/24,gw=10.0.0.1,ip6=fd00::2/64"}, node)
	if err != nil {
		t.Fatal(err)
	}
	want := "SET_HOSTNAME='web'\nUSERNAME='ann'\nPASSWORD='it'\\''s'\nNETWORK='YES'\nDNS='192.0.2.1'\nSEARCH_DOMAIN='node.test'\nETH0_MAC='bc:24:11:00:00:01'\n" +
		"ETH0_IP='10.0.0.5'\nETH0_MASK='255.255.255.0'\nETH0_GATEWAY='10.0.0.1'\nETH0_IP6='fd00::2'\nETH0_IP6_PREFIX_LENGTH='64'\n"
	if got := string(d.Files["context.sh"]); got != want || d.Label != "CONTEXT" {
		t.Errorf("%s:\n%s\nwant\n%s", d.Label, got, want)
	}
}

func TestSnippetsReplacePartsAndErrorsNameTheirKey(t *testing.T) {
	d, err := Make(100, config.Config{"cicustom": "network=local:snippets/net.yml"}, node)
	if err != nil || string(d.Files["network-config"]) != "version: 2\n" {
		t.Errorf("%q, %v", d.Files["network-config"], err)
	}
	for key, c := range map[string]config.Config{
		"cicustom":  {"cicustom": "user=local:snippets/none"},
		"citype":    {"citype": "punched-cards"},
		"ipconfig0": {"net0": "virtio", "ipconfig0": "ip=10.0.0.5"},
		"sshkeys":   {"sshkeys": "%zz"},
	} {
		_, err := Make(100, c, node)
		var about *config.KeyError
		if !errors.As(err, &about) || about.Key != key {
			t.Errorf("%v, want an error about %s", err, key)
		}
	}
}

func TestDriveIsFoundByItsName(t *testing.T) {
	for volume, want := range map[string]string{"local-lvm:vm-100-cloudinit": "ide2", "local:100/vm-100-cloudinit.qcow2": "ide2", "local:iso/x.iso": ""} {
		if got := Drive(config.Config{"scsi0": "local:100/a.raw", "ide2": volume + ",media=cdrom"}); got != want {
			t.Errorf("%s: %q", volume, got)
		}
	}
}

package ovf

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"etcpve/agents/storage/image"
	"etcpve/fixtures/golden"
)

// envelope is a manifest with prefixes that no exporter uses.
func envelope(inner string) string {
	return `<x:Envelope xmlns:x="http://schemas.dmtf.org/ovf/envelope/1" xmlns:r="urn:r" xmlns:v="http://www.vmware.com/schema/ovf">
<x:References><x:File x:id="f1" x:href="a.vmdk"/><x:File x:id="f2" x:href="b.vmdk"/><x:File x:id="f3" x:href="%s"/></x:References>
<x:DiskSection><x:Disk x:diskId="d1" x:fileRef="f1" x:capacity="3" x:capacityAllocationUnits="byte * 2^10 * 2"/>
<x:Disk x:diskId="d2" x:fileRef="f2" x:capacity="5" x:capacityAllocationUnits="MegaBytes"/><x:Disk x:diskId="d3" x:fileRef="f3" x:capacity="7"/></x:DiskSection>
<x:VirtualSystem x:id="the system">` + inner + `</x:VirtualSystem></x:Envelope>`
}

func item(kind int, rest string) string {
	return fmt.Sprintf("<x:Item><r:ResourceType>%d</r:ResourceType>%s</x:Item>", kind, rest)
}

func TestParse(t *testing.T) {
	text := fmt.Sprintf(envelope(`<x:OperatingSystemSection x:id="105"/><x:VirtualHardwareSection>`+
		item(5, "<r:InstanceID>1</r:InstanceID>")+item(5, "<r:InstanceID>2</r:InstanceID>")+item(6, "<r:InstanceID>3</r:InstanceID>")+
		item(17, "<r:HostResource>ovf:/disk/d1</r:HostResource><r:Parent>1</r:Parent><r:AddressOnParent>0</r:AddressOnParent>")+
		item(17, "<r:HostResource>/disk/d2</r:HostResource><r:Parent>2</r:Parent><r:AddressOnParent>0</r:AddressOnParent>")+
		item(17, "<r:HostResource>ovf:/disk/d3</r:HostResource><r:Parent>3</r:Parent><r:AddressOnParent>4</r:AddressOnParent>")+
		item(17, "<r:HostResource>ovf:/disk/none</r:HostResource><r:Parent>3</r:Parent><r:AddressOnParent>5</r:AddressOnParent>")+
		item(4, "<r:AllocationUnits>GigaBytes</r:AllocationUnits><r:VirtualQuantity>2</r:VirtualQuantity>")+
		item(3, "<r:VirtualQuantity>6</r:VirtualQuantity>")+item(10, "<r:ResourceSubType>VmxNet3</r:ResourceSubType>")+item(10, "<r:ResourceSubType>PCNet32</r:ResourceSubType>")+
		`</x:VirtualHardwareSection><v:Config v:key="firmware" v:value="efi"/>`), "c.raw")
	m, err := Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"name": "the-system", "ostype": "win7", "memory": "2048", "cores": "6", "bios": "ovmf", "boot": "order=ide0;ide1;scsi4"}
	if !maps.Equal(m.Settings, want) {
		t.Errorf("%v, want %v", m.Settings, want)
	}
	if got := fmt.Sprint(m.Disks, m.Nets); got != "[{ide0 a.vmdk 6144} {ide1 b.vmdk 5242880} {scsi4 c.raw 7}] [{net0 vmxnet3} {net1 e1000}]" {
		t.Error(got)
	}
}

// TestOSTypes takes the numbers of CIM at face value.
func TestOSTypes(t *testing.T) {
	for id, want := range map[string]string{
		"58": "w2k", "69": "w2k3", "74": "wvista", "77": "w2k8", "103": "win7", "112": "win8", "116": "win10", "117": "win8", "119": "win10",
		"121": "win10", "123": "win11", "36": "l26", "94": "l26", "97": "l24", "29": "solaris", "1": "other", "": "other", "x": "other", "999": "other",
	} {
		if got := osType(id); got != want {
			t.Errorf("%s is %s; want %s", id, got, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	disk := item(6, "<r:InstanceID>3</r:InstanceID>") + item(17, "<r:HostResource>ovf:/disk/d3</r:HostResource><r:Parent>3</r:Parent><r:AddressOnParent>4</r:AddressOnParent>")
	for name, text := range map[string]string{
		"empty":           "",
		"no system":       "<Envelope/>",
		"another file":    "<html><VirtualSystem/></html>",
		"path":            fmt.Sprintf(envelope(disk), "../../etc/shadow"),
		"absolute path":   fmt.Sprintf(envelope(disk), "/etc/shadow"),
		"internal entity": `<!DOCTYPE x [<!ENTITY a "b">]><Envelope><VirtualSystem><Name>&a;</Name></VirtualSystem></Envelope>`,
		"deep":            strings.Repeat("<a>", 100000),
	} {
		if m, err := Parse(strings.NewReader(text)); err == nil {
			t.Errorf("%s: %+v", name, m)
		}
	}
}

func TestGoldenManifests(t *testing.T) {
	dir := golden.Dir(t, "ovf")
	names, err := filepath.Glob(filepath.Join(dir, "*.expected.json"))
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		var c struct {
			Name, Manifest string
			Error          *string
			Expected       struct {
				QM    map[string]string
				Disks []struct {
					Address  string `json:"disk_address"`
					Path     string `json:"relative_path"`
					Declared int64  `json:"declared_size"`
					Virtual  int64  `json:"image_virtual_size"`
				}
				Net map[string]struct{ Model string }
			}
		}
		text, err := os.ReadFile(name)
		if err == nil {
			err = json.Unmarshal(text, &c)
		}
		if err != nil {
			t.Fatal(err)
		}
		golden.Case(t, "ovf", c.Name, func(t *testing.T) {
			f, err := os.Open(filepath.Join(dir, c.Manifest))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			m, err := Parse(f)
			if (err != nil) != (c.Error != nil) {
				t.Fatalf("error %v, want one: %v", err, c.Error != nil)
			}
			if !maps.Equal(m.Settings, c.Expected.QM) && c.Error == nil {
				t.Errorf("settings %v, want %v", m.Settings, c.Expected.QM)
			}
			if len(m.Disks) != len(c.Expected.Disks) || len(m.Nets) != len(c.Expected.Net) {
				t.Fatalf("%+v, want %+v", m, c.Expected)
			}
			for i, want := range c.Expected.Disks {
				if m.Disks[i] != (Disk{want.Address, want.Path, want.Declared}) || sizeOfImage(t, want.Path, want.Virtual) != want.Virtual {
					t.Errorf("disk %+v, want %+v", m.Disks[i], want)
				}
			}
			for _, n := range m.Nets {
				if n.Model != c.Expected.Net[n.Key].Model {
					t.Errorf("%+v, want %+v", n, c.Expected.Net)
				}
			}
		})
	}
}

// sizeOfImage makes an image as it came with the manifest and reads its size.
func sizeOfImage(t *testing.T, name string, bytes int64) int64 {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	out, err := exec.Command("qemu-img", "create", "-f", "vmdk", path, fmt.Sprint(bytes)).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	head, err := image.Read(path, "vmdk")
	if err != nil {
		t.Fatal(err)
	}
	return head.Size
}

func FuzzParse(f *testing.F) {
	f.Add(fmt.Sprintf(envelope(item(17, "<r:HostResource>ovf:/disk/d1</r:HostResource><r:Parent>1</r:Parent>")), "c"))
	f.Fuzz(func(t *testing.T, text string) {
		m, err := Parse(strings.NewReader(text))
		if err != nil {
			return
		}
		seen := map[string]bool{}
		for _, d := range m.Disks {
			if strings.Contains(d.File, "/") || seen[d.Address] || d.Bytes < 0 {
				t.Errorf("%+v", m.Disks)
			}
			seen[d.Address] = true
		}
	})
}

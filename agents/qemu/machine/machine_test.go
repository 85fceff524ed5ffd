package machine

import "testing"

func TestTypes(t *testing.T) {
	for _, c := range []struct {
		guest Guest
		qemu  Version
		want  string // the name, or the error
	}{
		{Guest{}, Version{7, 2}, "pc"},
		{Guest{Options: map[string]string{"type": "q35"}}, Version{7, 2}, "q35"},
		{Guest{Options: map[string]string{"type": "pc-6.0"}}, Version{7, 2}, "pc-i440fx-6.0"},
		{Guest{Options: map[string]string{"type": "pc-q35-4.1+pve2.pxe"}}, Version{7, 2}, "pc-q35-4.1"},
		{Guest{Options: map[string]string{"type": "pc-q35-10.1+pve1"}}, Version{7, 2}, "pc-q35-7.2, newer"},
		{Guest{Windows: true}, Version{7, 2}, "pc-i440fx-5.1"},
		{Guest{Windows: true, Created: "7.0.0", Options: map[string]string{"type": "q35"}}, Version{7, 2}, "pc-q35-7.0"},
		{Guest{Windows: true, Created: "4.0"}, Version{7, 2}, "pc-i440fx-5.1"},
		{Guest{ARM: true}, Version{7, 2}, "virt"},
		{Guest{ARM: true, Options: map[string]string{"type": "virt-6.2"}}, Version{7, 2}, "virt-6.2"},
		{Guest{ARM: true, Options: map[string]string{"type": "q35"}}, Version{7, 2}, `type "q35" of an aarch64 guest is neither virt nor virt-N.M`},
		{Guest{Options: map[string]string{"type": "virt"}}, Version{7, 2}, `type "virt" is not one of pc, q35, pc-i440fx-N.M, pc-q35-N.M`},
		{Guest{Node: "n1", Options: map[string]string{"type": "pc-i440fx-9.0+pve1"}}, Version{9, 0},
			"type 'pc-i440fx-9.0+pve1' is from a later release (max feature level for 9.0 is pve0), please upgrade node 'n1'"},
		{Guest{Options: map[string]string{"type": "pc", "viommu": "intel"}}, Version{7, 2}, "to use Intel vIOMMU please set the machine type to q35"},
		{Guest{Options: map[string]string{"aw-bits": "39"}}, Version{7, 2}, "cannot set aw-bits if no vIOMMU is configured"},
	} {
		m, err := Parse(c.guest)
		got, newer := m.Name(c.qemu)
		if newer {
			got += ", newer"
		}
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%v: %s, want %s", c.guest, got, c.want)
		}
	}
}

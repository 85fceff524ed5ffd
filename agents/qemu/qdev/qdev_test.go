package qdev

import (
	"maps"
	"testing"
)

func TestDeviceReadsTheSameBothWays(t *testing.T) {
	d := New("scsi-hd", "id", "scsi0", "lun", 3).With("removable", true, "serial", "a,b")
	if got, want := d.String(), "scsi-hd,id=scsi0,lun=3,removable=on,serial=a,,b"; got != want {
		t.Errorf("argument %q, want %q", got, want)
	}
	want := map[string]any{"driver": "scsi-hd", "id": "scsi0", "lun": 3, "removable": true, "serial": "a,b"}
	if got := d.Arguments(); !maps.Equal(got, want) {
		t.Errorf("arguments %v, want %v", got, want)
	}
	if d.ID() != "scsi0" || (Device{}).ID() != "" {
		t.Error("wrong identifier")
	}
}

func TestWithLeavesTheOriginalAlone(t *testing.T) {
	base := New("x", "a", 1)
	one, two := base.With("b", 2), base.With("c", 3)
	if base.String() != "x,a=1" || one.String() != "x,a=1,b=2" || two.String() != "x,a=1,c=3" {
		t.Errorf("%s; %s; %s", base, one, two)
	}
}

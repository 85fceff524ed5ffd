package throttle

import (
	"maps"
	"testing"
)

func TestLimitsAreReadInTheirUnits(t *testing.T) {
	l, err := Parse("scsi0", map[string]string{
		"file": "local:100/a.raw", "mbps": "1.5", "mbps_wr_max": "2", "iops_rd": "100", "iops_rd_max_length": "5", "bps_rd": "0",
	})
	want := map[string]int64{"bps": 3 << 19, "bps_wr_max": 2 << 20, "iops_rd": 100, "iops_rd_max_length": 5}
	if err != nil || !maps.Equal(l.Values, want) || l.Zero() {
		t.Errorf("%v, %v", l.Values, err)
	}
	if _, err := Parse("scsi0", map[string]string{"iops": "many"}); err == nil {
		t.Error("a word passed for a limit")
	}
	if _, err := Parse("scsi0", map[string]string{"mbps": "-1"}); err == nil {
		t.Error("a negative limit passed")
	}
}

func TestBothPlacesSayTheSame(t *testing.T) {
	l, _ := Parse("virtio1", map[string]string{"iops_wr": "7"})
	args := l.Arguments()
	if args["id"] != "/machine/peripheral/virtio1/virtio-backend" || args["iops_wr"] != int64(7) || args["bps"] != int64(0) {
		t.Errorf("block_set_io_throttle %v", args)
	}
	path, limits := l.Group()
	if path != "/objects/throttle-drive-virtio1" || limits["iops-write"] != int64(7) || limits["bps-total"] != int64(0) || limits["bps-total-max-length"] != int64(1) {
		t.Errorf("group %s %v", path, limits)
	}
	object := l.Object()["limits"].(map[string]any)
	if len(object) != 1 || object["iops-write"] != int64(7) {
		t.Errorf("object %v", object)
	}
}

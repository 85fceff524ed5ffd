package fence

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

func TestDeviceIsOpenOnlyWhileItIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "watchdog")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d := NewDevice(path)
	for _, step := range []struct {
		message string
		open    bool
	}{{farewell, false}, {alive, true}, {alive, true}, {farewell, false}, {farewell, false}, {alive, true}} {
		if _, err := d.Write([]byte(step.message)); err != nil || (d.file != nil) != step.open {
			t.Errorf("after %q: %v, open is %t", step.message, err, d.file != nil)
		}
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if _, err := NewDevice(path + "0").Write([]byte(alive)); !os.IsNotExist(err) {
		t.Errorf("absent device: %v", err)
	}
}

func TestSubstituteBitesWhenItIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bites := 0
		s := NewSubstitute(0, func() { bites++ })
		write := func(message string) error { _, err := s.Write([]byte(message)); return err }
		for range 5 {
			if err := write(alive); err != nil {
				t.Fatal(err)
			}
			time.Sleep((deviceSeconds - 1) * time.Second)
		}
		if err := write(farewell); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if bites != 0 {
			t.Error("bites although it was switched off")
		}
		if err := write(alive); err != nil {
			t.Fatal(err)
		}
		<-s.Bitten()
		if err := write(alive); err == nil || bites != 1 {
			t.Errorf("%v after %d bites", err, bites)
		}
	})
}

package mount

import (
	"fmt"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"etcpve/cfs/command"
	"etcpve/cfs/tree"

	"golang.org/x/sys/unix"
)

// asVictim makes the test binary a daemon on the directory it names, which
// applies changes of other nodes until it is killed.
const asVictim = "MOUNT_TEST_VICTIM"

func beVictim(dir string) {
	r := &rig{order: &order{tree: tree.New()}, dir: dir}
	var err error
	if r.m, err = New(r.config()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	r.mount.Store(r.m)
	far := func(op command.Op, path, to string) {
		r.apply(&command.Command{Node: "far", Time: 1, Op: op, Path: path, To: to, Data: []byte("x")})
	}
	far(command.Mkdir, "d", "")
	for i := 0; ; i++ {
		name := fmt.Sprintf("d/far%d", i%50)
		far(command.Write, name, "")
		far(command.Rename, name, name+"r")
		far(command.Remove, name+"r", "")
		if i%50 == 0 {
			time.Sleep(time.Millisecond) // or the queue would only grow
		}
	}
}

// TestAKilledDaemonIsGone kills daemons that tell the kernel of changes in a
// directory in which programs are busy. None may stay, and no program may hang.
func TestAKilledDaemonIsGone(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	rounds := 20
	if testing.Short() {
		rounds = 6
	}
	for i := range rounds {
		killOne(t, time.Duration(50+37*i%200)*time.Millisecond)
	}
}

func killOne(t *testing.T, after time.Duration) {
	dir := t.TempDir()
	victim := exec.Command("/proc/self/exe")
	victim.Env = append(os.Environ(), asVictim+"="+dir)
	victim.Stderr = os.Stderr
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, unix.MNT_FORCE|unix.MNT_DETACH)
	eventually(t, "the mount", func() bool { _, err := os.Stat(dir + "/d"); return err == nil })
	var stop atomic.Bool
	var clients sync.WaitGroup
	for w := range 4 {
		clients.Go(func() {
			for i := 0; !stop.Load(); i++ {
				name := fmt.Sprintf("%s/d/%d-%d", dir, w, i%5)
				os.Mkdir(name, 0o755)
				os.Stat(fmt.Sprintf("%s/d/far%d", dir, i%50))
				os.Remove(name)
			}
		})
	}
	time.Sleep(after) // the moment is the scenario
	victim.Process.Kill()
	inTime(t, "the end of a daemon that was killed", patience, func() { victim.Wait() })
	stop.Store(true)
	inTime(t, "the end of its users", patience, clients.Wait)
}

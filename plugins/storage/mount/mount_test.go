package mount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"etcpve/agents/host"
	"etcpve/agents/host/hosttest"
	"etcpve/agents/storage"
)

// newStorage is a storage below a directory of the test; mounted says whether
// something is mounted there.
func newStorage(t *testing.T, p Plugin, mounted bool, values map[string]string) (Plugin, *storage.Config) {
	t.Helper()
	c := &storage.Config{ID: "nas", Type: p.kind, Values: values}
	p.mountinfo = filepath.Join(t.TempDir(), "mountinfo")
	text := "22 1 0:20 / /proc rw - proc proc rw\n"
	if mounted {
		text += "40 1 0:50 / " + c.Path() + " rw - nfs4 s:/x rw\n"
	}
	if err := os.WriteFile(p.mountinfo, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return p, c
}

func TestMountCommands(t *testing.T) {
	tree := t.TempDir()
	for _, dir := range []string{"priv/storage", "priv/ceph"} {
		if err := os.MkdirAll(filepath.Join(tree, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"priv/storage/nas.pw", "priv/ceph/nas.secret"} {
		if err := os.WriteFile(filepath.Join(tree, file), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name   string
		plugin func(storage.Runner) Plugin
		values map[string]string
		want   string // PATH and TREE stand for the test's own
	}{
		{"nfs", NFS, map[string]string{"server": "s", "export": "/x", "options": "vers=3,soft"},
			"$ showmount --no-headers --exports s\n$ mount -t nfs s:/x PATH -o vers=3,soft\n"},
		{"nfs 4 by IPv6", NFS, map[string]string{"server": "2001:db8::1", "export": "/x", "options": "vers=4.2"},
			"$ rpcinfo -T tcp 2001:db8::1 nfs 4\n$ mount -t nfs '[2001:db8::1]:/x' PATH -o vers=4.2\n"},
		{"cifs guest", func(r storage.Runner) Plugin { return CIFS(r, t.TempDir()) }, map[string]string{"server": "w", "share": "s$", "subdir": "/a"},
			"$ smbclient '//w/s$' -d 0 -U Guest -N -c 'echo 1 0'\n$ mount -t cifs '//w/s$/a' PATH -o soft,guest,username=guest\n"},
		{"cifs user", func(r storage.Runner) Plugin { return CIFS(r, tree) },
			map[string]string{"server": "w", "share": "s", "username": "u", "domain": "D", "smbversion": "3.0"},
			"$ smbclient //w/s -d 0 -U u -A TREE/priv/storage/nas.pw -c 'echo 1 0'\n" +
				"$ mount -t cifs //w/s PATH -o soft,username=u,credentials=TREE/priv/storage/nas.pw,domain=D,vers=3.0\n"},
		{"cephfs", func(r storage.Runner) Plugin { return CephFS(r, tree) }, map[string]string{"monhost": "10.0.0.1 10.0.0.2", "fs-name": "f"},
			"$ mount -t ceph 10.0.0.1,10.0.0.2:/ PATH -o name=admin,secretfile=TREE/priv/ceph/nas.secret,fs=f\n"},
		{"cephfs by fuse", func(r storage.Runner) Plugin { return CephFS(r, tree) }, map[string]string{"monhost": "10.0.0.1,10.0.0.2", "fuse": "1", "subdir": "/a", "username": "u"},
			"$ mount -t fuse.ceph none PATH -o 'ceph.id=u,ceph.client_mountpoint=/a,ceph.keyfile=TREE/priv/ceph/nas.secret,ceph.mon_host=10.0.0.1;10.0.0.2'\n"},
		{"glusterfs", GlusterFS, map[string]string{"server": "g1", "server2": "g2", "volume": "v0", "transport": "tcp"},
			"$ gluster --remote-host=g1 peer status\n$ mount -t glusterfs g1:v0 PATH -o backup-volfile-servers=g2,transport=tcp\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "m")
			c.values["path"], c.values["content"] = path, "iso"
			script := hosttest.New(t, strings.NewReplacer("PATH", path, "TREE", tree).Replace(c.want))
			p, s := newStorage(t, c.plugin(script), false, c.values)
			if err := p.Activate(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(filepath.Join(path, "template/iso")); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestDeadServerIsNotMounted(t *testing.T) {
	p, c := newStorage(t, NFS(hosttest.New(t, "$ showmount --no-headers --exports s\n! clnt_create: RPC: Timed out\n= 1\n")), false,
		map[string]string{"server": "s", "export": "/x", "path": filepath.Join(t.TempDir(), "m")})
	if err := p.Activate(t.Context(), c); !errors.Is(err, storage.ErrOffline) {
		t.Errorf("activate: %v", err)
	}
	if _, err := os.Stat(c.Path()); !os.IsNotExist(err) {
		t.Errorf("the mount point was made: %v", err)
	}
	if _, err := p.Status(t.Context(), c); !errors.Is(err, storage.ErrOffline) {
		t.Errorf("status: %v", err)
	}
}

// silent is a machine on which every command waits for a server.
type silent struct{}

func (silent) Run(ctx context.Context, c host.Command) ([]byte, error) {
	<-ctx.Done()
	return nil, fmt.Errorf("%s: %w", c.Argv[0], ctx.Err())
}

func TestHungServerKeepsNobodyWaiting(t *testing.T) {
	p, c := newStorage(t, NFS(silent{}), true, map[string]string{"server": "s", "export": "/x", "path": "/mnt/hung storage"})
	// Blanks of a path are octal there.
	if err := os.WriteFile(p.mountinfo, []byte(`40 1 0:50 / /mnt/hung\040storage rw - nfs4 s:/x rw`), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := p.Activate(ctx, c); !errors.Is(err, storage.ErrOffline) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("activate: %v", err)
	}
	if _, err := p.Status(ctx, c); !errors.Is(err, storage.ErrOffline) {
		t.Errorf("status: %v", err)
	}
}

func TestStatusAndUnmount(t *testing.T) {
	path := t.TempDir()
	script := hosttest.New(t, "$ stat -f -c '%S %b %f %a' "+path+"\n> 4096 100 60 50\n$ umount "+path+"\n")
	p, c := newStorage(t, NFS(script), true, map[string]string{"path": path})
	s, err := p.Status(t.Context(), c)
	if want := (storage.Status{Total: 409600, Used: 163840, Available: 204800}); err != nil || s != want {
		t.Errorf("%+v, %v; want %+v", s, err, want)
	}
	if err := p.Deactivate(t.Context(), c); err != nil {
		t.Error(err)
	}
}

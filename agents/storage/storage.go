// Package storage is what the node knows of its storages: the volume names
// users write, storage.cfg, and the contract that a type of storage fulfils.
//
// A volume ID is STORAGE:NAME. What NAME looks like is up to the type: storages
// that keep files name them 100/vm-100-disk-0.qcow2 or iso/debian.iso, storages
// that keep block devices vm-100-disk-0.
//
// It owns those names, the view of storage.cfg, the rules that hold for every
// type (archive names, retention, bandwidth limits, who may use a volume), and
// the agent that keeps storages active and publishes how full they are. It never
// knows a type by name, never mounts or creates anything by itself, and nothing
// from a file reaches a shell.
package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"etcpve/agents/host"
)

// A Runner runs commands on the machine; host.System is one.
type Runner interface {
	Run(ctx context.Context, c host.Command) ([]byte, error)
}

// A Plugin is one type of storage. It keeps no state: everything it needs to
// know about a storage is in the Config. All methods may be called at the same
// time; Alloc and Free of one storage are not.
type Plugin interface {
	// Parse understands a volume name of this type.
	Parse(name string) (Volume, error)

	// Path returns the file or device of a volume, or of its snapshot.
	Path(c *Config, v Volume, snapshot string) (string, error)

	// Activate makes a storage usable. It is harmless when repeated and must
	// come back when ctx ends, even if a server does not answer.
	Activate(ctx context.Context, c *Config) error

	// Deactivate undoes Activate as far as nobody else uses the storage.
	Deactivate(ctx context.Context, c *Config) error

	// Status looks at an active storage.
	Status(ctx context.Context, c *Config) (Status, error)

	// List returns the volumes of one content type.
	List(ctx context.Context, c *Config, q Query) ([]Info, error)

	// Alloc creates a volume and returns its name.
	Alloc(ctx context.Context, c *Config, r Request) (string, error)

	// Free removes a volume. A base that is still used is kept, with an error.
	Free(ctx context.Context, c *Config, v Volume) error
}

// Further abilities, which not every type has. Agents do not look for them: they
// ask the Catalog, which finds the storage of a volume ID, takes its lock, and
// says ErrUnsupported where an ability is missing.
//
//	what a guest's agent needs            Catalog            ability
//	how QEMU opens a volume               Blockdev           Blockdever, else Path
//	make the path exist before that       ActivateVolumes    VolumeActivator
//	size, as the guest sees it            Size               Sizer
//	new, gone                             Alloc, Free        Plugin
//	snapshots of a volume                 Snapshot, Rollback Snapshotter, RollbackChecker, Chainer
//	base, linked clone                    CreateBase, Clone  Cloner
//	full copy, also to another storage    Copy, Convert      Path or Blockdever
//	grow                                  Resize             Resizer
//	another owner                         Rename             Renamer
//	to another node                       Export, Import     Exporter
//	may that be done at all?              Can                Featured
//
// While a guest runs, some of it is QEMU's work: Blockdev.QEMUSnapshots and
// Blockdev.QEMUResizes say so. A move between storages is a Copy, or for a disk
// in use an Alloc of the same Size and QEMU's blockdev-mirror; then the old
// volume is freed.
type (
	// A Snapshotter keeps states of a volume.
	Snapshotter interface {
		Snapshot(ctx context.Context, c *Config, v Volume, name string) error
		DeleteSnapshot(ctx context.Context, c *Config, v Volume, name string) error
		Rollback(ctx context.Context, c *Config, v Volume, name string) error
	}

	// A Cloner creates bases and volumes on top of them.
	Cloner interface {
		// CreateBase makes a volume a base and returns its new name.
		CreateBase(ctx context.Context, c *Config, v Volume) (string, error)

		// Clone returns the name of a new volume of a guest, on top of a base or
		// of a snapshot of it.
		Clone(ctx context.Context, c *Config, v Volume, vmid uint32, snapshot string) (string, error)
	}

	// A RollbackChecker cannot return to every snapshot. It names what is in the
	// way.
	RollbackChecker interface {
		RollbackPossible(ctx context.Context, c *Config, v Volume, name string) error
	}

	// A Chainer may keep the states of a volume as files of their own, each on
	// top of the one before. It does not open a file that a guest has open.
	Chainer interface {
		// Chain returns the paths of a volume and of its states, newest first, or
		// nil if the states of this volume are no files.
		Chain(c *Config, v Volume) ([]string, error)

		// Unchain takes the newest state back as the volume, and loses what was
		// written since.
		Unchain(ctx context.Context, c *Config, v Volume, name string) error
	}

	// A Renamer gives a volume to a guest, under the next free name or the one
	// given, and returns the new name.
	Renamer interface {
		Rename(ctx context.Context, c *Config, v Volume, vmid uint32, name string) (string, error)
	}

	// A Resizer grows volumes.
	Resizer interface {
		Resize(ctx context.Context, c *Config, v Volume, bytes int64) error
	}

	// A Sizer knows the size of a volume in bytes.
	Sizer interface {
		Size(ctx context.Context, c *Config, v Volume) (int64, error)
	}

	// An Exporter writes a volume as a stream, and creates one from it.
	Exporter interface {
		// Streams returns the formats that Export and Import take for a volume.
		Streams(c *Config, v Volume, s Stream) []string

		Export(ctx context.Context, c *Config, v Volume, s Stream, to io.Writer) error
		Import(ctx context.Context, c *Config, v Volume, s Stream, from io.Reader) error
	}

	// A Blockdever is a type whose volumes QEMU reaches without a file or device
	// of the node. Blockdev returns the protocol node of blockdev-add, or nil if
	// this volume has a path after all.
	Blockdever interface {
		Blockdev(c *Config, v Volume, snapshot string) (map[string]any, error)
	}

	// A VolumeActivator has to do something before a volume's path exists.
	VolumeActivator interface {
		ActivateVolume(ctx context.Context, c *Config, v Volume, snapshot string) error
		DeactivateVolume(ctx context.Context, c *Config, v Volume, snapshot string) error
	}

	// A DatastoreFinder asks a server what it has for a storage to use.
	DatastoreFinder interface {
		Datastores(ctx context.Context, s BackupServer) ([]Datastore, error)
	}

	// A Locator finds the volume that a path belongs to.
	Locator interface {
		Locate(c *Config, path string) (v Volume, ok bool)
	}

	// A Featured type says what can be done with the volumes of a storage.
	Featured interface{ Features(c *Config) Features }
)

// ErrUnsupported says that a type of storage cannot do what was asked.
var ErrUnsupported = errors.New("not supported by this type of storage")

// A BlockedError says which newer snapshots a rollback would destroy.
type BlockedError struct {
	Volume, Snapshot string
	Blockers         []string
}

func (e *BlockedError) Error() string {
	return fmt.Sprintf("can't rollback, '%s' is not most recent snapshot on '%s': in the way: %s",
		e.Snapshot, e.Volume, strings.Join(e.Blockers, ", "))
}

// ErrOffline says that a storage's server does not answer.
var ErrOffline = errors.New("storage is not online")

// A BackupServer is one that is no storage yet. Without a fingerprint, its
// certificate must be one that the node trusts.
type BackupServer struct{ Host, Port, User, Password, Fingerprint string }

// A Datastore is a part of a backup server.
type Datastore struct {
	Name    string `json:"store"`
	Comment string `json:"comment"`
}

// A Status is how full a storage is, in bytes.
type Status struct {
	Total, Used, Available int64
}

// A Query says which volumes to list.
type Query struct {
	Content string // content type
	VMID    uint32 // of one guest only; 0 for all

	// Containers tells whose images are root directories of containers.
	Containers func(vmid uint32) bool
}

// Of returns the content type of an image of a guest.
func (q Query) Of(vmid uint32) string {
	if q.Containers != nil && q.Containers(vmid) {
		return Rootdir
	}
	return Images
}

// Wants reports whether an image of a guest is asked for.
func (q Query) Wants(vmid uint32) bool {
	return (q.VMID == 0 || q.VMID == vmid) && q.Content == q.Of(vmid)
}

// An Info is what a listing says of a volume. Sizes are in bytes, times in
// seconds since 1970; a zero says that it is not known.
type Info struct {
	Name      string // without the storage
	Content   string
	Format    string
	VMID      uint32
	Size      int64
	Used      int64
	Created   int64
	Parent    string // as recorded in the image
	Subtype   string // of backups: qemu, lxc, openvz, unknown
	Notes     string
	Protected bool
}

// A Request asks for a new volume.
type Request struct {
	VMID   uint32
	Format string // "" for the type's own choice
	Name   string // "" for the next free one
	Bytes  int64
}

// Features says by name of an ability ("snapshot", "clone", "template", "copy",
// "sparseinit", "rename") which states of a volume have it: "current", "base" or
// "snap", each optionally with a format, as in "current:qcow2".
type Features map[string][]string

// Has reports whether a volume, or a snapshot of it, has an ability.
func (f Features) Has(ability string, v Volume, snapshot string) bool {
	state := "current"
	switch {
	case snapshot != "":
		state = "snap"
	case v.IsBase:
		state = "base"
	}
	for _, s := range f[ability] {
		if s == state || s == state+":"+v.Format {
			return true
		}
	}
	return false
}

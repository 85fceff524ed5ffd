package guest

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"etcpve/cfs/format/schema"
	"etcpve/cfs/layout"
)

// A Volume is a drive of a virtual machine, or the root file system or a
// mount point of a container.
type Volume struct {
	Kind   layout.Kind
	Key    string // scsi0, rootfs, …
	Bus    string // the key without its number: scsi, rootfs, mp, …
	Index  int
	Volume string // volume ID, path, "none" or "cdrom"
	// Options are the other settings. Byte rates given as bps are kept as mbps.
	Options schema.Values
}

// buses are the drives of each kind of guest in the order in which they are
// worked on.
var buses = map[layout.Kind][]string{
	layout.QEMU: {"ide", "scsi", "virtio", "sata", "efidisk", "tpmstate"},
	layout.LXC:  {"rootfs", "mp"},
}

// volumeKeysOf are the keys of volumes in working order.
var volumeKeysOf = map[layout.Kind][]string{
	layout.QEMU: orderedKeys(layout.QEMU),
	layout.LXC:  orderedKeys(layout.LXC),
}

func orderedKeys(kind layout.Kind) []string {
	var keys []string
	for _, bus := range buses[kind] {
		if Keys(kind)[bus] != nil {
			keys = append(keys, bus)
		}
		for i := 0; Keys(kind)[bus+strconv.Itoa(i)] != nil; i++ {
			keys = append(keys, bus+strconv.Itoa(i))
		}
	}
	return keys
}

// IsVolume reports whether a setting names a volume in use.
func IsVolume(kind layout.Kind, key string) bool {
	bus, _, numbered := Series(key)
	if !numbered {
		bus = key
	}
	for _, b := range buses[kind] {
		if b == bus {
			return Keys(kind)[key] != nil
		}
	}
	return false
}

// Volumes returns the volumes of a section in working order. Those that
// cannot be read are left out; Check has said why.
func Volumes(kind layout.Kind, s *Section) []Volume {
	var volumes []Volume
	for _, key := range volumeKeysOf[kind] {
		if value, ok := s.Lookup(key); ok {
			if v, err := ParseVolume(kind, key, value); err == nil {
				volumes = append(volumes, v)
			}
		}
	}
	return volumes
}

// ParseVolume reads the value of one drive or mount point.
func ParseVolume(kind layout.Kind, key, value string) (Volume, error) {
	if !IsVolume(kind, key) {
		return Volume{}, fmt.Errorf("%s: not a volume", key)
	}
	options, err := Keys(kind)[key].Format.Keys.Parse(value)
	if err != nil {
		return Volume{}, fmt.Errorf("%s: %w", key, err)
	}
	v := Volume{Kind: kind, Key: key, Bus: key, Options: options}
	if bus, index, ok := Series(key); ok {
		v.Bus, v.Index = bus, index
	}
	name := volumeKey(kind)
	v.Volume = options[name]
	delete(options, name)
	if kind == layout.QEMU {
		if err := v.checkDrive(); err != nil {
			return Volume{}, fmt.Errorf("%s: %w", key, err)
		}
	}
	return v, nil
}

func volumeKey(kind layout.Kind) string {
	if kind == layout.QEMU {
		return "file"
	}
	return "volume"
}

// checkDrive turns byte rates into megabyte rates and refuses options that
// contradict each other.
func (v *Volume) checkDrive() error {
	for _, rate := range []string{"bps", "bps_rd", "bps_wr"} {
		bytes, ok := v.Options[rate]
		if !ok {
			continue
		}
		if _, twice := v.Options["m"+rate]; twice {
			return fmt.Errorf("%s and m%s exclude each other", rate, rate)
		}
		n, err := strconv.ParseFloat(bytes, 64)
		if err != nil {
			return fmt.Errorf("%s: %w", rate, err)
		}
		delete(v.Options, rate)
		v.Options["m"+rate] = strconv.FormatFloat(n/(1<<20), 'f', 3, 64)
	}
	for _, limit := range []string{"mbps%s", "mbps%s_max", "iops%s", "iops%s_max"} {
		if v.has(fmt.Sprintf(limit, "")) && (v.has(fmt.Sprintf(limit, "_rd")) || v.has(fmt.Sprintf(limit, "_wr"))) {
			return fmt.Errorf("%s excludes separate limits for reading and writing", fmt.Sprintf(limit, ""))
		}
	}
	if v.IsCDROM() && (v.Options["snapshot"] == "1" || v.has("format") || v.Bus == "virtio") {
		return errors.New("a CD-ROM drive has no snapshot or format option and no virtio bus")
	}
	return nil
}

func (v Volume) has(option string) bool { _, ok := v.Options[option]; return ok }

// String returns the value in canonical form.
func (v Volume) String() string {
	values := schema.Values{volumeKey(v.Kind): v.Volume}
	for key, value := range v.Options {
		values[key] = value
	}
	return Keys(v.Kind)[v.Key].Format.Keys.Print(values)
}

// IsCDROM reports whether the drive is a CD-ROM drive.
func (v Volume) IsCDROM() bool { return v.Options["media"] == "cdrom" }

var newForm = regexp.MustCompile(`^([a-zA-Z][a-zA-Z0-9\-_.]*[a-zA-Z0-9]):(\d+(?:\.\d+)?)$`)

// NewVolume reads a volume ID that asks for a volume which is yet to be made:
// STORAGE:SIZE, in GiB.
func NewVolume(id string) (storage, gib string, ok bool) {
	m := newForm.FindStringSubmatch(id)
	if m == nil {
		return "", "", false
	}
	return m[1], m[2], true
}

var cloudInitForm = regexp.MustCompile(`[:/](?:vm-\d+-)?cloudinit(?:\.(?:raw|qcow2?|qed|vmdk|cloop))?$`)

// IsCloudInit reports whether the drive holds data made for cloud-init.
func (v Volume) IsCloudInit() bool { return cloudInitForm.MatchString(v.Volume) }

// Storage returns the storage and the volume's name in it; ok is false for
// paths, bind mounts and empty drives.
func (v Volume) Storage() (storage, name string, ok bool) {
	storage, name, ok = strings.Cut(v.Volume, ":")
	return storage, name, ok && storage != "" && name != "" && !strings.HasPrefix(v.Volume, "/")
}

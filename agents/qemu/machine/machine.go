// Package machine reads machine types: the board a guest has and the version of
// QEMU whose hardware it was promised.
//
// It owns their names, the rules between the options of the machine key, and
// what this QEMU calls them. It never starts one.
package machine

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// A Version is that of a QEMU or of a machine type.
type Version struct{ Major, Minor int }

// AtLeast compares versions.
func (v Version) AtLeast(major, minor int) bool {
	return v.Major > major || v.Major == major && v.Minor >= minor
}

// String is the version as machine types have it.
func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// Latest stands for an unversioned machine type: everything new applies.
var Latest = Version{Major: 1 << 16}

// A Guest is what is known of a guest when its machine type is read.
type Guest struct {
	Options map[string]string // of the machine key, the type under "type"
	ARM     bool              // for aarch64, else for x86-64
	Windows bool
	Created string // QEMU that it was made with, for a Windows guest without a version
	Node    string // name of the node, for an error
}

// A Type is a parsed machine type.
type Type struct {
	Q35, ARM bool
	Version  Version // what the guest was pinned to, else Latest
	PXE      bool    // it boots from the network with a ROM of old
}

// Pinned reports whether what came with a version applies to the guest.
func (t Type) Pinned(major, minor int) bool { return t.Version.AtLeast(major, minor) }

var names = map[bool]*regexp.Regexp{
	false: regexp.MustCompile(`^(pc-i440fx|pc-q35|pc|q35)(?:-(\d+)\.(\d+)(?:\.\d+)*)?(?:\+pve(\d+))?(\.pxe)?$`),
	true:  regexp.MustCompile(`^(virt)(?:-(\d+)\.(\d+)(?:\.\d+)*)?(?:\+pve(\d+))?(\.pxe)?$`),
}

// windowsPin is the version of a Windows guest that names none: Windows takes a
// newer one for other hardware.
var windowsPin = Version{5, 1}

// levels are the highest +pveN of the versions that have any.
var levels = map[Version]int{{4, 1}: 2, {9, 2}: 1, {10, 0}: 1, {10, 1}: 2, {10, 2}: 2, {11, 0}: 2}

// Parse reads the machine type of a guest and checks what goes with it.
func Parse(g Guest) (Type, error) {
	name := g.Options["type"]
	if name == "" {
		name = map[bool]string{true: "virt", false: "pc"}[g.ARM]
	}
	parts := names[g.ARM].FindStringSubmatch(name)
	switch {
	case parts == nil && g.ARM:
		return Type{}, fmt.Errorf("type %q of an aarch64 guest is neither virt nor virt-N.M", name)
	case parts == nil:
		return Type{}, fmt.Errorf("type %q is not one of pc, q35, pc-i440fx-N.M, pc-q35-N.M", name)
	}
	t := Type{Q35: strings.HasSuffix(parts[1], "q35"), ARM: g.ARM, Version: Latest, PXE: parts[5] != ""}
	switch {
	case parts[2] != "":
		t.Version = versionOf(parts[2], parts[3])
	case g.Windows:
		t.Version = created(g.Created)
	}
	if level, _ := strconv.Atoi(parts[4]); level > levels[t.Version] && t.Version != Latest {
		return t, fmt.Errorf("type '%s' is from a later release (max feature level for %s is pve%d), please upgrade node '%s'",
			name, t.Version, levels[t.Version], g.Node)
	}
	viommu := g.Options["viommu"]
	switch {
	case viommu == "intel" && !t.Q35:
		return t, fmt.Errorf("to use Intel vIOMMU please set the machine type to q35")
	case viommu == "" && g.Options["aw-bits"] != "":
		return t, fmt.Errorf("cannot set aw-bits if no vIOMMU is configured")
	}
	return t, nil
}

// created is the version a Windows guest keeps, by the QEMU it was made with.
func created(qemu string) Version {
	if major, rest, ok := strings.Cut(qemu, "."); ok {
		minor, _, _ := strings.Cut(rest, ".")
		if v := versionOf(major, minor); v.AtLeast(windowsPin.Major, windowsPin.Minor) {
			return v
		}
	}
	return windowsPin
}

func versionOf(major, minor string) Version {
	var v Version
	v.Major, _ = strconv.Atoi(major) // the pattern lets only digits through
	v.Minor, _ = strconv.Atoi(minor)
	return v
}

// Name returns the type under the name a QEMU has for it. A version from the
// future of that QEMU becomes its newest, which newer says.
func (t Type) Name(qemu Version) (name string, newer bool) {
	family := [2]string{"pc", "pc-i440fx-"}
	switch {
	case t.ARM:
		family = [2]string{"virt", "virt-"}
	case t.Q35:
		family = [2]string{"q35", "pc-q35-"}
	}
	switch {
	case t.Version == Latest:
		return family[0], false
	case !qemu.AtLeast(t.Version.Major, t.Version.Minor):
		return family[1] + qemu.String(), true
	}
	return family[1] + t.Version.String(), false
}

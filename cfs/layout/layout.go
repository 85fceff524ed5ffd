// Package layout names everything that lives under /etc/pve: places, owners,
// modes, limits and the meaning of paths.
//
// It owns the answers that follow from a path alone, so that the file system,
// the agents and the tools agree on them. It never touches a disk, a clock or
// another package, and it never looks at content.
//
// Paths here are relative to the mount point, cleaned, without a leading
// slash: "nodes/n1/qemu-server/100.conf". The root is "".
package layout

import (
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Limits of the tree, enforced where a change enters it.
const (
	MaxFile   = 1 << 20   // bytes in one file; more is EFBIG
	MaxTotal  = 30 << 20  // bytes of content in the whole tree; more is ENOSPC
	MaxInodes = 256 << 10 // files and directories in the whole tree; more is ENOSPC
	MaxName   = 1024      // bytes in one name, the kernel's own limit for FUSE
	BlockSize = 4096      // what statfs counts in
)

// LockLifetime is how long a lock directory may stay unrenewed before anybody
// may ask for its release.
const LockLifetime = 120 * time.Second

// TestSpeed names the environment variable by which tests of a cluster let the
// clocks of locks and of high availability run that many times faster. It is
// for tests alone: with it, a node that is merely slow is fenced.
const TestSpeed = "ETCPVE_TEST_SPEED"

// LockDir holds the cluster-wide locks, one directory each.
const LockDir = "priv/lock"

// PowerDir holds the desired run state of each guest in a file named after its VMID.
const PowerDir = "power"

// Group is the name of the group that owns everything in the tree.
const Group = "www-data"

// Kind says which stack runs a guest.
type Kind string

// The kinds of guest.
const (
	QEMU Kind = "qemu"
	LXC  Kind = "lxc"
)

// Dir returns the name of the directory below nodes/NODE that holds the
// configurations of this kind of guest.
func (k Kind) Dir() string {
	if k == QEMU {
		return "qemu-server"
	}
	return "lxc"
}

// A Guest says what a configuration path stands for.
type Guest struct {
	VMID uint32
	Node string
	Kind Kind
}

// Path returns the place of the guest's configuration.
func (g Guest) Path() string {
	return "nodes/" + g.Node + "/" + g.Kind.Dir() + "/" + strconv.FormatUint(uint64(g.VMID), 10) + ".conf"
}

// GuestOf returns the guest whose configuration lives at path. Names that are
// not a positive decimal number without leading zeros below 2^32, followed by
// ".conf", are ordinary files, as is everything below what no node is named.
func GuestOf(path string) (Guest, bool) {
	p := strings.Split(path, "/")
	if len(p) != 4 || p[0] != "nodes" || !IsNodeName(p[1]) {
		return Guest{}, false
	}
	g := Guest{Node: p[1]}
	switch p[2] {
	case QEMU.Dir():
		g.Kind = QEMU
	case LXC.Dir():
		g.Kind = LXC
	default:
		return Guest{}, false
	}
	num, ok := strings.CutSuffix(p[3], ".conf")
	if !ok {
		return Guest{}, false
	}
	g.VMID, ok = ParseVMID(num)
	return g, ok
}

// IsNodeName reports whether a node can have that name: letters, digits and,
// but for both ends, hyphens.
func IsNodeName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !isAlphanumeric(c) && (c != '-' || i == 0 || i == len(s)-1) {
			return false
		}
	}
	return s != ""
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// ParseVMID reads a VMID as it appears in file names: decimal, no sign, no
// leading zero, positive, below 2^32.
func ParseVMID(s string) (uint32, bool) {
	if s == "" || s[0] < '1' || s[0] > '9' {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil
}

// PowerOf returns the VMID whose desired run state lives at path.
func PowerOf(path string) (uint32, bool) {
	name, ok := strings.CutPrefix(path, PowerDir+"/")
	if !ok {
		return 0, false
	}
	return ParseVMID(name)
}

// IsPrivate reports whether path lies in a directory for root alone: priv and
// nodes/NODE/priv, with everything below them.
func IsPrivate(path string) bool {
	p := strings.SplitN(path, "/", 4)
	return p[0] == "priv" || len(p) >= 3 && p[0] == "nodes" && p[2] == "priv"
}

// isScript reports whether name is that of a script that OpenVZ ran: they alone
// may be executed.
func isScript(name string) bool {
	whose, when, _ := strings.Cut(name, ".")
	switch when {
	case "mount", "umount", "start", "stop", "premount", "postumount":
		return whose == "vps" || whose != "" && whose[0] != '0' && strings.Trim(whose, "0123456789") == ""
	}
	return false
}

// Mode returns the permission bits of path, which follow from the path alone.
func Mode(path string, dir bool) uint32 {
	mode := uint32(0o640)
	if dir {
		mode = 0o755
	} else if _, name := Split(path); isScript(name) {
		mode = 0o740
	}
	if IsPrivate(path) {
		mode &= 0o700
	}
	return mode
}

// Chmod returns the only permission bits that chmod accepts at path. It changes
// nothing, and it knows no difference between a file and a directory.
func Chmod(path string) uint32 {
	if IsPrivate(path) {
		return 0o600
	}
	return 0o640
}

// IsLock reports whether a directory at path is a cluster-wide lock.
func IsLock(path string) bool {
	name, ok := strings.CutPrefix(path, LockDir+"/")
	return ok && name != "" && !strings.Contains(name, "/")
}

// IsBelowLocks reports whether path lies in the directory of locks, in a lock or
// as one.
func IsBelowLocks(path string) bool { return strings.HasPrefix(path, LockDir+"/") }

// A Link is a symbolic link at the root of the mount that leads to the place
// of the local node.
type Link struct{ Name, Target string }

// Links returns the symbolic links of a node, in byte order of their names.
func Links(node string) []Link {
	home := "nodes/" + node
	return []Link{
		{"local", home},
		{"lxc", home + "/lxc"},
		{"openvz", home + "/openvz"},
		{"qemu-server", home + "/qemu-server"},
	}
}

// Skeleton returns the directories that a node needs before its agents can
// work, parents first.
func Skeleton(node string) []string {
	home := "nodes/" + node
	return []string{
		"nodes", home, home + "/qemu-server", home + "/lxc", home + "/openvz", home + "/priv", home + "/tasks",
		"priv", LockDir, PowerDir, "firewall", "ha", "mapping", "sdn", "virtual-guest",
	}
}

// temporary matches the names through which editors and tools save: the
// content counts only when it is renamed to its real name.
var temporary = regexp.MustCompile(strings.Join([]string{
	`\.tmp\.[0-9A-Za-z]+$`,        // PVE's own writers
	`^sed[A-Za-z0-9]{6}$`,         // sed -i
	`^\..*\.sw[a-z]x?$`, `^4913$`, // vim: swap files and its two probes
	`~$`,             // backups
	`^\.#`, `^#.*#$`, // emacs: locks and autosave
	`^\.goutputstream-`, `^\.~lock\.`, // GLib, LibreOffice
	`\.dpkg-(new|tmp)$`, `\.partial$`, // packaging, downloads
}, "|"))

// IsTemporary reports whether name (the last element of a path) is one that
// editors and tools save through. Such files live on the writer's node only
// until they are renamed.
func IsTemporary(name string) bool { return temporary.MatchString(name) }

// IsName reports whether name can be an entry of a directory.
func IsName(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= MaxName && !strings.ContainsAny(name, "/\x00")
}

// Split returns the directory and the last element of path.
func Split(path string) (dir, name string) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return "", path
}

// Join is the inverse of Split.
func Join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

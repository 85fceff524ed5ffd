package storage

import (
	"fmt"
	"path"
	"regexp"
	"strings"
	"time"
)

// An Archive is what the name of a backup says.
type Archive struct {
	File         string // without directory
	Type         string // qemu, lxc, openvz
	Format       string // tar, vma
	Compression  string // gz, lzo, zst, bz2; "" for none
	Decompressor []string

	// Only names made by vzdump itself have these.
	Standard bool
	VMID     uint32
	Created  time.Time
	Log      string // the file beside it with what was said while it was made
	Notes    string // the file beside it with the user's notes
}

var (
	archiveName  = regexp.MustCompile(`^vzdump-(lxc|openvz|qemu)-.+\.(tgz|(?:tar|vma)(?:\.(?:gz|lzo|zst|bz2))?)$`)
	standardName = regexp.MustCompile(`^vzdump-(?:lxc|openvz|qemu)-([1-9]\d{2,8})-(\d{4}_\d{2}_\d{2}-\d{2}_\d{2}_\d{2})\.`)
)

// decompressors are the commands that undo a compression, by "format.compression".
var decompressors = map[string][]string{
	"tar.gz":  {"tar", "-z"},
	"tar.lzo": {"tar", "--lzop"},
	"tar.zst": {"tar", "--zstd"},
	"tar.bz2": {"tar", "--bzip2"},
	"vma.gz":  {"zcat"},
	"vma.lzo": {"lzop", "-d", "-c"},
	"vma.zst": {"zstd", "-q", "-d", "-c"},
	"vma.bz2": {"bzip2", "-d", "-c"},
}

// ParseArchive understands a path or volume name of a backup. Times in names
// are those of zone.
func ParseArchive(name string, zone *time.Location) (Archive, error) {
	file := path.Base(name)
	m := archiveName.FindStringSubmatch(file)
	if m == nil || strings.HasSuffix(name, "/") {
		return Archive{}, fmt.Errorf("ERROR: couldn't determine archive info from '%s'", name)
	}
	extension := m[2]
	if extension == "tgz" {
		extension = "tar.gz"
	}
	a := Archive{File: file, Type: m[1], Decompressor: decompressors[extension]}
	a.Format, a.Compression, _ = strings.Cut(extension, ".")
	s := standardName.FindStringSubmatch(file)
	stem := strings.TrimSuffix(file, "."+m[2])
	if s == nil || len(s[0]) != len(stem)+1 {
		return a, nil
	}
	created, err := time.ParseInLocation("2006_01_02-15_04_05", s[2], zone)
	if err != nil {
		return a, nil // digits, but no time: somebody's own name
	}
	a.Standard, a.VMID, a.Created = true, number(s[1]), created
	a.Log, a.Notes = stem+".log", file+".notes"
	return a, nil
}

package storage

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// The content types of volumes.
const (
	Images   = "images"
	Rootdir  = "rootdir"
	ISO      = "iso"
	Vztmpl   = "vztmpl"
	Backup   = "backup"
	Snippets = "snippets"
	Import   = "import"
)

// ContentTypes are all content types, in the order tools list them.
var ContentTypes = []string{Backup, Images, Import, ISO, Rootdir, Snippets, Vztmpl}

// An ID names a volume in the cluster.
type ID struct{ Storage, Name string }

var volumeID = regexp.MustCompile(`^([a-zA-Z][a-zA-Z0-9\-_.]*[a-zA-Z0-9]):(.+)$`)

// ParseID reads STORAGE:NAME.
func ParseID(text string) (ID, error) {
	m := volumeID.FindStringSubmatch(text)
	if m == nil {
		return ID{}, fmt.Errorf("unable to parse volume ID '%s'", text)
	}
	return ID{m[1], m[2]}, nil
}

func (id ID) String() string { return id.Storage + ":" + id.Name }

// A Volume is what the name of a volume says.
type Volume struct {
	Name     string // all of it, as in the volume ID
	Content  string
	File     string // the part that names this volume: without content type, guest and base
	VMID     uint32 // the owner; 0 if it has none
	Base     string // what a linked clone stands on
	BaseVMID uint32
	IsBase   bool
	Format   string // raw, qcow2, vmdk, subvol; of imports also ova, ovf, ova+vmdk, …
}

// Forms of file names. Where case does not matter, it is because images of
// other systems come with such names.
var (
	linkedFile  = regexp.MustCompile(`^(\d+)/(\S+)/(\d+)/(\S+)$`)
	ownedFile   = regexp.MustCompile(`^(\d+)/(\S+)$`)
	imageFile   = regexp.MustCompile(`^(base-)?[^/\s]+\.(raw|qcow2|vmdk|subvol)$`)
	isoFile     = regexp.MustCompile(`^[^/]+\.(?i:iso|img)$`)
	vztmplFile  = regexp.MustCompile(`^[^/]+\.(?i:tar|tar\.(gz|xz|zst|bz2))$`)
	backupFile  = regexp.MustCompile(`^[^/]+\.(tgz|(?:tar|vma)(?:\.(?:gz|lzo|zst|bz2))?)$`)
	snippetFile = regexp.MustCompile(`^[^/]+$`)
	importFile  = regexp.MustCompile(`^[a-zA-Z0-9\-.+=_ ]+\.(ova|ovf|qcow2|raw|vmdk)$`)
	importInner = regexp.MustCompile(`^[a-zA-Z0-9\-.+=_ ]+\.ova/[a-zA-Z0-9\-.+=_ ]+\.(qcow2|raw|vmdk)$`)

	backupOwner = regexp.MustCompile(`^vzdump-(?:openvz|lxc|qemu)-(\d+)-.+`)
)

// fileForms are the files of each content type but images.
var fileForms = map[string]*regexp.Regexp{
	ISO: isoFile, Vztmpl: vztmplFile, Backup: backupFile, Snippets: snippetFile, Import: importFile,
}

// ParseFile understands the names of volumes that are files.
func ParseFile(name string) (Volume, error) {
	if m := linkedFile.FindStringSubmatch(name); m != nil {
		if _, err := parseImage(m[2]); err != nil {
			return Volume{}, err
		}
		v, err := parseImage(m[4])
		v.Name, v.VMID, v.Base, v.BaseVMID = name, number(m[3]), m[2], number(m[1])
		return v, err
	}
	if m := ownedFile.FindStringSubmatch(name); m != nil {
		v, err := parseImage(m[2])
		v.Name, v.VMID = name, number(m[1])
		return v, err
	}
	content, file, _ := strings.Cut(name, "/")
	v := Volume{Name: name, Content: content, File: file, Format: "raw"}
	if content == Import {
		if m := importInner.FindStringSubmatch(file); m != nil {
			v.Format = "ova+" + m[1]
			return v, nil
		}
	}
	form := fileForms[content]
	if form == nil || !form.MatchString(file) {
		return Volume{}, fmt.Errorf("unable to parse directory volume name '%s'", name)
	}
	switch content {
	case Import:
		v.Format = form.FindStringSubmatch(file)[1]
	case Backup:
		if m := backupOwner.FindStringSubmatch(file); m != nil {
			v.VMID = number(m[1])
		}
	}
	return v, nil
}

func parseImage(file string) (Volume, error) {
	m := imageFile.FindStringSubmatch(file)
	if m == nil {
		return Volume{}, fmt.Errorf("unable to parse volume filename '%s'", file)
	}
	return Volume{Content: Images, File: file, IsBase: m[1] != "", Format: m[2]}, nil
}

// Grows refuses a new size that is smaller than the present one, in bytes: what
// the guest has there would be lost.
func (v Volume) Grows(size, bytes int64) error {
	if bytes < size {
		return fmt.Errorf("'%s' has %d bytes: volumes cannot shrink", v.Name, size)
	}
	return nil
}

// A BlockForm is how a type names volumes that are block devices or data sets.
type BlockForm struct {
	Type  string // for error texts
	Names string // first words of names, joined by "|", such as "vm|base"
	Bases string // those of them that a linked clone may name before itself; "" if it never does
}

var blockName = regexp.MustCompile(`^(?:(([a-z]+)-(\d+)-[^\s/]+)/)?(([a-z]+)-(\d+)-[^\s/]+)$`)

// Parse understands a name.
func (f BlockForm) Parse(name string) (Volume, error) {
	m := blockName.FindStringSubmatch(name)
	if m == nil || !listed(m[5], f.Names) || m[1] != "" && !listed(m[2], f.Bases) {
		return Volume{}, fmt.Errorf("unable to parse %s volume name '%s'", f.Type, name)
	}
	v := Volume{Name: name, Content: Images, File: m[4], VMID: number(m[6]), Base: m[1], BaseVMID: number(m[3]), Format: "raw"}
	v.IsBase = strings.HasPrefix(m[5], "base")
	if m[5] == "subvol" || m[5] == "basevol" {
		v.Format = "subvol"
	}
	return v, nil
}

func listed(word, words string) bool {
	return word != "" && strings.Contains("|"+words+"|", "|"+word+"|")
}

// FreeName returns the name with the lowest free number for a new disk, such as
// vm-100-disk-2. Names are those in use, of whichever guest, without directory;
// of an image and of the base made from it, only one may exist.
func FreeName(prefix string, vmid uint32, extension string, names []string) (string, error) {
	taken := map[int]bool{}
	number := regexp.MustCompile(`^(?:vm|base|subvol|basevol)-` + strconv.FormatUint(uint64(vmid), 10) + `-disk-(\d+)(?:\D.*)?$`)
	for _, name := range names {
		if m := number.FindStringSubmatch(name); m != nil {
			if n, err := strconv.Atoi(m[1]); err == nil {
				taken[n] = true
			}
		}
	}
	for n := range maxDisks {
		if !taken[n] {
			return fmt.Sprintf("%s-%d-disk-%d%s", prefix, vmid, n, extension), nil
		}
	}
	return "", fmt.Errorf("unable to allocate an image name for VM %d", vmid)
}

// maxDisks is how many volumes a guest may have on a storage.
const maxDisks = 16384

// number reads digits that a regular expression found; what does not fit is no
// guest's number.
func number(digits string) uint32 {
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}

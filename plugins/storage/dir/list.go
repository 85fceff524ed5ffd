package dir

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"etcpve/agents/storage"
	"etcpve/agents/storage/image"
)

// List returns the volumes of a content type, sorted by path. Files that are no
// volumes are passed over.
func (p Plugin) List(_ context.Context, c *storage.Config, q storage.Query) ([]storage.Info, error) {
	switch q.Content {
	case storage.Images, storage.Rootdir:
		return p.listImages(c, q)
	case storage.ISO, storage.Vztmpl:
		if q.VMID != 0 {
			return nil, nil // they belong to no guest
		}
	}
	dir, entries, err := read(c, q.Content)
	if err != nil {
		return nil, err
	}
	var all []storage.Info
	for _, e := range entries {
		if i, ok := p.file(dir, e.Name(), q); ok {
			all = append(all, i)
		}
	}
	return all, nil
}

// read returns the entries of a content type's directory, none if there is no
// directory.
func read(c *storage.Config, content string) (string, []os.DirEntry, error) {
	dir, err := c.Subdir(content)
	if err != nil {
		return "", nil, err
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return dir, entries, err
}

// file returns what is listed of a file that is no image.
func (p Plugin) file(dir, name string, q storage.Query) (storage.Info, bool) {
	v, err := storage.ParseFile(q.Content + "/" + name)
	if err != nil || strings.HasPrefix(name, ".") {
		return storage.Info{}, false
	}
	stat, ok := statOf(filepath.Join(dir, name))
	if !ok || stat.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return storage.Info{}, false
	}
	i := storage.Info{Name: v.Name, Content: v.Content, Size: stat.Size, Created: stat.Ctim.Sec, Format: listedFormat(v)}
	if q.Content == storage.Backup {
		return i, p.backup(&i, dir, v, q.VMID)
	}
	return i, true
}

func statOf(path string) (stat syscall.Stat_t, ok bool) {
	return stat, syscall.Stat(path, &stat) == nil
}

// listedFormat is the word a listing has for a file's format.
func listedFormat(v storage.Volume) string {
	_, ext, _ := cutExtension(v.File)
	switch v.Content {
	case storage.Vztmpl:
		if packed, ok := strings.CutPrefix(strings.ToLower(ext), "tar."); ok {
			return "t" + packed
		}
		return "tar"
	case storage.Snippets:
		return "snippet"
	case storage.Import:
		return v.Format
	}
	return strings.ToLower(ext)
}

var extension = regexp.MustCompile(`\.((?:tar|vma|TAR|VMA)\.[^.]+|[^.]+)$`)

// cutExtension cuts a name before its extension, of which "tar.gz" is one.
func cutExtension(name string) (stem, ext string, ok bool) {
	m := extension.FindStringSubmatchIndex(name)
	if m == nil {
		return name, "", false
	}
	return name[:m[0]], name[m[2]:m[3]], true
}

// maxNotes is how much is read of the notes beside a backup, in bytes.
const maxNotes = 64 << 10

// ownerInName finds the guest in a backup's name that is not vzdump's own.
var ownerInName = regexp.MustCompile(`-([1-9][0-9]{2,8})-[^/]+$`)

// backup completes what is listed of a backup and reports whether it is asked for.
func (p Plugin) backup(i *storage.Info, dir string, v storage.Volume, vmid uint32) bool {
	i.Subtype = "unknown"
	if a, err := storage.ParseArchive(v.File, p.zone()); err == nil {
		i.Subtype = a.Type
		if a.Standard {
			i.Created = a.Created.Unix()
		}
	}
	if m := ownerInName.FindStringSubmatch(v.File); m != nil {
		n, err := strconv.ParseUint(m[1], 10, 32)
		if err == nil {
			i.VMID = uint32(n)
		}
	}
	if vmid != 0 && i.VMID != vmid {
		return false
	}
	path := filepath.Join(dir, v.File)
	_, i.Protected = statOf(path + ".protected")
	if stat, ok := statOf(path + ".notes"); ok && stat.Size <= maxNotes {
		if text, err := os.ReadFile(path + ".notes"); err == nil {
			i.Notes = strings.TrimSuffix(string(text), "\n")
		}
	}
	return true
}

func (p Plugin) listImages(c *storage.Config, q storage.Query) ([]storage.Info, error) {
	dir, owners, err := read(c, storage.Images)
	if err != nil {
		return nil, err
	}
	var all []storage.Info
	for _, owner := range owners {
		vmid, err := strconv.ParseUint(owner.Name(), 10, 32)
		if err != nil || !q.Wants(uint32(vmid)) {
			continue
		}
		files, err := os.ReadDir(filepath.Join(dir, owner.Name()))
		if err != nil {
			continue // removed meanwhile, or no directory
		}
		for _, f := range files {
			if i, ok := p.imageInfo(filepath.Join(dir, owner.Name()), owner.Name()+"/"+f.Name()); ok {
				i.Content = q.Of(i.VMID)
				all = append(all, i)
			}
		}
	}
	return all, nil
}

// besideBase is how a linked clone records the base it stands on.
var besideBase = regexp.MustCompile(`^\.\./(\d+)/([^/]+\.(?:raw|qcow2|vmdk|subvol))$`)

// imageInfo returns what is listed of an image.
func (p Plugin) imageInfo(dir, name string) (storage.Info, bool) {
	v, err := storage.ParseFile(name)
	if err != nil || strings.HasPrefix(v.File, ".") || stateForm.MatchString(v.File) {
		return storage.Info{}, false
	}
	path := filepath.Join(dir, v.File)
	stat, ok := statOf(path)
	isDir := stat.Mode&syscall.S_IFMT == syscall.S_IFDIR
	if !ok || isDir != (v.Format == "subvol") {
		return storage.Info{}, false
	}
	i := storage.Info{Name: name, Format: v.Format, VMID: v.VMID, Used: stat.Blocks * 512, Created: stat.Ctim.Sec}
	if isDir {
		return i, true
	}
	// An image whose head cannot be read is there all the same, and listed so
	// that somebody sees it.
	head, _ := image.Read(path, v.Format)
	i.Size, i.Parent = head.Size, head.Backing
	base := head.Backing
	if stateForm.MatchString(base) {
		_, base, _ = chain(dir, v.File) // what cannot be read stands on nothing known
	}
	if m := besideBase.FindStringSubmatch(base); m != nil {
		i.Name = m[1] + "/" + m[2] + "/" + name
	}
	return i, true
}

// Locate finds the volume that a file is.
func (p Plugin) Locate(c *storage.Config, path string) (storage.Volume, bool) {
	for _, content := range storage.ContentTypes {
		dir, err := c.Subdir(content)
		if err != nil {
			continue
		}
		rest, below := strings.CutPrefix(path, dir+"/")
		if !below {
			continue
		}
		name := content + "/" + rest
		if content == storage.Images {
			i, ok := p.imageInfo(filepath.Dir(path), rest)
			if !ok {
				continue
			}
			name = i.Name
		}
		if v, err := storage.ParseFile(name); err == nil {
			return v, true
		}
	}
	return storage.Volume{}, false
}

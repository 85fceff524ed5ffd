package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// A Part is where in an archive a file lies, in bytes.
type Part struct {
	Archive      string
	Offset, Size int64
}

// maxMembers is how many files of an archive are looked at.
const maxMembers = 1000

// SplitArchive tells the archive from the file in it: DIR/NAME.ova/FILE.
func SplitArchive(path string) (archive, member string, ok bool) {
	i := strings.LastIndex(path, ".ova/")
	if i < 0 {
		return "", "", false
	}
	return path[:i+len(".ova")], path[i+len(".ova/"):], true
}

// Find returns the part of an archive that is a file. The archive is not
// compressed, so that the file can be read where it lies.
func Find(archive, member string) (Part, error) {
	f, err := os.Open(archive)
	if err != nil {
		return Part{}, err
	}
	defer f.Close()
	r := tar.NewReader(f)
	for range maxMembers {
		head, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Part{}, fmt.Errorf("%s: %w", archive, err)
		}
		if head.Name != member || head.Typeflag != tar.TypeReg {
			continue
		}
		// The reader takes no more than the header before it is asked for content.
		at, err := f.Seek(0, io.SeekCurrent)
		return Part{Archive: archive, Offset: at, Size: head.Size}, err
	}
	return Part{}, fmt.Errorf("%s: '%s': %w", archive, member, fs.ErrNotExist)
}

// readPart reads the head of an image in an archive.
func readPart(path, format string) (Info, error) {
	archive, member, ok := SplitArchive(path)
	if !ok {
		return Info{}, fmt.Errorf("%s: not in an archive", path)
	}
	p, err := Find(archive, member)
	if err != nil {
		return Info{}, err
	}
	f, err := os.Open(archive)
	if err != nil {
		return Info{}, err
	}
	defer f.Close()
	part := io.NewSectionReader(f, p.Offset, p.Size)
	switch format {
	case "raw":
		return Info{Size: p.Size}, nil
	case "qcow2":
		return decorated(path)(qcow2(part))
	case "vmdk":
		return decorated(path)(vmdk(part))
	}
	return Info{}, fmt.Errorf("%s: image format '%s' is not known", path, format)
}

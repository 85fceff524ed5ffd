// Package facts gathers what a node's rule set follows from: the rule files,
// corosync.conf, the guests of the node and the networks it is managed from.
//
// It owns the way from files and the machine to a firewall.Input, and the rule
// which version of a file counts while the newest cannot be read. It never
// decides about packets.
package facts

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"etcpve/agents/firewall"
	fw "etcpve/cfs/format/firewall"
	"etcpve/cfs/format/text"
	"etcpve/cfs/layout"
)

// A Reader reads the facts of one node. It may be used by one goroutine at a
// time.
type Reader struct {
	Tree string // where the cluster file system is mounted
	Node string // the local node
	Keep string // directory for last good versions that outlive the process; "" keeps none

	// Addresses returns the machine's own addresses with their networks; nil
	// asks the kernel.
	Addresses func() ([]netip.Prefix, error)

	good   map[string]*fw.Document // last good version, by path
	files  map[string]File         // as they were read last, by path; also those that are not there
	guests map[string]cached       // as they were read last, by path
	fresh  map[string]bool         // guests of which that counts still
	listed []firewall.Guest        // what guests come to; nil if one may have changed
	names  map[string]resolved     // addresses of machines
}

// Changed makes the next Again look at a file.
func (r *Reader) Changed(path string) {
	delete(r.files, path)
	if _, conf := layout.GuestOf(path); conf {
		delete(r.fresh, path)
		r.listed = nil
	}
}

// A File is a rule file as it was found.
type File struct {
	Path     string
	Content  []byte // as it is now
	Document *fw.Document
	Problems []text.Error // why Document is not what Content says in full
	Kept     bool         // Document is an older version
}

// Facts are what was found.
type Facts struct {
	firewall.Input
	Files []File // in the order: cluster, host, networks, guests
}

// Read gathers the facts. It fails only if it cannot tell whether the firewall
// is to be on, or cannot tell at all: then what is in force has to stay.
func (r *Reader) Read() (Facts, error) {
	r.files, r.fresh, r.listed = nil, nil, nil
	return r.Again()
}

// Again gathers the facts as Read does, but of the files of rules and guests
// that were read before it looks only at those that changed.
func (r *Reader) Again() (f Facts, err error) {
	// Where no tree is mounted, the absence of a file says nothing.
	if _, err := os.Stat(filepath.Join(r.Tree, "nodes", r.Node)); err != nil {
		return f, err
	}
	load := func(scope fw.Scope, path string) *fw.Document {
		file, e := r.file(scope, path)
		if e != nil {
			err = errors.Join(err, e)
			return nil
		}
		if file.Document != nil {
			f.Files = append(f.Files, file)
		}
		return file.Document
	}
	f.Cluster = load(fw.Cluster, "firewall/cluster.fw")
	f.Host = load(fw.Host, "nodes/"+r.Node+"/host.fw")
	for _, name := range r.ruleFiles("sdn/firewall") {
		f.VNets = append(f.VNets, firewall.VNet{Name: strings.TrimSuffix(name, ".fw"), Rules: load(fw.VNet, "sdn/firewall/"+name)})
	}
	guests, e := r.guestsOf()
	err = errors.Join(err, e)
	for _, g := range guests {
		g.Rules = load(fw.Guest, fmt.Sprintf("firewall/%d.fw", g.VMID))
		f.Guests = append(f.Guests, g)
	}
	f.Input.Node, e = r.node()
	return f, errors.Join(err, e)
}

// networkFile matches the rule files of virtual networks: their names become
// those of bridges and of chains.
var networkFile = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]{0,7}\.fw$`)

// ruleFiles returns the rule files of a directory.
func (r *Reader) ruleFiles(dir string) (names []string) {
	entries, err := os.ReadDir(filepath.Join(r.Tree, dir))
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if networkFile.MatchString(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names
}

// file returns a rule file, which is read unless it is known. Without a document
// the file does not exist.
func (r *Reader) file(scope fw.Scope, path string) (File, error) {
	if f, ok := r.files[path]; ok {
		return f, nil
	}
	f, err := r.read(scope, path)
	if err == nil {
		if r.files == nil {
			r.files = map[string]File{}
		}
		r.files[path] = f
	}
	return f, err
}

func (r *Reader) read(scope fw.Scope, path string) (File, error) {
	content, err := os.ReadFile(filepath.Join(r.Tree, path))
	if errors.Is(err, fs.ErrNotExist) {
		r.forget(path)
		return File{}, nil
	}
	if err != nil {
		return File{}, err
	}
	old := r.lastGood(scope, path)
	if old != nil && old.String() == string(content) {
		return File{Path: path, Content: content, Document: old}, nil
	}
	d := fw.Parse(scope, path, string(content))
	if len(d.Problems) == 0 {
		r.remember(path, d)
		return File{Path: path, Content: content, Document: d}, nil
	}
	file := File{Path: path, Content: content, Document: d, Problems: d.Problems}
	if old != nil {
		file.Document, file.Kept = old, true
		return file, nil
	}
	failClosed(d)
	return file, nil
}

// closed are the options that decide whether anything is filtered, with the
// values that count where the file's own cannot be read.
var closed = map[string]string{"enable": "1", "policy_in": "DROP", "policy_out": "DROP", "policy_forward": "DROP"}

// failClosed makes a file with unreadable lines, of which no good version is
// known, err on the safe side. Other lines that cannot be read are left out.
func failClosed(d *fw.Document) {
	for _, p := range d.Problems {
		name := strings.ToLower(p.Key)
		value, ok := closed[name]
		if _, set := d.Option(name); ok && !set {
			d.Options = append(d.Options, fw.Option{Line: p.Line, Name: name, Value: value})
		}
	}
}

// keptAt is where the last good version of a file outlives the process.
func (r *Reader) keptAt(path string) string {
	return filepath.Join(r.Keep, strings.ReplaceAll(path, "/", "_"))
}

// lastGood returns the last version of a file that had no problems, or nil.
func (r *Reader) lastGood(scope fw.Scope, path string) *fw.Document {
	if d, ok := r.good[path]; ok || r.Keep == "" {
		return d
	}
	content, err := os.ReadFile(r.keptAt(path))
	if err != nil {
		return nil
	}
	d := fw.Parse(scope, path, string(content))
	if len(d.Problems) > 0 {
		return nil
	}
	r.hold(path, d)
	return d
}

func (r *Reader) hold(path string, d *fw.Document) {
	if r.good == nil {
		r.good = map[string]*fw.Document{}
	}
	r.good[path] = d
}

// remember keeps a good version. That it outlives the process is worth an
// attempt, not a failure.
func (r *Reader) remember(path string, d *fw.Document) {
	r.hold(path, d)
	if r.Keep == "" || os.MkdirAll(r.Keep, 0o700) != nil {
		return
	}
	next := r.keptAt(path) + ".new"
	if os.WriteFile(next, []byte(d.String()), 0o600) == nil {
		_ = os.Rename(next, r.keptAt(path))
	}
}

func (r *Reader) forget(path string) {
	delete(r.good, path)
	if r.Keep != "" {
		_ = os.Remove(r.keptAt(path))
	}
}

// kernelAddresses asks the kernel for the machine's addresses.
func kernelAddresses() (list []netip.Prefix, err error) {
	addresses, err := net.InterfaceAddrs()
	for _, a := range addresses {
		if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLoopback() && !p.Addr().IsLinkLocalUnicast() {
			list = append(list, p)
		}
	}
	return list, err
}

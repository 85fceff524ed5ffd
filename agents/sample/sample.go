// Package sample is the form in which agents say what they measured: of a node,
// a guest or a storage, one line of .rrd each.
//
// It owns the order of the values, which is Proxmox VE's, and the way of a line
// into the file. It never measures anything.
package sample

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// File is where samples are written, below the mount.
const File = ".rrd"

// Unknown stands for a value that could not be measured.
const Unknown = "U"

// The forms of samples; a key is a form and whose sample it is.
const (
	NodeForm    = "pve-node-9.0"
	GuestForm   = "pve-vm-9.0"
	StorageForm = "pve-storage-9.0"
)

// A Value is a number that may be unknown; the zero Value is.
type Value struct{ text string }

// Count is a Value of whole units: bytes, seconds.
func Count[T int | int64 | uint64](n T) Value {
	if n < 0 {
		return Value{}
	}
	return Value{strconv.FormatUint(uint64(n), 10)}
}

// Share is a Value with a fraction, such as a load.
func Share(x float64) Value {
	if !(x >= 0) || x > 1e15 { // nor is NaN
		return Value{}
	}
	return Value{strconv.FormatFloat(x, 'f', -1, 64)}
}

// String returns the number, or Unknown.
func (v Value) String() string {
	if v.text == "" {
		return Unknown
	}
	return v.text
}

// Pressure is how long work was held up for want of something, in per cent of
// the last ten seconds: some of it, or all.
type Pressure struct{ CPUSome, CPUFull, IOSome, IOFull, MemorySome, MemoryFull Value }

// A Node is a sample of a node. Sizes are in bytes.
type Node struct {
	Name                           string
	Time                           time.Time
	Uptime                         Value // seconds
	Load                           Value // of the last minute
	CPUs, CPU, Wait                Value // CPU and Wait: parts of one that are used, or wait for disks
	Memory, MemoryUsed, MemoryFree Value // what is free could be had, whatever holds it now
	Swap, SwapUsed                 Value
	Root, RootUsed                 Value
	NetIn, NetOut                  Value // since boot
	ARC                            Value // of ZFS
	Pressure
}

// Line returns the sample as a line of the file.
func (n Node) Line() string {
	return line(NodeForm+"/"+n.Name, n.Uptime.String(), "", stamp(n.Time), n.Load, n.CPUs, n.CPU, n.Wait,
		n.Memory, n.MemoryUsed, n.Swap, n.SwapUsed, n.Root, n.RootUsed, n.NetIn, n.NetOut, n.MemoryFree, n.ARC,
		n.CPUSome, n.IOSome, n.IOFull, n.MemorySome, n.MemoryFull)
}

// A Guest is a sample of a guest. Sizes are in bytes.
type Guest struct {
	VMID                uint32
	Name, Status        string // running, stopped
	Template            bool
	Time                time.Time
	Uptime              Value
	CPUs, CPU           Value // CPU: the part of its CPUs that it uses
	Memory, MemoryUsed  Value
	Disk, DiskUsed      Value
	NetIn, NetOut       Value // since it was started, as the next two
	DiskRead, DiskWrite Value
	MemoryHost          Value // what it takes of the node's
	Pressure
}

// Line returns the sample as a line of the file.
func (g Guest) Line() string {
	template := "0"
	if g.Template {
		template = "1"
	}
	return line(GuestForm+"/"+strconv.FormatUint(uint64(g.VMID), 10), g.Uptime.String(), plain(g.Name), plain(g.Status), template, stamp(g.Time),
		g.CPUs, g.CPU, g.Memory, g.MemoryUsed, g.Disk, g.DiskUsed, g.NetIn, g.NetOut, g.DiskRead, g.DiskWrite, g.MemoryHost,
		g.CPUSome, g.CPUFull, g.IOSome, g.IOFull, g.MemorySome, g.MemoryFull)
}

// A Storage is a sample of a storage, as one node sees it.
type Storage struct {
	Node, ID    string
	Time        time.Time
	Total, Used Value
}

// Line returns the sample as a line of the file.
func (s Storage) Line() string {
	return line(StorageForm+"/"+s.Node+"/"+s.ID, stamp(s.Time), s.Total, s.Used)
}

// line joins the key and its values, of which some are text.
func line(key string, values ...any) string {
	words := []string{key}
	for _, v := range values {
		switch v := v.(type) {
		case string:
			words = append(words, v)
		case Value:
			words = append(words, v.String())
		}
	}
	return strings.Join(words, ":") + "\n"
}

func stamp(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }

// plain keeps a text from being taken for more than one value.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if r == ':' || r < ' ' || r == 0x7f {
			return '_'
		}
		return r
	}, text)
}

// atOnce is how many lines are written together; the file takes what was written
// when it is closed, whole or not at all.
const atOnce = 500

// Publish writes lines into the file of the tree.
func Publish(tree string, lines []string) error {
	for some := range slices.Chunk(lines, atOnce) {
		if err := publish(filepath.Join(tree, File), []byte(strings.Join(some, ""))); err != nil {
			return err
		}
	}
	return nil
}

func publish(name string, content []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	if _, err := f.Write(content); err != nil {
		_ = f.Close() // the first error says more
		return err
	}
	return f.Close()
}

// A Row is what a line holds for round-robin files: when it was measured, and
// the numbers.
type Row struct {
	Key    string
	Time   int64
	Values []string
}

// leading is how many values of a form come before the time.
var leading = map[string]int{NodeForm: 2, GuestForm: 4, StorageForm: 0}

// Rows reads the file. Lines of other forms, and lines that cannot be read, are
// left out.
func Rows(content []byte) (rows []Row) {
	for l := range bytes.Lines(content) {
		words := strings.Split(strings.TrimSuffix(string(l), "\n"), ":")
		form, name, _ := strings.Cut(words[0], "/")
		skip, known := leading[form]
		if !known || name == "" || len(words) < skip+2 {
			continue
		}
		t, err := strconv.ParseInt(words[skip+1], 10, 64)
		if err != nil || slices.ContainsFunc(words[skip+2:], notNumber) {
			continue
		}
		rows = append(rows, Row{words[0], t, words[skip+2:]})
	}
	return rows
}

func notNumber(word string) bool {
	if word == Unknown {
		return false
	}
	x, err := strconv.ParseFloat(word, 64)
	return err != nil || x-x != 0 // infinite, or no number
}

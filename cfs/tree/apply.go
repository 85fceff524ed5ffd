package tree

import (
	"strconv"
	"strings"

	"etcpve/cfs/command"
	"etcpve/cfs/layout"
)

// run carries out c. Every operation checks all of its rules before its first
// effect.
func (x *Txn) run(c *command.Command) (inode uint64, err error) {
	switch c.Op {
	case command.Noop:
		return 0, nil
	case command.Write:
		return x.write(c)
	case command.Mkdir:
		return x.mkdir(c)
	case command.Remove:
		return x.remove(c)
	case command.Rmdir:
		return x.rmdir(c)
	case command.Rename:
		return x.rename(c)
	case command.Touch:
		return x.touch(c)
	case command.Unlock:
		return x.unlock(c)
	}
	return 0, ErrInvalid
}

func (x *Txn) write(c *command.Command) (uint64, error) {
	at, err := x.find(c.Path)
	if err != nil {
		return 0, err
	}
	if err := x.mayWrite(c, at); err != nil {
		return 0, err
	}
	x.step()
	kind, e := Modified, at.entry
	if e == nil {
		kind, e = Created, &Entry{Inode: x.version, Parent: at.parent.Inode, Name: at.name}
		x.inodes++
	}
	x.bytes += len(c.Data) - len(e.Data)
	changed := *e
	changed.Data = c.Data
	e = x.stamp(changed)
	if kind == Created {
		x.attach(at, e)
	}
	if g, ok := layout.GuestOf(at.path); ok {
		x.setGuest(g)
	}
	x.report(kind, at, e)
	return e.Inode, nil
}

func (x *Txn) mayWrite(c *command.Command, at spot) error {
	switch old := at.entry; {
	case old != nil && c.Exclusive:
		return ErrExist
	case old != nil && old.Dir:
		return ErrIsDir
	case len(c.Data) > layout.MaxFile:
		return ErrTooBig
	}
	if err := x.expected(at.entry); err != nil {
		return err
	}
	if err := x.mayHold(at.path, layout.Guest{}); err != nil {
		return err
	}
	had := 0
	if at.entry == nil {
		if x.inodes >= layout.MaxInodes {
			return ErrNoSpace
		}
	} else {
		had = len(at.entry.Data)
	}
	// A full tree must still let its files shrink.
	if more := len(c.Data) - had; more > 0 && x.bytes+more > layout.MaxTotal {
		return ErrNoSpace
	}
	return nil
}

// mayHold checks the rules of guests for a file at path. moving is the guest
// whose configuration would move there, if one does.
func (x *Txn) mayHold(path string, moving layout.Guest) error {
	if g, ok := layout.GuestOf(path); ok {
		if other, taken := x.guest(g.VMID); taken && other != g && other != moving {
			return ErrExist
		}
	}
	if vmid, ok := layout.PowerOf(path); ok {
		if _, ok := x.guest(vmid); !ok {
			return ErrNoGuest
		}
	}
	return nil
}

func (x *Txn) mkdir(c *command.Command) (uint64, error) {
	at, err := x.find(c.Path)
	switch {
	case err != nil:
		return 0, err
	case at.entry != nil:
		return 0, ErrExist
	case x.inodes >= layout.MaxInodes:
		return 0, ErrNoSpace
	}
	x.step()
	x.inodes++
	e := x.stamp(Entry{Inode: x.version, Parent: at.parent.Inode, Name: at.name, Dir: true})
	x.attach(at, e)
	x.report(Created, at, e)
	return e.Inode, nil
}

func (x *Txn) remove(c *command.Command) (uint64, error) {
	at, err := x.findExisting(c.Path)
	switch {
	case err != nil:
		return 0, err
	case at.entry.Dir:
		return 0, ErrIsDir
	}
	x.step()
	x.destroy(at)
	x.report(Removed, at, at.entry)
	if g, ok := layout.GuestOf(at.path); ok {
		x.dropGuest(g)
		x.movePower(g, layout.Guest{})
	}
	return at.entry.Inode, nil
}

func (x *Txn) rmdir(c *command.Command) (uint64, error) {
	at, err := x.findExisting(c.Path)
	switch {
	case err != nil:
		return 0, err
	case !at.entry.Dir:
		return 0, ErrNotDir
	case at.entry.Children > 0:
		return 0, ErrNotEmpty
	}
	return x.removeDir(at), nil
}

func (x *Txn) removeDir(at spot) uint64 {
	x.step()
	x.destroy(at)
	x.report(Removed, at, at.entry)
	return at.entry.Inode
}

func (x *Txn) rename(c *command.Command) (uint64, error) {
	from, err := x.findExisting(c.Path)
	if err != nil {
		return 0, err
	}
	if err := mayLeave(from); err != nil {
		return 0, err
	}
	to, err := x.find(c.To)
	if err != nil {
		return 0, err
	}
	if to.entry == from.entry {
		return from.entry.Inode, nil
	}
	if err := x.mayTake(c, from, to); err != nil {
		return 0, err
	}
	x.step()
	replaced := uint64(0)
	if to.entry != nil {
		replaced = to.entry.Inode
		x.destroy(to)
	}
	x.detach(from)
	moved := *from.entry
	moved.Parent, moved.Name = to.parent.Inode, to.name
	e := x.stamp(moved)
	x.attach(to, e)
	change := x.report(Renamed, to, e)
	change.From, change.FromParent, change.Replaced = from.path, from.parent.Inode, replaced
	if !e.Dir {
		x.counted = append(x.counted, from.path)
		x.moveGuest(from.path, to.path)
	}
	return e.Inode, nil
}

// mayLeave checks whether an entry may be renamed at all.
func mayLeave(from spot) error {
	switch e := from.entry; {
	case e.Dir && layout.IsBelowLocks(from.path):
		return ErrAccess
	case e.Children > 0:
		return ErrNotEmpty
	}
	return nil
}

// mayTake checks whether a renamed entry may take its new place.
func (x *Txn) mayTake(c *command.Command, from, to spot) error {
	if strings.HasPrefix(to.path, from.path+"/") {
		return ErrInvalid
	}
	if old := to.entry; old != nil {
		switch {
		case c.Exclusive:
			return ErrExist
		case old.Dir && !from.entry.Dir:
			return ErrIsDir
		case !old.Dir && from.entry.Dir:
			return ErrNotDir
		case old.Children > 0:
			return ErrNotEmpty
		}
	}
	if from.entry.Dir {
		return nil
	}
	moving, _ := layout.GuestOf(from.path)
	return x.mayHold(to.path, moving)
}

// moveGuest keeps the list of guests and their power files after a file has moved.
func (x *Txn) moveGuest(from, to string) {
	old, was := layout.GuestOf(from)
	now, is := layout.GuestOf(to)
	if was && old.VMID != now.VMID {
		x.dropGuest(old)
	}
	if is {
		x.setGuest(now)
	}
	if was && old.VMID != now.VMID {
		x.movePower(old, now)
	}
}

// movePower takes the power file of a guest that is no more along to the guest
// that it has become, or removes it.
func (x *Txn) movePower(old, now layout.Guest) {
	from, err := x.find(powerPath(old.VMID))
	if err != nil || from.entry == nil || from.entry.Dir {
		return
	}
	x.detach(from)
	if to, err := x.find(powerPath(now.VMID)); now.VMID != 0 && err == nil && to.entry == nil {
		moved := *from.entry
		moved.Name = to.name
		e := x.stamp(moved)
		x.attach(to, e)
		change := x.report(Renamed, to, e)
		change.From, change.FromParent = from.path, from.parent.Inode
		return
	}
	x.entries[from.entry.Inode] = nil
	x.bytes -= len(from.entry.Data)
	x.inodes--
	x.report(Removed, from, from.entry)
}

func powerPath(vmid uint32) string {
	return layout.Join(layout.PowerDir, strconv.FormatUint(uint64(vmid), 10))
}

func (x *Txn) touch(c *command.Command) (uint64, error) {
	at, err := x.findExisting(c.Path)
	if err != nil {
		return 0, err
	}
	// Only the holder renews a lock, and time 0 asks for its release, which is
	// not this command's to give.
	if e := at.entry; isLock(e, at.path) && (c.Writer != e.Writer || c.Time < e.Mtime) {
		return 0, ErrAccess
	}
	x.step()
	e := x.stamp(*at.entry)
	if g, ok := layout.GuestOf(at.path); ok && !e.Dir {
		x.setGuest(g)
	}
	x.report(Touched, at, e)
	return e.Inode, nil
}

// unlock removes a lock that has not been renewed since its expiry was noticed:
// the proposer's clock decides when to ask, the version decides whether it is granted.
func (x *Txn) unlock(c *command.Command) (uint64, error) {
	at, err := x.find(c.Path)
	switch {
	case err != nil:
		return 0, err
	case at.entry == nil:
		return 0, ErrNotExist
	case !isLock(at.entry, at.path) || at.entry.Version != c.Expect:
		return 0, ErrAccess
	case at.entry.Children > 0:
		return 0, ErrNotEmpty
	}
	return x.removeDir(at), nil
}

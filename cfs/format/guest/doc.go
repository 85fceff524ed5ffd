// Package guest reads and writes the configuration files of virtual machines
// and containers.
//
// It owns the tables of their settings, the reading of a file into sections
// (the running part, pending changes, special sections, snapshots), the
// canonical text, edits that leave every other line byte-identical, the check
// of a save, and typed views of the values that name drives, cards and boot
// order. It never touches a disk or a guest, and it keeps settings it does
// not know.
//
// A file is lines of "key: value". Lines that begin with '#' are the
// description of their section, percent-encoded. "[NAME]" begins a section:
// [PENDING] ([pve:pending] for containers) holds changes that wait for a
// restart, [special:NAME] belongs to one feature, any other name is a
// snapshot. Containers may hold raw liblxc settings, "lxc.key: value" or
// "lxc.key = value", which may repeat.
package guest

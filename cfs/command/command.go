// Package command is the versioned binary form of the changes that travel
// through the replicated log.
//
// It owns the fields of a change and their encoding. It never applies a change
// and never asks the clock: everything that applying needs is in the command,
// so that every node comes to the same result.
package command

import "fmt"

// Op says what a command does.
type Op uint8

// The operations. Their numbers are part of the log's format.
const (
	Noop   Op = iota
	Write     // set the whole content of a file, creating it if need be
	Mkdir     // create a directory
	Remove    // remove a file
	Rmdir     // remove an empty directory
	Rename    // move Path to To
	Touch     // set the modification time, which also renews a lock
	Unlock    // remove a lock directory that still has the version Expect
	opEnd
)

var opNames = [opEnd]string{"noop", "write", "mkdir", "remove", "rmdir", "rename", "touch", "unlock"}

// String returns the operation's name.
func (o Op) String() string {
	if o < opEnd {
		return opNames[o]
	}
	return fmt.Sprintf("op %d", uint8(o))
}

// Command is one change of the tree.
type Command struct {
	ID     uint64 // chosen by the proposer, unique per proposal, so that a repeated proposal counts once; 0 = none
	Node   string // node of the writer
	Writer uint32 // numeric id of that node; 0 on a standalone node
	UID    uint32 // Unix user who made the change
	Time   int64  // writer's clock in Unix seconds; becomes the modification time
	Op     Op
	// Path and To are relative to the mount point, cleaned, without a leading
	// slash. To is used by Rename alone.
	Path, To string
	Data     []byte // Write: the whole new content
	// Exclusive refuses a Write whose Path exists, and a Rename whose To exists.
	Exclusive bool
	// Replace marks a Write whose content arrives by renaming a temporary of the
	// writer's node over Path: the rules of rename apply to the target. A file
	// that is replaced keeps its inode.
	Replace bool
	Expect  uint64 // the version that Path must have; 0 = any
}

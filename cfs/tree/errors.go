package tree

import (
	"errors"
	"slices"
)

// The reasons for which a command is refused. Only cfs/mount knows which errno
// each of them becomes.
var (
	ErrNotExist = errors.New("does not exist")
	ErrExist    = errors.New("exists already")
	ErrNotDir   = errors.New("not a directory")
	ErrIsDir    = errors.New("is a directory")
	ErrNotEmpty = errors.New("directory is not empty")
	ErrAccess   = errors.New("not permitted")
	ErrTooBig   = errors.New("file is too big")
	ErrNoSpace  = errors.New("no space left")
	ErrConflict = errors.New("has been changed by somebody else")
	ErrInvalid  = errors.New("invalid command")
	ErrNoGuest  = errors.New("no such guest")
)

// codes numbers the reasons for the applied state on disk; 0 is success. New
// ones are added at the end.
var codes = []error{nil, ErrNotExist, ErrExist, ErrNotDir, ErrIsDir, ErrNotEmpty, ErrAccess,
	ErrTooBig, ErrNoSpace, ErrConflict, ErrInvalid, ErrNoGuest}

func codeOf(err error) uint8 { return uint8(slices.Index(codes, err)) }

func errorOf(code uint8) error {
	if int(code) < len(codes) {
		return codes[code]
	}
	return ErrInvalid
}

package virtual

import (
	"errors"
	"log/slog"
)

// ErrSwitch refuses what is neither "0" nor "1" and a line feed.
var ErrSwitch = errors.New("not 0 or 1 on a line")

// Debug is the file that shows whether debug messages are logged, and switches
// them.
func Debug(level *slog.LevelVar) WritableFile {
	return WritableFile{File: File{
		Mode: 0o640,
		Render: func(uint32) []byte {
			if level.Level() <= slog.LevelDebug {
				return []byte("1\n")
			}
			return []byte("0\n")
		},
		Store: func(content []byte) error {
			switch string(content) {
			case "0\n":
				level.Set(slog.LevelInfo)
			case "1\n":
				level.Set(slog.LevelDebug)
			case "":
			default:
				return ErrSwitch
			}
			return nil
		},
	}}
}

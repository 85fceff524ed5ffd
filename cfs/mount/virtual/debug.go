package virtual

import (
	"bytes"
	"log/slog"
)

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
			switch string(bytes.TrimSpace(content)) {
			case "0":
				level.Set(slog.LevelInfo)
			case "1":
				level.Set(slog.LevelDebug)
			case "":
			default:
				return ErrInvalid
			}
			return nil
		},
	}}
}

package sample

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// PressureAt reads the kernel's pressure files of a directory: cpu, io and
// memory with the ending given. A kernel may have been built without them.
func PressureAt(dir, ending string) (p Pressure) {
	for name, to := range map[string][2]*Value{
		"cpu": {&p.CPUSome, &p.CPUFull}, "io": {&p.IOSome, &p.IOFull}, "memory": {&p.MemorySome, &p.MemoryFull},
	} {
		text, err := os.ReadFile(filepath.Join(dir, name+ending))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			words := strings.Fields(line)
			if len(words) < 2 || !strings.HasPrefix(words[1], "avg10=") {
				continue
			}
			share, err := strconv.ParseFloat(strings.TrimPrefix(words[1], "avg10="), 64)
			switch {
			case err != nil:
			case words[0] == "some":
				*to[0] = Share(share)
			case words[0] == "full":
				*to[1] = Share(share)
			}
		}
	}
	return p
}

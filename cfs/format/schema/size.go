package schema

import (
	"math"
	"regexp"
	"strconv"
)

var sizeForm = regexp.MustCompile(`^(\d+(?:\.\d+)?)([KMGT])?$`)

// ParseSize reads a disk size: a number of bytes, or of K, M, G or T in
// powers of 1024.
func ParseSize(text string) (bytes int64, ok bool) {
	m := sizeForm.FindStringSubmatch(text)
	if m == nil {
		return 0, false
	}
	number, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		return 0, false
	}
	shift := map[string]uint{"": 0, "K": 10, "M": 20, "G": 30, "T": 40}[m[2]]
	number = math.Trunc(number * float64(uint64(1)<<shift))
	if number >= math.MaxInt64 {
		return 0, false
	}
	return int64(number), true
}

// FormatSize writes a size with the largest unit that keeps it exact; nothing
// at all is "0T".
func FormatSize(bytes int64) string {
	unit := ""
	for _, next := range []string{"K", "M", "G", "T"} {
		if bytes%1024 != 0 {
			break
		}
		bytes /= 1024
		unit = next
	}
	return strconv.FormatInt(bytes, 10) + unit
}

package storagetest

import (
	"fmt"
	"io"
)

// Fill writes the volume of a simulated machine, whose content is one byte as often
// as the volume is long.
func Fill(w io.Writer, content byte, size int64) error {
	_, err := io.Copy(w, io.LimitReader(endless(content), size))
	return err
}

// Drain reads what Fill wrote, which must be as long as the volume it is for.
func Drain(r io.Reader, size int64) (content byte, err error) {
	text, err := io.ReadAll(r)
	switch {
	case err != nil:
		return 0, err
	case len(text) == 0 || int64(len(text)) != size:
		return 0, fmt.Errorf("%d bytes for a volume of %d", len(text), size)
	}
	return text[0], nil
}

type endless byte

func (e endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(e)
	}
	return len(p), nil
}

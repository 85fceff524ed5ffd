package bell

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync/atomic"
	"syscall"
)

// The descriptors a bell process finds open, after the three standard ones.
const (
	ringsFD = 3 + iota
	answersFD
)

// Argument is the first argument by which an executable knows that it was
// started as the bell; it then calls Main with the others.
const Argument = "--bell"

// Main runs a bell process on the descriptors and arguments Start gave it.
func Main(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("bell: %d arguments, expected 2", len(args))
	}
	device, err := strconv.ParseUint(args[1], 10, 64)
	if err != nil {
		return fmt.Errorf("bell: device: %w", err)
	}
	return Run(os.NewFile(ringsFD, "rings"), os.NewFile(answersFD, "answers"), Mount{args[0], device})
}

// A Bell is a running bell process. Only one goroutine may ring it.
type Bell struct {
	cmd     *exec.Cmd
	rings   *os.File
	answers *bufio.Reader
	close   []*os.File
	thread  atomic.Uint32
}

// Start runs executable as the bell of a mount. Its first ring may be rung when
// Start returns.
func Start(executable string, m Mount) (*Bell, error) {
	ringsOut, ringsIn, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("bell: pipe: %w", err)
	}
	defer ringsOut.Close()
	answersOut, answersIn, err := os.Pipe()
	if err != nil {
		ringsIn.Close()
		return nil, fmt.Errorf("bell: pipe: %w", err)
	}
	defer answersIn.Close()

	b := &Bell{rings: ringsIn, answers: bufio.NewReader(answersOut), close: []*os.File{ringsIn, answersOut}}
	b.cmd = exec.Command(executable, Argument, m.Dir, strconv.FormatUint(m.Device, 10))
	b.cmd.ExtraFiles = []*os.File{ringsOut, answersIn}
	b.cmd.Dir = "/"
	b.cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a ^C at the terminal is for the daemon
	if err := b.cmd.Start(); err != nil {
		b.closeFiles()
		return nil, fmt.Errorf("bell: start: %w", err)
	}
	var thread uint32
	if err := binary.Read(b.answers, binary.LittleEndian, &thread); err != nil {
		b.Stop()
		return nil, fmt.Errorf("bell: wait for thread: %w", err)
	}
	b.thread.Store(thread)
	return b, nil
}

// Thread returns the id of the thread all the bell's requests come from.
func (b *Bell) Thread() uint32 { return b.thread.Load() }

// Ring repeats the changes in order and returns when the last one is done.
func (b *Bell) Ring(rings ...Ring) error {
	if _, err := b.rings.Write(encode(rings)); err != nil {
		return fmt.Errorf("bell: ring: %w", err)
	}
	if _, err := b.answers.ReadByte(); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("bell: wait for the ring: %w", err)
	}
	return nil
}

// Stop ends the process and waits for it.
func (b *Bell) Stop() {
	b.closeFiles()
	b.cmd.Wait()
}

// Kill ends the process at once, so that a Ring in progress fails. Stop must
// still be called.
func (b *Bell) Kill() { b.cmd.Process.Kill() }

func (b *Bell) closeFiles() {
	for _, f := range b.close {
		f.Close()
	}
}

package bell

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
)

// The descriptors a bell process finds open, after the three standard ones.
const (
	ringsFD = 3 + iota
	answersFD
	mountFD
)

// Argument is the first argument by which an executable knows that it was
// started as the bell; it then calls Main.
const Argument = "--bell"

// Main runs a bell process on the descriptors Start gave it.
func Main() error {
	return Run(os.NewFile(ringsFD, "rings"), os.NewFile(answersFD, "answers"), mountFD)
}

// A Bell is a running bell process. Only one goroutine may ring it.
type Bell struct {
	cmd     *exec.Cmd
	rings   *os.File
	answers *bufio.Reader
	close   []*os.File
	thread  atomic.Uint32
}

// Start runs executable as the bell for the file system mounted at dir.
// Its first ring may be rung when Start returns.
func Start(executable, dir string) (*Bell, error) {
	mount, err := os.OpenFile(dir, oPath|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("bell: open mount: %w", err)
	}
	defer mount.Close()
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
	b.cmd = exec.Command(executable, Argument)
	b.cmd.ExtraFiles = []*os.File{ringsOut, answersIn, mount}
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

// oPath is O_PATH: a descriptor that names the directory without opening it.
const oPath = 0x200000

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

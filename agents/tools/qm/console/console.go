// Package console connects a person's terminal with a socket of a VM.
//
// It owns the modes of the terminal, which it puts back, and the escape character.
// It never looks at what passes but for that.
package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"etcpve/agents/tools/cli"
)

// Escape reads a character such as ^O; the default is that.
func Escape(text string) (code byte, name string, err error) {
	if text == "" {
		text = "^O"
	}
	if len(text) != 2 || text[0] != '^' || text[1]&0x5f < 'A' || text[1]&0x5f > 'Z' {
		return 0, "", fmt.Errorf("escape: '%s' is not a control character such as ^O", text)
	}
	return text[1] & 0x1f, "Ctrl+" + strings.ToUpper(text[1:]), nil
}

// Connect passes bytes both ways until one side ends or the escape comes.
func Connect(ctx context.Context, c *cli.Call, socket string, escape byte) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if f, ok := c.In.(*os.File); ok && escape != 0 {
		defer rawInput(f)()
	}
	done := make(chan error, 2)
	go func() {
		_, err := io.Copy(c.Out, conn)
		done <- err
	}()
	if c.In != nil {
		go func() { done <- pass(conn, c.In, escape) }()
	}
	err = <-done
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// pass copies input up to the escape character.
func pass(to io.Writer, from io.Reader, escape byte) error {
	buffer := make([]byte, 4096)
	for {
		n, err := from.Read(buffer)
		part := buffer[:n]
		end := -1
		if escape != 0 {
			end = slices.Index(part, escape)
		}
		if end >= 0 {
			part = part[:end]
		}
		if _, e := to.Write(part); e != nil {
			return e
		}
		switch {
		case end >= 0 || errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// terminalMode changes the mode of a terminal and returns what puts it back; a
// file that is none is left alone.
func terminalMode(f *os.File, change func(*unix.Termios)) (restore func()) {
	before, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return func() {}
	}
	now := *before
	change(&now)
	if err := unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, &now); err != nil {
		return func() {}
	}
	return func() { _ = unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, before) } // the terminal may be gone
}

// IsTerminal reports whether a file is a terminal.
func IsTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

func rawInput(f *os.File) (restore func()) {
	return terminalMode(f, func(t *unix.Termios) {
		t.Iflag &^= unix.ICRNL | unix.IXON | unix.INLCR | unix.IGNCR | unix.ISTRIP
		t.Lflag &^= unix.ECHO | unix.ICANON | unix.ISIG | unix.IEXTEN
	})
}

// HideInput makes a terminal not show what is typed, until restore.
func HideInput(f *os.File) (restore func()) {
	return terminalMode(f, func(t *unix.Termios) { t.Lflag &^= unix.ECHO })
}

// ReadLine reads one line and not a byte more.
func ReadLine(in io.Reader) (string, error) {
	var line []byte
	one := make([]byte, 1)
	for {
		n, err := in.Read(one)
		if n == 1 && one[0] == '\n' || errors.Is(err, io.EOF) {
			return string(line), nil
		}
		if err != nil {
			return "", err
		}
		line = append(line, one[:n]...)
	}
}

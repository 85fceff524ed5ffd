package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Secret returns the value of an option named in Command.Prompt. If the option
// was given without one, it is asked for, and a terminal does not show it.
func (c *Call) Secret(name, question string) (string, error) {
	if value := c.Value(name); value != "" {
		return value, nil
	}
	if c.In == nil {
		return "", fmt.Errorf("%s: nobody to ask", name)
	}
	fmt.Fprint(c.Err, question+": ")
	if f, ok := c.In.(*os.File); ok {
		if restore, err := silence(int(f.Fd())); err == nil { // else it is no terminal
			defer restore()
		}
	}
	line, err := bufio.NewReader(c.In).ReadString('\n')
	fmt.Fprintln(c.Err)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	line = strings.TrimRight(line, "\r\n")
	if line == "" {
		return "", fmt.Errorf("%s: nothing was entered", name)
	}
	return line, nil
}

// silence stops a terminal from showing what is typed.
func silence(fd int) (restore func(), err error) {
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, err
	}
	quiet := *old
	quiet.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &quiet); err != nil {
		return nil, err
	}
	return func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, old) }, nil
}

package hasimulator

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"etcpve/agents/ha/sim"
)

// tickEvery is the real time between rounds while the simulation is running.
const tickEvery = time.Second

// Control sequences every terminal of the last decades understands.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l" // second screen, no cursor
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	home        = "\x1b[H"
	clearLine   = "\x1b[K"
	clearBelow  = "\x1b[J"
)

// play shows the simulation on a terminal until somebody quits.
func play(scenario sim.Scenario, in, out *os.File) (err error) {
	restore, err := rawMode(int(in.Fd()))
	if err != nil {
		return fmt.Errorf("the view needs a terminal: %w", err)
	}
	defer func() {
		_, werr := io.WriteString(out, leaveScreen)
		err = errors.Join(err, werr, restore())
	}()
	if _, err := io.WriteString(out, enterScreen); err != nil {
		return err
	}
	m := newModel(scenario)
	for next := time.Now().Add(tickEvery); ; {
		if err := draw(m, out); err != nil {
			return err
		}
		pressed, err := readKeys(in, time.Until(next))
		if err != nil {
			return err
		}
		for _, key := range pressed {
			if m.press(key) {
				return nil
			}
		}
		if !time.Now().Before(next) {
			m.tick()
			next = time.Now().Add(tickEvery)
		}
	}
}

func draw(m *model, out *os.File) error {
	width, height := size(int(out.Fd()))
	var b strings.Builder
	b.WriteString(home)
	for i, line := range m.view(width, height) {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(line + clearLine)
	}
	b.WriteString(clearBelow)
	_, err := io.WriteString(out, b.String())
	return err
}

// size returns the columns and rows of a terminal.
func size(fd int) (width, height int) {
	w, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
	if err != nil || w.Col == 0 || w.Row == 0 {
		return 80, 24
	}
	return int(w.Col), int(w.Row)
}

// rawMode makes a terminal hand over every key at once and unprinted.
func rawMode(fd int) (restore func() error, err error) {
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, err
	}
	raw := *old
	raw.Iflag &^= unix.ICRNL | unix.IXON
	raw.Lflag &^= unix.ECHO | unix.ICANON | unix.ISIG | unix.IEXTEN
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &raw); err != nil {
		return nil, err
	}
	return func() error { return unix.IoctlSetTermios(fd, unix.TCSETS, old) }, nil
}

// readKeys waits for keys, but not longer than patience.
func readKeys(in *os.File, patience time.Duration) ([]string, error) {
	poll := []unix.PollFd{{Fd: int32(in.Fd()), Events: unix.POLLIN}}
	n, err := unix.Poll(poll, int(max(patience, 0).Milliseconds()))
	if errors.Is(err, unix.EINTR) || err == nil && n == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	buf := make([]byte, 64)
	n, err = in.Read(buf)
	if err != nil {
		return nil, err
	}
	return splitKeys(string(buf[:n])), nil
}

// splitKeys tells keys apart; cursor keys come as sequences.
func splitKeys(input string) (keys []string) {
	for input != "" {
		switch {
		case strings.HasPrefix(input, "\x1b[A"):
			keys, input = append(keys, "up"), input[3:]
		case strings.HasPrefix(input, "\x1b[B"):
			keys, input = append(keys, "down"), input[3:]
		default:
			keys, input = append(keys, input[:1]), input[1:]
		}
	}
	return keys
}

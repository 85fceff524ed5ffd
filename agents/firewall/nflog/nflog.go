// Package nflog writes the packets that the firewall's rules log to a file.
//
// It owns the kernel's log of group 0 while it runs, and the form of the lines,
// which is that of Proxmox VE's pve-firewall.log. It never changes a rule and
// never decides what is logged: the rules' prefixes say for whom and how loud.
package nflog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Logger appends lines to a file.
type Logger struct {
	File string
}

// Run logs until ctx ends. It fails at once if somebody else reads the log.
func (l Logger) Run(ctx context.Context) error {
	socket, err := listen()
	if err != nil {
		return fmt.Errorf("nflog: %w", err)
	}
	defer socket.Close()
	defer context.AfterFunc(ctx, func() { _ = socket.SetReadDeadline(time.Now()) })()
	buffer := make([]byte, 1<<17)
	for {
		n, err := socket.Read(buffer)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			continue // packets came faster than they could be read, and are lost to the log
		case err != nil:
			return fmt.Errorf("nflog: %w", err)
		}
		var lines strings.Builder
		for _, r := range decode(buffer[:n]) {
			lines.WriteString(r.line(interfaceName) + "\n")
		}
		if err := l.write(lines.String()); err != nil {
			return fmt.Errorf("nflog: %w", err)
		}
	}
}

// write opens the file anew, so that it can be rotated at any time.
func (l Logger) write(lines string) error {
	if lines == "" {
		return nil
	}
	f, err := os.OpenFile(l.File, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	_, err = f.WriteString(lines)
	return errors.Join(err, f.Close())
}

func interfaceName(index uint32) string {
	if index == 0 {
		return ""
	}
	i, err := net.InterfaceByIndex(int(index))
	if err != nil {
		return fmt.Sprintf("if%d", index)
	}
	return i.Name
}

// Numbers of the kernel's netfilter log.
const (
	subsystem     = 4 << 8
	messagePacket = subsystem
	messageConfig = subsystem + 1

	configCommand = 1
	configMode    = 2
	commandBind   = 1
	copyPacket    = 2

	// kept is how much of a packet is asked for: its headers.
	kept = 128
)

// listen takes over the log of group 0.
func listen() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, err
	}
	mode := binary.BigEndian.AppendUint32(nil, kept)
	mode = append(mode, copyPacket, 0)
	for _, message := range [][]byte{config(configCommand, []byte{commandBind}), config(configMode, mode)} {
		if err := ask(fd, message); err != nil {
			unix.Close(fd)
			return nil, err
		}
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "nflog"), nil
}

// config returns a message that sets one attribute of group 0.
func config(attribute uint16, value []byte) []byte {
	m := make([]byte, 16, 64)
	binary.NativeEndian.PutUint16(m[4:], messageConfig)
	binary.NativeEndian.PutUint16(m[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	m = append(m, unix.AF_UNSPEC, 0, 0, 0) // family, version, group
	m = binary.NativeEndian.AppendUint16(m, uint16(4+len(value)))
	m = binary.NativeEndian.AppendUint16(m, attribute)
	m = append(m, value...)
	for len(m)%4 != 0 {
		m = append(m, 0)
	}
	binary.NativeEndian.PutUint32(m, uint32(len(m)))
	return m
}

// ask sends a message and waits for the kernel's answer.
func ask(fd int, message []byte) error {
	if err := unix.Sendto(fd, message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 1<<12)
	for {
		n, _, err := unix.Recvfrom(fd, answer, 0)
		if err != nil {
			return err
		}
		for kind, body := range messages(answer[:n]) {
			if kind != unix.NLMSG_ERROR || len(body) < 4 {
				continue // a packet that was logged already
			}
			if code := int32(binary.NativeEndian.Uint32(body)); code != 0 {
				return unix.Errno(-code)
			}
			return nil
		}
	}
}

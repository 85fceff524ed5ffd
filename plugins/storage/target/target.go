// Package target is what the types of storage have in common that use the LUNs
// of an iSCSI target: their names, whether its portals answer, and that nobody creates
// LUNs from here.
//
// It owns nothing on the machine and keeps no connection.
package target

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"

	"etcpve/agents/storage"
)

// port is that of iSCSI.
const port = "3260"

// patience is how long a portal may take to answer.
const patience = 2 * time.Second

// Portal returns the portal of a storage as host and port.
func Portal(c *storage.Config) string {
	portal := c.Value("portal")
	if _, _, err := net.SplitHostPort(portal); err == nil {
		return portal
	}
	return net.JoinHostPort(strings.Trim(portal, "[]"), port)
}

// Host returns the host of a storage's portal.
func Host(c *storage.Config) string {
	host, _, err := net.SplitHostPort(Portal(c))
	if err != nil {
		return c.Value("portal")
	}
	return host
}

// Address returns the address of a LUN, as QEMU and libiscsi write it.
func Address(c *storage.Config, lun string) string {
	return "iscsi://" + Portal(c) + "/" + c.Value("target") + "/" + lun
}

// Node returns how QEMU opens a LUN by itself.
func Node(c *storage.Config, lun string) (map[string]any, error) {
	number, err := strconv.Atoi(lun)
	return map[string]any{"driver": "iscsi", "transport": "tcp", "portal": Portal(c), "target": c.Value("target"), "lun": number}, err
}

// Online reports whether one of several portals takes connections.
func Online(ctx context.Context, portals ...string) (err error) {
	dialer := net.Dialer{Timeout: patience}
	for _, portal := range portals {
		var conn net.Conn
		if conn, err = dialer.DialContext(ctx, "tcp", portal); err == nil {
			return conn.Close()
		}
	}
	return fmt.Errorf("%w: %w", storage.ErrOffline, err)
}

// errFixed says that a target's LUNs are made and removed on the server.
var errFixed = errors.New("can't allocate or free space in iscsi storage")

// LUNs are the volumes of a type whose names have a form. What the first group
// of the form finds identifies one.
type LUNs struct{ Form *regexp.Regexp }

// Parse understands a volume name.
func (l LUNs) Parse(text string) (storage.Volume, error) {
	m := l.Form.FindStringSubmatch(text)
	if m == nil {
		return storage.Volume{}, fmt.Errorf("unable to parse iscsi volume name '%s'", text)
	}
	return storage.Volume{Name: text, Content: storage.Images, File: m[1], Format: "raw"}, nil
}

// Features says what can be done with volumes.
func (LUNs) Features(*storage.Config) storage.Features {
	return storage.Features{"copy": {"current"}}
}

// Alloc refuses: LUNs are made on the server.
func (LUNs) Alloc(context.Context, *storage.Config, storage.Request) (string, error) {
	return "", errFixed
}

// Free refuses: LUNs are removed on the server.
func (LUNs) Free(context.Context, *storage.Config, storage.Volume) error { return errFixed }

// NoSnapshot refuses a snapshot: the target's, if it makes any, are not seen.
func (LUNs) NoSnapshot(name string) error {
	if name != "" {
		return fmt.Errorf("snapshots of iscsi volumes are %w", storage.ErrUnsupported)
	}
	return nil
}

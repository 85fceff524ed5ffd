// Package target is what the types of storage have in common that use the LUNs
// of an iSCSI target: whether its portals answer, and that nobody creates LUNs
// from here.
//
// It owns nothing on the machine and keeps no connection.
package target

import (
	"context"
	"errors"
	"fmt"
	"net"
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

// ErrFixed says that a target's LUNs are made and removed on the server.
var ErrFixed = errors.New("can't allocate or free space in iscsi storage")

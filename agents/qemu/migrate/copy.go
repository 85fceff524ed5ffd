package migrate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"etcpve/agents/storage"
	"etcpve/agents/tunnel"
)

// describe is what the other node is told of a volume.
func (m *move) describe(ctx context.Context, ask string, c cargo) (request, error) {
	at, err := m.Catalog.Locate(c.volume)
	if err != nil {
		return request{}, err
	}
	bytes, err := m.Catalog.Size(ctx, c.volume)
	if err != nil {
		return request{}, err
	}
	q := request{Ask: ask, Storage: c.storage, File: at.Volume.File, Format: at.Volume.Format, Bytes: bytes}
	if ask == askBlank {
		return q, nil
	}
	if c.snapshots {
		q.Snapshots = len(m.config.Snapshots)
	}
	q.Streams, err = m.Catalog.Streams(c.volume, storage.Stream{Snapshots: c.snapshots})
	if err == nil && len(q.Streams) == 0 {
		err = errors.New("it cannot be sent")
		if c.snapshots {
			err = errors.New("it cannot be sent with its snapshots")
		}
	}
	return q, err
}

// copy sends a volume that nobody writes to.
func (m *move) copy(ctx context.Context, c cargo) error {
	q, err := m.describe(ctx, askVolume, c)
	if err != nil {
		return err
	}
	if err := m.Catalog.ActivateVolumes(ctx, "", c.volume); err != nil {
		return err
	}
	conn, err := m.remote.open(ctx, q)
	if err != nil {
		return err
	}
	defer conn.Close()
	chosen, err := hear(conn)
	if err != nil {
		return err
	}
	m.log.Printf("copying '%s' to storage '%s' on node '%s' (%s)", c.volume, c.storage, m.target, chosen.Stream)
	began := time.Now()
	sent, made, err := m.pour(ctx, conn, c, chosen.Stream)
	if err != nil {
		return err
	}
	m.log.Printf("%d bytes sent in %s: '%s'", sent, time.Since(began).Round(time.Millisecond), made)
	m.moved[c.volume] = made
	return nil
}

// pour sends the content of a volume. The other node may refuse it midway: then
// no more is sent.
func (m *move) pour(ctx context.Context, conn *tunnel.Conn, c cargo, form string) (int64, string, error) {
	sending, stop := context.WithCancel(ctx)
	defer stop()
	type result struct {
		answer
		err error
	}
	heard := make(chan result, 1)
	go func() {
		a, err := hear(conn)
		stop()
		heard <- result{a, err}
	}()
	to := conn.Stream(sending, m.limit)
	err := m.Catalog.Export(sending, c.volume, storage.Stream{Format: form, Snapshots: c.snapshots}, to)
	if err == nil {
		err = to.Close()
	} else {
		_ = to.Abandon() // the connection may be what failed
	}
	if err != nil && sending.Err() == nil {
		// What failed is here, and the other node need not be waited for.
		conn.Close()
		<-heard
		return 0, "", err
	}
	r := <-heard
	if r.err != nil {
		return 0, "", fmt.Errorf("node '%s': %w", m.target, r.err)
	}
	return to.Sent(), r.Volume, err
}

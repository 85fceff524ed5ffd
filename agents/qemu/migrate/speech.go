package migrate

import (
	"context"
	"errors"
	"fmt"

	"etcpve/agents/qemu"
	"etcpve/agents/tunnel"
)

// What the node that sends a VM asks of the one that takes it. Each is a
// connection of its own that begins with a request.
const (
	askHold   = "hold"   // stays as long as the migration lasts
	askVolume = "volume" // a stream follows, out of which a volume is made
	askBlank  = "blank"  // a volume that QEMU will fill
	askStart  = "start"  // a QEMU that waits
	askMemory = "memory" // the state follows, as QEMU sends it
	askDisk   = "disk"   // a conversation with QEMU's server of disks follows
	askReady  = "ready"  // the state is there
	askCommit = "commit" // the configuration is about to come
	askFinish = "finish" // it has come
	askAbort  = "abort"  // it does not come
)

// A request is the first message of a connection.
type request struct {
	Ask string

	// Of a volume.
	Storage   string   `json:",omitempty"` // where it goes
	File      string   `json:",omitempty"` // its name there, if it is free
	Format    string   `json:",omitempty"`
	Bytes     int64    `json:",omitempty"` // its size as the guest sees it
	Streams   []string `json:",omitempty"` // the forms it can be sent in, the best first
	Snapshots int      `json:",omitempty"` // how many states travel along

	// Of a QEMU.
	Arrival qemu.Arrival
	Disks   []string `json:",omitempty"` // keys of the drives that are filled
}

// An answer is the reply to a request.
type answer struct {
	Error  string `json:",omitempty"`
	Stream string `json:",omitempty"` // the form that was chosen
	Volume string `json:",omitempty"` // what was made
}

// A remote is the node that takes a VM.
type remote struct {
	from    tunnel.Node
	name    string
	address string
}

// open begins a connection with a request.
func (r remote) open(ctx context.Context, q request) (*tunnel.Conn, error) {
	c, err := r.from.Dial(ctx, r.name, r.address)
	if err != nil {
		return nil, err
	}
	c.Bind(ctx)
	if err := c.Send(q); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// ask sends a request and waits for the answer.
func (r remote) ask(ctx context.Context, q request) (answer, error) {
	c, err := r.open(ctx, q)
	if err != nil {
		return answer{}, fmt.Errorf("%s: %w", q.Ask, err)
	}
	defer c.Close()
	a, err := hear(c)
	if err != nil {
		err = fmt.Errorf("%s: %w", q.Ask, err)
	}
	return a, err
}

// hear reads an answer.
func hear(c *tunnel.Conn) (a answer, err error) {
	if err := c.Receive(&a); err != nil {
		return a, err
	}
	if a.Error != "" {
		return a, errors.New(a.Error)
	}
	return a, nil
}

package pvecm

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"etcpve/agents/tools/cli"
	"etcpve/cfs/cluster"
	"etcpve/cfs/join"
)

// secretBytes is the size of a secret that keygen writes: what corosync takes.
const secretBytes = 256

func keygen(_ context.Context, c *cli.Call) error {
	secret := make([]byte, secretBytes)
	if _, err := rand.Read(secret); err != nil {
		return err
	}
	f, err := os.OpenFile(c.Value("filename"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o400)
	if err != nil {
		return err
	}
	_, err = f.Write(secret)
	return errors.Join(err, f.Sync(), f.Close())
}

func apiver(_ context.Context, c *cli.Call) error {
	_, err := fmt.Fprintln(c.Out, join.Version)
	return err
}

const aloneWarning = `This node has no quorum. It will go on with what it has, as the first node of a
group of its own. Nodes that answer now, or later, follow it if they have no
change that it lacks; what only the others know is not seen any more.
Do this only if the others are down or cut off for good: a majority of them that
runs elsewhere goes on too, as a second cluster.
`

// expected lowers the number of votes that are expected: with quorum, by the agreement of
// those who answer; without, for a node that has lost it, by forming a new group. It is
// raised again by each node that comes back.
func expected(_ context.Context, c *cli.Call) error {
	d, votes := of(c), count(c, "expected")
	r, err := d.report()
	switch {
	case err != nil:
		return err
	case r.Quorate:
		if err := d.ask("expect", votes, nil); err != nil {
			return fmt.Errorf("expected: %w", err)
		}
		return nil
	case votes/2+1 > r.Present:
		return fmt.Errorf("expected: a majority of %d is %d votes, and the nodes that answer have %d", votes, votes/2+1, r.Present)
	}
	if !c.Bool("force") && !confirmed(c) {
		return errors.New("expected: not confirmed")
	}
	if err := d.ask("survive", votes, nil); err != nil {
		return err
	}
	return d.await(c.Out, func(r cluster.Report) bool { return r.Quorate })
}

func confirmed(c *cli.Call) bool {
	fmt.Fprint(c.Out, aloneWarning, "Are you sure you want to continue (yes/no)? ")
	answer, _ := bufio.NewReader(c.In).ReadString('\n')
	return strings.TrimSpace(answer) == "yes"
}

// await waits until the daemon, which may be starting again, reports what is
// hoped for.
func (d *daemon) await(out io.Writer, hoped func(cluster.Report) bool) error {
	fmt.Fprint(out, "waiting for quorum...")
	var err error
	for deadline := time.Now().Add(quorateWithin); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		var r cluster.Report
		if err = d.ask("status", nil, &r); err == nil && hoped(r) {
			fmt.Fprintln(out, "OK")
			return nil
		}
	}
	fmt.Fprintln(out, "not yet")
	return errors.Join(errors.New("no quorum yet: see 'pvecm status'"), err)
}

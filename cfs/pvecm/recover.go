package pvecm

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"etcpve/cfs/cluster"
	"etcpve/cfs/join"
)

// secretBytes is the size of a secret that keygen writes: what corosync takes.
const secretBytes = 256

func keygen(args []string, out io.Writer) error {
	var d daemon
	name, err := positional(d.flags("keygen"), args, "FILE")
	if err != nil {
		return err
	}
	secret := make([]byte, secretBytes)
	if _, err := rand.Read(secret); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o400)
	if err != nil {
		return err
	}
	_, err = f.Write(secret)
	return errors.Join(err, f.Sync(), f.Close())
}

func apiver(args []string, out io.Writer) error {
	var d daemon
	if err := none(d.flags("apiver"), args); err != nil {
		return err
	}
	fmt.Fprintln(out, join.Version)
	return nil
}

const aloneWarning = `This node has no quorum. It will go on as a cluster of one with what it has.
What only the other nodes know is lost, and they must join anew with 'pvecm add'.
Do this only if they will not come back.
`

func expected(args []string, out io.Writer) error {
	var d daemon
	var r cluster.Report
	f := d.flags("expected")
	force := f.Bool("force", false, "do not ask")
	text, err := positional(f, args, "1")
	if err != nil {
		return err
	}
	votes, err := strconv.ParseUint(text, 10, 32)
	if err != nil || votes == 0 {
		return fmt.Errorf("expected: %q is no number of votes from 1 on", text)
	}
	if err := d.ask("status", nil, &r); err != nil {
		return err
	}
	switch {
	case len(r.Nodes) == 0:
		return cluster.ErrAlone
	case r.Quorate && uint32(votes) == r.Expected:
		return nil
	case r.Quorate:
		return fmt.Errorf("expected: the cluster has quorum with %d votes expected: votes are given to nodes in corosync.conf", r.Expected)
	case votes != 1:
		return errors.New("expected: without quorum only 1 is possible: this node goes on alone and the others join anew")
	}
	if !*force && !confirmed(out) {
		return errors.New("expected: not confirmed")
	}
	if err := d.ask("survive", nil, nil); err != nil {
		return err
	}
	return d.await(out, func(r cluster.Report) bool { return r.Quorate && len(r.Nodes) == 1 })
}

func confirmed(out io.Writer) bool {
	fmt.Fprint(out, aloneWarning, "Are you sure you want to continue (yes/no)? ")
	answer, _ := bufio.NewReader(os.Stdin).ReadString('\n')
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

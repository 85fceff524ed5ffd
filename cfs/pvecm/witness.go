package pvecm

import (
	"context"
	"fmt"
	"net/netip"

	"etcpve/agents/tools/cli"
	"etcpve/cfs/cluster"
	"etcpve/cfs/format/corosync"
)

// setupWitness has the pmxcfs that waits as a witness at an address join.
func setupWitness(ctx context.Context, c *cli.Call) (err error) {
	d := of(c)
	if _, err := d.report(); err != nil {
		return err
	}
	r := cluster.Recruit{Force: c.Bool("force")}
	if r.Address, err = netip.ParseAddr(c.Value("address")); err != nil {
		return err
	}
	if c.Has("network") {
		if r.Network, err = netip.ParsePrefix(c.Value("network")); err != nil {
			return err
		}
	}
	i, password, err := askOperator(ctx, c, c.Value("address"))
	if err != nil {
		return err
	}
	r.Fingerprint, r.Password = i.Fingerprint, password
	if err := d.ask("recruit", r, nil); err != nil {
		return err
	}
	err = d.await(c.Out, func(r cluster.Report) bool { return r.Quorate && r.Witness != nil && r.Witness.Role == "voter" })
	if err == nil {
		fmt.Fprintf(c.Out, "the witness at %s votes\n", r.Address)
	}
	return err
}

func removeWitness(_ context.Context, c *cli.Call) error {
	d := of(c)
	r, err := d.report()
	if err != nil {
		return err
	}
	if r.Witness == nil {
		return fmt.Errorf("no quorum device is configured")
	}
	if err := d.ask("remove", corosync.Witness, nil); err != nil {
		return err
	}
	fmt.Fprintln(c.Out, "the quorum device is removed")
	return nil
}

package pvecm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"

	"etcpve/agents/tools/cli"
)

// mtunnel is the far end of a migration: it says by which address this node is
// reached, runs the one command it was given, or holds the connection open until
// it is told to quit.
func mtunnel(ctx context.Context, c *cli.Call) error {
	switch {
	case c.Bool("get_migration_ip"):
		return migrationAddress(c)
	case c.Bool("run-command"):
		if len(c.Rest) == 0 {
			return errors.New("mtunnel: no command")
		}
		cmd := exec.CommandContext(ctx, c.Rest[0], c.Rest[1:]...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = c.In, c.Out, c.Err
		err := cmd.Run()
		var ended *exec.ExitError
		if errors.As(err, &ended) {
			return &cli.Coded{Code: ended.ExitCode(), Err: errors.New("")}
		}
		return err
	case len(c.Rest) > 0:
		return errors.New("mtunnel: a command needs --run-command")
	}
	quorate, err := isQuorate(or(c, "mount", defaultMount))
	if err != nil {
		return err
	}
	if !quorate {
		fmt.Fprintln(c.Out, "no quorum")
		return nil
	}
	fmt.Fprintln(c.Out, "tunnel online")
	for lines := bufio.NewScanner(c.In); lines.Scan(); {
		if lines.Text() == "quit" {
			fmt.Fprintln(c.Out, "OK")
			break
		}
	}
	return nil
}

// migrationAddress prints the address of this node in the network that was given,
// or its address in the cluster.
func migrationAddress(c *cli.Call) error {
	if !c.Has("migration_network") {
		own, err := ownAddress()
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.Out, "ip: '%s'\n", own)
		return err
	}
	network, err := netip.ParsePrefix(c.Value("migration_network"))
	if err != nil {
		return err
	}
	own, err := addressIn(network)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.Out, "ip: '%s'\n", own)
	return err
}

// addressIn returns the one address that this machine has in a network.
func addressIn(network netip.Prefix) (found netip.Addr, err error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return found, err
	}
	for _, a := range all {
		p, err := netip.ParsePrefix(a.String())
		switch {
		case err != nil || !network.Masked().Contains(p.Addr()):
		case found.IsValid():
			return found, fmt.Errorf("this node has several addresses in %s", network)
		default:
			found = p.Addr()
		}
	}
	if !found.IsValid() {
		return found, fmt.Errorf("this node has no address in %s", network)
	}
	return found, nil
}

// isQuorate reads .members; a standalone node is its own majority.
func isQuorate(mount string) (bool, error) {
	text, err := os.ReadFile(filepath.Join(mount, ".members"))
	if err != nil {
		return false, err
	}
	var members struct{ Cluster *struct{ Quorate int } }
	if err := json.Unmarshal(text, &members); err != nil {
		return false, err
	}
	return members.Cluster == nil || members.Cluster.Quorate == 1, nil
}

// Package hasimulator is the command pve-ha-simulator: a cluster of simulated
// nodes run by the real CRM and LRM.
//
// It owns the command line, the full-screen view and the keys. What happens is
// decided by agents/ha/sim; nothing here touches a real cluster.
package hasimulator

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"etcpve/agents/ha/sim"
)

const usage = `usage: pve-ha-simulator [DIR]
       pve-ha-simulator --batch DIR

Without --batch, a cluster is shown on the terminal and run in real time or
step by step. DIR is a scenario that says how it looks at the beginning; without
DIR it has three nodes and six guests. With --batch, the scenario in DIR is run
to its end and its log is printed.
`

// Run is the command. It returns 0 when the simulation came to its end, 1 when
// it failed, and 2 when it was called wrongly.
func Run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("pve-ha-simulator", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stderr, usage) }
	batch := flags.Bool("batch", false, "run the scenario and print its log")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2
	}
	if flags.NArg() > 1 || *batch && flags.NArg() == 0 {
		flags.Usage()
		return 2
	}
	if err := run(flags.Arg(0), *batch, stdin, stdout); err != nil {
		fmt.Fprintf(stderr, "pve-ha-simulator: %v\n", err)
		return 1
	}
	return 0
}

func run(dir string, batch bool, stdin io.Reader, stdout io.Writer) error {
	scenario := sim.Example()
	if dir != "" {
		var err error
		if scenario, err = sim.Load(dir); err != nil {
			return err
		}
	}
	if batch {
		return sim.Run(scenario, stdout)
	}
	in, inOK := stdin.(*os.File)
	out, outOK := stdout.(*os.File)
	if !inOK || !outOK {
		return errors.New("the view needs a terminal; use --batch DIR to print a log")
	}
	return play(scenario, in, out)
}

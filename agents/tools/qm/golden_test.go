package qm

import (
	"testing"

	"etcpve/agents/tools/cli/clitest"
)

// TestGoldenCommands compares the whole table with that of Proxmox VE.
func TestGoldenCommands(t *testing.T) {
	clitest.Check(t, New(Place{}), nil)
}

func TestGoldenRestore(t *testing.T) { clitest.Check(t, NewRestore(Place{}), map[string]string{}) }

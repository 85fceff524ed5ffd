package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"etcpve/agents/tools/cli"
)

// mounted makes the commands of a tool look first whether there is a cluster
// file system, so that what is missing is said, and not which file of it. It also
// tells users other than root why they may not.
func mounted(tool *cli.Tool, tree string) *cli.Tool {
	for i := range tool.Commands {
		c := &tool.Commands[i]
		if doesWithout(tool.Name, c.Words) {
			continue
		}
		run := c.Run
		c.Run = func(ctx context.Context, call *cli.Call) error {
			if err := isThere(tree); err != nil {
				return err
			}
			err := run(ctx, call)
			if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
				return fmt.Errorf("%w: %s needs root", err, tool.Name)
			}
			return err
		}
	}
	return tool
}

// doesWithout reports whether a command needs no cluster file system.
func doesWithout(tool, words string) bool {
	switch tool + " " + words {
	case "pve-firewall test", "pvesm apiinfo":
		return true
	}
	return tool == "pvesm" && strings.HasPrefix(words, "scan ")
}

// isThere returns an error if nothing is mounted at tree. A directory that is laid
// out like the cluster file system counts as one.
func isThere(tree string) error {
	names, err := os.ReadDir(tree)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(names) == 0 {
		return fmt.Errorf("%s: the cluster file system is not mounted: start it by 'make run', or by 'systemctl start pve-cluster'", tree)
	}
	return nil
}

package qemu

import (
	"context"
	"fmt"
	"maps"
	"os"
	"strconv"
	"strings"

	"etcpve/agents/host"
	"etcpve/agents/qemu/cgroup"
	"etcpve/agents/qemu/cloudinit"
	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/hotplug"
	"etcpve/agents/qemu/plug"
	"etcpve/agents/qemu/record"
)

// machine is a running VM to be changed towards a configuration.
func (a *Agent) machine(vmid uint32, desired cmdline.Config) plug.Machine {
	return plug.Machine{
		VMID: vmid,
		QMP: func(ctx context.Context, command string, args, result any) error {
			return a.command(ctx, vmid, command, args, result)
		},
		With: func(ctx context.Context, key string) (cmdline.Guest, cmdline.Host, error) {
			return a.inEffect(ctx, vmid, desired, key)
		},
		Release: a.guest(vmid).release,
		CloudInit: func(ctx context.Context, key, setting string) (func() error, error) {
			config := maps.Clone(desired)
			config[key] = setting
			return a.cloud(vmid).Prepare(ctx, config, key)
		},
		Share: func(ctx context.Context, config cmdline.Config) error {
			return a.share(ctx, vmid, config)
		},
		Ports: a.Ports,
		Log:   a.Log,
	}
}

// inEffect is a running VM with one key as desired, on this host.
func (a *Agent) inEffect(ctx context.Context, vmid uint32, desired cmdline.Config, key string) (g cmdline.Guest, h cmdline.Host, err error) {
	r, err := a.records().Must(vmid)
	if err != nil {
		return g, h, err
	}
	config := maps.Clone(r.Config)
	if config[key] = desired[key]; config[key] == "" {
		delete(config, key)
	}
	h, _, err = a.hostFor(ctx, config)
	return a.guestOf(ctx, vmid, config), h, err
}

// share gives a VM that runs its share of the node's CPUs.
func (a *Agent) share(ctx context.Context, vmid uint32, config cmdline.Config) error {
	r, err := a.records().Must(vmid)
	if err != nil {
		return err
	}
	share, err := cgroup.Parse(config["cpulimit"], config["cpuunits"])
	if err != nil {
		return err
	}
	if err := cgroup.Node(a.Slice).Place(vmid, r.Process.PID, share); err != nil {
		return err
	}
	cpus := config["affinity"]
	if cpus == "" {
		online, err := os.ReadFile("/sys/devices/system/cpu/online")
		if err != nil {
			return err
		}
		cpus = strings.TrimSpace(string(online))
	}
	argv := []string{"taskset", "--all-tasks", "--cpu-list", "--pid", cpus, strconv.Itoa(r.Process.PID)}
	_, err = a.system.Run(ctx, host.Command{Argv: argv})
	return err
}

// shareAtStart does so for one that starts, which does not wait for what a node
// cannot do.
func (a *Agent) shareAtStart(ctx context.Context, vmid uint32, config cmdline.Config) error {
	for _, key := range []string{"cpulimit", "cpuunits"} {
		if config[key] == "" {
			continue
		}
		err := a.share(ctx, vmid, config)
		if err == nil {
			return nil
		}
		return a.records().Update(vmid, func(r *record.Record) { r.Warnings = append(r.Warnings, key+": not applied: "+err.Error()) })
	}
	return nil
}

// change applies one change to a running VM and notes it in its record.
func (a *Agent) change(ctx context.Context, vmid uint32, action Action) error {
	return a.changeOn(ctx, vmid, a.machine(vmid, action.Desired.Config), action)
}

func (a *Agent) changeOn(ctx context.Context, vmid uint32, machine plug.Machine, action Action) error {
	c := action.Change
	done, err := machine.Apply(ctx, c)
	if err != nil {
		return &cmdline.KeyError{Key: c.Key, Err: fmt.Errorf("%s: %w", c, err)}
	}
	if !done {
		return nil
	}
	if c.Do == hotplug.CloudInit {
		if err := a.cloud(vmid).Note(action.Desired.Config); err != nil {
			return err
		}
	}
	return a.records().Update(vmid, func(r *record.Record) {
		if c.Do == hotplug.Balloon {
			r.Balloon = c.MiB
		}
		if c.Do == hotplug.CloudInit {
			maps.DeleteFunc(r.Config, func(key, _ string) bool { return cloudinit.Is(key) })
			maps.Copy(r.Config, cloudinit.Values(action.Desired.Config))
			return
		}
		if c.Value == "" {
			delete(r.Config, c.Key)
		} else {
			r.Config[c.Key] = c.Value
		}
	})
}

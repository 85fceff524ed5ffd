package provision

import (
	"context"
	"errors"
	"os"
	"time"

	"etcpve/agents/qemu"
	"etcpve/agents/qemu/monitor"
	"etcpve/agents/qemu/storages"
	"etcpve/agents/qemu/verbs/job"
)

// CloudInit makes the cloud-init drive anew, also under a guest that runs.
func (j Work) CloudInit(ctx context.Context) error {
	if _, err := j.Unlocked(ctx); err != nil {
		return err
	}
	if err := j.Keep(job.BegunKey, "1"); err != nil {
		return err
	}
	// A guest whose drive is open gets its medium back, whoever loses patience.
	return j.updateCloudInit(context.WithoutCancel(ctx))
}

// cloudInitWait is how long the drive of a guest may stay open.
const cloudInitWait = time.Minute

// updateCloudInit has it done as the agent does by itself where "hotplug" lets it.
func (j Work) updateCloudInit(ctx context.Context) error {
	agent, err := qemu.New(qemu.Options{
		Tree: j.Tree, Node: j.Node, RunDir: j.RunDir, Locks: j.Locks, Volumes: storages.Resolver{Catalog: j.Catalog}, Log: j.Place.Log,
		NoKVM: true, // a drive is the same without
	})
	if err != nil {
		return err
	}
	defer agent.Close()
	ctx, cancel := context.WithTimeout(ctx, cloudInitWait)
	defer cancel()
	return agent.UpdateCloudInit(ctx, j.VMID, func(ctx context.Context, command string, args, result any) error {
		return j.QMP(ctx, j.VMID, func(m *monitor.Monitor) error { return m.Run(ctx, command, args, result) })
	})
}

// RepairCloudInit does it once more: the drive of a guest that runs may be open
// and empty. At the next start of any other it is made anyhow.
func (j Work) RepairCloudInit(ctx context.Context) error {
	if !j.Truth(job.BegunKey) {
		return nil
	}
	if running, err := j.Running(ctx, j.VMID); err != nil || !running {
		return err
	}
	if _, err := j.Load(ctx, j.VMID); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return j.updateCloudInit(ctx)
}

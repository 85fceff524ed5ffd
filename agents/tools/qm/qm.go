// Package qm is the command line tool for virtual machines.
//
// It owns its table of commands and their output, which is that of Proxmox VE's
// qm. A command that changes something writes a file and waits for what the
// agent says of it: the tool never touches a running guest by itself.
package qm

import (
	"maps"

	"etcpve/agents/tools/cli"
	"etcpve/cfs/format/guest"
	"etcpve/cfs/format/schema"
	"etcpve/cfs/layout"
)

// A Place is where the tool works.
type Place struct {
	Tree   string // the cluster file system
	Node   string // the local node
	RunDir string // of the node's VMs
}

// Limits of a VMID that a tool may give out or take.
const (
	minVMID = 100
	maxVMID = 999999999
)

// New returns the tool for a place.
func New(p Place) *cli.Tool {
	vmid := []cli.Param{{Name: "vmid", Rule: schema.Integer().Min(minVMID).Max(maxVMID).Must()}}
	return &cli.Tool{Name: "qm", Summary: "manage virtual machines", Commands: []cli.Command{
		{Words: "list", Summary: "List the virtual machines of this node.", Run: p.list,
			Options: schema.Keys{"full": about(schema.Truth(), "Determine the full status of active VMs.")}},
		{Words: "status", Summary: "Show whether a VM runs.", Run: p.status, Args: vmid,
			Options: schema.Keys{"verbose": about(schema.Truth(), "Show more facts.")}},
		{Words: "start", Summary: "Start a VM and wait until it runs.", Run: p.start, Args: vmid, Options: waiting()},
		{Words: "shutdown", Summary: "Ask the guest to switch off, and wait until it has. The agent ends it when it takes longer than its startup setting allows.",
			Run: p.shutdown, Args: vmid, Options: with(waiting(), schema.Keys{
				"forceStop":  about(schema.Truth(), "End the VM at once when the time is over."),
				"keepActive": about(schema.Truth(), "Accepted; volumes need no deactivation here."),
			})},
		{Words: "stop", Summary: "End a VM at once, as by pulling its plug.", Run: p.stop, Args: vmid, Options: with(waiting(), schema.Keys{
			"keepActive":        about(schema.Truth(), "Accepted; volumes need no deactivation here."),
			"overrule-shutdown": about(schema.Truth(), "Accepted; a stop always overrules a shutdown here."),
		})},
		{Words: "reboot", Summary: "Shut a VM down and start it again, with what waited for that.", Run: p.reboot, Args: vmid,
			Options: schema.Keys{"timeout": waiting()["timeout"]}},
		{Words: "suspend", Summary: "Pause a VM.", Run: p.suspend, Args: vmid, Options: schema.Keys{"skiplock": skipLock()}},
		{Words: "resume", Summary: "Let a paused VM run on.", Run: p.resume, Args: vmid, Options: schema.Keys{"skiplock": skipLock()}},
		{Words: "wait", Summary: "Wait until a VM has stopped.", Run: p.wait, Args: vmid,
			Options: schema.Keys{"timeout": about(schema.Integer().Min(1), "Give up after so many seconds.")}},
		{Words: "config", Summary: "Show the configuration of a VM, with pending changes in effect.", Run: p.config, Args: vmid, Options: schema.Keys{
			"current":  about(schema.Truth(), "Leave pending changes out."),
			"snapshot": about(schema.Named("pve-configid").Long(40), "Show the configuration of a snapshot."),
		}},
		{Words: "pending", Summary: "Show the configuration of a VM with what waits for a restart.", Run: p.pending, Args: vmid},
		{Words: "set", Summary: "Change the configuration of a VM. The options are the settings of qm.conf.", Run: p.set, Args: vmid, Options: settings(schema.Keys{
			"delete":   about(schema.Named("pve-configid-list"), "Settings to remove."),
			"revert":   about(schema.Named("pve-configid-list"), "Pending changes to take back."),
			"digest":   about(schema.Text().Long(40), "Refuse if the file has another digest by now."),
			"force":    about(schema.Truth().Needs("delete"), "Accepted; no volume is removed here."),
			"skiplock": skipLock(),
		})},
		{Words: "create", Summary: "Create a VM from existing volumes.", Run: p.create, Args: vmid, Options: settings(schema.Keys{
			"start": about(schema.Truth(), "Start it too."),
		})},
		{Words: "destroy", Summary: "Remove the configuration of a stopped VM. Its volumes are kept and named.", Run: p.destroy, Args: vmid,
			Options: schema.Keys{"skiplock": skipLock(), "purge": about(schema.Truth(), "Remove its firewall file too.")}},
		{Words: "unlock", Summary: "Remove the lock of a VM.", Run: p.unlock, Args: vmid},
		{Words: "showcmd", Summary: "Show the command line a VM would be started with.", Run: p.showcmd, Args: vmid,
			Options: schema.Keys{"pretty": about(schema.Truth(), "One option a line.")}},
	}}
}

// waiting are the options of the commands that wait for a guest.
func waiting() schema.Keys {
	return schema.Keys{
		"timeout":  about(schema.Integer().Min(0), "Give up after so many seconds."),
		"skiplock": skipLock(),
	}
}

func skipLock() *schema.Property { return about(schema.Truth(), "Ignore the lock of the VM.") }

// settings are all keys of a configuration as options, and more.
func settings(more schema.Keys) schema.Keys { return with(guest.Keys(layout.QEMU), more) }

func with(keys, more schema.Keys) schema.Keys {
	all := maps.Clone(keys)
	maps.Copy(all, more)
	return all
}

func about(p *schema.Property, text string) *schema.Property {
	p.Description = text
	return p
}

// Package qm is the command line tool for virtual machines.
//
// It owns its table of commands and their output, which is that of Proxmox VE's
// qm. A command that changes something writes a file and waits for what the
// agent says of it: the tool never touches a running guest by itself.
package qm

import (
	"slices"

	"etcpve/agents/qemu/verbs"
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

	TaskLogs string // where the logs of tasks are
	Sys      string // the kernel's view of NICs; default /sys

	remote bool // Node is not the local node
}

// Limits of a VMID that a tool may give out or take.
const (
	minVMID = 100
	maxVMID = 999999999
)

// New returns the tool for a place.
func New(p Place) *cli.Tool {
	return &cli.Tool{Name: "qm", Summary: "manage virtual machines",
		Commands: anywhere(p)}
}

func (p Place) commands() []cli.Command {
	return slices.Concat(p.power(), p.settings(), p.snapshots(), p.disks(), p.moves(), p.imports(), p.provisioning(), p.guests(), p.consoles())
}

func vmid() []cli.Param {
	return []cli.Param{{Name: "vmid", Rule: number().Must()}}
}

// number is the rule of a VMID.
func number() *schema.Property {
	rule := schema.Integer().Min(minVMID).Max(maxVMID)
	rule.Format.Name = "pve-vmid"
	return rule
}

// and adds arguments to the VMID.
func and(more ...cli.Param) []cli.Param { return append(vmid(), more...) }

func (p Place) power() []cli.Command {
	return []cli.Command{
		{Words: "start", Summary: "Start a VM and wait until it runs. One that was suspended to disk goes on.", Run: p.start, Args: vmid(), Options: with(waiting(), once())},
		{Words: "shutdown", Summary: "Ask the guest to switch off, and wait until it has. The agent ends it when it takes longer than its startup setting allows.",
			Run: p.shutdown, Args: vmid(), Options: with(waiting(), schema.Keys{
				"forceStop":  about(schema.Truth().Else(0), "End the VM at once when the time is over."),
				"keepActive": keepActive(),
			})},
		{Words: "stop", Summary: "End a VM at once, as by pulling its plug.", Run: p.stop, Args: vmid(), Options: with(waiting(), schema.Keys{
			"keepActive":        keepActive(),
			"overrule-shutdown": about(schema.Truth().Else(0), "Stop the tasks that wait for the VM to shut down first."),
			"migratedfrom":      about(schema.Named("pve-node"), "The node that has the configuration by now: end what still runs here."),
		})},
		{Words: "reboot", Summary: "Shut a VM down and start it again, with what waited for that.", Run: p.verb(verbs.Reboot, running), Args: vmid(),
			Options: schema.Keys{"timeout": waiting()["timeout"]}},
		{Words: "reset", Summary: "Reset a VM, as by its button.", Run: p.verb(verbs.Reset, running), Args: vmid(), Options: schema.Keys{"skiplock": skipLock()}},
		{Words: "suspend", Summary: "Pause a VM, or save its state to a volume and end it.", Run: p.verb(verbs.Suspend, running), Args: vmid(), Options: schema.Keys{
			"skiplock":     skipLock(),
			"todisk":       about(schema.Truth(), "Save the state; the next start goes on from there."),
			"statestorage": about(schema.Named("pve-storage-id").Needs("todisk"), "Storage for the state."),
		}},
		{Words: "resume", Summary: "Let a paused or suspended VM run on.", Run: p.resume, Args: vmid(), Options: schema.Keys{
			"skiplock": skipLock(), "nocheck": about(schema.Truth(), "Also while the configuration is on another node."),
		}},
		{Words: "wait", Summary: "Wait until a VM has stopped.", Run: p.wait, Args: vmid(),
			Options: schema.Keys{"timeout": about(schema.Integer().Min(1), "Give up after so many seconds.")}},
		{Words: "cleanup", Summary: "Wait until the agent has cleaned up behind a VM that has ended.", Run: p.cleanup,
			Args: and(cli.Param{Name: "clean-shutdown", Rule: schema.Truth().Must()}, cli.Param{Name: "guest-requested", Rule: schema.Truth().Must()})},
	}
}

func (p Place) settings() []cli.Command {
	return []cli.Command{
		{Words: "list", Summary: "List the virtual machines of this node.", Run: p.list,
			Options: schema.Keys{"full": about(schema.Truth(), "Ask each QEMU what it does: paused, prelaunch and so on.")}},
		{Words: "status", Summary: "Show whether a VM runs.", Run: p.status, Args: vmid(),
			Options: schema.Keys{"verbose": about(schema.Truth(), "Show what it takes and gives too.")}},
		{Words: "config", Summary: "Show the configuration of a VM, with pending changes in effect.", Run: p.config, Args: vmid(), Options: schema.Keys{
			"current":  about(schema.Truth(), "Leave pending changes out."),
			"snapshot": about(schema.Named("pve-configid").Long(40), "Show the configuration of a snapshot."),
		}},
		{Words: "pending", Summary: "Show the configuration of a VM with what waits for a restart.", Run: p.pending, Args: vmid()},
		{Words: "set", Summary: "Change the configuration of a VM. The options are the settings of qm.conf.", Run: p.set, Args: vmid(), Prompt: []string{"cipassword"}, Content: []string{"sshkeys"}, Options: settings(schema.Keys{
			"delete":   about(schema.Named("pve-configid-list"), "Settings to remove. A disk becomes unused; an unused one is removed with its data."),
			"revert":   about(schema.Named("pve-configid-list"), "Pending changes to take back."),
			"digest":   about(schema.Text().Long(40), "Refuse if the file has another digest by now."),
			"force":    about(schema.Truth().Needs("delete"), "Remove the data of disks too."),
			"skiplock": skipLock(),
		})},
		{Words: "create", Summary: "Create a VM. A disk is made where a setting asks for STORAGE:SIZE in GiB, or for STORAGE:0,import-from=VOLUME.", Run: p.create, Args: vmid(), Prompt: []string{"cipassword"}, Content: []string{"sshkeys"}, Options: settings(schema.Keys{
			"start":                  about(schema.Truth().Else(0), "Start it too."),
			"bwlimit":                bandwidth(),
			"pool":                   pool(),
			"ha-managed":             about(schema.Truth().Else(0), "Have HA look after it."),
			"storage":                about(schema.Named("pve-storage-id"), "Storage of the disks of an archive; default their own."),
			"archive":                about(schema.Text().Long(255), "Restore this archive: a volume, a path, or - for standard input."),
			"force":                  about(schema.Truth().Needs("archive"), "Replace a VM that exists."),
			"unique":                 about(schema.Truth().Needs("archive"), "Give it addresses of its own."),
			"live-restore":           about(schema.Truth(), "Start it while it is restored, from a backup server."),
			"import-working-storage": about(schema.Named("pve-storage-id"), "Storage to unpack an image on that comes from an appliance."),
		})},
		{Words: "destroy", Summary: "Remove a stopped VM with its volumes.", Run: p.verb(verbs.Destroy, stopped), Args: vmid(),
			Options: schema.Keys{
				"skiplock":                   skipLock(),
				"purge":                      about(schema.Truth(), "Take it out of HA and of backup jobs."),
				"destroy-unreferenced-disks": about(schema.Truth(), "Remove volumes of this VMID that the configuration does not name."),
			}},
		{Words: "unlock", Summary: "Remove the lock of a VM.", Run: p.unlock, Args: vmid()},
		{Words: "showcmd", Summary: "Show the command line a VM would be started with.", Run: p.showcmd, Args: vmid(),
			Options: schema.Keys{
				"pretty":   about(schema.Truth(), "One option a line."),
				"snapshot": about(schema.Named("pve-configid").Long(40), "Use the configuration of a snapshot."),
			}},
	}
}

func snapname() cli.Param {
	return cli.Param{Name: "snapname", Rule: about(schema.Named("pve-configid").Long(40).Must(), "Name of the snapshot.")}
}

func (p Place) snapshots() []cli.Command {
	newID := cli.Param{Name: "newid", Rule: about(number().Must(), "VMID of the clone.")}
	return []cli.Command{
		{Words: "snapshot", Summary: "Make a snapshot of a VM.", Run: p.verb(verbs.Snapshot, unlocked), Args: and(snapname()), Options: schema.Keys{
			"description": about(schema.Text(), "A comment."),
			"vmstate":     about(schema.Truth(), "Save the memory of a running VM too."),
		}},
		{Words: "delsnapshot", Summary: "Remove a snapshot.", Run: p.verb(verbs.DelSnapshot, unlocked), Args: and(snapname()),
			Options: schema.Keys{"force": about(schema.Truth(), "Remove it from the configuration even if that of a disk fails.")}},
		{Words: "rollback", Summary: "Return a VM to a snapshot. With saved memory it runs again, else it is stopped.", Run: p.verb(verbs.Rollback, unlocked), Args: and(snapname()),
			Options: schema.Keys{"start": about(schema.Truth(), "Start it afterwards.")}},
		{Words: "listsnapshot", Summary: "Show the tree of snapshots.", Run: p.listSnapshots, Args: vmid()},
		{Words: "clone", Summary: "Make a new VM from a VM, a template or a snapshot. A template is cloned linked, unless told.", Run: p.verb(verbs.Clone, unlocked),
			Args: and(newID), Options: schema.Keys{
				"name":        about(schema.Named("dns-name"), "Name of the clone."),
				"description": about(schema.Text(), "Description of the clone."),
				"snapname":    about(schema.Named("pve-configid").Long(40), "Clone this snapshot."),
				"full":        about(schema.Truth(), "Copy all disks."),
				"storage":     about(schema.Named("pve-storage-id"), "Storage of the copies."),
				"pool":        pool(),
				"target":      about(schema.Named("pve-node"), "Node of the clone, if all its disks are shared."),
				"format":      imageFormat(),
				"bwlimit":     bandwidth(),
			}},
		{Words: "template", Summary: "Make a VM a template.", Run: p.verb(verbs.Template, unlocked), Args: vmid(),
			Options: schema.Keys{"disk": about(schema.Choice(drives()...), "Convert this disk only.")}},
	}
}

func imageFormat() *schema.Property {
	return about(schema.Choice("raw", "qcow2", "vmdk"), "Format of the image.")
}

func bandwidth() *schema.Property { return about(schema.Integer().Min(0), "Limit in KiB/s.") }

// drives are the keys of disks.
func drives(more ...string) (keys []string) {
	for key := range guest.Keys(layout.QEMU) {
		series, _, _ := guest.Series(key)
		if guest.IsVolume(layout.QEMU, key) || slices.Contains(more, series) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

func (p Place) disks() []cli.Command {
	disk := cli.Param{Name: "disk", Rule: about(schema.Choice(drives("unused")...).Must(), "Key of the disk.")}
	storage := cli.Param{Name: "storage", Rule: about(schema.Named("pve-storage-id").Must(), "Name of the storage.")}
	target := storage
	target.Optional = true
	return []cli.Command{
		{Words: "disk import", Summary: "Copy an image to a storage, as an unused disk.", Run: p.verb(verbs.ImportDisk, unlocked),
			Args: and(cli.Param{Name: "source", Rule: about(schema.Text().Must(), "Path of the image.")}, storage), Options: schema.Keys{
				"format":      imageFormat(),
				"target-disk": about(schema.Choice(drives("unused")...), "Use it as this disk."),
			}},
		{Words: "disk move", Summary: "Move a disk to another storage or format, or to another VM.", Run: p.verb(verbs.Move, unlocked), Args: and(disk, target), Options: schema.Keys{
			"format":        imageFormat(),
			"delete":        about(schema.Truth(), "Remove the old volume; else it becomes unused."),
			"digest":        about(schema.Text().Long(40), "Refuse if the file has another digest by now."),
			"bwlimit":       bandwidth(),
			"target-vmid":   about(number(), "The other VM."),
			"target-disk":   about(schema.Choice(drives("unused")...), "Key of the disk there."),
			"target-digest": about(schema.Text().Long(40), "Refuse if the file of the other VM has another digest by now."),
		}},
		{Words: "disk resize", Summary: "Grow a disk.", Run: p.verb(verbs.Resize, unlocked),
			Args: and(cli.Param{Name: "disk", Rule: about(schema.Choice(drives()...).Must(), "Key of the disk.")},
				cli.Param{Name: "size", Rule: about(schema.Matching(`\+?\d+(\.\d+)?[KMGT]?`).Must(), "New size, or +SIZE to be added.")}),
			Options: schema.Keys{"digest": about(schema.Text().Long(40), "Refuse if the file has another digest by now."), "skiplock": skipLock()}},
		{Words: "disk rescan", Summary: "Note the sizes of disks, and list as unused what belongs to VMs and is named nowhere.", Run: p.rescan, Options: schema.Keys{
			"vmid":   about(number(), "This VM only."),
			"dryrun": about(schema.Truth(), "Show what would be done."),
		}},
		{Words: "disk unlink", Summary: "Remove disks from a VM, with their data if they were unused.", Run: p.unlink, Args: vmid(), Options: schema.Keys{
			"idlist": about(schema.Named("pve-configid-list").Must(), "Keys of the disks."),
			"force":  about(schema.Truth(), "Remove the data at once."),
		}},
		alias("importdisk", "disk import"), alias("move-disk", "disk move"), alias("move_disk", "disk move"),
		alias("rescan", "disk rescan"), alias("resize", "disk resize"), alias("unlink", "disk unlink"), alias("agent", "guest cmd"),
	}
}

// waiting are the options of the commands that wait for a guest.
func waiting() schema.Keys {
	return schema.Keys{
		"timeout":  about(schema.Integer().Min(0), "Give up after so many seconds."),
		"skiplock": skipLock(),
	}
}

func skipLock() *schema.Property { return about(schema.Truth(), "Ignore the lock of the VM.") }

func keepActive() *schema.Property {
	return about(schema.Truth().Else(0), "Accepted; volumes need no deactivation here.")
}

func pool() *schema.Property {
	return about(schema.Named("pve-poolid"), "Make it a member of this pool.")
}

// once are options of one start.
func once() schema.Keys {
	return schema.Keys{
		"machine":              about(schema.Nested(guest.Keys(layout.QEMU)["machine"].Format.Keys), "Another type of machine than configured."),
		"force-cpu":            about(schema.Text(), "What QEMU is given as -cpu."),
		"nets-host-mtu":        about(schema.Matching(`net\d+=\d+(,net\d+=\d+)*`), "The MTU that the guest is told, by NIC; 0 for none."),
		"stateuri":             about(schema.Text().Long(128), "Begin in the state that this volume or file holds."),
		"migratedfrom":         about(schema.Named("pve-node"), "Refused, as all options of an arriving VM: qm migrate needs no start."),
		"migration_network":    about(schema.Named("CIDR"), "Only with migratedfrom."),
		"migration_type":       about(schema.Choice("secure", "insecure"), "Only with migratedfrom."),
		"targetstorage":        about(schema.Named("storage-pair-list"), "Only with migratedfrom."),
		"with-conntrack-state": about(schema.Truth().Else(0), "Only with migratedfrom."),
	}
}

// settings are the keys of a configuration that a user sets, as options, and more.
func settings(more schema.Keys) schema.Keys {
	keys := maps.Clone(guest.Keys(layout.QEMU))
	for _, key := range kept {
		delete(keys, key)
	}
	for key, rule := range keys {
		if series, _, _ := guest.Series(key); guest.IsVolume(layout.QEMU, key) && series != "unused" {
			keys[key] = importing(rule)
		}
	}
	return with(keys, more)
}

// kept are the keys that the agents keep.
var kept = []string{"meta", "parent", "running-nets-host-mtu", "runningcpu", "runningmachine", "snaptime", "vmstate"}

// importing is a disk that may ask for a copy.
func importing(disk *schema.Property) *schema.Property {
	rule := *disk
	rule.Format.Keys = with(disk.Format.Keys, schema.Keys{"import-from": schema.Named("pve-volume-id-or-absolute-path")})
	return &rule
}

func with(keys, more schema.Keys) schema.Keys {
	all := maps.Clone(keys)
	maps.Copy(all, more)
	return all
}

func about(p *schema.Property, text string) *schema.Property {
	p.Description = text
	return p
}

// alias is another way to write a command.
func alias(words, other string) cli.Command {
	return cli.Command{Words: words, Alias: other, Hidden: true}
}

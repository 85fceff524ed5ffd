// Package pvesm is the command line tool for storages.
//
// It owns its table of commands and their output, which is that of Proxmox VE's
// pvesm. What a volume is and how it is made, agents/storage and the plugins
// know; storages themselves are sections of storage.cfg, which an editor can
// change as well. It never mounts, makes or removes anything by itself.
package pvesm

import (
	"cmp"
	"maps"
	"slices"

	"etcpve/agents/storage"
	"etcpve/agents/tools/cli"
	"etcpve/cfs/format/definitions"
	"etcpve/cfs/format/schema"
)

// A Place is where the tool works.
type Place struct {
	storage.Catalog
}

// The version of the contract that plugins fulfil, and for how many versions
// back it takes older ones.
const (
	apiVersion = 1
	apiAge     = 0
)

// New returns the tool for a place.
func New(p Place) *cli.Tool {
	return &cli.Tool{Name: "pvesm", Summary: "manage storages and volumes",
		Commands: slices.Concat(p.storages(), p.volumes(), p.scans())}
}

func (p Place) storages() []cli.Command {
	id := cli.Param{Name: "storage", Rule: about(schema.Named("pve-storage-id").Must(), "Name of the storage.")}
	// Types with keys of their own are for the editor: those are no options here.
	kinds := slices.DeleteFunc(slices.Sorted(maps.Keys(definitions.Storage.Types)), func(kind string) bool {
		return definitions.Storage.Types[kind].Properties != nil
	})
	return []cli.Command{
		{Words: "add", Summary: "Define a storage.", Run: p.add, Prompt: []string{"password"},
			Options: settings(schema.Keys{"authsupported": about(schema.Text(), "Accepted by no type any more.")}),
			Args:    []cli.Param{{Name: "type", Rule: about(schema.Choice(kinds...).Must(), "Type of the storage.")}, id}},
		{Words: "set", Summary: "Change the definition of a storage.", Run: p.set, Prompt: []string{"password"}, Args: []cli.Param{id}, Options: changeable(schema.Keys{
			"delete": about(schema.Named("pve-configid-list").Long(4096), "Settings to remove."),
			"digest": about(schema.Text().Long(64), "Refuse if the file has another digest by now."),
		})},
		{Words: "remove", Summary: "Remove the definition of a storage. Its volumes are kept.", Run: p.remove, Args: []cli.Param{id}},
		{Words: "status", Summary: "Show how full storages are.", Run: p.status, Options: schema.Keys{
			"content": about(schema.Named("pve-storage-content-list"), "Only storages that keep these content types."),
			"enabled": about(schema.Truth().Else(0), "Only storages that are not disabled."),
			"format":  about(schema.Truth().Else(0), "Accepted; formats are no part of the output."),
			"storage": about(schema.Named("pve-storage-id"), "Only this storage."),
			"target":  about(schema.Named("pve-node"), "Only storages that this node may use as well."),
		}},
		{Words: "apiinfo", Summary: "Show the version of the contract between agents and plugins.", Run: apiinfo},
	}
}

func (p Place) volumes() []cli.Command {
	volume := cli.Param{Name: "volume", Rule: about(schema.Text().Must(), "Volume ID, STORAGE:NAME.")}
	located := cli.Param{Name: "volume", Rule: about(schema.Named("pve-volume-id").Must(), "Volume ID, STORAGE:NAME.")}
	id := cli.Param{Name: "storage", Rule: about(schema.Named("pve-storage-id").Must(), "Name of the storage.")}
	vmid := func() *schema.Property {
		p := schema.Integer().Min(100).Max(999999999)
		p.Format.Name = "pve-vmid"
		return p
	}
	snapshot := func() *schema.Property { return schema.Matching(`(?i)[a-z0-9_\-]{1,40}`).Long(40) }
	stream := []cli.Param{volume,
		{Name: "format", Rule: about(schema.Choice(storage.StreamFormats...).Must(), "Form of the stream.")},
		{Name: "filename", Rule: about(schema.Text().Must(), "File of the stream, - for standard input or output.")}}
	return []cli.Command{
		{Words: "list", Summary: "List the volumes of a storage.", Run: p.list, Args: []cli.Param{id}, Options: schema.Keys{
			"content": about(schema.Named("pve-storage-content"), "Only this content type."),
			"vmid":    about(vmid(), "Only volumes of this guest."),
		}},
		{Words: "alloc", Summary: "Create a volume.", Run: p.alloc, Args: []cli.Param{id,
			{Name: "vmid", Rule: about(vmid().Must(), "Guest the volume is for.")},
			{Name: "filename", Rule: about(schema.Text().Must(), "Name of the volume, '' for the next free one.")},
			{Name: "size", Rule: about(schema.Matching(`\d+[MG]?`).Must(), "Size in kilobytes, or with M or G.")}},
			Options: schema.Keys{"format": about(schema.Choice("raw", "qcow2", "subvol", "vmdk").Needs("size"), "Format of the image.")}},
		{Words: "free", Summary: "Remove a volume.", Run: p.free, Args: []cli.Param{volume}, Options: schema.Keys{
			"delay":   about(schema.Integer().Min(1).Max(30), "Accepted; the command always waits for the end."),
			"storage": about(schema.Named("pve-storage-id"), "The storage, where the volume is only a name."),
		}},
		{Words: "path", Summary: "Show the file or device of a volume.", Run: p.path, Args: []cli.Param{located}},
		{Words: "prune-backups", Summary: "Remove backups that the rules do not keep.", Run: p.prune, Args: []cli.Param{id}, Options: pruning(vmid())},
		{Words: "extractconfig", Summary: "Show the configuration inside a backup of a container.", Run: p.extract, Args: []cli.Param{volume}},
		{Words: "export", Summary: "Write a volume as a stream.", Run: p.export, Args: stream, Options: schema.Keys{
			"base":           about(snapshot(), "Write only what has changed since this state."),
			"snapshot":       about(snapshot(), "State to write."),
			"snapshot-list":  about(schema.Named("string-list"), "Accepted; all states up to the one to write are written."),
			"with-snapshots": about(schema.Truth().Else(0), "Write earlier states too, as qcow2+size always does."),
		}},
		{Words: "import", Summary: "Create a volume from a stream.", Run: p.load, Args: stream, Options: schema.Keys{
			"allow-rename":    about(schema.Truth().Else(0), "Choose another name if the volume exists."),
			"base":            about(snapshot(), "State that the volume has already, which the stream goes on from."),
			"delete-snapshot": about(schema.Matching(`(?i)[a-z0-9_\-]{1,80}`).Long(80), "State to remove in the end."),
			"snapshot":        about(snapshot(), "State that the stream ends with."),
			"with-snapshots":  about(schema.Truth().Else(0), "Take snapshots too, as qcow2+size always does."),
		}},
	}
}

// pruning are the options of prune-backups.
func pruning(vmid *schema.Property) schema.Keys {
	options := schema.Keys{
		"dry-run":  about(schema.Truth(), "Show what would be done."),
		"type":     about(schema.Choice("qemu", "lxc"), "Only backups of this type."),
		"vmid":     about(vmid, "Only backups of this guest."),
		"keep-all": about(schema.Truth(), "Keep everything."),
	}
	for _, rule := range []string{"last", "hourly", "daily", "weekly", "monthly", "yearly"} {
		options["keep-"+rule] = about(schema.Integer().Min(0), "How many to keep.")
	}
	return options
}

// changeable are the keys of storage.cfg that some type lets change, with others.
func changeable(others schema.Keys) schema.Keys {
	options := settings(others)
	maps.DeleteFunc(options, func(key string, _ *schema.Property) bool {
		if others[key] != nil {
			return false
		}
		for _, kind := range definitions.Storage.Types {
			if option, takes := kind.Options[key]; takes && !bool(option.Fixed) {
				return false
			}
		}
		return true
	})
	return options
}

// settings are the keys of storage.cfg as options, with others.
func settings(others schema.Keys) schema.Keys {
	options := maps.Clone(others)
	if options == nil {
		options = schema.Keys{}
	}
	for key, rule := range definitions.Storage.Base {
		rule := *rule
		rule.Optional = true
		rule.Description = cmp.Or(rule.Description, "See storage.cfg(5).")
		options[key] = &rule
	}
	return options
}

func about(p *schema.Property, text string) *schema.Property {
	p.Description = text
	return p
}

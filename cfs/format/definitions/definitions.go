// Package definitions holds the types and keys of every sectioned file below
// /etc/pve, and of the files that are one list of keys.
//
// It owns those tables and which path they belong to. It never reads a file;
// package section and package settings do that with these tables.
package definitions

import (
	"strings"

	"etcpve/cfs/format/schema"
	"etcpve/cfs/format/section"
)

// sectioned lists the definitions by path, relative to the mount.
var sectioned = map[string]*section.Definition{
	"storage.cfg":                   Storage,
	"replication.cfg":               Replication,
	"jobs.cfg":                      Jobs,
	"domains.cfg":                   Realms,
	"status.cfg":                    MetricServers,
	"ha/resources.cfg":              HAResources,
	"ha/rules.cfg":                  HARules,
	"ha/groups.cfg":                 HAGroups,
	"mapping/pci.cfg":               PCIMappings,
	"mapping/usb.cfg":               USBMappings,
	"mapping/directory.cfg":         DirectoryMappings,
	"sdn/zones.cfg":                 Zones,
	"sdn/vnets.cfg":                 VNets,
	"sdn/subnets.cfg":               Subnets,
	"sdn/controllers.cfg":           Controllers,
	"sdn/ipams.cfg":                 IPAMs,
	"sdn/dns.cfg":                   DNSServers,
	"sdn/fabrics.cfg":               Fabrics,
	"notifications.cfg":             Notifications,
	"priv/notifications.cfg":        NotificationSecrets,
	"virtual-guest/cpu-models.conf": CPUModels,
	"priv/acme/plugins.cfg":         ACMEPlugins,
}

// Sectioned returns the definition of the sectioned file at path.
func Sectioned(path string) (*section.Definition, bool) {
	d, ok := sectioned[path]
	return d, ok
}

// takes reads the options of a type: keys separated by blanks, with "?" where
// they are optional and "!" where they may not change.
func takes(keys string) map[string]section.Option {
	options := map[string]section.Option{}
	for _, word := range strings.Fields(keys) {
		key := strings.TrimRight(word, "?!")
		options[key] = section.Option{
			Optional: schema.Flag(strings.Contains(word, "?")),
			Fixed:    schema.Flag(strings.Contains(word, "!")),
		}
	}
	return options
}

// kinds makes types from their options.
func kinds(options map[string]string) map[string]*section.Type {
	types := map[string]*section.Type{}
	for name, keys := range options {
		types[name] = &section.Type{Options: takes(keys)}
	}
	return types
}

// own gives types keys that mean something else in other types.
func own(keys map[string]schema.Keys, types map[string]*section.Type) map[string]*section.Type {
	for name, k := range keys {
		types[name].Properties = k
	}
	return types
}

// The functions below make properties; all are optional unless required says
// otherwise.

func text(longest ...int) *schema.Property {
	p := &schema.Property{Type: "string", Optional: true}
	if len(longest) > 0 {
		p.MaxLength = &longest[0]
	}
	return p
}

func boolean() *schema.Property { return &schema.Property{Type: "boolean", Optional: true} }

// integer takes the minimum and the maximum, if there are any.
func integer(limits ...float64) *schema.Property { return limited("integer", limits) }

// number takes the minimum and the maximum, if there are any.
func number(limits ...float64) *schema.Property { return limited("number", limits) }

func limited(kind string, limits []float64) *schema.Property {
	p := &schema.Property{Type: kind, Optional: true}
	if len(limits) > 0 {
		p.Minimum = &limits[0]
	}
	if len(limits) > 1 {
		p.Maximum = &limits[1]
	}
	return p
}

func named(format string) *schema.Property {
	return &schema.Property{Type: "string", Format: schema.Format{Name: format}, Optional: true}
}

// oneOf takes the words of an enumeration, separated by blanks.
func oneOf(words string) *schema.Property {
	return &schema.Property{Type: "string", Enum: strings.Fields(words), Optional: true}
}

func matches(pattern string) *schema.Property {
	return &schema.Property{Type: "string", Pattern: pattern, Optional: true}
}

// properties is a property string.
func properties(keys schema.Keys) *schema.Property {
	return &schema.Property{Type: "string", Format: schema.Format{Keys: keys}, Optional: true}
}

// many is a key that may be repeated.
func many(item *schema.Property) *schema.Property {
	return &schema.Property{Type: "array", Items: item, Optional: true}
}

func required(p *schema.Property) *schema.Property {
	p.Optional = false
	return p
}

// preset is the key of a property string that may be left out.
func preset(p *schema.Property) *schema.Property {
	p.DefaultKey = true
	return p
}

// needs makes a key useless without another.
func needs(key string, p *schema.Property) *schema.Property {
	p.Requires = key
	return p
}

func length(shortest, longest int, p *schema.Property) *schema.Property {
	p.MinLength, p.MaxLength = &shortest, &longest
	return p
}

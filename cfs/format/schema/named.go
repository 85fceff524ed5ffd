package schema

// Short forms for writing tables of properties. Each returns an optional
// setting; Must makes it required.

// Text is a string without limits.
func Text() *Property { return &Property{Type: "string", Optional: true} }

// Named is a string of a named format.
func Named(format string) *Property {
	return &Property{Type: "string", Format: Format{Name: format}, Optional: true}
}

// Nested is a string that holds a property string.
func Nested(keys Keys) *Property {
	return &Property{Type: "string", Format: Format{Keys: keys}, Optional: true}
}

// Matching is a string that matches a Perl pattern as a whole.
func Matching(perl string) *Property {
	return &Property{Type: "string", Pattern: perl, compiled: compile(perl), Optional: true}
}

// Choice is one of some words.
func Choice(words ...string) *Property {
	return &Property{Type: "string", Enum: words, Optional: true}
}

// Truth is a truth value.
func Truth() *Property { return &Property{Type: "boolean", Optional: true} }

// Integer is a whole number.
func Integer() *Property { return &Property{Type: "integer", Optional: true} }

// Number is a number that may have a fraction.
func Number() *Property { return &Property{Type: "number", Optional: true} }

// Must makes the setting required.
func (p *Property) Must() *Property { p.Optional = false; return p }

// Bare makes the setting the one whose key may be left out.
func (p *Property) Bare() *Property { p.DefaultKey = true; return p }

// Min sets the smallest value allowed.
func (p *Property) Min(n float64) *Property { p.Minimum = &n; return p }

// Max sets the largest value allowed.
func (p *Property) Max(n float64) *Property { p.Maximum = &n; return p }

// Long sets the largest length allowed.
func (p *Property) Long(n int) *Property { p.MaxLength = &n; return p }

// Else sets the value that holds when the setting is absent.
func (p *Property) Else(value any) *Property { p.Default = value; return p }

// Needs names another key that must be set too.
func (p *Property) Needs(key string) *Property { p.Requires = key; return p }

// Same makes the setting another way to write key. With keyAlias the name
// written is itself the value of that key.
func Same(key, keyAlias string) *Property { return &Property{Alias: key, KeyAlias: keyAlias} }

// named are the property strings that several files share.
var named = map[string]Keys{
	"backup-fleecing": {
		"enabled": Truth().Bare().Else(0),
		"storage": Named("pve-storage-id"),
	},
	"backup-performance": {
		"max-workers":     Integer().Min(1).Max(256).Else(16),
		"pbs-entries-max": Integer().Min(1).Else(1048576),
	},
	"bwlimit": {
		"clone":     Number().Min(0),
		"default":   Number().Min(0),
		"migration": Number().Min(0),
		"move":      Number().Min(0),
		"restore":   Number().Min(0),
	},
	"pve-node-location": {
		"latitude":  Number().Min(-90).Max(90).Must(),
		"longitude": Number().Min(-180).Max(180).Must(),
		"name":      Text().Long(128),
	},
	"pve-sdn-dhcp-range": {
		"end-address":   Named("ip").Must(),
		"start-address": Named("ip").Must(),
	},
	"pve-tfa-config": {
		"digits": Integer().Min(6).Max(8).Else(6),
		"id":     Text(),
		"key":    Text(),
		"step":   Integer().Min(10).Else(30),
		"type":   Choice("yubico", "oath").Must(),
		"url":    Text(),
	},
	"realm-sync-options": {
		"enable-new":      Truth().Else(1),
		"full":            Truth(),
		"purge":           Truth(),
		"remove-vanished": Matching(`(?:(?:(?:acl|properties|entry);)*(?:acl|properties|entry))|none`).Else("none"),
		"scope":           Choice("users", "groups", "both"),
	},
	"proxmox-remote": {
		"apitoken":    Text().Must(),
		"fingerprint": Matching(`([A-Fa-f0-9]{2}:){31}[A-Fa-f0-9]{2}`),
		"host":        Text().Must(),
		"port":        Integer(),
	},
	"prune-backups": {
		"keep-all":     Truth(),
		"keep-daily":   Integer().Min(0),
		"keep-hourly":  Integer().Min(0),
		"keep-last":    Integer().Min(0),
		"keep-monthly": Integer().Min(0),
		"keep-weekly":  Integer().Min(0),
		"keep-yearly":  Integer().Min(0),
	},
}

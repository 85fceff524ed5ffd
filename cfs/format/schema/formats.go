package schema

import (
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A check refuses a value by returning an *Error, whose message ends with a
// line feed as users know it.
type check func(value string) error

// CheckFormat applies the format called name. Names may carry the suffixes
// -list and -alist (values between commas, semicolons, NUL or blanks) and
// -opt (may be empty). A name that is not known accepts everything: only the
// format's owner may refuse.
func CheckFormat(name, value string) error {
	if base, ok := strings.CutSuffix(name, "-opt"); ok {
		if value == "" {
			return nil
		}
		return CheckFormat(base, value)
	}
	for _, suffix := range []string{"-alist", "-list"} {
		if base, ok := strings.CutSuffix(name, suffix); ok {
			return checkList(base, value)
		}
	}
	if keys := named[name]; keys != nil {
		_, err := keys.Parse(value)
		return err
	}
	if f := formats[name]; f != nil {
		return f(value)
	}
	return nil
}

func checkList(name, value string) error {
	for _, element := range SplitList(value) {
		if err := CheckFormat(name, element); err != nil {
			return err
		}
	}
	return nil
}

// SplitList cuts a list at commas, semicolons, NUL and blanks.
func SplitList(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool {
		return r == ',' || r == ';' || r == 0 || strings.ContainsRune(" \t\n\r\f\v", r)
	})
}

// formats are the named formats that are no property strings.
var formats = map[string]check{
	"pve-vmid":       match(`[1-9][0-9]{2,8}`, "value does not look like a valid VM ID"),
	"pve-node":       match(`[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?`, "value does not look like a valid node name"),
	"pve-configid":   match(`(?i)[a-z][a-z0-9_-]+`, "invalid configuration ID '%s'"),
	"pve-storage-id": match(`(?i)[a-z][a-z0-9._-]*[a-z0-9]`, "storage ID '%s' contains illegal characters"),
	"pve-volume-id":  volumeID,
	"pve-bridge-id":  match(`[-_.\w]+`, "invalid bridge ID '%s'"),
	"pve-iface":      match(`(?i)[a-z][a-z0-9_]{1,20}([:.]\d+)?`, "invalid network interface name '%s'"),
	"pve-tag":        match(`(?i)[a-z0-9_][a-z0-9_.+-]*`, "invalid characters in tag"),
	"pve-poolid":     match(`[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+){0,2}`, "value '%s' does not look like a valid poolid"),
	"pve-groupid":    match(`[A-Za-z0-9._-]+`, "group name '%s' contains invalid characters"),
	"pve-roleid":     match(`[A-Za-z0-9._-]+`, "role name '%s' contains invalid characters"),
	"pve-realm":      match(`[A-Za-z][A-Za-z0-9._-]+`, "value '%s' does not look like a valid realm"),
	"pve-userid":     match(`[^\s:/]+@[A-Za-z][A-Za-z0-9._-]+`, "value '%s' does not look like a valid user name"),
	"pve-tokenid":    match(`[^\s:/]+@[A-Za-z][A-Za-z0-9._-]+![A-Za-z][A-Za-z0-9._-]+`, "value '%s' does not look like a valid token ID"),
	"pve-priv":       match(`[A-Z][A-Za-z]*(\.[A-Z][A-Za-z]*)+`, "invalid privilege '%s'"),
	"pve-tfa-secret": match(`(v2-(0x[0-9A-Fa-f]{16,128}|[A-Z2-7=]{16,128})|[A-Z2-7=]{16}|[A-Fa-f0-9]{40})`, "unable to decode TFA secret"),

	"ipv4":                   ipv4,
	"ipv6":                   ipv6,
	"ip":                     anyIP,
	"ipv4mask":               mask,
	"CIDR":                   cidr,
	"CIDRv4":                 cidr4,
	"CIDRv6":                 cidr6,
	"IPorCIDR":               either("value does not look like a valid IP address or CIDR network", anyIP, cidr),
	"mac-addr":               match(`(?i)[a-f0-9][02468ace](:[a-f0-9]{2}){5}`, "value is not a valid unicast MAC address"),
	"mac-prefix":             match(`(?i)[a-f0-9][02468ace](:[a-f0-9]{2}){0,2}:?`, "value is not a valid unicast MAC address prefix"),
	"dns-name":               dnsName,
	"address":                either("value does not look like a valid address: %s", anyIP, dnsName),
	"lxc-ip-with-ll-iface":   either("value does not look like a valid IP address", anyIP, linkLocal),
	"pve-ipv4-config":        either("value does not look like a valid ipv4 network configuration", oneOf("dhcp", "manual"), cidr4),
	"pve-ipv6-config":        either("value does not look like a valid ipv6 network configuration", oneOf("auto", "dhcp", "manual"), cidr6),
	"IPorCIDRorAlias":        either("value does not look like a valid IP address, CIDR network or alias", anyIP, cidr, alias),
	"pve-storage-portal-dns": either("value '%s' is not a valid portal", match(`\S+(:\d+)?`, "")),
	"pve-storage-server":     either("value does not look like a valid server name or IP address", anyIP, dnsName),

	"email":              match(`[\w+~-]+(\.[\w+~-]+)*@[a-zA-Z0-9-]+(\.[a-zA-Z0-9-]+)*`, "value does not look like a valid email address"),
	"email-or-username":  either("value does not look like a valid email address or user name", match(`[\w+~-]+(\.[\w+~-]+)*@[a-zA-Z0-9-]+(\.[a-zA-Z0-9-]+)*`, ""), match(`[^\s:/]+@[A-Za-z][A-Za-z0-9._-]+`, "")),
	"disk-size":          match(`\d+(\.\d+)?[KMGT]?`, "value does not look like a valid disk size: %s"),
	"timezone":           match(`[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,2}`, "invalid time zone '%s'"),
	"pve-ct-timezone":    either("invalid time zone '%s'", oneOf("host"), match(`[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,2}`, "")),
	"urlencoded":         urlEncoded,
	"pve-day-of-week":    oneOf("mon", "tue", "wed", "thu", "fri", "sat", "sun"),
	"pve-calendar-event": calendarEvent,
	"pve-acme-domain":    match(`(?i)[a-z0-9.-]{1,}`, "value does not look like a valid ACME domain"),
	"pve-acme-alias":     match(`(?i)[a-z0-9._-]+`, "value does not look like a valid ACME alias"),
	"acme-plugin-id":     match(`(?i)[a-z][a-z0-9_-]+`, "invalid plugin ID '%s'"),

	"storage-pair": pair(match(`(?i)[a-z][a-z0-9._-]*[a-z0-9]`, "storage ID '%s' contains illegal characters")),
	"bridge-pair":  pair(match(`[-_.\w]+`, "invalid bridge ID '%s'")),

	"pve-storage-path":                    match(`/.+`, "value does not look like a valid absolute path"),
	"pve-storage-path-in-property-string": match(`/[^,]+`, "value does not look like a valid absolute path"),
	"pve-storage-vgname":                  match(`(?i)[a-z0-9+_.][a-z0-9+_.-]*`, "lvm volume group name '%s' contains illegal characters"),
	"pve-storage-options":                 match(`[^\s]+`, "value '%s' is not a valid mount options list"),
	"pve-storage-format":                  oneOf("raw", "qcow2", "vmdk", "subvol"),
	"pve-storage-content":                 oneOf("images", "rootdir", "vztmpl", "iso", "backup", "snippets", "import", "none"),
	"pve-storage-zfs-blocksize":           match(`\d+[kKmM]?`, "value '%s' is not a valid block size"),
	"pve-dir-override":                    match(`[\w.-]+=[^\s]+`, "invalid override '%s'"),
	"pve-replication-job-id":              match(`[1-9][0-9]{2,8}-\d{1,9}`, "invalid replication job id '%s'"),
	"pve-ha-node":                         match(`[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?(:\d+)?`, "value does not look like a valid ha node name"),
	"pve-ha-resource-id":                  match(`[a-z]+:\S+`, "value does not look like a valid ha resource id"),
	"pve-ha-resource-or-vm-id":            match(`([a-z]+:)?\S+`, "value does not look like a valid ha resource id"),
	"pve-task-status-type":                oneOf("ok", "error", "warning", "unknown"),

	"pve-volume-id-or-absolute-path": volumeOrPath,
	"pve-volume-id-or-qm-path":       either("unable to parse volume ID '%s'", oneOf("none", "cdrom"), volumeOrPath),
	"pve-phys-bits":                  physBits,
	"pve-cpuset":                     match(`\d+(-\d+)?(,\d+(-\d+)?)*`, "unable to parse cpuset option"),
	"pve-vlan-id-or-range":           vlanRange,
	"pve-hotplug-features":           hotplug,
	"pve-startup-order":              match(startupPart+`(,`+startupPart+`)*`, "unable to parse startup options"),
	"pve-qm-bootdev":                 match(`(ide[0-3]|scsi([12]?\d|30)|virtio(\d|1[0-5])|sata[0-5]|net([12]?\d|3[01])|hostpci(\d|1[0-5])|usb(\d|1[0-3]))`, "invalid boot device '%s'"),
	"pve-qm-bootdisk":                match(`(ide[0-3]|scsi([12]?\d|30)|virtio(\d|1[0-5])|sata[0-5]|efidisk0|tpmstate0)`, "invalid boot disk '%s'"),
	"pve-lxc-mp-string":              mountPath,
	"pve-lxc-dev-string":             devicePath,
}

// startupPart is one part of "order=N,up=SECONDS,down=SECONDS".
const startupPart = `(?:\s*|(?:order=)?\d+|up=\d+|down=\d+)`

// match refuses what the whole pattern does not match. A %s in reason is
// replaced by the value.
func match(perl, reason string) check {
	re := regexp.MustCompile(`\A(?:` + perl + `)\z`)
	return func(value string) error {
		if re.MatchString(value) {
			return nil
		}
		return because(reason, value)
	}
}

func because(reason, value string) error {
	text := strings.ReplaceAll(reason, "%s", value)
	return &Error{Message: text + "\n", Reason: text}
}

// either accepts what one of the checks accepts.
func either(reason string, checks ...check) check {
	return func(value string) error {
		for _, c := range checks {
			if c(value) == nil {
				return nil
			}
		}
		return because(reason, value)
	}
}

func oneOf(words ...string) check {
	return func(value string) error {
		if slices.Contains(words, value) {
			return nil
		}
		return because("value '%s' is not one of "+strings.Join(words, ", "), value)
	}
}

// pair accepts "1", "A" or "A:B".
func pair(side check) check {
	return func(value string) error {
		if value == "1" {
			return nil
		}
		for _, part := range strings.SplitN(value, ":", 2) {
			if err := side(part); err != nil {
				return err
			}
		}
		return nil
	}
}

func urlEncoded(value string) error {
	if _, err := url.PathUnescape(value); err != nil {
		return because("invalid urlencoded string: %s", value)
	}
	return nil
}

var volumeID = match(`(?i)[a-z][a-z0-9._-]*[a-z0-9]:.+`, "unable to parse volume ID '%s'")

func volumeOrPath(value string) error {
	if strings.HasPrefix(value, "/") {
		return nil
	}
	return volumeID(value)
}

func physBits(value string) error {
	if bits, err := strconv.Atoi(value); value == "host" || err == nil && bits >= 8 && bits <= 64 {
		return nil
	}
	return because("value must be an integer between 8 and 64 or 'host'", value)
}

func vlanRange(value string) error {
	first, last, _ := strings.Cut(value, "-")
	if last == "" {
		last = first
	}
	a, err1 := strconv.Atoi(first)
	b, err2 := strconv.Atoi(last)
	switch {
	case err1 != nil || err2 != nil:
		return because("invalid VLAN ID or range '%s'", value)
	case a < 1 || b > 4094:
		return because("VLAN ID or range '%s' is not within 1-4094", value)
	case a > b:
		return because("VLAN range must be ascending '%s'", value)
	}
	return nil
}

func hotplug(value string) error {
	if value == "0" || value == "1" {
		return nil
	}
	for _, feature := range SplitList(value) {
		if !slices.Contains([]string{"network", "disk", "cpu", "memory", "usb", "cloudinit"}, feature) {
			return because("invalid hotplug feature '%s'", feature)
		}
	}
	return nil
}

var dots = regexp.MustCompile(`(\A|/)\.\.?(/|\z)`)

func mountPath(value string) error {
	if dots.MatchString(value) {
		return because("%s contains illegal character sequences", value)
	}
	return nil
}

func devicePath(value string) error {
	if dots.MatchString(value) || !strings.HasPrefix(value, "/dev/") {
		return because("%s is not a valid device path", value)
	}
	return nil
}

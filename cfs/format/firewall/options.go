package firewall

import (
	"math"
	"regexp"
	"strconv"
	"strings"
)

// A form tells the values that an option may have from all others.
type form interface{ MatchString(value string) bool }

// A span is a number of that size.
type span struct{ least, most int }

func between(least, most int) span { return span{least, most} }

// MatchString implements form.
func (s span) MatchString(value string) bool {
	n, err := strconv.Atoi(value)
	return err == nil && s.least <= n && n <= s.most && value[0] != '+'
}

// The values that an option may have.
type optionForm struct {
	form     form
	expected string
	fold     func(string) string
}

var (
	truth     = optionForm{regexp.MustCompile(`^[01]$`), "0 or 1", nil}
	count     = optionForm{regexp.MustCompile(`^\d{1,18}$`), "a number", nil}
	level     = optionForm{regexp.MustCompile(`(?i)^(` + strings.Join(LogLevels, "|") + `)?$`), "one of " + strings.Join(LogLevels, ", "), strings.ToLower}
	policy    = optionForm{regexp.MustCompile(`(?i)^(ACCEPT|DROP|REJECT)$`), "ACCEPT, DROP or REJECT", strings.ToUpper}
	forward   = optionForm{regexp.MustCompile(`(?i)^(ACCEPT|DROP)$`), "ACCEPT or DROP", strings.ToUpper}
	ratelimit = optionForm{regexp.MustCompile(`^(enable=)?([01]|on|off|yes|no|true|false)(,(burst=\d+|rate=[1-9]\d*/(second|minute|hour|day)))*$`),
		"ENABLE[,burst=NUMBER][,rate=NUMBER/second|minute|hour|day]", nil}
	helpers = optionForm{regexp.MustCompile(`^((amanda|ftp|irc|netbios-ns|pptp|sane|sip|snmp|tftp)([,; ]+|$))*$`),
		"a list of amanda, ftp, irc, netbios-ns, pptp, sane, sip, snmp, tftp", nil}
	words       = optionForm{regexp.MustCompile(`^\S+$`), "a list without blanks", nil}
	largest     = optionForm{between(32768, math.MaxInt32), "a number, at least 32768", nil}
	established = optionForm{between(7875, math.MaxInt32), "a number of seconds, at least 7875", nil}
	received    = optionForm{between(30, 60), "a number of seconds from 30 to 60", nil}
	queues      = optionForm{regexp.MustCompile(`^\d+(:\d+)?$`), "a number or a range a:b", nil}
)

// LogLevels are the words that -log and the log level options take.
var LogLevels = []string{"emerg", "alert", "crit", "err", "warning", "notice", "info", "debug", "nolog"}

// options of each scope. The last three of guests are left over from older
// releases: still read, without effect.
var options = map[Scope]map[string]optionForm{
	Cluster: {
		"enable": count, "ebtables": truth, "log_ratelimit": ratelimit,
		"policy_in": policy, "policy_out": policy, "policy_forward": forward,
	},
	Host: {
		"enable": truth, "ndp": truth, "nosmurfs": truth, "tcpflags": truth, "nftables": truth,
		"log_nf_conntrack": truth, "nf_conntrack_allow_invalid": truth, "nf_conntrack_helpers": helpers,
		"nf_conntrack_max": largest, "nf_conntrack_tcp_timeout_established": established, "nf_conntrack_tcp_timeout_syn_recv": received,
		"protection_synflood": truth, "protection_synflood_burst": count, "protection_synflood_rate": count,
		"log_level_in": level, "log_level_out": level, "log_level_forward": level,
		"smurf_log_level": level, "tcp_flags_log_level": level,
	},
	Guest: {
		"enable": truth, "dhcp": truth, "ipfilter": truth, "macfilter": truth, "ndp": truth, "radv": truth,
		"policy_in": policy, "policy_out": policy, "log_level_in": level, "log_level_out": level,
		"ips": truth, "ips_queues": queues, "layer2_protocols": words,
	},
	VNet: {"enable": truth, "policy_forward": forward, "log_level_forward": level},
}

var optionLine = regexp.MustCompile(`^([A-Za-z0-9_-]+):\s*(.*)$`)

func (r *Reader) option(p piece) {
	m := optionLine.FindStringSubmatchIndex(p.text)
	if m == nil {
		r.refuse(p, 0, "", "not an option; expected 'name: value'")
		return
	}
	written, value := p.text[m[2]:m[3]], p.text[m[4]:m[5]]
	name := strings.ToLower(written)
	allowed, known := options[r.doc.Scope][name]
	switch {
	case !known:
		r.refuse(p, 0, written, "unknown option")
		return
	case !allowed.form.MatchString(value):
		r.refuse(p, m[4], written, "bad value '"+value+"'; expected "+allowed.expected)
		return
	}
	if !r.doc.define("option", name, len(r.doc.Options)) {
		r.refuse(p, 0, written, "option is set twice")
	}
	if allowed.fold != nil {
		value = allowed.fold(value)
	}
	r.doc.Options = append(r.doc.Options, Option{Line: p.line, Name: name, Value: value})
}

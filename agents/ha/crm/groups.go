package crm

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strconv"

	"etcpve/agents/ha"
	"etcpve/agents/ha/rules"
)

// Rounds until a master tries to convert groups to rules, at first and after
// a failure.
const (
	groupsFirst = 3
	groupsRetry = 6
)

// versionWithRules is the first one that understands rules.
const versionWithRules = "9.0.0~16"

// convertGroups replaces groups by rules once all nodes understand rules.
// While there are groups it returns them, and lets them decide the failback of
// their services.
func (r *round) convertGroups() []rules.Group {
	groups, mistakes := rules.ParseGroups(r.view.Groups)
	if r.bound.groups != r.view.Groups {
		for _, m := range mistakes {
			r.log.Err("ignoring a group - %v", m)
		}
	}
	if len(groups) == 0 {
		return nil
	}
	failback := r.applyFailback(groups)
	r.groupWait--
	if r.groupWait > 0 {
		return groups
	}
	r.log.Notice("start ha group migration...")
	reason := r.groupsBlocked()
	if reason == "" && len(mistakes) > 0 {
		reason = mistakes[0].Error() // converted, the group would be lost
	}
	text := ""
	if reason == "" {
		var err error
		if text, err = rules.AppendGroups(r.view.Rules, groups, r.members()); err != nil {
			reason = err.Error()
		}
	}
	if reason != "" {
		r.log.Err("abort ha groups migration: %s", reason)
		r.log.Err("ha groups migration failed")
		r.log.Notice("retry ha groups migration in %d rounds (~ 60 seconds)", groupsRetry)
		r.groupWait = groupsRetry
		return groups
	}
	for _, what := range []string{"migration to rules config", "migration to resources config", "group config deletion"} {
		r.log.Notice("ha groups migration: %s successful", what)
	}
	r.log.Notice("ha groups migration successful")
	r.out.Changes = append(r.out.Changes, ConvertGroups{text, failback})
	r.view.Rules, r.view.Groups = text, ""
	for sid := range failback {
		c := r.view.Resources[sid]
		c.Group = ""
		r.view.Resources[sid] = c
	}
	return nil
}

// applyFailback gives services the failback of their group.
func (r *round) applyFailback(groups []rules.Group) map[string]bool {
	failback, members := map[string]bool{}, r.members()
	for _, g := range groups {
		for _, sid := range members[g.ID] {
			c := r.view.Resources[sid]
			c.Failback = !g.NoFailback
			r.view.Resources[sid] = c
			failback[sid] = c.Failback
		}
	}
	return failback
}

// members returns the services by group.
func (r *round) members() map[string][]string {
	members := map[string][]string{}
	for _, sid := range slices.Sorted(maps.Keys(r.view.Resources)) {
		if g := r.view.Resources[sid].Group; g != "" {
			members[g] = append(members[g], sid)
		}
	}
	return members
}

// groupsBlocked says why groups can't be converted now, or "".
func (r *round) groupsBlocked() string {
	for _, node := range slices.Sorted(maps.Keys(r.status.Nodes)) {
		state := r.status.Nodes[node]
		r.log.Notice("ha groups migration: node '%s' is in state '%s'", node, state)
		if state != ha.Online {
			return "node '" + node + "' is not online"
		}
		lrm := r.view.LRMs[node]
		mode := cmp.Or(lrm.Mode, ha.ModeActive)
		r.log.Notice("ha groups migration: lrm '%s' is in state '%s' and mode '%s'", node, lrm.State, mode)
		idle := lrm.State == ha.LRMWait && r.status.ActiveOn(node) == 0
		if lrm.State != ha.LRMActive && !idle {
			return "lrm '" + node + "' is not in state 'active' or 'idle'"
		}
		if mode != ha.ModeActive {
			return "lrm '" + node + "' is not in mode 'active'"
		}
		version := r.view.Members[node].Version
		r.log.Notice("ha groups migration: node '%s' has version '%s'", node, version)
		if !knowsRules(version) {
			return "node '" + node + "' needs at least pve-manager version '" + versionWithRules + "'"
		}
	}
	return ""
}

var versionForm = regexp.MustCompile(`^(\d+)\.(\d+)[.-](\d+)(?:~(\d+))?`)

// knowsRules reports whether a version is versionWithRules or later.
func knowsRules(version string) bool {
	m := versionForm.FindStringSubmatch(version)
	if m == nil {
		return false
	}
	var n [4]int
	for i, digits := range m[1:] {
		n[i], _ = strconv.Atoi(digits)
	}
	if order := slices.Compare(n[:3], []int{9, 0, 0}); order != 0 {
		return order > 0
	}
	return m[4] == "" || n[3] >= 16
}

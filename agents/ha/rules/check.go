package rules

import (
	"fmt"
	"slices"
	"strings"
)

// A Finding is a reason to drop a rule.
type Finding struct{ Rule, Reason string }

// String is the line an operator reads.
func (f Finding) String() string {
	return fmt.Sprintf("Drop rule '%s', because %s.", f.Rule, f.Reason)
}

// A bench is what the checks look at: the enabled rules in order, by kind, and
// the number of nodes in the cluster.
type bench struct {
	places    []Rule // node affinity
	relations []Rule // resource affinity
	together  []set  // connected positive rules
	nodes     int
}

// set is a number of positive rules connected by common services.
type set struct {
	rules    []Rule
	services []string
}

// checks lists all ways in which rules contradict each other. Their order is
// the order of findings within a rule.
var checks = []func(bench) []Finding{
	placedTwice,
	tooFewServices,
	tooFewNodes,
	togetherAndApart,
	severalPriorities,
	togetherInSeveralPlaces,
	apartInTooSmallPlaces,
}

// Check returns all findings, ordered by rule, and the rules without any.
func Check(all []Rule, nodes int) (findings []Finding, sound []Rule) {
	on := enabled(all)
	b := bench{nodes: nodes}
	for _, r := range on {
		if r.Kind == NodeAffinity {
			b.places = append(b.places, r)
		} else {
			b.relations = append(b.relations, r)
		}
	}
	b.together = connect(b.relations)
	for _, check := range checks {
		findings = append(findings, check(b)...)
	}
	slices.SortStableFunc(findings, func(a, b Finding) int { return strings.Compare(a.Rule, b.Rule) })
	dropped := map[string]bool{}
	for _, f := range findings {
		dropped[f.Rule] = true
	}
	return findings, slices.DeleteFunc(on, func(r Rule) bool { return dropped[r.ID] })
}

// connect unites positive rules that share services, directly or through
// others.
func connect(relations []Rule) (sets []set) {
	for _, r := range relations {
		if !r.Positive {
			continue
		}
		joined := set{[]Rule{r}, r.Services}
		sets = slices.DeleteFunc(sets, func(s set) bool {
			if len(r.shared(s.services)) == 0 {
				return false
			}
			joined.rules = append(joined.rules, s.rules...)
			joined.services = append(slices.Clone(joined.services), s.services...)
			return true
		})
		joined.services = distinct(joined.services)
		sets = append(sets, joined)
	}
	return sets
}

// blame gives every rule the same reason.
func blame(rules []Rule, reason string) (findings []Finding) {
	for _, r := range rules {
		findings = append(findings, Finding{r.ID, reason})
	}
	return findings
}

// touching returns the rules that have a service in common with services.
func touching(rules []Rule, services []string) (found []Rule) {
	for _, r := range rules {
		if len(r.shared(services)) > 0 {
			found = append(found, r)
		}
	}
	return found
}

func placedTwice(b bench) (findings []Finding) {
	users := map[string]int{}
	for _, r := range b.places {
		for _, sid := range r.Services {
			users[sid]++
		}
	}
	for _, r := range b.places {
		for _, sid := range r.Services {
			if users[sid] > 1 {
				findings = append(findings, Finding{r.ID, fmt.Sprintf("resource '%s' is already used in another node affinity rule", sid)})
			}
		}
	}
	return findings
}

func tooFewServices(b bench) []Finding {
	return blame(filter(b.relations, func(r Rule) bool { return len(r.Services) < 2 }),
		"rule is ineffective as there are less than two resources")
}

func tooFewNodes(b bench) []Finding {
	return blame(filter(b.relations, func(r Rule) bool { return !r.Positive && len(r.Services) > b.nodes }),
		"rule defines more resources than available nodes")
}

func togetherAndApart(b bench) (findings []Finding) {
	for _, r := range b.relations {
		for _, s := range b.together {
			if r.Positive || len(r.shared(s.services)) < 2 {
				continue
			}
			findings = append(findings, Finding{r.ID, "rule shares two or more resources with a positive resource affinity rule"})
			findings = append(findings, blame(s.rules, "rule shares two or more resources with a negative resource affinity rule")...)
		}
	}
	return findings
}

func severalPriorities(b bench) (findings []Finding) {
	for _, r := range b.relations {
		places := touching(b.places, r.Services)
		if !slices.ContainsFunc(places, func(p Rule) bool { return len(p.priorities()) > 1 }) {
			continue
		}
		findings = append(findings, blame(places,
			"resources are in a resource affinity rule and cannot be in a node affinity rule with multiple priorities")...)
		findings = append(findings, Finding{r.ID, "resources are in node affinity rules with multiple priorities"})
	}
	return findings
}

func togetherInSeveralPlaces(b bench) (findings []Finding) {
	for _, s := range b.together {
		places := touching(b.places, s.services)
		if len(places) < 2 {
			continue
		}
		findings = append(findings, blame(s.rules, "resources are in multiple node affinity rules")...)
		findings = append(findings, blame(places,
			"at least one resource is in a positive resource affinity rule and there are other resources in at least one other node affinity rule already")...)
	}
	return findings
}

func apartInTooSmallPlaces(b bench) (findings []Finding) {
	for _, r := range b.relations {
		if r.Positive {
			continue
		}
		places := touching(b.places, r.Services)
		var services, nodes []string
		for _, p := range places {
			services = append(services, p.shared(r.Services)...)
			for node := range p.Nodes {
				nodes = append(nodes, node)
			}
		}
		if len(distinct(services)) <= len(distinct(nodes)) {
			continue
		}
		findings = append(findings, Finding{r.ID, "two or more resources are restricted to less nodes than available to the resources"})
		findings = append(findings, blame(places,
			"at least one resource is in a negative resource affinity rule and this rule would restrict these to less nodes than available to the resources")...)
	}
	return findings
}

func filter(rules []Rule, keep func(Rule) bool) []Rule {
	return slices.DeleteFunc(slices.Clone(rules), func(r Rule) bool { return !keep(r) })
}

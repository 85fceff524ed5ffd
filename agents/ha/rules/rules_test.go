package rules

import (
	"fmt"
	"strings"
	"testing"
)

func rule(kind, id, services string, more ...string) string {
	return fmt.Sprintf("%s: %s\n\tresources %s\n\t%s\n\n", kind, id, services, strings.Join(more, "\n\t"))
}

func place(id, services, nodes string) string {
	return rule("node-affinity", id, services, "nodes "+nodes)
}

func together(id, services string) string {
	return rule("resource-affinity", id, services, "affinity positive")
}

func apart(id, services string) string {
	return rule("resource-affinity", id, services, "affinity negative")
}

func TestCheckFindsContradictions(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"sound": {place("a", "vm:1,vm:2", "n1,n2") + together("b", "vm:1,vm:2") + apart("c", "vm:2,vm:3"), ""},
		"placed twice": {place("b", "vm:1,vm:2", "n1") + place("a", "vm:2,vm:1", "n2"), `
			a: resource 'vm:1' is already used in another node affinity rule
			a: resource 'vm:2' is already used in another node affinity rule
			b: resource 'vm:1' is already used in another node affinity rule
			b: resource 'vm:2' is already used in another node affinity rule`},
		"disabled rules don't count": {place("a", "vm:1", "n1") + rule("node-affinity", "b", "vm:1", "nodes n2", "disable 0"), ""},
		"one service, named twice":   {together("a", "vm:1,vm:1"), `a: rule is ineffective as there are less than two resources`},
		"too few nodes":              {apart("a", "vm:1,vm:2,vm:3,vm:4"), `a: rule defines more resources than available nodes`},
		"together and apart, over two rules": {together("p", "vm:1,vm:2") + together("q", "vm:2,vm:3") + apart("a", "vm:1,vm:3") + together("z", "vm:8,vm:9"), `
			a: rule shares two or more resources with a positive resource affinity rule
			p: rule shares two or more resources with a negative resource affinity rule
			q: rule shares two or more resources with a negative resource affinity rule`},
		"several priorities": {place("a", "vm:1", "n1:2,n2") + place("b", "vm:2", "n3") + together("c", "vm:1,vm:2"), `
			a: resources are in a resource affinity rule and cannot be in a node affinity rule with multiple priorities
			a: at least one resource is in a positive resource affinity rule and there are other resources in at least one other node affinity rule already
			b: resources are in a resource affinity rule and cannot be in a node affinity rule with multiple priorities
			b: at least one resource is in a positive resource affinity rule and there are other resources in at least one other node affinity rule already
			c: resources are in node affinity rules with multiple priorities
			c: resources are in multiple node affinity rules`},
		"apart in too small a place": {place("a", "vm:1,vm:2", "n1") + apart("b", "vm:1,vm:2,vm:3"), `
			a: at least one resource is in a negative resource affinity rule and this rule would restrict these to less nodes than available to the resources
			b: two or more resources are restricted to less nodes than available to the resources`},
		"apart in a place just large enough": {place("a", "vm:1,vm:2", "n1,n2") + apart("b", "vm:1,vm:2,vm:3"), ""},
	} {
		all, mistakes := Parse(c.text)
		if mistakes != nil {
			t.Fatalf("%s: %v", name, mistakes)
		}
		findings, sound := Check(all, 3)
		var got, want []string
		dropped := map[string]bool{}
		for _, f := range findings {
			got = append(got, f.Rule+": "+f.Reason)
			dropped[f.Rule] = true
		}
		for line := range strings.SplitSeq(strings.TrimSpace(c.want), "\n") {
			if line = strings.TrimSpace(line); line != "" {
				want = append(want, line)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s\n got %s\nwant %s", name, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
		}
		for _, r := range sound {
			if dropped[r.ID] || r.Disabled {
				t.Errorf("%s: rule %s is still there", name, r.ID)
			}
		}
	}
}

func TestConstraintsFollowFromAllRules(t *testing.T) {
	all, mistakes := Parse(together("p", "vm:1,vm:2") + together("q", "vm:2,vm:3") + together("r", "vm:4,vm:5") +
		apart("a", "vm:1,vm:4") + rule("node-affinity", "n", "vm:3", "nodes n1:2,n2", "strict 1"))
	if mistakes != nil {
		t.Fatal(mistakes)
	}
	c := Derive(all)
	for sid, want := range map[string]string{
		"vm:1": "[vm:2 vm:3] [vm:4 vm:5] map[n1:2 n2:0] true",
		"vm:2": "[vm:1 vm:3] [vm:4] map[n1:2 n2:0] true",
		"vm:3": "[vm:1 vm:2] [vm:4] map[n1:2 n2:0] true",
		"vm:4": "[vm:5] [vm:1 vm:2 vm:3] map[] false",
		"vm:5": "[vm:4] [vm:1] map[] false",
		"vm:6": "[] [] map[] false",
	} {
		p, _ := c.Place(sid)
		if got := fmt.Sprint(c.Together(sid), c.Apart(sid), p.Nodes, p.Strict); got != want {
			t.Errorf("%s\n got %s\nwant %s", sid, got, want)
		}
	}
}

func TestGroupsBecomeRules(t *testing.T) {
	groups, mistakes := ParseGroups("group: g1\n\tnodes n1:2,n2\n\trestricted 1\n\tcomment the first\n\ngroup: g2\n\tnodes n3\n\tnofailback 1\n")
	if mistakes != nil {
		t.Fatal(mistakes)
	}
	if !groups[0].Restricted || groups[0].NoFailback || groups[1].Restricted || !groups[1].NoFailback {
		t.Errorf("%+v", groups)
	}
	before := "# mine\nfuture-affinity: f\n\tanything goes\n\nnode-affinity: ha-group-g1\n\tnodes n9\n\tresources vm:9\n"
	got, err := AppendGroups(before, groups, map[string][]string{"g1": {"vm:2", "vm:1"}, "g3": {"vm:3"}})
	if err != nil {
		t.Fatal(err)
	}
	want := "# mine\nfuture-affinity: f\n\tanything goes\n\n" +
		"node-affinity: ha-group-g1\n\tcomment the first\n\tnodes n1:2,n2\n\tresources vm:1,vm:2\n\tstrict 1\n\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	all, mistakes := Parse(got)
	if direct := FromGroups(groups, map[string][]string{"g1": {"vm:2", "vm:1"}}); mistakes != nil || fmt.Sprint(all) != fmt.Sprint(direct) {
		t.Errorf("read again: %v, %v, want %v", all, mistakes, direct)
	}
}

// TestListsAreReadAsTheyAreChecked reads lists in all forms that a save accepts.
func TestListsAreReadAsTheyAreChecked(t *testing.T) {
	all, mistakes := Parse(place("a", "vm:2, vm:1;ct:3", "n1:2; n2 n3"))
	want := "[{a node-affinity [ct:3 vm:1 vm:2] map[n1:2 n2:0 n3:0] false false false}]"
	if got := fmt.Sprint(all); got != want || mistakes != nil {
		t.Errorf("%s, %v, want %s", got, mistakes, want)
	}
}

// TestOneMistakeLeavesTheOthers parses files with one good section beside a bad one.
func TestOneMistakeLeavesTheOthers(t *testing.T) {
	good := place("good", "vm:1", "n1")
	for text, want := range map[string]string{
		"resource-affinity: a\n\tresources vm:1\n\taffinity neutral\n\n": "ha/rules.cfg: rule 'a': line 3: affinity: neither positive nor negative: 'neutral'",
		"node-affinity: a\n\tnodes n1:-1\n\n":                            "ha/rules.cfg: rule 'a': line 2: nodes: '-1' is not a priority",
	} {
		all, mistakes := Parse(text + good)
		if len(mistakes) != 1 || mistakes[0].Error() != want || len(all) != 1 || all[0].ID != "good" {
			t.Errorf("%q: %v, %v", text, all, mistakes)
		}
	}
	groups, mistakes := ParseGroups("\n\ngroup: g\n\tnodes n:x\n\ngroup: good\n\tnodes n1\n")
	if len(mistakes) != 1 || mistakes[0].Error() != "ha/groups.cfg: line 3: group 'g': nodes: 'x' is not a priority" ||
		len(groups) != 1 || groups[0].ID != "good" {
		t.Error(groups, mistakes)
	}
}

// FuzzCheck checks that no rules, however odd, stop the CRM.
func FuzzCheck(f *testing.F) {
	f.Add(place("a", "vm:1,vm:2", "n1:2,n2") + together("b", "vm:1,vm:3") + apart("c", "vm:3,vm:4"))
	f.Add(apart("a", ","))
	f.Fuzz(func(t *testing.T, text string) {
		all, _ := Parse(text)
		_, sound := Check(all, 3)
		c := Derive(sound)
		for _, r := range sound {
			for _, sid := range r.Services {
				for _, other := range c.Apart(sid) {
					if other == sid {
						t.Errorf("%s is apart from itself", sid)
					}
				}
			}
		}
	})
}

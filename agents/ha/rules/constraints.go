package rules

import "slices"

// Constraints answer what the rules mean for one service. The zero value
// constrains nothing.
type Constraints struct {
	sound    []Rule
	place    map[string]Place
	together map[string][]string
	apart    map[string][]string
}

// A Place is where a service should be: a priority for each node that is
// named. If it is not strict, all other nodes are allowed too, as the last.
type Place struct {
	Nodes  map[string]int
	Strict bool
}

// Place returns the node affinity of a service, if it has one.
func (c Constraints) Place(sid string) (Place, bool) {
	p, ok := c.place[sid]
	return p, ok
}

// Together returns the other services that have to be on the same node, in order.
func (c Constraints) Together(sid string) []string { return c.together[sid] }

// Apart returns the services that have to be on other nodes, in order.
func (c Constraints) Apart(sid string) []string { return c.apart[sid] }

// Named returns the ids of the rules that put services to nodes, or together, or
// apart, and name one of these services.
func (c Constraints) Named(kind Kind, positive bool, sids ...string) (ids []string) {
	for _, r := range c.sound {
		names := func(sid string) bool { return slices.Contains(r.Services, sid) }
		if r.Kind == kind && r.Positive == positive && slices.ContainsFunc(sids, names) {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

// Derive turns sound rules into constraints. Being together is transitive;
// being apart extends to the companions of either side, one step far; a place
// is shared by all who are together.
func Derive(sound []Rule) Constraints {
	c := Constraints{sound, map[string]Place{}, map[string][]string{}, map[string][]string{}}
	for _, r := range sound {
		if r.Kind == NodeAffinity {
			for _, sid := range r.Services {
				c.place[sid] = Place{r.Nodes, r.Strict}
			}
		}
	}
	for _, s := range connect(sound) {
		c.join(s.services)
	}
	direct := map[string][]string{}
	for _, r := range sound {
		if r.Kind == ResourceAffinity && !r.Positive {
			for _, sid := range r.Services {
				direct[sid] = append(direct[sid], without(r.Services, sid)...)
			}
		}
	}
	for sid, others := range direct {
		for _, companion := range append([]string{sid}, c.together[sid]...) {
			for _, other := range others {
				c.apart[companion] = append(c.apart[companion], other)
				c.apart[other] = append(c.apart[other], companion)
			}
		}
	}
	for sid, others := range c.apart {
		c.apart[sid] = distinct(others)
	}
	return c
}

// join notes that services are together, and gives them one place.
func (c Constraints) join(services []string) {
	var (
		place Place
		found bool
	)
	for _, sid := range services {
		c.together[sid] = without(services, sid)
		if p, ok := c.place[sid]; ok && !found {
			place, found = p, true
		}
	}
	if found {
		for _, sid := range services {
			c.place[sid] = place
		}
	}
}

func without(services []string, sid string) []string {
	return slices.DeleteFunc(slices.Clone(services), func(s string) bool { return s == sid })
}

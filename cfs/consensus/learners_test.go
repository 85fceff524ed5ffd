package consensus

import (
	"slices"
	"testing"

	"go.etcd.io/raft/v3/tracker"
)

func TestEachLearnerHasOneTeller(t *testing.T) {
	s := Status{Leader: 2, Voters: []uint64{1, 2, 3, 4}, Learners: []uint64{5, 6, 7, 8, 9}}
	for _, c := range []struct {
		dead    uint64
		tellers []uint64
	}{{0, []uint64{1, 3, 4}}, {3, []uint64{1, 4}}, {2, []uint64{1, 3, 4}}} {
		answers := func(id uint64) bool { return id != c.dead }
		told := map[uint64]int{}
		for id := uint64(1); id <= 9; id++ {
			share := ShareOf(id, s, answers)
			if teller := slices.Contains(c.tellers, id); id != c.dead && teller != (len(share) > 0) {
				t.Errorf("without %d: node %d tells %v", c.dead, id, share)
			}
			for _, learner := range share {
				if id != c.dead {
					told[learner]++
				}
			}
		}
		for _, learner := range s.Learners {
			if told[learner] != 1 {
				t.Errorf("without %d: learner %d is told %d times", c.dead, learner, told[learner])
			}
		}
	}
	if share := ShareOf(1, Status{Voters: []uint64{1, 2}, Learners: []uint64{3}}, func(uint64) bool { return true }); share != nil {
		t.Errorf("without a leader: %v", share)
	}
}

func TestALearnerIsLateWhenItLacksWhatIsRipe(t *testing.T) {
	l := learners{}
	for _, last := range []uint64{10, 20, 30} {
		l.tick(last)
	}
	for _, c := range []struct {
		state tracker.StateType
		match uint64
		want  bool
	}{
		{tracker.StateReplicate, 35, true}, {tracker.StateReplicate, 20, true}, {tracker.StateReplicate, 19, false},
		{tracker.StateProbe, 35, false}, {tracker.StateSnapshot, 35, false},
	} {
		if got := l.isPunctual(tracker.Progress{State: c.state, Match: c.match}); got != c.want {
			t.Errorf("%v at %d: punctual %v", c.state, c.match, got)
		}
	}
}

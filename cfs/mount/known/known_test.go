package known

import "testing"

func TestADirectoryIsKnownUntilAllLookupsAreForgotten(t *testing.T) {
	var d Dirs
	enter := func() { d.Enter(7, false) }
	for i, step := range []struct {
		do   func()
		want bool
	}{
		{func() {}, false},
		{func() { d.Forget(7, 1) }, false}, // of something that is no directory
		{enter, true},
		{func() { enter(); d.Forget(7, 1) }, true},
		{func() { d.Enter(8, false) }, true},
		{func() { d.Forget(7, 1) }, false},
		{func() { enter(); enter(); d.Forget(7, 5) }, false}, // more than was counted
		{func() { d.Enter(7, true) }, false},
		{enter, true},
		{func() { d.Enter(7, true) }, true},
		{func() { d.Forget(7, 2) }, true}, // which of the three is not said
		{func() { d.Forget(7, 1) }, false},
		{func() { d.Enter(7, true) }, false},
	} {
		if step.do(); d.Has(7) != step.want {
			t.Errorf("after step %d: known %v, want %v", i, d.Has(7), step.want)
		}
	}
}

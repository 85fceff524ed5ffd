package listing

import "testing"

func TestWhatTheKernelKeepsIsTrueInOneState(t *testing.T) {
	l := New[string]()
	for i, step := range []struct {
		inode, state uint64
		kept         bool
	}{{1, 5, false}, {1, 5, true}, {2, 5, false}, {1, 6, false}, {1, 6, true}, {2, 5, true}} {
		if got := l.IsKept(step.inode, step.state); got != step.kept {
			t.Errorf("step %d: %v", i, got)
		}
	}
	for i := range uint64(maxKept + 1) {
		l.IsKept(100+i, 1)
	}
	if len(l.kept) > maxKept {
		t.Errorf("%d directories are remembered", len(l.kept))
	}
}

func TestOpenDirectoriesAreApart(t *testing.T) {
	l := New[string]()
	a, b := l.Open(), l.Open()
	one, _ := l.Get(a)
	one.Entries = []string{"x"}
	if two, ok := l.Get(b); !ok || two.Entries != nil {
		t.Error("two readers share a listing")
	}
	l.Close(a)
	if _, ok := l.Get(a); ok {
		t.Error("a closed directory is still open")
	}
}

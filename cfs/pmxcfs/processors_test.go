package main

import "testing"

func TestGuestsKeepHalfOfTheProcessors(t *testing.T) {
	for of, want := range map[int]int{1: 1, 2: 1, 3: 1, 4: 2, 7: 3, 8: 4, 64: 4} {
		if got := processors(of); got != want {
			t.Errorf("%d processors of %d, want %d", got, of, want)
		}
	}
}

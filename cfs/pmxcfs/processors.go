package main

import (
	"os"
	"runtime"
)

// mostProcessors is how many processors the daemon ever uses at a time. Changes are
// made one after the other, so more would only serve readers.
const mostProcessors = 4

// boundProcessors leaves half of the node's processors, or more, to guests. It is
// also what makes the daemon cheap: a save goes through several goroutines, one after
// the other, and as long as a processor is idle Go wakes a thread for each of them,
// to find that there is nothing to do. With one processor of two, a save costs a fifth
// less. GOMAXPROCS in the environment is obeyed.
func boundProcessors() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(processors(runtime.NumCPU()))
	}
}

func processors(of int) int { return min(max(of/2, 1), mostProcessors) }

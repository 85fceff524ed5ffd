package main

// #include <malloc.h>
import "C"

// largeBlock is from which size on a block of C memory is mapped by itself and
// given back when it is freed.
const largeBlock = 128 << 10

// boundMalloc bounds the memory of SQLite, which Go's own limit knows nothing of.
// The runtime calls it from whatever thread is at hand, and the C library would
// give each an arena of its own, grown by the largest content it has met and
// never given back: 7 MB after some large saves. It must come before the first
// call.
func boundMalloc() {
	C.mallopt(C.M_ARENA_MAX, 1)
	C.mallopt(C.M_MMAP_THRESHOLD, largeBlock)
}

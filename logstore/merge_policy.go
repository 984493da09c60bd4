package logstore

// When segments are merged. An append-only store that is read once by a Scan
// has none to merge but what many short sessions, or many calls of Flush, left.

const (
	minMerge   = 64 // so many small segments are merged
	mergeRatio = 64 // between the sizes of the classes of small segments

	// A Get of a key reads a range of each segment, which costs as much as so
	// many bytes more.
	readCost = 16 << 10

	// mergedRange is about how long the ranges of a merged segment are.
	mergedRange = 32 << 10
	maxBits     = 16
)

// dueSmall reports whether there are many small segments at the end, and where
// they begin. Small ones are of three classes of size; those of one class are
// merged together with what is smaller, and make one of the next class, so that
// no byte is written more than once per class.
func dueSmall(sizes []int64, full int64, minCount int) (from int, due bool) {
	for _, c := range [][2]int64{{-1, full / mergeRatio / mergeRatio}, {full / mergeRatio / mergeRatio, full / mergeRatio}, {full / mergeRatio, full}} {
		from, count := len(sizes), 0
		for from > 0 && sizes[from-1] <= c[1] {
			from--
			if sizes[from] > c[0] {
				count++
			}
		}
		if count >= minCount {
			return from, true
		}
	}
	return 0, false
}

// worthForGets returns from where on merging segments gains most for its cost,
// and what must have been wasted by Gets before it is worth it: twice what is
// to be rewritten. So Gets never make the store write more than they read.
func worthForGets(sizes []int64) (from int, cost int64) {
	const minSegments = 4 // segments
	var sum int64
	best := -1.0
	for i := len(sizes) - 1; i >= 0; i-- {
		sum += sizes[i]
		n := len(sizes) - i
		if n < minSegments {
			continue
		}
		if perSegment := float64(sum) / float64(n-1); best < 0 || perSegment <= best {
			best, from, cost = perSegment, i, 2*sum+1<<20
		}
	}
	if best < 0 {
		return 0, 0
	}
	return from, cost
}

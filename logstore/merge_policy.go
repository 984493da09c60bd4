package logstore

// This file decides when to merge. In an append-only store that one Scan reads, merges
// are only needed for the segments of many short sessions or many calls of Flush.

const (
	minMerge   = 64 // number of small segments that makes a merge due
	mergeRatio = 64 // size ratio between classes of small segments

	// A Get reads one range of each segment. Each read costs as much as this many
	// additional bytes.
	readCost = 16 << 10

	// mergedRange is the approximate length of the ranges of a merged segment.
	mergedRange = 32 << 10
	maxBits     = 16
)

// dueSmall returns the index of the first segment to merge, if the list ends with many
// small segments. There are three size classes. Segments of one class are merged,
// together with smaller ones, into one segment of the next class. So each byte is
// rewritten at most once per class.
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

// worthForGets returns the index of the first segment of the merge with the best ratio of
// benefit to cost. It also returns the number of bytes that Gets must have wasted to
// justify the merge: twice the merge's size. So Gets never cause more writes than they
// read.
func worthForGets(sizes []int64) (from int, cost int64) {
	const minSegments = 4
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

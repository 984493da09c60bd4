package logstore

// This file decides when to merge segments. A merge speeds up Scans only if there are very many
// small segments, for example after many calls to Flush. It speeds up Gets more, because each Get
// reads all segments.

const (
	minMerge   = 64 // number of small segments at which a merge starts
	mergeRatio = 64 // size ratio between classes of small segments

	// readCost is the overhead of a read, expressed as the number of bytes that could be read in
	// the same time.
	readCost = 16 << 10

	// mergedRange is the approximate length of a range in a merged segment, in bytes.
	mergedRange = 32 << 10
	maxBits     = 16
)

// dueSmall divides small segments into three size classes. If the list ends with at least minCount
// segments of one class, it returns the index of the first segment to merge. Merging them, together
// with smaller segments, yields a segment of the next class, so each byte is rewritten at most once
// per class.
func dueSmall(sizes []int64, smallLen int64, minCount int) (first int, due bool) {
	medium := smallLen / mergeRatio
	tiny := medium / mergeRatio
	for _, class := range [][2]int64{{-1, tiny}, {tiny, medium}, {medium, smallLen}} {
		first, count := len(sizes), 0
		for first > 0 && sizes[first-1] <= class[1] {
			first--
			if sizes[first] > class[0] {
				count++
			}
		}
		if count >= minCount {
			return first, true
		}
	}
	return 0, false
}

// bestMergeForGets returns the merge that speeds up Gets the most for its size: the merge of all
// segments from first on. cost is the number of bytes that Gets must have wasted to justify the
// merge: about twice the merge's size, so that Gets never cause more writes than reads. cost is 0
// if there are too few segments.
func bestMergeForGets(sizes []int64) (first int, cost int64) {
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
			best, first, cost = perSegment, i, 2*sum+1<<20
		}
	}
	if best < 0 {
		return 0, 0
	}
	return first, cost
}

const maxMerged = 2 << 30 // offsets in a segment must fit into 32 bits

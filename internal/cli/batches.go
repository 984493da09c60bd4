package cli

import (
	"iter"

	"github.com/go-partd/partd"
)

const (
	maxEntries = 32 << 10 // that are appended at once
	entryCost  = 24       // bytes that a store notes of an entry, beside its key and value
)

// maxBatch is how many bytes are appended at once to a store that has so much
// memory. A log store makes segments of its own of what is more than a 32nd of
// its memory, with a head; thousands of small ones take many times the work.
func maxBatch(memory int64) int { return int(memory / 64) }

// batches divides entries into those to append at once. An entry larger than
// limit is alone.
func batches(entries []partd.Entry, limit int) iter.Seq[[]partd.Entry] {
	return func(yield func([]partd.Entry) bool) {
		first, size := 0, 0
		for i := range entries {
			cost := len(entries[i].Key) + len(entries[i].Value) + entryCost
			if i > first && (size+cost > limit || i-first == maxEntries) {
				if !yield(entries[first:i]) {
					return
				}
				first, size = i, 0
			}
			size += cost
		}
		if first < len(entries) {
			yield(entries[first:])
		}
	}
}

package partd

import "iter"

// Batcher is a store for which very small and very large appends cost more than those in
// between.
type Batcher interface {
	// BatchBytes returns how much one Append should have at most.
	BatchBytes() int
}

// What one append has at most to a store that is no Batcher, in bytes, and to any store,
// in entries.
const (
	defaultBatch    = 4 << 20
	maxBatchEntries = 32 << 10
	entryCost       = 24 // bytes that a store notes of an entry, beside its key and value
)

// BatchBytes returns how much one Append to a store should have at most, as its
// [Batcher] says, or that of a store beneath.
func BatchBytes(store Partd) int {
	for s := range Layers(store) {
		if b, ok := s.(Batcher); ok {
			return b.BatchBytes()
		}
	}
	return defaultBatch
}

// Batches divides entries into batches of at most so many bytes, counting what a store
// adds to each entry. A larger entry is a batch of its own.
func Batches(entries []Entry, bytes int) iter.Seq[[]Entry] {
	return func(yield func([]Entry) bool) {
		first, size := 0, 0
		for i := range entries {
			cost := len(entries[i].Key) + len(entries[i].Value) + entryCost
			if i > first && (size+cost > bytes || i-first == maxBatchEntries) {
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

package logstore

import (
	"cmp"
	"math/bits"
	"slices"

	"github.com/go-partd/partd/internal/engine/segment"
)

// entryRef refers to a loaded entry. It contains everything that sorting and copying need.
type entryRef struct {
	hash       uint64
	keyAndKind uint32 // offset of the key << 2 | kind of the entry
	keyLen     uint16
	valueLen   uint16
}

const (
	entryRefLen    = 16
	maxEntryOffset = 1<<30 - 1 // maximum offset of a key in an entryRef
)

func (r *entryRef) kind() segment.Kind { return segment.Kind(r.keyAndKind & 3) }

func (r *entryRef) key(data []byte) []byte {
	start := int(r.keyAndKind >> 2)
	return data[start : start+int(r.keyLen)]
}

func (r *entryRef) value(data []byte) []byte {
	start := int(r.keyAndKind>>2) + int(r.keyLen)
	return data[start : start+int(r.valueLen)]
}

// sortByHash stably sorts refs, whose hashes must be in r, by hash. spare and counts are scratch
// space; spare must be as long as refs. It returns the slice with the result and the other slice.
//
// Two radix passes sort by the leading bits. After that, only entries with equal leading bits can
// be out of order.
func sortByHash(refs, spare []entryRef, r hashRange, counts *[2][1 << maxDigitBits]uint32) (sorted, other []entryRef) {
	digitBits := min(max((bits.Len(uint(len(refs)))+4)/2, 4), maxDigitBits)
	shift := max(bits.Len64(r.hi-r.lo)-2*digitBits, 0)
	mask := uint64(1)<<digitBits - 1
	for i := range counts {
		clear(counts[i][:mask+1])
	}
	for i := range refs {
		lead := (refs[i].hash - r.lo) >> shift
		counts[0][lead&mask]++
		counts[1][lead>>digitBits&mask]++
	}
	for pass := range counts {
		c := &counts[pass]
		var pos uint32
		for i := range c[:mask+1] {
			c[i], pos = pos, pos+c[i]
		}
		passShift := shift + pass*digitBits
		for i := range refs {
			d := (refs[i].hash - r.lo) >> passShift & mask & (1<<maxDigitBits - 1)
			spare[c[d]] = refs[i]
			c[d]++
		}
		refs, spare = spare, refs
	}
	sortLowBits(refs, r.lo, shift)
	return refs, spare
}

const maxDigitBits = 11 // maximum size of a digit of the radix sort

// sortLowBits sorts refs by hash. They must already be sorted by (hash-lo) >> shift.
func sortLowBits(refs []entryRef, lo uint64, shift int) {
	for i := 1; i < len(refs); i++ {
		if refs[i].hash >= refs[i-1].hash {
			continue
		}
		lead := (refs[i].hash - lo) >> shift
		first, end := i, i+1
		for first > 0 && (refs[first-1].hash-lo)>>shift == lead {
			first--
		}
		for end < len(refs) && (refs[end].hash-lo)>>shift == lead {
			end++
		}
		slices.SortStableFunc(refs[first:end], func(a, b entryRef) int { return cmp.Compare(a.hash, b.hash) })
		i = end - 1
	}
}

// grouping groups a worker's loaded entries by key. It sorts references to the entries by hash.
// Sorting was faster than a hash table in benchmarks and makes the order of keys depend only on
// their hashes.
type grouping struct {
	loaded    []byte
	interval  hashRange // range of the loaded hashes
	truncated bool      // the interval has more entries than were loaded; the last loaded entry may be incomplete

	refs, spare []entryRef
	counts      [2][1 << maxDigitBits]uint32
}

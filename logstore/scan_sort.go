package logstore

import (
	"cmp"
	"math/bits"
	"slices"

	"github.com/go-partd/partd/internal/segment"
)

// entryRef refers to an entry that was loaded, and says what ordering and copying
// it needs, in 16 bytes.
type entryRef struct {
	hash     uint64
	at       uint32 // where the key begins << 2 | kind of the entry
	keyLen   uint16
	valueLen uint16
}

const (
	entryRefLen = 16
	maxEntryAt  = 1<<30 - 1 // a larger place does not fit into a reference
)

func (r *entryRef) kind() segment.Kind { return segment.Kind(r.at & 3) }

func (r *entryRef) key(data []byte) []byte {
	at := int(r.at >> 2)
	return data[at : at+int(r.keyLen)]
}

func (r *entryRef) value(data []byte) []byte {
	at := int(r.at>>2) + int(r.keyLen)
	return data[at : at+int(r.valueLen)]
}

// sortByHash sorts references whose hashes are in a range, and leaves those of the
// same hash in their order. It returns the sorted one of two slices of equal length,
// of which the first was given filled, and the other.
//
// Two passes by radix cover the bits in which hashes mostly differ. The few that
// are still out of order are among others of the same leading bits.
func sortByHash(refs, spare []entryRef, r hashRange, counts *[2][1 << maxDigit]uint32) (sorted, other []entryRef) {
	digit := min(max((bits.Len(uint(len(refs)))+4)/2, 4), maxDigit)
	shift := max(bits.Len64(r.hi-r.lo)-2*digit, 0)
	mask := uint64(1)<<digit - 1
	for i := range counts {
		clear(counts[i][:mask+1])
	}
	for i := range refs {
		lead := (refs[i].hash - r.lo) >> shift
		counts[0][lead&mask]++
		counts[1][lead>>digit&mask]++
	}
	for pass := range counts {
		c := &counts[pass]
		var at uint32
		for i := range c[:mask+1] {
			c[i], at = at, at+c[i]
		}
		by := shift + pass*digit
		for i := range refs {
			d := (refs[i].hash - r.lo) >> by & mask & (1<<maxDigit - 1)
			spare[c[d]] = refs[i]
			c[d]++
		}
		refs, spare = spare, refs
	}
	sortWithin(refs, r.lo, shift)
	return refs, spare
}

// maxDigit is the most bits that a pass by radix sorts by.
const maxDigit = 11

// sortWithin sorts references that are in order but for the lowest bits of what
// their hashes are above lo.
func sortWithin(refs []entryRef, lo uint64, shift int) {
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

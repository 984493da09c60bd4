// Package appendload generates entries for benchmarks of stores and adapts the stores to one interface.
package appendload

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"time"
	"unsafe"

	"github.com/go-partd/partd"
)

// Load describes the entries of a run. The number of an entry determines its key and its value.
// The value begins with the number, so it can be checked without keeping the entries.
type Load struct {
	Keys    uint64 // number of distinct keys
	Entries uint64
	Value   int // bytes per value
	Batch   int // entries per append
	dist    string
	pattern []byte  // pseudorandom bytes; each value is a piece of it
	lnKeys  float64 // ln(keys + 1)
}

const (
	keyLen     = 11
	patternLen = 1 << 20
	Dists      = "uniform, zipf, or hot (half of the entries have one key)"
)

func NewLoad(keys, entries uint64, value, batch int, dist string) (*Load, error) {
	if keys == 0 || entries == 0 || value < 8 || batch < 1 {
		return nil, fmt.Errorf("--keys, --batch and the number of entries must be at least 1, and --value at least 8")
	}
	if dist != "uniform" && dist != "zipf" && dist != "hot" {
		return nil, fmt.Errorf("unknown distribution %q: use %s", dist, Dists)
	}
	l := &Load{Keys: keys, Entries: entries, Value: value, Batch: batch, dist: dist, lnKeys: math.Log(float64(keys) + 1)}
	l.pattern = make([]byte, patternLen+value)
	for i := 0; i+8 <= len(l.pattern); i += 8 {
		binary.LittleEndian.PutUint64(l.pattern[i:], mix(uint64(i)))
	}
	return l, nil
}

// mix is the finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
func mix(x uint64) uint64 {
	x += 0x9E3779B97F4A7C15
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	return x ^ x>>31
}

// keyOf returns the index of the key that entry number i has.
func (l *Load) keyOf(i uint64) uint64 {
	u := mix(i)
	switch l.dist {
	case "zipf": // exponent 1, approximated by the inverse of the continuous distribution function
		return min(uint64(math.Exp(float64(u>>11)/(1<<53)*l.lnKeys))-1, l.Keys-1)
	case "hot":
		if u&1 == 0 {
			return 0
		}
	}
	return uint64(float64(u>>11) / (1 << 53) * float64(l.Keys))
}

// putKey writes the key with the given index, which has keyLen bytes, to b.
func putKey(b []byte, index uint64) {
	const digits = "0123456789abcdefghijklmnopqrstuv"
	x := index * 0x9E3779B97F4A7C15 // the factor is odd, so each index has a different product
	b[0] = 'k'
	for j := 1; j < keyLen; j++ {
		b[j] = digits[x>>59]
		x <<= 5
	}
	// The 10 digits above do not contain the low 14 bits of the product, so two keys could be
	// equal. The index in the last 5 digits makes all keys distinct.
	for j := range 5 {
		b[keyLen-1-j] = digits[index>>(5*j)&31]
	}
}

// Written holds the durations that Write measured.
type Written struct {
	Total     time.Duration // time to generate, append and flush all entries
	Appending time.Duration // Total without the time to generate entries
	P99, Max  time.Duration // latencies of appends
}

// Write appends all entries to t and flushes it.
func (l *Load) Write(t Target) (w Written, err error) {
	f := l.newFiller()
	times := make([]time.Duration, 0, l.Entries/uint64(l.Batch)+1)
	start := time.Now()
	var filling time.Duration
	for i := uint64(0); i < l.Entries; i += uint64(l.Batch) {
		fillStart := time.Now()
		batch := f.fill(i)
		appendStart := time.Now()
		if err := t.Append(batch); err != nil {
			return w, err
		}
		filling += appendStart.Sub(fillStart)
		times = append(times, time.Since(appendStart))
	}
	if err := t.Flush(); err != nil {
		return w, err
	}
	w.Total = time.Since(start)
	w.Appending = w.Total - filling
	slices.Sort(times)
	w.P99, w.Max = times[len(times)*99/100], times[len(times)-1]
	return w, nil
}

// filler generates batches. All batches use the same memory.
type filler struct {
	l       *Load
	keys    []byte
	values  []byte
	entries []partd.Entry
}

func (l *Load) newFiller() *filler {
	return &filler{l: l, keys: make([]byte, l.Batch*keyLen), values: make([]byte, l.Batch*l.Value), entries: make([]partd.Entry, l.Batch)}
}

// fill returns the batch that begins with entry number firstEntry. The batch is valid until the
// next call.
func (f *filler) fill(firstEntry uint64) []partd.Entry {
	l := f.l
	n := int(min(uint64(l.Batch), l.Entries-firstEntry))
	for j := range n {
		i := firstEntry + uint64(j)
		k := f.keys[j*keyLen : (j+1)*keyLen]
		putKey(k, l.keyOf(i))
		v := f.values[j*l.Value : (j+1)*l.Value]
		binary.LittleEndian.PutUint64(v, i)
		copy(v[8:], l.patternOf(i))
		f.entries[j] = partd.Entry{Key: unsafe.String(&k[0], keyLen), Value: v}
	}
	return f.entries[:n]
}

func (l *Load) patternOf(i uint64) []byte {
	offset := mix(i^0x5555) & (patternLen - 1)
	return l.pattern[offset : int(offset)+l.Value-8]
}

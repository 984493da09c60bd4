package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"unsafe"

	"github.com/go-partd/partd"
)

// load describes the entries of a run. The number of an entry determines its key and its value.
// The value begins with the number, so it can be checked without keeping the entries.
type load struct {
	keys    uint64 // number of distinct keys
	entries uint64
	value   int // bytes of a value
	batch   int // entries per append
	dist    string
	pattern []byte  // pseudorandom bytes, from which values are cut
	lnKeys  float64 // ln(keys + 1)
}

const (
	keyLen     = 11
	patternLen = 1 << 20
	dists      = "uniform, zipf, or hot (half of the entries have one key)"
)

func newLoad(keys, entries uint64, value, batch int, dist string) (*load, error) {
	if keys == 0 || entries == 0 || value < 8 || batch < 1 {
		return nil, fmt.Errorf("--keys, --batch and the number of entries must be at least 1, and --value at least 8")
	}
	if dist != "uniform" && dist != "zipf" && dist != "hot" {
		return nil, fmt.Errorf("unknown distribution %q: use %s", dist, dists)
	}
	l := &load{keys: keys, entries: entries, value: value, batch: batch, dist: dist, lnKeys: math.Log(float64(keys) + 1)}
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

// keyOf returns the index of the key of entry number i.
func (l *load) keyOf(i uint64) uint64 {
	u := mix(i)
	switch l.dist {
	case "zipf": // exponent 1, approximated by the inverse of the continuous distribution function
		return min(uint64(math.Exp(float64(u>>11)/(1<<53)*l.lnKeys))-1, l.keys-1)
	case "hot":
		if u&1 == 0 {
			return 0
		}
	}
	return uint64(float64(u>>11) / (1 << 53) * float64(l.keys))
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

// filler generates batches. All batches use the same memory.
type filler struct {
	l       *load
	keys    []byte
	values  []byte
	entries []partd.Entry
}

func (l *load) newFiller() *filler {
	return &filler{l: l, keys: make([]byte, l.batch*keyLen), values: make([]byte, l.batch*l.value), entries: make([]partd.Entry, l.batch)}
}

// fill returns the batch that begins with entry number firstEntry. The batch is valid until the
// next call.
func (f *filler) fill(firstEntry uint64) []partd.Entry {
	l := f.l
	n := int(min(uint64(l.batch), l.entries-firstEntry))
	for j := range n {
		i := firstEntry + uint64(j)
		k := f.keys[j*keyLen : (j+1)*keyLen]
		putKey(k, l.keyOf(i))
		v := f.values[j*l.value : (j+1)*l.value]
		binary.LittleEndian.PutUint64(v, i)
		copy(v[8:], l.patternOf(i))
		f.entries[j] = partd.Entry{Key: unsafe.String(&k[0], keyLen), Value: v}
	}
	return f.entries[:n]
}

func (l *load) patternOf(i uint64) []byte {
	offset := mix(i^0x5555) & (patternLen - 1)
	return l.pattern[offset : int(offset)+l.value-8]
}

// checker compares the values read with the values written.
type checker struct {
	l        *load
	count    uint64
	keys     uint64
	key      string
	previous uint64 // number of the key's previous entry, plus one; 0 if there is none
	carry    []byte // the beginning of a value whose end has not been read yet
	want     [keyLen]byte
}

func (c *checker) beginKey(key string) error {
	if len(c.carry) > 0 {
		return fmt.Errorf("key %q ends in the middle of a value", c.key)
	}
	c.key, c.previous = key, 0
	c.keys++
	return nil
}

// checkBytes checks b, the next bytes of the value of c.key.
func (c *checker) checkBytes(b []byte) error {
	if len(c.carry) > 0 {
		n := min(c.l.value-len(c.carry), len(b))
		c.carry = append(c.carry, b[:n]...)
		b = b[n:]
		if len(c.carry) < c.l.value {
			return nil
		}
		if err := c.checkPiece(c.carry); err != nil {
			return err
		}
		c.carry = c.carry[:0]
	}
	for ; len(b) >= c.l.value; b = b[c.l.value:] {
		if err := c.checkPiece(b[:c.l.value]); err != nil {
			return err
		}
	}
	c.carry = append(c.carry, b...)
	return nil
}

func (c *checker) checkPiece(b []byte) error {
	i := binary.LittleEndian.Uint64(b)
	if i >= c.l.entries || i+1 <= c.previous {
		return fmt.Errorf("key %q: entry %d after entry %d", c.key, i, int64(c.previous)-1)
	}
	putKey(c.want[:], c.l.keyOf(i))
	if string(c.want[:]) != c.key {
		return fmt.Errorf("entry %d of key %q is stored under key %q", i, c.want[:], c.key)
	}
	if !bytes.Equal(b[8:], c.l.patternOf(i)) {
		return fmt.Errorf("key %q: the value of entry %d differs from the value that was written", c.key, i)
	}
	c.previous = i + 1
	c.count++
	return nil
}

// finish returns an error unless all entries were read. No entry can have been read twice,
// because the entries of each key were in order.
func (c *checker) finish() error {
	if len(c.carry) > 0 || c.count != c.l.entries {
		return fmt.Errorf("found %d of %d entries", c.count, c.l.entries)
	}
	return nil
}

package extsort

import (
	"bytes"
	"encoding/binary"
	"math"

	"github.com/go-partd/partd/internal/engine/spill"
)

// merger merges cursors with a tournament tree. In a match of two cursors, the one with the smaller
// record wins and plays the next match. The codes decide most matches without comparing keys
// (offset-value coding: Conner, 1977; Do and Graefe, 2022).
type merger struct {
	cursors []*cursor
	codes   []code  // code of each cursor's key, relative to the last key that beat it
	tree    []int32 // tree[1:] holds the loser of each match, as an index in cursors
	winner  int32
	started bool
}

// newMerger returns a merger of cursors. Records with equal keys keep their cursors' order.
func newMerger(cursors []*cursor) (*merger, error) {
	m := &merger{cursors: cursors, codes: make([]code, len(cursors)), tree: make([]int32, len(cursors))}
	for i, c := range cursors {
		if err := c.next(); err != nil {
			return nil, err
		}
		m.codes[i] = c.code
	}
	if len(cursors) > 0 {
		m.winner = m.playAll(1)
	}
	return m, nil
}

// playAll plays all matches at and below a node of the tree for the first time. It returns the
// winner. Node len(cursors)+i is the leaf of cursor i.
func (m *merger) playAll(node int) int32 {
	if node >= len(m.cursors) {
		return int32(node - len(m.cursors))
	}
	a, b := m.playAll(2*node), m.playAll(2*node+1)
	if m.beats(b, a) {
		a, b = b, a
	}
	m.tree[node] = b
	return a
}

// beats reports whether the record of cursor a comes before the record of cursor b. It sets the
// loser's code relative to the winner's key.
func (m *merger) beats(a, b int32) bool {
	x, y := m.codes[a], m.codes[b]
	switch {
	case x.common != y.common:
		return x.common > y.common
	case x.word != y.word:
		return x.word < y.word
	case x.common == noRecord || x.common == wholeKey:
		return a < b
	case x.common == zerosFollow: // both keys are the base key followed by the same number of zero bytes
		m.codes[max(a, b)] = code{wholeKey, 0}
		return a < b
	}
	ka, kb := m.cursors[a].key, m.cursors[b].key
	from := min(8*x.common, len(ka), len(kb))
	d := bytes.Compare(ka[from:], kb[from:])
	if d < 0 || d == 0 && a < b {
		m.codes[b] = codeOf(kb, ka, from/8)
		return true
	}
	m.codes[a] = codeOf(ka, kb, from/8)
	return false
}

// next returns the next record, or nil after the last one. sameKey reports whether h has the same
// key as the previous record.
func (m *merger) next() (h *head, sameKey bool, err error) {
	if len(m.cursors) == 0 {
		return nil, false, nil
	}
	if m.started {
		c := m.cursors[m.winner]
		if err := c.next(); err != nil {
			return nil, false, err
		}
		// A winner whose next record has the same key wins again.
		if c.common == wholeKey {
			return &c.head, true, nil
		}
		m.codes[m.winner] = c.code
		m.replay()
	}
	m.started = true
	c := m.cursors[m.winner]
	if c.common == noRecord {
		return nil, false, nil
	}
	return &c.head, m.codes[m.winner].common == wholeKey, nil
}

func (m *merger) replay() {
	w := m.winner
	for node := (int(w) + len(m.cursors)) / 2; node > 0; node /= 2 {
		if c := m.tree[node]; m.beats(c, w) {
			m.tree[node], w = w, c
		}
	}
	m.winner = w
}

// head is the current record of a cursor.
type head struct {
	code
	key []byte
	rec []byte
}

// code describes where a key differs from a base key, which is smaller or equal. Keys are compared
// as eight-byte words, padded with zeros. Of two keys with the same base, the key with more common
// words is smaller. If both have the same number of common words, the key with the smaller word is
// smaller.
type code struct {
	common int    // number of leading words that equal the base's
	word   uint64 // next word of the key
}

const (
	noRecord    = -1              // the cursor has no more records
	zerosFollow = math.MaxInt - 1 // the key is the base followed by zeros; word is the key's length
	wholeKey    = math.MaxInt     // the key equals the base
)

// codeOf returns the code of key relative to base. common is a number of leading words that
// are known to be equal.
func codeOf(key, base []byte, common int) code {
	i := 8 * common
	if i == 0 { // fast path: the first word decides most comparisons
		w := prefixOf(key)
		switch {
		case w != prefixOf(base):
			return code{0, w}
		case len(key) > 8 || len(base) > 8:
			i = 8
		case len(key) == len(base):
			return code{wholeKey, 0}
		default:
			return code{zerosFollow, uint64(len(key))}
		}
	}
	for shorter := min(len(key), len(base)); i+8 <= shorter; i += 8 {
		if w := binary.BigEndian.Uint64(key[i:]); w != binary.BigEndian.Uint64(base[i:]) {
			return code{i / 8, w}
		}
	}
	for ; i < max(len(key), len(base)); i += 8 {
		if w := prefixOf(key[min(i, len(key)):]); w != prefixOf(base[min(i, len(base)):]) {
			return code{i / 8, w}
		}
	}
	if len(key) == len(base) {
		return code{wholeKey, 0}
	}
	return code{zerosFollow, uint64(len(key))}
}

// cursor iterates over the sorted records of a slot or a run. Its head is valid until the next
// call to next.
type cursor struct {
	head
	seq int64 // seq of the slot or run

	slot      *slot // nil if the records are in a run
	nextEntry int   // index of the next entry
	sink      byte  // sum of prefetched bytes, computed so that the compiler keeps the reads

	reader  blockReader
	block   []byte // unread bytes of the current block
	started bool
}

// next advances to the next record. It sets the record's code relative to the previous key, or
// to an empty key for the first record.
func (c *cursor) next() error {
	if c.slot == nil {
		return c.nextInRun()
	}
	if c.nextEntry == len(c.slot.entries) {
		c.code = code{noRecord, 0}
		return nil
	}
	if c.nextEntry%prefetchBatch == 0 {
		c.sink += prefetch(c.slot.mem, c.slot.entries[c.nextEntry:min(c.nextEntry+prefetchBatch, len(c.slot.entries))])
	}
	e := c.slot.entries[c.nextEntry]
	c.nextEntry++
	k, rec := recordOf(c.slot.mem, e)
	if c.nextEntry == 1 {
		c.code = code{0, prefixOf(k)}
	} else {
		c.code = codeOf(k, c.key, 0)
	}
	c.key, c.rec = k, rec
	return nil
}

// blockReader reads the blocks of a run or of an input that is sorted already.
type blockReader interface {
	// nextBlock returns the next block, or nil after the last one. When the caller no longer needs the previous block, it
	// must call fetchNext, which overwrites that block.
	nextBlock() ([]byte, error)
	fetchNext()
}

const prefetchBatch = 32 // number of records to prefetch together

// prefetch reads a byte in each of the first three cache lines of some records, so that the
// processor fetches all these lines at the same time.
func prefetch(mem []byte, entries []Entry) (sum byte) {
	for _, e := range entries {
		pos := int(e.Ref >> refLen)
		sum += mem[pos] + mem[pos+64] + mem[pos+128] // in range: entries follow the records in mem
	}
	return sum
}

// nextInRun reads the next record from a run; run.add defines the format.
func (c *cursor) nextInRun() error {
	isNew := len(c.block) == 0
	if isNew {
		var err error
		c.block, err = c.reader.nextBlock()
		if err != nil || c.block == nil {
			c.code = code{noRecord, 0}
			return err
		}
	}
	b := c.block
	n, l := uvarint(b)
	b = b[l:]
	c.code = code{wholeKey, 0}
	if n&1 == 0 {
		keyLen, l := uvarint(b)
		if l+keyLen > len(b) {
			return spill.ErrDamaged
		}
		key := b[l : l+keyLen : l+keyLen]
		if c.started {
			c.code = codeOf(key, c.key, 0)
		} else {
			c.started = true
			c.code = code{0, prefixOf(key)}
		}
		c.key, b = key, b[l+keyLen:]
	}
	if isNew {
		c.reader.fetchNext() // overwrites the previous block, which held the previous key
	}
	n >>= 1
	if n > len(b) {
		return spill.ErrDamaged
	}
	c.rec, c.block = b[:n:n], b[n:]
	if next := c.block; len(next) > 128 {
		c.sink += next[64] + next[128]
	}
	return nil
}

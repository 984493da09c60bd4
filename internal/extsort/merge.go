package extsort

import (
	"bytes"
	"encoding/binary"
	"math"

	"github.com/go-partd/partd/internal/spill"
)

// merger merges cursors with a tree of losers: tree[1:] holds the loser of each match, and
// the winner moves up to the next match. Each cursor on the last winner's path has a code:
// the position where its key differs from the last winner's key. The codes decide most
// matches without comparing keys (offset-value coding: Conner, 1977; Do and Graefe, 2022).
type merger struct {
	cursors []*cursor
	codes   []code // one for each cursor
	tree    []int32
	winner  int32
	started bool
}

// newMerger returns a merger of cursors. Equal keys come in the order of their cursors.
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

// playAll plays all matches below a node for the first time, and returns the winner. Nodes
// from len(cursors) on are the cursors themselves.
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

// beats reports whether the record of cursor a comes before that of b. The code of the
// later one then refers to the key of the earlier one.
func (m *merger) beats(a, b int32) bool {
	x, y := m.codes[a], m.codes[b]
	switch {
	case x.common != y.common:
		return x.common > y.common
	case x.word != y.word:
		return x.word < y.word
	case x.common == ended || x.common == wholeKey:
		return a < b
	case x.common == longer: // longer by the same number of zeros
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

// next returns the next record, and reports whether its key equals the previous key. It
// returns nil after the last record.
func (m *merger) next() (h *head, sameKey bool, err error) {
	if len(m.cursors) == 0 {
		return nil, false, nil
	}
	if m.started {
		c := m.cursors[m.winner]
		if err := c.next(); err != nil {
			return nil, false, err
		}
		// A record with the winner's key needs no match: the winner stays the winner.
		if c.common == wholeKey {
			return &c.head, true, nil
		}
		m.codes[m.winner] = c.code
		m.replay()
	}
	m.started = true
	c := m.cursors[m.winner]
	if c.common == ended {
		return nil, false, nil
	}
	return &c.head, m.codes[m.winner].common == wholeKey, nil
}

// replay replays the matches of the last winner.
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

// code describes where a key differs from an earlier or equal key. common is the number of
// eight-byte words that both share, with missing bytes as zeros. word is the next word of
// the later key. Of two codes that refer to the same key, the code with more common words
// belongs to the smaller key. If both have as many, the smaller word decides.
type code struct {
	common int
	word   uint64
}

const (
	ended    = -1              // there are no more records
	longer   = math.MaxInt - 1 // the key is the earlier one plus zeros; word is its length
	wholeKey = math.MaxInt
)

// codeOf returns the code of key relative to before. Both share at least common words.
func codeOf(key, before []byte, common int) code {
	i := 8 * common
	for shorter := min(len(key), len(before)); i+8 <= shorter; i += 8 {
		if w := binary.BigEndian.Uint64(key[i:]); w != binary.BigEndian.Uint64(before[i:]) {
			return code{i / 8, w}
		}
	}
	for ; i < max(len(key), len(before)); i += 8 {
		if w := prefixOf(key[min(i, len(key)):]); w != prefixOf(before[min(i, len(before)):]) {
			return code{i / 8, w}
		}
	}
	if len(key) == len(before) {
		return code{wholeKey, 0}
	}
	return code{longer, uint64(len(key))}
}

// cursor walks the sorted records of a slot or a run. Its head is valid until the next
// call of next.
type cursor struct {
	head
	seq int64 // seq of its first slot

	m    *slot // nil if the records are in a run
	i    int   // entries already read
	sink byte  // uses prefetched bytes, so that the compiler keeps the reads

	r     *runReader
	block []byte // the unread part
	begun bool   // a record was read
}

// next advances to the next record. The record's code refers to the previous key; that of
// the first record refers to an empty key.
func (c *cursor) next() error {
	if c.m == nil {
		return c.nextOfRun()
	}
	if c.i == len(c.m.entries) {
		c.code = code{ended, 0}
		return nil
	}
	if c.i%touchBatch == 0 {
		c.sink += touchAll(c.m.mem, c.m.entries[c.i:min(c.i+touchBatch, len(c.m.entries))])
	}
	e := c.m.entries[c.i]
	c.i++
	k, rec := recordOf(c.m.mem, e)
	if c.i == 1 {
		c.code = code{0, prefixOf(k)}
	} else {
		c.code = codeOf(k, c.key, 0)
	}
	c.key, c.rec = k, rec
	return nil
}

// touchBatch is the number of records of a slot that are touched together.
const touchBatch = 32

// touchAll reads a byte of each of the first three cache lines of some records, which may be
// anywhere in memory. So the processor fetches all of them at the same time.
func touchAll(mem []byte, entries []entry) (sum byte) {
	for _, e := range entries {
		pos := int(e.ref >> refLen)
		sum += mem[pos] + mem[pos+64] + mem[pos+128] // in range, because entries follow the records
	}
	return sum
}

// nextOfRun reads the next record of a block as written by run.add. That is twice the
// length of the record, plus one if the key equals the previous key; otherwise the length
// of the key and the key; then the record.
func (c *cursor) nextOfRun() error {
	isNew := len(c.block) == 0
	if isNew {
		var err error
		if c.block, err = c.r.nextBlock(); err != nil || c.block == nil {
			c.code = code{ended, 0}
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
		if c.begun {
			c.code = codeOf(key, c.key, 0)
		} else {
			c.begun = true
			c.code = code{0, prefixOf(key)}
		}
		c.key, b = key, b[l+keyLen:]
	}
	if isNew {
		c.r.fetchNext() // the previous key, in the previous block, is no longer needed
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

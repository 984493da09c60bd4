package extsort

import (
	"bytes"
	"encoding/binary"
	"math"

	"github.com/go-partd/partd/internal/spill"
)

// merger merges cursors, with a tree of losers: tree[1:] holds the loser of each
// match, and the winner goes on to the next. Each cursor on the winner's way up has a
// code that says where its key leaves the key of the last winner, so that most matches
// are decided without a look at the keys (offset-value coding: Conner, 1977; Do and
// Graefe, 2022).
type merger struct {
	cursors []*cursor
	codes   []code // of each cursor
	tree    []int32
	winner  int32
	started bool
}

// newMerger merges cursors. Of equal keys, those of an earlier cursor come first.
func newMerger(cursors []*cursor) (*merger, error) {
	m := &merger{cursors: cursors, codes: make([]code, len(cursors)), tree: make([]int32, len(cursors))}
	for i, c := range cursors {
		if err := c.next(); err != nil {
			return nil, err
		}
		m.codes[i] = c.code
	}
	if len(cursors) > 0 {
		m.winner = m.play(1)
	}
	return m, nil
}

// play plays all matches beneath a node for the first time, and returns the
// winner. Nodes from len(cursors) on are the cursors themselves.
func (m *merger) play(node int) int32 {
	if node >= len(m.cursors) {
		return int32(node - len(m.cursors))
	}
	a, b := m.play(2*node), m.play(2*node+1)
	if m.beats(b, a) {
		a, b = b, a
	}
	m.tree[node] = b
	return a
}

// beats reports whether the record of cursor a comes before that of b. The code of the
// one that comes later is then by the key of the other.
func (m *merger) beats(a, b int32) bool {
	x, y := m.codes[a], m.codes[b]
	switch {
	case x.common != y.common:
		return x.common > y.common
	case x.word != y.word:
		return x.word < y.word
	case x.common == ended || x.common == wholeKey:
		return a < b
	case x.common == longer: // by as many zeros
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

// next returns the next record, and whether its key is that of the one before;
// nil after the last.
func (m *merger) next() (h *head, same bool, err error) {
	if len(m.cursors) == 0 {
		return nil, false, nil
	}
	if m.started {
		c := m.cursors[m.winner]
		if err := c.next(); err != nil {
			return nil, false, err
		}
		// What was the first of its key is so still.
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

// replay plays the matches of the last winner again.
func (m *merger) replay() {
	w := m.winner
	for node := (int(w) + len(m.cursors)) / 2; node > 0; node /= 2 {
		if c := m.tree[node]; m.beats(c, w) {
			m.tree[node], w = w, c
		}
	}
	m.winner = w
}

// head is the record at which a cursor is.
type head struct {
	code
	key []byte
	rec []byte
}

// code says where a key leaves one that is not after it: how many words of eight bytes they
// have in common, with zeros for bytes that one lacks, and the next word. Of two keys with
// codes by the same one, the one with more in common comes first, and of those with as many
// words the one with the lesser next word.
type code struct {
	common int
	word   uint64
}

const (
	ended    = -1              // there is no record
	longer   = math.MaxInt - 1 // zeros alone are more; word is the length
	wholeKey = math.MaxInt
)

// codeOf returns the code of a key by another, which is the same in so many words at least.
func codeOf(key, before []byte, common int) code {
	i := 8 * common
	for both := min(len(key), len(before)); i+8 <= both; i += 8 {
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

// cursor walks sorted records: those of a slot, or those of a run. What its
// head holds is valid until the next step.
type cursor struct {
	head
	seq int64 // of its first slot

	m    *slot // nil if it is of a run
	i    int   // entries passed
	sink byte  // of what is touched, so that it is

	r     *runReader
	block []byte // what is left of it
	begun bool   // there was a record
}

// next goes on to the next record, if there is one. Its code is by the key before, and for the
// first by none.
func (c *cursor) next() error {
	if c.m == nil {
		return c.nextOfRun()
	}
	if c.i == len(c.m.entries) {
		c.code = code{ended, 0}
		return nil
	}
	if c.i%ahead == 0 {
		c.sink += touch(c.m.mem, c.m.entries[c.i:min(c.i+ahead, len(c.m.entries))])
	}
	e := c.m.entries[c.i]
	c.i++
	k, rec := record(c.m.mem, e)
	if c.i == 1 {
		c.code = code{0, prefixOf(k)}
	} else {
		c.code = codeOf(k, c.key, 0)
	}
	c.key, c.rec = k, rec
	return nil
}

// ahead is how many records of a slot are touched together.
const ahead = 32

// touch reads a byte of each of the first three cache lines of records that lie
// anywhere, so that the processor waits for all of them at once.
func touch(mem []byte, entries []entry) (sum byte) {
	for _, e := range entries {
		at := int(e.ref >> refLen)
		sum += mem[at] + mem[at+64] + mem[at+128] // there are entries behind the records
	}
	return sum
}

// nextOfRun reads the next record of a block as run.add wrote it: twice the
// length of the record, plus one if the key is the same as before; otherwise the
// length of the key and the key; the record.
func (c *cursor) nextOfRun() error {
	fresh := len(c.block) == 0
	if fresh {
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
	if fresh {
		c.r.ask() // the key before was in the block before
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

package extsort

import (
	"bytes"

	"github.com/go-partd/partd/internal/spill"
)

// head is the record at which a cursor is.
type head struct {
	prefix uint64 // of the key, as prefixOf makes it
	key    []byte
	rec    []byte
	same   bool // the key is that of the record before, of this cursor
}

// cursor walks sorted records: those of a slot, or those of a run. What its
// head holds is valid until the next step.
type cursor struct {
	head
	done bool
	seq  int64 // of its first slot

	m    *slot // nil if it is of a run
	i    int   // entries passed
	sink byte  // of what is touched, so that it is

	r     *runReader
	block []byte // what is left of it
}

// next goes on to the next record, or sets done.
func (c *cursor) next() error {
	if c.m == nil {
		return c.nextOfRun()
	}
	if c.i == len(c.m.entries) {
		c.done = true
		return nil
	}
	if c.i%ahead == 0 {
		c.sink += touch(c.m.mem, c.m.entries[c.i:min(c.i+ahead, len(c.m.entries))])
	}
	e := c.m.entries[c.i]
	c.i++
	k, rec := record(c.m.mem, e)
	prefix := prefixOf(k)
	c.same = c.i > 1 && prefix == c.prefix && len(k) == len(c.key) && (len(k) <= 8 || bytes.Equal(k, c.key))
	c.prefix, c.key, c.rec = prefix, k, rec
	return nil
}

// ahead is how many records of a slot are touched together.
const ahead = 16

// touch reads a byte of each of the first two cache lines of records that lie
// anywhere, so that the processor waits for all of them at once.
func touch(mem []byte, entries []entry) (sum byte) {
	for _, e := range entries {
		at := int(e.ref >> refLen)
		sum += mem[at] + mem[at+64] // there are entries behind the records
	}
	return sum
}

// nextOfRun reads the next record of a block as run.add wrote it: twice the
// length of the record, plus one if the key is the same as before; otherwise the
// length of the key and the key; the record.
func (c *cursor) nextOfRun() error {
	if len(c.block) == 0 {
		var err error
		if c.block, err = c.r.nextBlock(); err != nil || c.block == nil {
			c.done = true
			return err
		}
	}
	b := c.block
	n, l := uvarint(b)
	b = b[l:]
	c.same = n&1 != 0
	if !c.same {
		keyLen, l := uvarint(b)
		if l+keyLen > len(b) {
			return spill.ErrDamaged
		}
		c.key = b[l : l+keyLen : l+keyLen]
		c.prefix = prefixOf(c.key)
		b = b[l+keyLen:]
	}
	n >>= 1
	if n > len(b) {
		return spill.ErrDamaged
	}
	c.rec, c.block = b[:n:n], b[n:]
	return nil
}

// compare orders the records at which two cursors are by their keys.
func (a *head) compare(b *head) int {
	switch {
	case a.prefix < b.prefix:
		return -1
	case a.prefix > b.prefix:
		return 1
	case len(a.key) <= 8 && len(b.key) <= 8:
		return len(a.key) - len(b.key)
	}
	return bytes.Compare(a.key, b.key)
}

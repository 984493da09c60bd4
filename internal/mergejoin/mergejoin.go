// Package mergejoin joins the records of two sorters by their keys.
//
// Both are walked in the order of keys at the same time. Of a key that both have,
// the left side's records are held in memory, and the right side's walk past them.
// Where they are more than the memory for them, the right side's go to a file, which
// is read once for each memory full of the left side's: so no number of records with
// one key, on one side or both, takes more memory.
package mergejoin

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/extsort"
	"github.com/go-partd/partd/internal/ledger"
	"github.com/go-partd/partd/internal/spill"
	"github.com/go-partd/partd/internal/tempdir"
)

// How says which records come out.
type How uint8

// The kinds of joins.
const (
	Inner How = iota // pairs of records with the same key
	Left             // and the left records that have no partner
	Right            // pairs, and the right records without one
	Full             // pairs, and those without one of both sides
	Semi             // the left records that have a partner, once
	Anti             // the left records that have none
)

// LeftAlone reports whether left records come out that have no partner.
func (h How) LeftAlone() bool { return h == Left || h == Full || h == Anti }

// RightAlone reports whether right records do.
func (h How) RightAlone() bool { return h == Right || h == Full }

// Pairs reports whether records of the right side come out beside those of the left.
func (h How) Pairs() bool { return h < Semi }

// Options of a join.
type Options struct {
	How        How
	MatchEmpty bool  // the empty key is a key like others: otherwise it matches nothing
	Memory     int64 // for records with the same key, in bytes; a longer record takes as much as it has
	Temp       *tempdir.Set
}

// Stats tell what came out.
type Stats struct {
	Rows      int64
	LeftAlone int64 // left records without a partner, whether they came out or not
	RightOnly int64 // right records without one
	Spilled   int64 // bytes of records with the same key that were written to a file
}

// Join joins what was put into two sorters, which keep their keys, and of which all
// writers are closed. It calls emit with each row; nil is no partner. Both are valid
// until it returns.
func Join(ctx context.Context, left, right *extsort.Sorter, o Options, emit func(left, right []byte) error) (_ Stats, err error) {
	j := &join{Options: o, ctx: ctx, emit: emit, left: newCursor(left), right: newCursor(right)}
	defer func() {
		j.left.stop()
		j.right.stop()
		err = errors.Join(err, j.file.Close())
	}()
	if err := errors.Join(j.left.advance(), j.right.advance()); err != nil {
		return j.stats, err
	}
	return j.stats, j.run()
}

type join struct {
	Options
	ctx         context.Context
	emit        func(left, right []byte) error
	left, right *cursor
	held        held
	file        *spill.File
	stats       Stats
}

func (j *join) run() error {
	for !j.left.done || !j.right.done {
		var err error
		switch c := j.compare(); {
		case c < 0:
			err = j.alone(j.left, j.How.LeftAlone(), &j.stats.LeftAlone, func(r []byte) error { return j.row(r, nil) })
		case c > 0:
			err = j.alone(j.right, j.How.RightAlone(), &j.stats.RightOnly, func(r []byte) error { return j.row(nil, r) })
		case j.How.Pairs():
			err = j.pairs()
		default:
			var matched int64
			if err = j.alone(j.left, j.How == Semi, &matched, func(r []byte) error { return j.row(r, nil) }); err == nil {
				err = j.alone(j.right, false, &matched, nil)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// compare says which side is on: negative the left one, alone, 0 both.
func (j *join) compare() int {
	switch {
	case j.right.done:
		return -1
	case j.left.done:
		return 1
	case len(j.right.key) == 0 && !j.MatchEmpty:
		return 1 // and no right record is left when that of the left side comes
	}
	return bytes.Compare(j.left.key, j.right.key)
}

// alone passes the records of one side with the key at hand.
func (j *join) alone(c *cursor, wanted bool, count *int64, row func([]byte) error) error {
	for {
		*count++
		if wanted {
			if err := row(c.record); err != nil {
				return err
			}
		}
		if more, err := c.nextOfKey(); !more {
			return err
		}
	}
}

func (j *join) row(left, right []byte) error {
	const often = 1 << 14
	if j.stats.Rows++; j.stats.Rows%often == 0 && j.ctx.Err() != nil {
		return canceled.Err(j.ctx)
	}
	return j.emit(left, right)
}

func (j *join) pairs() error {
	from := j.stats.Rows
	more, lefts, err := j.hold()
	if err != nil {
		return err
	}
	var rights int64
	if !more {
		for again := true; again; {
			rights++
			if err := j.pairWithHeld(j.right.record); err != nil {
				return err
			}
			if again, err = j.right.nextOfKey(); err != nil {
				return err
			}
		}
	} else {
		if rights, err = j.spillRight(); err != nil {
			return err
		}
		for {
			if err := j.readRight(); err != nil {
				return err
			}
			if !more {
				break
			}
			var n int64
			if more, n, err = j.hold(); err != nil {
				return err
			}
			lefts += n
		}
	}
	if n := j.stats.Rows - from; n != lefts*rights {
		return fmt.Errorf("%w: %d and %d records have the same key, and made %d pairs", ledger.ErrNotVerified, lefts, rights, n)
	}
	return nil
}

// hold takes left records of the key at hand into memory, as many as fit, and
// reports whether there are more.
func (j *join) hold() (more bool, n int64, err error) {
	h, limit := &j.held, j.Memory/2
	if int64(cap(h.data)) > 2*limit { // a long record had it grow
		h.data = nil
	}
	h.data, h.ends = h.data[:0], h.ends[:0]
	for {
		h.data = append(h.data, j.left.record...)
		h.ends = append(h.ends, len(h.data))
		n++
		if more, err = j.left.nextOfKey(); !more || err != nil || int64(len(h.data)+entryBytes*len(h.ends)) >= limit {
			return more, n, err
		}
	}
}

func (j *join) pairWithHeld(right []byte) error {
	for i := range j.held.ends {
		if err := j.row(j.held.record(i), right); err != nil {
			return err
		}
	}
	return nil
}

// spillRight writes the right records of the key at hand to the file.
func (j *join) spillRight() (n int64, err error) {
	if j.file == nil {
		if j.file, err = spill.Create(j.Temp, "records with the same key", int(min(j.Memory/4, 256<<10))); err != nil {
			return 0, err
		}
	}
	j.file.Reset()
	for more := true; more; n++ {
		r := j.right.record
		if err := j.file.Room(len(r) + binary.MaxVarintLen64); err != nil {
			return n, err
		}
		j.file.Buf = append(binary.AppendUvarint(j.file.Buf, uint64(len(r))), r...)
		if more, err = j.right.nextOfKey(); err != nil {
			return n, err
		}
	}
	err = j.file.Finish()
	j.stats.Spilled += j.file.Size()
	return n, err
}

// readRight pairs the records in the file with those held.
func (j *join) readRight() error {
	var block []byte
	var err error
	for i := range j.file.Blocks() {
		if block, err = j.file.Read(block, i, 1); err != nil {
			return err
		}
		for rest := block; len(rest) > 0; {
			n, l := binary.Uvarint(rest)
			if l <= 0 || n > uint64(len(rest)-l) {
				return spill.ErrDamaged
			}
			end := l + int(n)
			if err := j.pairWithHeld(rest[l:end:end]); err != nil {
				return err
			}
			rest = rest[end:]
		}
	}
	return nil
}

type held struct {
	data []byte
	ends []int
}

// entryBytes is what a record takes beside its bytes.
const entryBytes = 8

// record returns a record, which is not nil.
func (h *held) record(i int) []byte {
	from := 0
	if i > 0 {
		from = h.ends[i-1]
	}
	if h.data == nil {
		return []byte{}
	}
	return h.data[from:h.ends[i]:h.ends[i]]
}

type cursor struct {
	next   func() (*extsort.Block, error, bool)
	stop   func()
	block  *extsort.Block
	i      int // in block
	done   bool
	key    []byte // of the record at hand
	record []byte
}

func newCursor(s *extsort.Sorter) *cursor {
	next, stop := iter.Pull2(s.Sorted())
	return &cursor{next: next, stop: stop, i: -1}
}

func (c *cursor) advance() error {
	c.i++
	for c.block == nil || c.i == c.block.Len() {
		b, err, more := c.next()
		if err != nil || !more {
			c.done = true
			return err
		}
		c.block, c.i = b, 0
	}
	c.key, c.record = c.block.Key(c.i), c.block.Record(c.i)
	return nil
}

// nextOfKey goes on to the next record, and reports whether it has the same key.
func (c *cursor) nextOfKey() (bool, error) {
	if err := c.advance(); err != nil || c.done {
		return false, err
	}
	return c.block.SameKey(c.i), nil
}

// Package mergejoin joins the records of two sorters by their keys.
//
// It reads both sides in key order at the same time. If both sides have a key, it holds the left
// records of that key in memory and pairs them with each right record. If the left records do not
// fit in memory, it writes the right records to a file and reads the file once for each portion
// of left records that fits. So memory does not limit the number of records of a key.
package mergejoin

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/base/ledger"
	"github.com/go-partd/partd/internal/disk/tempdir"
	"github.com/go-partd/partd/internal/engine/extsort"
	"github.com/go-partd/partd/internal/engine/spill"
)

// Kind selects the rows of a join.
type Kind uint8

// The kinds of joins.
const (
	Inner Kind = iota // pairs of records with the same key
	Left              // pairs and left records without a match
	Right             // pairs and right records without a match
	Full              // pairs and records of both sides without a match
	Semi              // left records with a match, each once
	Anti              // left records without a match
)

// LeftUnmatched reports whether the join yields left records without a match.
func (k Kind) LeftUnmatched() bool { return k == Left || k == Full || k == Anti }

// RightUnmatched reports whether the join yields right records without a match.
func (k Kind) RightUnmatched() bool { return k == Right || k == Full }

// Pairs reports whether the join yields pairs of records.
func (k Kind) Pairs() bool { return k < Semi }

// Options are the options for a join.
type Options struct {
	Kind       Kind
	MatchEmpty bool  // empty keys match each other; otherwise they match nothing
	Memory     int64 // memory for records with the same key, in bytes; one record may exceed it
	Temp       *tempdir.Set
}

// Stats describes the output.
type Stats struct {
	Rows           int64
	LeftUnmatched  int64 // left records without a match, even if the join does not yield them
	RightUnmatched int64 // right records without a match, even if the join does not yield them
	Spilled        int64 // bytes of records that were written to a file
}

// Join joins the records of two sorters, which must have been created with KeepKeys. All their
// writers must be closed. Join calls emit for each row, with nil in place of a missing record. The
// records are valid until emit returns.
func Join(ctx context.Context, left, right *extsort.Sorter, o Options, emit func(left, right []byte) error) (_ Stats, err error) {
	j := &join{Options: o, ctx: ctx, emit: emit, left: newCursor(left), right: newCursor(right), held: held{data: []byte{}}}
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
		c := j.compare()
		switch {
		case c < 0:
			err = j.consumeKey(j.left, j.Kind.LeftUnmatched(), &j.stats.LeftUnmatched, func(r []byte) error { return j.emitRow(r, nil) })
		case c > 0:
			err = j.consumeKey(j.right, j.Kind.RightUnmatched(), &j.stats.RightUnmatched, func(r []byte) error { return j.emitRow(nil, r) })
		case j.Kind.Pairs():
			err = j.emitPairs()
		default:
			var ignored int64
			err = j.consumeKey(j.left, j.Kind == Semi, &ignored, func(r []byte) error { return j.emitRow(r, nil) })
			if err == nil {
				err = j.consumeKey(j.right, false, &ignored, nil)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// compare returns a negative number if only the left side has the next key, a positive number if
// only the right side has it, and 0 if both have it.
func (j *join) compare() int {
	switch {
	case j.right.done:
		return -1
	case j.left.done:
		return 1
	case len(j.right.key) == 0 && !j.MatchEmpty:
		return 1 // an empty key matches nothing, so first process the right records that have it
	}
	return bytes.Compare(j.left.key, j.right.key)
}

// consumeKey counts the records of one side with the current key. If mustEmit is set, it calls emit
// for each of them.
func (j *join) consumeKey(c *cursor, mustEmit bool, count *int64, emit func([]byte) error) error {
	for {
		*count++
		if mustEmit {
			if err := emit(c.record); err != nil {
				return err
			}
		}
		if more, err := c.nextWithSameKey(); !more {
			return err
		}
	}
}

func (j *join) emitRow(left, right []byte) error {
	const checkInterval = 1 << 14
	j.stats.Rows++
	if j.stats.Rows%checkInterval == 0 && j.ctx.Err() != nil {
		return canceled.Err(j.ctx)
	}
	return j.emit(left, right)
}

func (j *join) emitPairs() error {
	oldRows := j.stats.Rows
	hasMoreLeft, leftCount, err := j.holdLeft()
	if err != nil {
		return err
	}
	var rightCount int64
	if !hasMoreLeft {
		for unfinished := true; unfinished; {
			rightCount++
			if err := j.pairWithHeld(j.right.record); err != nil {
				return err
			}
			unfinished, err = j.right.nextWithSameKey()
			if err != nil {
				return err
			}
		}
	} else {
		rightCount, err = j.spillRight()
		if err != nil {
			return err
		}
		for {
			if err := j.pairSpilled(); err != nil {
				return err
			}
			if !hasMoreLeft {
				break
			}
			var n int64
			hasMoreLeft, n, err = j.holdLeft()
			if err != nil {
				return err
			}
			leftCount += n
		}
	}
	if n := j.stats.Rows - oldRows; n != leftCount*rightCount {
		return fmt.Errorf("%w: %d left and %d right records have the same key, but %d pairs were written", ledger.ErrNotVerified, leftCount, rightCount, n)
	}
	return nil
}

// holdLeft copies left records with the current key to memory until it is full. more reports whether
// there are further records.
func (j *join) holdLeft() (more bool, n int64, err error) {
	h, limit := &j.held, j.Memory/2
	if int64(cap(h.data)) > 2*limit { // free memory that a long record needed
		h.data = []byte{}
	}
	h.data, h.ends = h.data[:0], h.ends[:0]
	for {
		h.data = append(h.data, j.left.record...)
		h.ends = append(h.ends, len(h.data))
		n++
		more, err = j.left.nextWithSameKey()
		if !more || err != nil || int64(len(h.data)+entryBytes*len(h.ends)) >= limit {
			return more, n, err
		}
	}
}

func (j *join) pairWithHeld(right []byte) error {
	for i := range j.held.ends {
		if err := j.emitRow(j.held.record(i), right); err != nil {
			return err
		}
	}
	return nil
}

// spillRight writes the right records with the current key to the file.
func (j *join) spillRight() (n int64, err error) {
	if j.file == nil {
		j.file, err = spill.Create(j.Temp, "records with the same key", int(min(j.Memory/4, 256<<10)))
		if err != nil {
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
		more, err = j.right.nextWithSameKey()
		if err != nil {
			return n, err
		}
	}
	err = j.file.Finish()
	j.stats.Spilled += j.file.Size()
	return n, err
}

// pairSpilled pairs the records in the file with the held records.
func (j *join) pairSpilled() error {
	var block []byte
	var err error
	for i := range j.file.Blocks() {
		block, err = j.file.Read(block, i, 1)
		if err != nil {
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

// held holds left records of the current key in memory.
type held struct {
	data []byte // never nil
	ends []int
}

// entryBytes is the memory that a held record needs besides its bytes.
const entryBytes = 8

// record returns held record i. The result is never nil.
func (h *held) record(i int) []byte {
	from := 0
	if i > 0 {
		from = h.ends[i-1]
	}
	return h.data[from:h.ends[i]:h.ends[i]]
}

// cursor reads the records of one side in key order.
type cursor struct {
	next   func() (*extsort.Block, error, bool)
	stop   func()
	block  *extsort.Block
	i      int // index in block
	done   bool
	key    []byte // key of the current record
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

// nextWithSameKey advances to the next record and reports whether it has the same key.
func (c *cursor) nextWithSameKey() (bool, error) {
	if err := c.advance(); err != nil || c.done {
		return false, err
	}
	return c.block.SameKey(c.i), nil
}

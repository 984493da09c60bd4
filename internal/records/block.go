package records

import (
	"bytes"
	"context"
	"errors"
	"sync"

	"github.com/go-partd/partd/internal/canceled"
)

// Block is a sequence of whole records of one input, for one worker.
type Block struct {
	Record []byte   // the current record, with its line ending
	Fields [][]byte // its fields, in the order of [Config.Fields]; nil for a missing optional field
	Bare   []bool   // for JSON lines: which fields are numbers, true or false, not strings
	Worker int      // index of the worker
	Seq    int64    // index of the block, in input order
	Size   int64    // bytes of all its records

	split  *Splitter
	data   []byte
	buf    []byte
	offset int64
	count  int

	place
	skipBad bool

	order   *order
	ctx     context.Context
	tally   Tally
	first   []byte // for JSON lines: the first record that is not bad
	bad     error  // error of the first skipped bad record
	line    int64  // its line
	err     error  // why Next stopped
	errLine int64  // the line of err
}

func (b *Block) begin(worker int, split *Splitter) {
	b.Worker, b.split = worker, split
	if b.count != split.count {
		split.count, split.wants = b.count, nil
	}
	split.header, split.lines = false, 0
	split.Feed(b.data, true)
}

// Next advances to the next record. It returns false at the end, or if the block is
// broken; then Read fails after use has returned.
func (b *Block) Next() bool {
	if b.err != nil {
		return false
	}
	s := b.split
	for {
		kind := s.Next()
		n := int64(len(s.Record))
		switch kind {
		case Data:
			b.tally.Records++
			b.tally.RecordBytes += n
			b.Record, b.Fields, b.Bare = s.Record, s.Values, s.Bare
			if b.first == nil && s.layout.Format == JSONL {
				b.first = s.Record
			}
			return true
		case Blank:
			b.tally.BlankLines++
			b.tally.BlankBytes += n
		case Bad:
			b.addBad(s.Err, n)
			if b.err != nil {
				return false
			}
		case More:
			if s.Pos() != len(b.data) {
				b.err, b.errLine = errors.New("a block does not end with a record"), s.Line
			}
			return false
		default:
			b.err, b.errLine = s.Err, s.Line
			return false
		}
	}
}

// addBad counts a bad record of n bytes, or makes it an error.
func (b *Block) addBad(err error, n int64) {
	b.tally.BadRecords++
	b.tally.BadBytes += n
	err = &BadError{err}
	if !b.skipBad {
		b.err, b.errLine = err, b.split.Line
	} else if b.bad == nil {
		b.bad, b.line = err, b.split.Line
	}
}

// Bad marks the current record as bad. With SkipBad it is skipped and counted; otherwise Next
// returns false from now on, and Read fails with err.
func (b *Block) Bad(err error) {
	n := int64(len(b.Record))
	b.tally.Records--
	b.tally.RecordBytes -= n
	if b.tally.Records == 0 {
		b.first = nil
	}
	b.addBad(err, n)
}

// Fail makes Read fail with err, even with SkipBad, and Next return false from now on. The
// error is reported for the line of the current record.
func (b *Block) Fail(err error) { b.err, b.errLine = err, b.split.Line }

// Tally returns the number and bytes of the records found in the block so far.
func (b *Block) Tally() (records, bytes int64) { return b.tally.Records, b.tally.RecordBytes }

// Offset returns the position of the current record: the bytes of records and empty lines
// before it, in all inputs.
func (b *Block) Offset() int64 {
	return b.offset + int64(b.split.pos-len(b.Record))
}

// Turn waits until use has returned for all earlier blocks.
func (b *Block) Turn() error {
	return canceled.Wait(b.ctx, b.order.turnChannel(b.Seq))
}

// BadError is the error for a bad record.
type BadError struct{ Err error }

func (e *BadError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *BadError) Unwrap() error { return e.Err }

// end returns the result of the block. err is the result of use.
func (b *Block) end(err error) *result {
	r := &result{
		seq: b.Seq, place: b.place, lines: b.split.lines,
		tally: b.tally, bad: b.bad, badLine: b.line, err: err,
	}
	if b.Seq == 0 || b.order.lacksFirst() {
		r.tally.First = bytes.Clone(b.first)
	}
	switch {
	case b.err != nil:
		r.err, r.errLine = b.err, b.errLine
	case err == nil && b.split.pos != len(b.data):
		r.err = errors.New("not all records of a block were read")
	}
	return r
}

// order merges the results of concurrent workers in input order.
type order struct {
	cancel context.CancelCauseFunc

	mu    sync.Mutex
	next  int64             // index of the first block that is not merged yet
	done  map[int64]*result // results of later blocks
	turns map[int64]chan struct{}
	lines int64 // lines of the input before block next
	tally Tally
	err   error
}

// place describes the input of a block.
type place struct {
	name    string
	isFirst bool  // the block is the first of the input
	skipped int64 // lines of the input before the first block
}

// result is the result of a block. Lines are relative to the block, from 1.
type result struct {
	seq int64
	place
	lines   int64 // number of lines
	tally   Tally
	bad     error // error of the first skipped bad record
	badLine int64
	err     error
	errLine int64 // 0 if the error has its own position
}

// addResult adds the result of a block.
func (o *order) addResult(r *result) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.done[r.seq] = r
	for o.err == nil {
		r := o.done[o.next]
		if r == nil {
			break
		}
		delete(o.done, o.next)
		o.next++
		o.merge(r)
		if turn := o.turns[o.next]; turn != nil && o.err == nil {
			close(turn)
			delete(o.turns, o.next)
		}
	}
}

func (o *order) merge(r *result) {
	if r.isFirst {
		o.lines = r.skipped
	}
	if r.bad != nil && o.tally.FirstBad == nil {
		o.tally.FirstBad = &Error{r.name, o.lines + r.badLine, r.bad}
	}
	if o.err = r.err; o.err != nil {
		if r.errLine > 0 {
			o.err = &Error{r.name, o.lines + r.errLine, r.err}
		}
		o.cancel(o.err)
		return
	}
	if o.tally.First == nil {
		o.tally.First = r.tally.First
	}
	o.tally.Add(&r.tally)
	o.lines += r.lines
}

// lacksFirst reports whether no merged block has a record.
func (o *order) lacksFirst() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.tally.First == nil
}

// turnChannel returns a channel that is closed when all blocks before seq are merged.
func (o *order) turnChannel(seq int64) <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.next == seq && o.err == nil {
		now := make(chan struct{})
		close(now)
		return now
	}
	if o.turns[seq] == nil {
		o.turns[seq] = make(chan struct{})
	}
	return o.turns[seq]
}

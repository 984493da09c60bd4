package records

import (
	"bytes"
	"context"
	"errors"

	"github.com/go-partd/partd/internal/canceled"
)

// Block is a run of whole records of one input, for one worker.
type Block struct {
	Record []byte   // the record that Next found, with its line ending
	Fields [][]byte // its fields, in the order of [Config.Fields]; nil for an optional one that is not there
	Bare   []bool   // of JSON lines: which of them are no strings: numbers, true and false
	Worker int      // which worker has it, from 0
	Seq    int64    // which block it is, from 0, in the order of the input
	Size   int64    // bytes of all its records

	split  *Splitter
	data   []byte
	buf    []byte
	offset int64
	count  int

	place
	skipBad bool

	order *order
	ctx   context.Context
	tally Tally
	first []byte // JSON lines: the first record, unless it is bad
	bad   error  // the first bad record that was left out, and its line
	line  int64
	err   error // why Next stopped, and in which line
	at    int64
}

func (b *Block) begin(worker int, split *Splitter) {
	b.Worker, b.split = worker, split
	if b.count != split.count {
		split.count, split.wants = b.count, nil
	}
	split.header, split.lines = false, 0
	split.Feed(b.data, true)
}

// Next finds the next record, and returns false if there is none, or if the
// block cannot be read on: then Read fails when use has returned.
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
			b.leaveOut(s.Err, n)
			if b.err != nil {
				return false
			}
		case More:
			if s.Pos() != len(b.data) {
				b.err, b.at = errors.New("a block does not end with a record"), s.Line
			}
			return false
		default:
			b.err, b.at = s.Err, s.Line
			return false
		}
	}
}

// leaveOut notes a bad record of n bytes.
func (b *Block) leaveOut(err error, n int64) {
	b.tally.BadRecords++
	b.tally.BadBytes += n
	err = &BadError{err}
	if !b.skipBad {
		b.err, b.at = err, b.split.Line
	} else if b.bad == nil {
		b.bad, b.line = err, b.split.Line
	}
}

// Bad says that the record that Next found cannot be used, and why. It is left
// out and counted, or Next returns false from now on.
func (b *Block) Bad(err error) {
	n := int64(len(b.Record))
	b.tally.Records--
	b.tally.RecordBytes -= n
	if b.tally.Records == 0 {
		b.first = nil
	}
	b.leaveOut(err, n)
}

// Fail says that the record that Next found is in the way of all others, and
// why. Next returns false from now on.
func (b *Block) Fail(err error) { b.err, b.at = err, b.split.Line }

// Tally returns what was found in the block so far.
func (b *Block) Tally() (records, bytes int64) { return b.tally.Records, b.tally.RecordBytes }

// Offset tells the order of the records of all inputs: it returns the bytes of
// records and empty lines before the one that Next found.
func (b *Block) Offset() int64 {
	return b.offset + int64(b.split.pos-len(b.Record))
}

// Turn waits until use has returned for all blocks before this one.
func (b *Block) Turn() error {
	return canceled.Wait(b.ctx, b.order.turn(b.Seq))
}

// BadError says why a record is bad.
type BadError struct{ Err error }

func (e *BadError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *BadError) Unwrap() error { return e.Err }

// end returns what came of the block, and of use for it.
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
		r.err, r.errLine = b.err, b.at
	case err == nil && b.split.pos != len(b.data):
		r.err = errors.New("not all records of a block were taken")
	}
	return r
}

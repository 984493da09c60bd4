package records

import (
	"bytes"
	"context"
	"errors"
	"sync"

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

// order puts together, in the order of the input, what workers found at the same
// time.
type order struct {
	cancel context.CancelCauseFunc

	mu    sync.Mutex
	next  int64             // the first block that is not merged yet
	done  map[int64]*result // of blocks after it
	turns map[int64]chan struct{}
	lines int64 // of the input, before block next
	tally Tally
	err   error
}

// place is the input that a block is of.
type place struct {
	name    string
	fresh   bool  // the block is the input's first
	skipped int64 // lines of the input that no block holds
}

// result is what came of a block. Lines count from the block's first as 1.
type result struct {
	seq int64
	place
	lines   int64 // of the block
	tally   Tally
	bad     error // the first bad record left out
	badLine int64
	err     error
	errLine int64 // 0: the error says where
}

// finish takes the result of a block.
func (o *order) finish(r *result) {
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
	if r.fresh {
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

// lacksFirst reports whether no block merged so far holds a record.
func (o *order) lacksFirst() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.tally.First == nil
}

// turn returns a channel that is closed once all blocks before seq are merged.
func (o *order) turn(seq int64) <-chan struct{} {
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

package records

import (
	"bytes"
	"context"
	"errors"
	"sync"
)

// Block is a sequence of complete records from one input.
type Block struct {
	Record   []byte   // current record, with its line ending
	Fields   [][]byte // the record's fields, in the order of [Config.Fields]; nil for a missing optional field
	Unquoted []bool   // JSON lines: true for each field that is not a string
	Worker   int      // index of the worker that handles the block
	Seq      int64    // index of the block, in input order

	splitter   *Splitter
	selector   *Selector
	keep       []bool // memory for selectColumns
	data       []byte // the records; a part of buf
	buf        []byte
	offset     int64 // total size of the records and empty lines before the block
	fieldCount int   // number of fields in a record; 0 if it is unknown

	beforeColumns blockMark // position before the last call to NextColumns

	inputPosition
	skipBad    bool
	hasInvalid bool // a record has invalid text

	blockOrder *blockOrder
	tally      Tally
	first      []byte // JSON lines: the first valid record
	badErr     error  // error of the first skipped bad record
	badLine    int64  // line of that record
	err        error  // the error at which Next stopped
	errLine    int64  // line of err
}

func (b *Block) begin(worker int, splitter *Splitter) {
	b.Worker, b.splitter = worker, splitter
	if b.fieldCount != splitter.fieldCount {
		splitter.fieldCount, splitter.requested = b.fieldCount, nil
	}
	splitter.atHeader, splitter.lines = false, 0
	splitter.Feed(b.data, true)
	b.hasInvalid = b.encoding != "" && bytes.IndexByte(b.data, invalidText) >= 0
}

// Next advances to the next record. It returns false at the end of the block or after an error,
// which Read will return.
func (b *Block) Next() bool {
	if b.err != nil {
		return false
	}
	s := b.splitter
	for {
		kind := s.split()
		n := int64(len(s.Record))
		if kind == Data && b.hasInvalid && bytes.IndexByte(s.Record, invalidText) >= 0 {
			kind, s.Err = Bad, InvalidText(b.encoding)
		}
		if kind == Data {
			b.Record, b.Fields, b.Unquoted = s.Record, s.Values, s.Bare
			if s.Whole != nil {
				b.Record = s.Whole
			}
			kind = b.selectRecord()
		}
		switch kind {
		case Data:
			b.tally.Records++
			b.tally.RecordBytes += int64(len(b.Record))
			b.tally.DroppedBytes += n - int64(len(b.Record))
			if b.first == nil && s.layout.Format == JSONL {
				b.first = s.Record
			}
			return true
		case Dropped:
			b.tally.Dropped++
			b.tally.DroppedBytes += n
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

// addBad counts a bad record of n bytes. Unless SkipBad is set, it also sets b.err.
func (b *Block) addBad(err error, n int64) {
	b.tally.BadRecords++
	b.tally.BadBytes += n
	err = &BadError{err}
	if !b.skipBad {
		b.err, b.errLine = err, b.splitter.Line
	} else if b.badErr == nil {
		b.badErr, b.badLine = err, b.splitter.Line
	}
}

// MarkBad marks the current record as bad because of err. Unless SkipBad is set, Next then returns
// false, and Read returns err.
func (b *Block) MarkBad(err error) {
	n := int64(len(b.Record))
	b.tally.Records--
	b.tally.RecordBytes -= n
	if b.tally.Records == 0 {
		b.first = nil
	}
	b.addBad(err, n)
}

// Fail stops reading because of err, even if SkipBad is set: Next returns false, and Read returns
// err with the current record's line.
func (b *Block) Fail(err error) { b.err, b.errLine = err, b.splitter.Line }

// Tally returns the count and total size of the records that Next and NextColumns have returned.
func (b *Block) Tally() (records, bytes int64) { return b.tally.Records, b.tally.RecordBytes }

// FieldCount returns the number of fields that each record must have, or 0 if it is unknown.
func (b *Block) FieldCount() int { return b.fieldCount }

// Offset returns the total size, over all inputs, of the records and empty lines before the current
// record.
func (b *Block) Offset() int64 {
	return b.offset + int64(b.splitter.pos-len(b.splitter.Record))
}

// WaitForEarlier waits until all earlier blocks have been handled.
func (b *Block) WaitForEarlier() error { return b.blockOrder.waitForEarlier(b.Seq) }

// BadError reports a bad record.
type BadError struct{ Err error }

func (e *BadError) Error() string { return e.Err.Error() }

// Unwrap returns the underlying error.
func (e *BadError) Unwrap() error { return e.Err }

// CountError reports a record with another number of fields than the header or the first record.
type CountError struct{ error }

// finish returns the result of the block. err is the error that the handler returned.
func (b *Block) finish(err error) *result {
	r := &result{
		seq: b.Seq, inputPosition: b.inputPosition, lines: b.splitter.lines,
		tally: b.tally, badErr: b.badErr, badLine: b.badLine, err: err,
	}
	r.tally.Mended = b.splitter.Mended
	if b.Seq == 0 || b.blockOrder.needsFirst() {
		r.tally.FirstRecord = bytes.Clone(b.first)
	}
	switch {
	case b.err != nil:
		r.err, r.errLine = b.err, b.errLine
	case err == nil && b.splitter.pos != len(b.data):
		r.err = errors.New("not all records of a block were read")
	}
	return r
}

// blockOrder merges the results of blocks in input order.
type blockOrder struct {
	cancel context.CancelCauseFunc

	mu          sync.Mutex
	changed     sync.Cond         // signaled when nextSeq or stopErr changes
	nextSeq     int64             // index of the next block to merge
	pending     map[int64]*result // results of blocks after nextSeq
	linesBefore int64             // number of lines of the input before block nextSeq
	tally       Tally
	err         error // error from the first block, in input order, that failed
	stopErr     error // error that waitForEarlier returns; set after err is set or the context ends
}

// inputPosition is a block's position in the inputs.
type inputPosition struct {
	name     string // name of the input
	encoding string // see [Input]
	isFirst  bool   // the block is the input's first
	skipped  int64  // number of lines before the input's first block: the header and empty lines
}

// result is the result of a block. Lines are numbered from 1 at the block's beginning.
type result struct {
	seq int64
	inputPosition
	lines   int64 // number of lines in the block
	tally   Tally
	badErr  error // error of the first skipped bad record
	badLine int64 // line of that record
	err     error
	errLine int64 // line of err; 0 if err contains its own position
}

// addResult stores the result of a block. Then it merges results in input order, up to the first
// block without a result.
func (o *blockOrder) addResult(r *result) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pending[r.seq] = r
	for o.err == nil {
		r := o.pending[o.nextSeq]
		if r == nil {
			break
		}
		delete(o.pending, o.nextSeq)
		o.nextSeq++
		o.merge(r)
	}
	o.changed.Broadcast()
}

// stop ends all calls to waitForEarlier with err.
func (o *blockOrder) stop(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stopErr = err
	o.changed.Broadcast()
}

func (o *blockOrder) merge(r *result) {
	if r.isFirst {
		o.linesBefore = r.skipped
	}
	if r.badErr != nil && o.tally.FirstBadErr == nil {
		o.tally.FirstBadErr = &Error{r.name, o.linesBefore + r.badLine, r.badErr}
	}
	o.err = r.err
	if o.err != nil {
		if r.errLine > 0 {
			o.err = &Error{r.name, o.linesBefore + r.errLine, r.err}
		}
		o.cancel(o.err)
		return
	}
	if o.tally.FirstRecord == nil {
		o.tally.FirstRecord = r.tally.FirstRecord
	}
	o.tally.Add(&r.tally)
	o.linesBefore += r.lines
}

func (o *blockOrder) needsFirst() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.tally.FirstRecord == nil
}

// waitForEarlier waits until the results of all blocks before seq are merged.
func (o *blockOrder) waitForEarlier(seq int64) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for (o.nextSeq < seq || o.err != nil) && o.stopErr == nil {
		o.changed.Wait()
	}
	return o.stopErr
}

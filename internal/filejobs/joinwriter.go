package filejobs

import (
	"context"
	"fmt"
	"sync"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/output"
)

// joinOutput writes the rows of a join, from several goroutines.
type joinOutput struct {
	job         *job
	left, right *joinSide

	mu         sync.Mutex
	leftRecord *converter // writes records of the left side if there are no pairs
	header     int        // bytes
}

// begin writes the header. The columns of both sides must be known.
func (o *joinOutput) begin() (err error) {
	if !o.left.kind.Pairs() {
		o.leftRecord, err = newConverter(o.job, o.job.sink)
		return err
	}
	header, err := o.right.rows.AppendHeader(nil)
	if err != nil {
		return err
	}
	o.header, err = o.job.sink.Write(header)
	return err
}

// joinWriter builds rows, for one goroutine.
type joinWriter struct {
	*joinOutput
	ctx         context.Context
	worker      int
	fromLeft    joinPart
	fromRight   joinPart
	buf         []byte
	rows, bytes int64
}

// joinPart holds the fields that a row has from one side.
type joinPart struct {
	key, others []byte
	exists      bool // the row has a record of the side
}

func (o *joinOutput) newWriter(ctx context.Context, worker int) *joinWriter {
	return &joinWriter{joinOutput: o, ctx: ctx, worker: worker}
}

const joinBuffer = 256 << 10

// write writes a row of two kept records; nil means no partner.
func (w *joinWriter) write(left, right []byte) error {
	if !w.left.kind.Pairs() {
		return w.writeWhole(left)
	}
	if err := w.set(w.left, left); err != nil {
		return err
	}
	if err := w.set(w.right, right); err != nil {
		return err
	}
	return w.writeRow()
}

// set sets the fields that rows have from a side, given a kept record; nil means no partner.
func (w *joinWriter) set(s *joinSide, rec []byte) (err error) {
	p := &w.fromLeft
	if s.right {
		p = &w.fromRight
	}
	if p.exists = rec != nil; p.exists {
		p.key, p.others, err = s.fieldsOf(&s.workers[w.worker], rec)
	} else {
		p.others, err = s.missing(&s.workers[w.worker])
	}
	return err
}

func (w *joinWriter) writeRow() (err error) {
	key, lefts, rights := w.fromLeft.key, w.fromLeft.others, w.fromRight.others
	if !w.fromLeft.exists {
		key = w.fromRight.key
	}
	from := len(w.buf)
	if len(key)+len(lefts)+len(rights) == 0 { // an empty line might not be read as a record
		if w.buf, err = w.right.rows.Append(w.buf, []output.Value{{}}); err != nil {
			return err
		}
	} else {
		w.buf = append(append(append(w.buf, key...), lefts...), rights...)
		w.buf = w.right.rows.AppendEnd(w.buf)
	}
	return w.endRow(from)
}

// writeWhole writes a record of the left side unchanged.
func (w *joinWriter) writeWhole(record []byte) error {
	from := len(w.buf)
	w.buf = append(w.buf, record...)
	return w.endRow(from)
}

// endRow counts the row that begins at index from of the buffer, and flushes a full buffer.
func (w *joinWriter) endRow(from int) error {
	w.rows++
	w.bytes += int64(len(w.buf) - from)
	if len(w.buf) < joinBuffer {
		return nil
	}
	return w.flush()
}

func (w *joinWriter) flush() (err error) {
	if w.ctx.Err() != nil {
		return canceled.Err(w.ctx)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.leftRecord != nil {
		err = w.leftRecord.write(w.job.sink, w.buf)
	} else {
		_, err = w.job.sink.Write(w.buf)
	}
	w.buf = w.buf[:0]
	return err
}

// proveRows compares the written rows and bytes with the expected number of rows and the bytes
// of the output.
func (o *joinOutput) proveRows(want int64, writers ...*joinWriter) error {
	var rows, bytes int64
	for _, w := range writers {
		rows, bytes = rows+w.rows, bytes+w.bytes
	}
	if rows != want {
		return fmt.Errorf("%d rows were written instead of %d", rows, want)
	}
	written := o.job.sink.Bytes() - int64(o.header)
	if o.leftRecord != nil {
		written = o.leftRecord.bytes // before conversion
	}
	if written != bytes {
		return fmt.Errorf("%d bytes of rows were written instead of %d", written, bytes)
	}
	return nil
}

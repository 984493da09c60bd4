package filejobs

import (
	"context"
	"fmt"
	"sync"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/output"
)

// joinOutput is where the rows of a join go, of all goroutines that make some.
type joinOutput struct {
	job         *job
	left, right *joinSide

	mu     sync.Mutex
	whole  *converter // writes records of the left side, where there are no pairs
	header int        // bytes
}

// begin writes the header, once the columns of both sides are known.
func (o *joinOutput) begin() (err error) {
	if !o.left.how.Pairs() {
		o.whole, err = newConverter(o.job, o.job.sink)
		return err
	}
	header, err := o.right.rows.AppendHeader(nil)
	if err != nil {
		return err
	}
	o.header, err = o.job.sink.Write(header)
	return err
}

// joinWriter makes rows, for one goroutine.
type joinWriter struct {
	*joinOutput
	ctx         context.Context
	worker      int
	fromLeft    joinPart
	fromRight   joinPart
	buf         []byte
	rows, bytes int64
}

// joinPart is what a row has of one side.
type joinPart struct {
	key, others []byte
	there       bool // it has a record of the side
}

func (o *joinOutput) writer(ctx context.Context, worker int) *joinWriter {
	return &joinWriter{joinOutput: o, ctx: ctx, worker: worker}
}

const joinBuffer = 256 << 10

// write writes a row of what was kept of two records; nil is no partner.
func (w *joinWriter) write(left, right []byte) error {
	if !w.left.how.Pairs() {
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

// set sets what the rows have of a side, from what was kept of a record; nil is no
// partner.
func (w *joinWriter) set(s *joinSide, kept []byte) (err error) {
	p := &w.fromLeft
	if s.right {
		p = &w.fromRight
	}
	if p.there = kept != nil; p.there {
		p.key, p.others, err = s.fieldsOf(&s.workers[w.worker], kept)
	} else {
		p.others, err = s.missing(&s.workers[w.worker])
	}
	return err
}

func (w *joinWriter) writeRow() (err error) {
	key, lefts, rights := w.fromLeft.key, w.fromLeft.others, w.fromRight.others
	if !w.fromLeft.there {
		key = w.fromRight.key
	}
	from := len(w.buf)
	if len(key)+len(lefts)+len(rights) == 0 { // an empty line may be no record
		if w.buf, err = w.right.rows.Append(w.buf, []output.Value{{}}); err != nil {
			return err
		}
	} else {
		w.buf = append(append(append(w.buf, key...), lefts...), rights...)
		w.buf = w.right.rows.AppendEnd(w.buf)
	}
	return w.wrote(from)
}

// writeWhole writes a record of the left side as it is.
func (w *joinWriter) writeWhole(record []byte) error {
	from := len(w.buf)
	w.buf = append(w.buf, record...)
	return w.wrote(from)
}

// wrote counts the row that begins at a place in the buffer.
func (w *joinWriter) wrote(from int) error {
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
	if w.whole != nil {
		err = w.whole.write(w.job.sink, w.buf)
	} else {
		_, err = w.job.sink.Write(w.buf)
	}
	w.buf = w.buf[:0]
	return err
}

// proveRows compares the rows, and what the output took of them, with how many rows
// there are to be.
func (o *joinOutput) proveRows(want int64, writers ...*joinWriter) error {
	var rows, bytes int64
	for _, w := range writers {
		rows, bytes = rows+w.rows, bytes+w.bytes
	}
	if rows != want {
		return fmt.Errorf("%d rows should have been written, but %d were", want, rows)
	}
	written := o.job.sink.Bytes() - int64(o.header)
	if o.whole != nil {
		written = o.whole.bytes // as they were read
	}
	if written != bytes {
		return fmt.Errorf("rows of %d bytes should have been written, but %d were", bytes, written)
	}
	return nil
}

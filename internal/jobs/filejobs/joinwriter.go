package filejobs

import (
	"context"
	"fmt"
	"sync"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/jobs/output"
	"github.com/go-partd/partd/internal/jobs/records"
)

// joinOutput writes the rows of a join from several goroutines.
type joinOutput struct {
	job         *Job
	left, right *joinSide

	mu         sync.Mutex
	converter  *converter // for semi and anti joins, which write the left side's records
	headerSize int        // in bytes

	names     []string   // names of the columns, or nil
	selection *Selection // selects rows, each a pair of records; nil keeps all
	dropped   int64      // number of rows that the selection dropped
}

// begin writes the header. The columns of both sides must be known.
func (o *joinOutput) begin() (err error) {
	if !o.left.kind.Pairs() {
		o.converter, err = newConverter(o.job, o.job.sink)
		return err
	}
	header, err := o.right.rows.AppendHeader(nil)
	if err != nil {
		return err
	}
	isEmpty := o.names != nil && len(o.names) == 0 // both inputs are empty, without even a header
	if options := &o.job.Options; (options.Where != "" || options.Columns != "") && !isEmpty {
		layout := o.job.To
		layout.NoHeader = layout.NoHeader || o.names == nil
		names := o.names
		if lacksMembers := func(s *joinSide) bool { return s.isJSON() && s.job.Tally.FirstRecord == nil }; lacksMembers(o.left) || lacksMembers(o.right) {
			names = nil // the members of JSON lines without records are unknown
		}
		fail := func(flag, value string, err error) error { return OptionErrorf("--%s %q: %w", flag, value, err) }
		o.selection, err = Select(layout, layout, names, options.Where, options.Columns, fail)
		if err != nil {
			return err
		}
		if o.selection.Replaces() {
			header = o.selection.Header
		}
	}
	o.headerSize, err = o.job.sink.Write(header)
	return err
}

// joinWriter builds and writes the rows of a join in one goroutine.
type joinWriter struct {
	*joinOutput
	ctx         context.Context
	worker      int
	fromLeft    sideFields
	fromRight   sideFields
	buf         []byte
	rows, bytes int64

	splitter    *records.Splitter // splits rows if there is a selection
	selector    *records.Selector
	selectedRow []byte // a row with the selected columns
}

type sideFields struct {
	key, others []byte
	exists      bool // the row includes a record from this side
}

func (o *joinOutput) newWriter(ctx context.Context, worker int) *joinWriter {
	return &joinWriter{joinOutput: o, ctx: ctx, worker: worker}
}

// joinBuffer is the size at which a joinWriter writes its rows, in bytes.
const joinBuffer = 256 << 10

// write writes a row from two stored records. left is nil if right has no match, and vice versa.
func (w *joinWriter) write(left, right []byte) error {
	if !w.left.kind.Pairs() {
		return w.writeWhole(left)
	}
	if err := w.setFields(w.left, left); err != nil {
		return err
	}
	if err := w.setFields(w.right, right); err != nil {
		return err
	}
	return w.writeRow()
}

// setFields sets one side's fields in the next rows from a stored record. If rec is nil, the fields
// are empty.
func (w *joinWriter) setFields(s *joinSide, rec []byte) (err error) {
	p := &w.fromLeft
	if s.isRight {
		p = &w.fromRight
	}
	p.exists = rec != nil
	if p.exists {
		p.key, p.others, err = s.fieldsOf(&s.workers[w.worker], rec)
	} else {
		p.others, err = s.missingFields(&s.workers[w.worker])
	}
	return err
}

func (w *joinWriter) writeRow() (err error) {
	key, leftFields, rightFields := w.fromLeft.key, w.fromLeft.others, w.fromRight.others
	if !w.fromLeft.exists {
		key = w.fromRight.key
	}
	from := len(w.buf)
	if len(key)+len(leftFields)+len(rightFields) == 0 { // do not write an empty line, because readers may skip it
		w.buf, err = w.right.rows.Append(w.buf, []output.Value{{}})
		if err != nil {
			return err
		}
	} else {
		w.buf = append(append(append(w.buf, key...), leftFields...), rightFields...)
		w.buf = w.right.rows.AppendEnd(w.buf)
	}
	if !w.selection.isAll() {
		if err := w.selectRow(from); err != nil {
			return err
		}
	}
	return w.endRow(from)
}

// selectRow removes the row that begins at w.buf[from] if it is not selected. Otherwise, it removes
// the row's columns that are not selected.
func (w *joinWriter) selectRow(from int) error {
	if w.selector == nil {
		w.selector = w.selection.Selector(w.job.Memory.MaxRecord())()
		w.splitter = records.NewSplitter(w.selection.layout, w.selection.fields, w.names)
	}
	w.splitter.Feed(w.buf[from:], true)
	keep, fields := true, w.splitter.Values
	var err error
	if w.splitter.Next() != records.Data {
		err = w.splitter.Err
	} else if w.selector.Keep != nil {
		keep, err = w.selector.Keep(fields)
	}
	if keep && err == nil && w.selector.Write != nil {
		w.selectedRow, err = w.selector.Write(w.selectedRow[:0], fields)
		w.buf = append(w.buf[:from], w.selectedRow...)
	}
	if err != nil {
		return fmt.Errorf("the row %s: %w", QuoteShort(trimNewline(w.buf[from:])), err)
	}
	if !keep {
		w.buf = w.buf[:from]
		w.mu.Lock()
		w.dropped++
		w.mu.Unlock()
	}
	return nil
}

// writeWhole writes a record from the left side as a row of a semi or anti join.
func (w *joinWriter) writeWhole(record []byte) error {
	from := len(w.buf)
	w.buf = append(w.buf, record...)
	return w.endRow(from)
}

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
	if w.converter != nil {
		err = w.converter.write(w.job.sink, w.buf)
	} else {
		_, err = w.job.sink.Write(w.buf)
	}
	w.buf = w.buf[:0]
	return err
}

// verifyRows checks that the writers wrote want rows, and that the rows' bytes add up to the output's size.
func (o *joinOutput) verifyRows(want int64, writers ...*joinWriter) error {
	var rows, bytes int64
	for _, w := range writers {
		rows, bytes = rows+w.rows, bytes+w.bytes
	}
	if rows != want {
		return fmt.Errorf("%d rows were written instead of %d", rows, want)
	}
	written := o.job.sink.Bytes() - int64(o.headerSize)
	if o.converter != nil {
		written = o.converter.bytes // size before conversion
	}
	if written != bytes {
		return fmt.Errorf("%d bytes of rows were written instead of %d", written, bytes)
	}
	return nil
}

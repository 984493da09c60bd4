package tables

import (
	"context"
	"sync/atomic"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables/filter"
)

// reader is a scan in progress.
type reader struct {
	refs  atomic.Int64
	s     *Store
	table *Table
	pin   *pin
	ctx   context.Context // of Scan; RecordReader's methods have none

	schema  *arrow.Schema // of what it hands on
	read    *arrow.Schema // of the columns that are read
	kept    *arrow.Schema // of the table, as it is kept
	columns []int         // of read, in the table
	out     []int         // of schema, in read; nil: they are the same
	filters []*filter.Expr
	left    int64 // rows that may still be handed on; -1: all

	next func() (arrow.RecordBatch, error, bool) // of files; nil: there are none, or no more
	stop func()
	tail []arrow.RecordBatch

	cur arrow.RecordBatch
	err error
}

var _ array.RecordReader = (*reader)(nil)

func (r *reader) Schema() *arrow.Schema          { return r.schema }
func (r *reader) RecordBatch() arrow.RecordBatch { return r.cur }
func (r *reader) Record() arrow.RecordBatch      { return r.cur }
func (r *reader) Retain()                        { r.refs.Add(1) }

func (r *reader) Err() error {
	if r.err != nil {
		return r.table.error("scan", r.err)
	}
	return nil
}

// Release ends the scan with the last reference.
func (r *reader) Release() {
	if r.refs.Add(-1) != 0 {
		return
	}
	if r.cur != nil {
		r.cur.Release()
		r.cur = nil
	}
	r.end()
	release(r.tail)
	r.tail = nil
	r.s.unpin(r.pin)
}

// end lets go of the files.
func (r *reader) end() {
	if r.stop != nil {
		r.stop()
	}
	r.next, r.stop = nil, nil
}

// Next reads until there are rows, or none any more.
func (r *reader) Next() bool {
	if r.cur != nil {
		r.cur.Release()
		r.cur = nil
	}
	for r.err == nil && r.left != 0 {
		b, err := r.raw()
		if err != nil {
			r.err = err
			break
		}
		if b == nil {
			break
		}
		out, err := r.batch(r.ctx, b)
		b.Release()
		if err != nil {
			r.err = err
			break
		}
		if out.NumRows() > 0 {
			r.cur = out
			return true
		}
		out.Release()
	}
	r.end()
	return false
}

// raw returns the next batch of the columns that are read, as they are kept; nil
// at the end.
func (r *reader) raw() (arrow.RecordBatch, error) {
	if err := r.ctx.Err(); err != nil {
		return nil, err
	}
	if r.next != nil {
		b, err, ok := r.next()
		if ok || err != nil {
			return b, err
		}
		r.end()
	}
	if len(r.tail) == 0 {
		return nil, nil
	}
	b := r.tail[0]
	r.tail = r.tail[1:]
	defer b.Release()
	c, err := newConformer(b.Schema(), r.kept)
	if err != nil {
		return nil, err
	}
	fit, err := c.apply(b)
	if err != nil {
		return nil, err
	}
	defer fit.Release()
	columns := make([]arrow.Array, len(r.columns))
	fields := make([]arrow.Field, len(r.columns))
	for i, at := range r.columns {
		columns[i], fields[i] = fit.Column(at), r.kept.Field(at)
	}
	return array.NewRecordBatch(arrow.NewSchema(fields, nil), columns, fit.NumRows()), nil
}

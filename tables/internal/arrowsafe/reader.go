package arrowsafe

import (
	"iter"
	"sync/atomic"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// Reader makes a reader of batches, each of which it releases. End is called with
// the last Release, whether anything was read or not.
func Reader(schema *arrow.Schema, batches iter.Seq2[arrow.RecordBatch, error], end func()) array.RecordReader {
	r := &reader{RecordReader: array.ReaderFromIter(schema, batches), schema: schema, end: end}
	r.references.Store(1)
	return r
}

type reader struct {
	array.RecordReader
	schema     *arrow.Schema
	end        func()
	references atomic.Int64
}

func (r *reader) Schema() *arrow.Schema { return r.schema }

func (r *reader) Retain() { r.references.Add(1) }

func (r *reader) Release() {
	if r.references.Add(-1) == 0 {
		r.RecordReader.Release()
		r.end()
	}
}

// Rows is what is needed of an array.RecordReader.
type Rows interface {
	Next() bool
	RecordBatch() arrow.RecordBatch
	Err() error
}

// Each yields what f makes of each batch of a reader, which stays the reader's.
func Each(r Rows, f func(arrow.RecordBatch) (arrow.RecordBatch, error)) iter.Seq2[arrow.RecordBatch, error] {
	return func(yield func(arrow.RecordBatch, error) bool) {
		for r.Next() {
			if b, err := f(r.RecordBatch()); !yield(b, err) || err != nil {
				return
			}
		}
		if err := r.Err(); err != nil {
			yield(nil, err)
		}
	}
}

// Batches yields the batches of a reader, each of which is released by who takes it.
func Batches(r Rows) iter.Seq2[arrow.RecordBatch, error] {
	return Each(r, func(b arrow.RecordBatch) (arrow.RecordBatch, error) {
		b.Retain()
		return b, nil
	})
}

// Until yields the batches that next returns, until there is none.
func Until(next func() (arrow.RecordBatch, error)) iter.Seq2[arrow.RecordBatch, error] {
	return func(yield func(arrow.RecordBatch, error) bool) {
		for {
			if b, err := next(); b == nil && err == nil || !yield(b, err) || err != nil {
				return
			}
		}
	}
}

// Counted counts the rows that are read.
type Counted struct {
	array.RecordReader
	Rows int64
	Look func(arrow.RecordBatch) // at each batch; nil: not
}

func (c *Counted) Next() bool {
	if !c.RecordReader.Next() {
		return false
	}
	c.Rows += c.RecordBatch().NumRows()
	if c.Look != nil {
		c.Look(c.RecordBatch())
	}
	return true
}

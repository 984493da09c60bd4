package batches

import (
	"sync/atomic"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// Reader returns a reader that yields batches and releases them. When the reader's last reference is released, it calls
// onRelease.
func Reader(schema *arrow.Schema, rows Seq, onRelease func()) array.RecordReader {
	r := &reader{RecordReader: array.ReaderFromIter(schema, rows), schema: schema, onRelease: onRelease}
	r.references.Store(1)
	return r
}

type reader struct {
	array.RecordReader
	schema     *arrow.Schema
	onRelease  func()
	references atomic.Int64
	hasEnded   bool
}

// Next returns false after the last batch or an error. If Next is called again after an error, Err still returns the
// error, which array.ReaderFromIter would forget.
func (r *reader) Next() bool {
	r.hasEnded = r.hasEnded || !r.RecordReader.Next()
	return !r.hasEnded
}

func (r *reader) Schema() *arrow.Schema { return r.schema }

func (r *reader) Retain() { r.references.Add(1) }

func (r *reader) Release() {
	if r.references.Add(-1) == 0 {
		r.RecordReader.Release()
		r.onRelease()
	}
}

// Rows is the part of array.RecordReader that Each uses.
type Rows interface {
	Next() bool
	RecordBatch() arrow.RecordBatch
	Err() error
}

// Each yields f's result for each batch of a reader. f must not release the batch.
func Each(r Rows, f func(arrow.RecordBatch) (arrow.RecordBatch, error)) Seq {
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

// Of yields the batches of a reader. The caller must release each batch.
func Of(r Rows) Seq {
	return Each(r, func(b arrow.RecordBatch) (arrow.RecordBatch, error) {
		b.Retain()
		return b, nil
	})
}

// Counted is a reader that counts the rows it has returned.
type Counted struct {
	array.RecordReader
	Rows    int64
	OnBatch func(arrow.RecordBatch) // called with each batch, if not nil
}

func (c *Counted) Next() bool {
	if !c.RecordReader.Next() {
		return false
	}
	c.Rows += c.RecordBatch().NumRows()
	if c.OnBatch != nil {
		c.OnBatch(c.RecordBatch())
	}
	return true
}

// Unwrap returns the wrapped reader. Package datafile needs it to detect a reader that has already been read.
func (c *Counted) Unwrap() array.RecordReader { return c.RecordReader }

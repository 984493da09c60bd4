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

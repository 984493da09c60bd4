package tables

import (
	"cmp"
	"context"
	"iter"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/schema"
)

// reader is a scan in progress.
type reader struct {
	s     *Store
	table *Table
	ctx   context.Context // of Scan; RecordReader's methods have none

	schema  *arrow.Schema // of what it hands on
	read    *arrow.Schema // of the columns that are read
	kept    *arrow.Schema // of the table, as it is kept
	columns []int         // of read, in the table
	out     []int         // of schema, in read; nil: they are the same
	filters []*filter.Expr
	filter  *filter.Expr // all of them, once it is planned; nil: none
	left    int64        // rows that may still be handed on; -1: all
	skip    int64        // rows not to be handed on before

	merges bool // files are those of an ordered table, with the tail

	but  map[string]bool // paths of files that are left out
	only string          // the path of the one file that is read; "": all are

	files   iter.Seq2[arrow.RecordBatch, error] // nil: there are none
	inFiles bool                                // while they are read
	tail    []arrow.RecordBatch
}

// batches yields what the caller wants.
func (r *reader) batches(yield func(arrow.RecordBatch, error) bool) {
	r.raw(func(b arrow.RecordBatch, err error) bool {
		var out arrow.RecordBatch
		if err = cmp.Or(err, r.ctx.Err()); err == nil {
			out, err = r.batch(r.ctx, b, r.inFiles && !r.merges)
		}
		if b != nil {
			b.Release()
		}
		switch {
		case err != nil:
			yield(nil, r.table.error("scan", err))
			return false
		case out.NumRows() == 0:
			out.Release()
			return true
		}
		return yield(out, nil) && r.left != 0
	})
}

// raw yields the columns that are read, as they are kept.
func (r *reader) raw(yield func(arrow.RecordBatch, error) bool) {
	if r.files != nil {
		r.inFiles = true
		for b, err := range r.files {
			if !yield(b, err) {
				return
			}
		}
		r.inFiles = false
	}
	if r.merges {
		return
	}
	for _, b := range r.tail {
		if !yield(r.ofTail(b)) {
			return
		}
	}
}

func (r *reader) ofTail(b arrow.RecordBatch) (arrow.RecordBatch, error) {
	fit, err := schema.CastStored(b, r.kept)
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

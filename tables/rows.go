package tables

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"reflect"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables/internal/arrowsafe"
	"github.com/go-partd/partd/tables/internal/datafile"
	"github.com/go-partd/partd/tables/internal/gostruct"
)

// How many rows become a batch, and are read of one, at a time.
const (
	rowsOfBatch = 1 << 16
	rowsAtOnce  = 1 << 10
)

// SchemaOf returns the columns of rows that are Ts, which are structs. Each exported field
// is a column, those of an embedded struct are, too. A tag gives it another name, or leaves
// it out, and says of a time which type it has:
//
//	type Trade struct {
//		At    time.Time `arrow:"at,timestamp[ns, tz=UTC]"`
//		Day   time.Time `arrow:"day,date32"`
//		Sym   string    `arrow:"sym"`
//		Price *float64            // nil is null
//		Size  sql.Null[int64]
//		Legs  []Leg               // of structs; nil is null
//		note  string
//		Cache any `arrow:"-"`
//	}
//
// Without a type a time has microseconds, in UTC; what is smaller than the unit is cut.
// Fields that cannot be null are columns that cannot be, either.
func SchemaOf[T any]() (*arrow.Schema, error) {
	s, err := gostruct.Of(reflect.TypeFor[T]())
	if err != nil {
		return nil, &ArgumentError{Err: err}
	}
	return s.Schema, nil
}

// Records returns rows as batches, for Put and all else that takes them; see [SchemaOf]. The
// rows stay as they are until these are read.
func Records[T any](rows []T) (array.RecordReader, error) {
	s, err := gostruct.Of(reflect.TypeFor[T]())
	if err != nil {
		return nil, &ArgumentError{Err: err}
	}
	all := reflect.ValueOf(rows)
	return arrowsafe.Reader(s.Schema, func(yield func(arrow.RecordBatch, error) bool) {
		for from := 0; from < len(rows); from += rowsOfBatch {
			b, err := s.Batch(all.Slice(from, min(from+rowsOfBatch, len(rows))))
			if !yield(b, err) || err != nil {
				return
			}
		}
	}, func() {}), nil
}

// Append appends rows to a table, which it makes where there is none; see [SchemaOf] and
// [Bucket.Put], which has options.
func Append[T any](ctx context.Context, b *Bucket, name string, rows []T) (Version, error) {
	r, err := Records(rows)
	if err != nil {
		return 0, &OpError{Op: "put", Bucket: b.Name(), Table: name, Err: err}
	}
	defer r.Release()
	return b.Put(ctx, name, r, PutAppend, nil)
}

// Rows yields the rows of a scan, of which it reads the columns that T has; see [SchemaOf].
// Integers, floats and times may be of other types in the table, as long as the values are
// within those of the fields. A null for which a field has no room is an error.
func Rows[T any](ctx context.Context, t *Table, o *ScanOptions) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		columns, err := SchemaOf[T]()
		if err != nil {
			yield(zero, t.error("scan", err))
			return
		}
		only := *cmp.Or(o, new(ScanOptions))
		if only.Columns == nil {
			for _, f := range columns.Fields() {
				only.Columns = append(only.Columns, f.Name)
			}
		}
		r, err := t.Scan(ctx, &only)
		if err != nil {
			yield(zero, err)
			return
		}
		for row, err := range RowsOf[T](r) {
			if !yield(row, err) {
				return
			}
		}
	}
}

// RowsOf yields the rows of a reader, such as a query's, once, and releases it; see [Rows].
func RowsOf[T any](r array.RecordReader) iter.Seq2[T, error] {
	batches := BatchesOf(r)
	return func(yield func(T, error) bool) {
		var zero T
		s, err := gostruct.Of(reflect.TypeFor[T]())
		if err != nil {
			r.Release()
			yield(zero, &ArgumentError{Err: err})
			return
		}
		rows := make([]T, rowsAtOnce)
		for b, err := range batches {
			if err != nil {
				yield(zero, err)
				return
			}
			for from := 0; from < int(b.NumRows()); from += rowsAtOnce {
				some := rows[:min(rowsAtOnce, int(b.NumRows())-from)]
				clear(some)
				if err := s.Read(b, from, reflect.ValueOf(some)); err != nil {
					yield(zero, err)
					return
				}
				for _, row := range some {
					if !yield(row, nil) {
						return
					}
				}
			}
		}
	}
}

// Batches yields the batches of a scan, each of which is released after its turn: retain
// what is kept.
func (t *Table) Batches(ctx context.Context, o *ScanOptions) iter.Seq2[arrow.RecordBatch, error] {
	return func(yield func(arrow.RecordBatch, error) bool) {
		r, err := t.Scan(ctx, o)
		if err != nil {
			yield(nil, err)
			return
		}
		BatchesOf(r)(yield)
	}
}

// BatchesOf yields the batches of a reader, such as a query's, once, and releases it; see
// [Table.Batches].
func BatchesOf(r array.RecordReader) iter.Seq2[arrow.RecordBatch, error] {
	read := false
	return func(yield func(arrow.RecordBatch, error) bool) {
		if read {
			yield(nil, &ArgumentError{Err: errors.New("the reader was read before, and released: make another one")})
			return
		}
		read = true
		if r == nil {
			yield(nil, &ArgumentError{Err: datafile.ErrNoReader})
			return
		}
		defer r.Release()
		for r.Next() {
			if !yield(r.RecordBatch(), nil) {
				return
			}
		}
		if err := r.Err(); err != nil {
			yield(nil, err)
		}
	}
}

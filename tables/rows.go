package tables

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"reflect"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/gostruct"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

const (
	writeBatchRows = 1 << 16 // maximum number of rows in a batch from Records
	readBatchRows  = 1 << 10 // number of rows that RowsOf converts at a time
)

// SchemaOf returns the columns for the struct type T: one for each exported field, including fields of embedded
// structs. A field's tag can rename or omit the column, or set the column type of a time:
//
//	type Trade struct {
//		At    time.Time `arrow:"at,timestamp[ns, tz=UTC]"`
//		Day   time.Time `arrow:"day,date32"`
//		Sym   string    `arrow:"sym"`
//		Price *float64            // nil is null
//		Size  sql.Null[int64]
//		Legs  []Leg               // a list of structs; nil is null
//		note  string
//		Cache any `arrow:"-"`
//	}
//
// By default, a time is truncated to microseconds and stored in UTC. A column is nullable only if its field can be
// null.
func SchemaOf[T any]() (*arrow.Schema, error) {
	s, err := gostruct.ForType(reflect.TypeFor[T]())
	if err != nil {
		return nil, &ArgumentError{Err: fieldError(err)}
	}
	return s.Schema, nil
}

// Records returns a reader of rows, for Put and similar functions; see [SchemaOf]. The rows must not be modified until
// the reader has been drained.
func Records[T any](rows []T) (array.RecordReader, error) {
	s, err := gostruct.ForType(reflect.TypeFor[T]())
	if err != nil {
		return nil, &ArgumentError{Err: fieldError(err)}
	}
	slice := reflect.ValueOf(rows)
	return batches.Reader(s.Schema, func(yield func(arrow.RecordBatch, error) bool) {
		for from := 0; from < len(rows); from += writeBatchRows {
			b, err := s.Batch(slice.Slice(from, min(from+writeBatchRows, len(rows))))
			if !yield(b, fieldError(err)) || err != nil {
				return
			}
		}
	}, func() {}), nil
}

// fieldError converts err to a SchemaError if it is about the column of a struct field.
func fieldError(err error) error {
	if e, ok := err.(*schema.Error); ok {
		return (*SchemaError)(e)
	}
	return err
}

// Append appends rows to a table and creates it if it is missing; see [SchemaOf]. For options, use [Table.Put].
func Append[T any](ctx context.Context, t *Table, rows []T) (Version, error) {
	r, err := Records(rows)
	if err != nil {
		return 0, t.error("put", err)
	}
	defer r.Release()
	return t.Put(ctx, r, PutAppend, nil)
}

// Rows yields the rows of a scan. If o.Columns is nil, it reads only the columns that T has; see [SchemaOf]. Integer,
// float and time types of columns and fields can differ if the values fit. A null is an error if the field cannot be
// null. If a field does not fit its column, the error names the table and the field and matches [*SchemaError].
func Rows[T any](ctx context.Context, t *Table, o *ScanOptions) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		typ := reflect.TypeFor[T]()
		s, err := gostruct.ForType(typ)
		if err != nil {
			yield(zero, t.error("scan", &ArgumentError{Err: fieldError(err)}))
			return
		}
		scan := *cmp.Or(o, new(ScanOptions))
		if scan.Columns == nil {
			scan.Columns = schema.Names(s.Schema)
		}
		r, err := t.Scan(ctx, &scan)
		if err != nil {
			yield(zero, fieldError(s.AddFieldName(typ, err)))
			return
		}
		for row, err := range RowsOf[T](r) {
			if err != nil && !errors.As(err, new(*OpError)) {
				err = t.error("scan", err)
			}
			if !yield(row, err) {
				return
			}
		}
	}
}

// RowsOf yields the rows of a reader, such as a query's result, then releases the reader; see [Rows].
func RowsOf[T any](r array.RecordReader) iter.Seq2[T, error] {
	batches := BatchesOf(r)
	return func(yield func(T, error) bool) {
		var zero T
		s, err := gostruct.ForType(reflect.TypeFor[T]())
		if err != nil {
			r.Release()
			yield(zero, &ArgumentError{Err: fieldError(err)})
			return
		}
		rows := make([]T, readBatchRows)
		for b, err := range batches {
			if err != nil {
				yield(zero, err)
				return
			}
			for from := 0; from < int(b.NumRows()); from += readBatchRows {
				chunk := rows[:min(readBatchRows, int(b.NumRows())-from)]
				clear(chunk)
				if err := s.ReadRows(b, from, reflect.ValueOf(chunk)); err != nil {
					yield(zero, fieldError(err))
					return
				}
				for _, row := range chunk {
					if !yield(row, nil) {
						return
					}
				}
			}
		}
	}
}

// Batches yields the batches of a scan. Each batch is released after its iteration; call Retain to keep it.
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

// BatchesOf yields the batches of a reader, such as a query's result, then releases the reader; see [Table.Batches].
func BatchesOf(r array.RecordReader) iter.Seq2[arrow.RecordBatch, error] {
	used := false
	return func(yield func(arrow.RecordBatch, error) bool) {
		if used {
			yield(nil, &ArgumentError{Err: errors.New("the reader has already been read and released: create another one")})
			return
		}
		used = true
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

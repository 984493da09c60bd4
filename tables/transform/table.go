package transform

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/arrowsafe"
	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/sqlquote"
)

func opError(op string, t TableName, err error) error {
	if err == nil || errors.As(err, new(*tables.OpError)) {
		return err
	}
	return &tables.OpError{Op: op, Bucket: t.Bucket, Table: t.Name, Err: err}
}

func quoteAll(names []string) string {
	all := make([]string, len(names))
	for i, name := range names {
		all[i] = sqlquote.Name(name)
	}
	return strings.Join(all, ", ")
}

// sql names a table within any bucket's statement.
func (t TableName) sql() string { return sqlquote.Within(t.Bucket, t.Name) }

func schemaOf(ctx context.Context, s *tables.Store, t TableName) (*arrow.Schema, error) {
	table, err := s.Bucket(t.Bucket).Table(ctx, t.Name)
	if err != nil {
		return nil, err
	}
	return table.SchemaAsPut(ctx)
}

// field returns a column, or the error that says what columns there are.
func field(s *arrow.Schema, name string) (arrow.Field, error) {
	at, err := schema.Place(s, name)
	if err != nil {
		return arrow.Field{}, err
	}
	return s.Field(at), nil
}

// zonedNanos reports whether a column has times that SQL would round: DuckDB has no
// nanoseconds in a time zone.
func zonedNanos(f arrow.Field) bool {
	t, ok := f.Type.(*arrow.TimestampType)
	return ok && t.Unit == arrow.Nanosecond && t.TimeZone != ""
}

// exact says which column's values SQL would round.
func exact(fields ...arrow.Field) error {
	for _, f := range fields {
		rounds := zonedNanos(f)
		if nested, ok := f.Type.(arrow.NestedType); ok {
			rounds = exact(nested.Fields()...) != nil
		}
		if rounds {
			return &tables.SchemaError{Column: f.Name, Err: fmt.Errorf("it has type %s, whose values would be rounded to microseconds: put it in microseconds", f.Type)}
		}
	}
	return nil
}

// put puts rows, and returns how many they were.
func put(ctx context.Context, s *tables.Store, r array.RecordReader, to TableName, m tables.PutMode, o *tables.PutOptions) (int64, error) {
	counted := &arrowsafe.Counted{RecordReader: r}
	_, err := s.Bucket(to.Bucket).Put(ctx, to.Name, counted, m, o)
	return counted.Rows, err
}

// restored gives rows of the engine the types of a table's columns, which SQL has
// not all of, such as time zones.
func restored(r array.RecordReader, to *arrow.Schema) array.RecordReader {
	return arrowsafe.Reader(to, arrowsafe.Each(r, func(b arrow.RecordBatch) (arrow.RecordBatch, error) { return schema.Convert(b, to) }), r.Release)
}

// integers returns the first row's values in some columns, 0 for nulls.
func integers(b arrow.RecordBatch, columns ...int) ([]int64, error) {
	out := make([]int64, len(columns))
	for i, c := range columns {
		a, err := schema.ConvertArray(b.Column(c), integer)
		if err != nil {
			return nil, err
		}
		if a.IsValid(0) {
			out[i] = a.(*array.Int64).Value(0)
		}
		a.Release()
	}
	return out, nil
}

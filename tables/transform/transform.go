// Package transform derives tables from other tables: it aggregates rows by time bins, combines several tables, or
// removes rows. Resample, Combine and Clean each stream the result into one put, so readers of the target see either
// the whole result or the previous state. The target may be one of the sources.
package transform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/sql/sqltext"
)

// TableName names a table.
type TableName struct{ Bucket, Name string }

// UnmarshalJSON decodes an object, or a string that names a table in the default bucket.
func (n *TableName) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, &n.Name)
	}
	type object TableName
	return json.Unmarshal(b, (*object)(n))
}

// Result holds the numbers of rows read and written.
type Result struct {
	SourceRows int64 // rows of all sources; 0 if ResampleOptions.SQL is set
	TargetRows int64
}

// ResampleOptions are the options of Resample. Set either SQL, or Rule, TimeColumn and Functions.
type ResampleOptions struct {
	Source, Target TableName

	// SQL is a SELECT statement, whose rows Resample puts into the target. Table names without a bucket refer to the
	// source's bucket.
	SQL string

	// Rule is the length of a bin, as a pandas offset, such as "10s", "2h", "B", "W-FRI", "ME" or
	// "QS-FEB". docs/transform.md lists them all.
	Rule string
	// TimeColumn names a timestamp or date column in the source. It becomes the target's first column, where it holds
	// each bin's label.
	TimeColumn string
	// TimeIndex makes the time column the target's index in pandas. If TimeIndex is false, the time column becomes the
	// index only if it is the source's index.
	TimeIndex bool
	// Functions are aggregates: mean, sum, min, max, first, last, count, median, std, var, sem, prod, size, ohlc,
	// nunique and quantile (always the median, which is pandas' default). With one function, columns keep their names;
	// with several, they are named column_function. The functions ffill, bfill, nearest, asfreq and interpolate instead
	// fill bins from adjacent rows; such a function must be the only one.
	Functions FunctionCalls
	// Columns are the columns to aggregate. Nil means the columns that Functions name or, if Functions name none, all
	// except TimeColumn and By.
	Columns []string
	// By names the columns to group by. Each combination of their values gets its own bins, from the combination's
	// first time to its last. The rows are ordered by time, and the By columns follow the time column. Nil means the key
	// columns in the source's settings; an empty list means no grouping. If all By columns are keys of the source, and
	// Resample creates the target, these columns and the time column become keys and time column of the target.
	By []string

	Mode tables.PutMode
}

// CombineOptions are the options of Combine.
type CombineOptions struct {
	Sources []TableName
	Target  TableName
	How     string   // "union" or "join"
	On      []string // the columns to join on; empty for a union
	Mode    tables.PutMode
}

// CleanOptions are the options of Clean. An option that is not set removes no rows.
type CleanOptions struct {
	Source TableName
	// Target receives the kept rows. If it is nil, the kept rows replace the source's rows in one commit.
	Target *TableName
	Mode   tables.PutMode // how the kept rows are put into Target

	// Where is an SQL condition. Clean removes the rows for which it is not true.
	Where string
	// DropNulls removes rows with a null or a NaN in any of these columns.
	DropNulls []string
	// DropAnyNull removes rows with a null or a NaN in any column.
	DropAnyNull bool
	// KeepFirstOf keeps only the first row for each combination of values in these columns. It applies after the other
	// options.
	KeepFirstOf []string
}

func opError(op string, t TableName, err error) error {
	if err == nil || errors.As(err, new(*tables.OpError)) {
		return err
	}
	return &tables.OpError{Op: op, Bucket: t.Bucket, Table: t.Name, Err: err}
}

func (t TableName) sql() string { return sqltext.Qualified(t.Bucket, t.Name) }

func field(s *arrow.Schema, name string) (arrow.Field, error) {
	index, err := schema.ColumnIndex(s, name)
	if err != nil {
		return arrow.Field{}, err
	}
	return s.Field(index), nil
}

// isZonedNanos reports whether SQL would truncate a column's times, because DuckDB has no type for nanoseconds with a time
// zone.
func isZonedNanos(f arrow.Field) bool { return schema.IsZonedNanos(f.Type) }

// checkExact returns an error that names the first column whose values SQL would truncate.
func checkExact(fields ...arrow.Field) error {
	for _, f := range fields {
		truncates := isZonedNanos(f)
		if nested, ok := f.Type.(arrow.NestedType); ok {
			truncates = checkExact(nested.Fields()...) != nil
		}
		if truncates {
			return &tables.SchemaError{Column: f.Name, Err: fmt.Errorf("values of type %s would be truncated to microseconds: put them in microseconds", f.Type)}
		}
	}
	return nil
}

// inspect returns a table's columns and number of rows. It returns an error if SQL would truncate values.
func inspect(ctx context.Context, table *tables.Table) (*arrow.Schema, int64, error) {
	columns, err := table.Schema(ctx)
	if err == nil {
		err = checkExact(columns.Fields()...)
	}
	if err != nil {
		return nil, 0, err
	}
	info, err := table.Info(ctx)
	return columns, info.Rows, err
}

func put(ctx context.Context, s *tables.Store, r array.RecordReader, to TableName, m tables.PutMode, o *tables.PutOptions) (int64, error) {
	counted := &batches.Counted{RecordReader: r}
	_, err := s.Bucket(to.Bucket).Table(to.Name).Put(ctx, counted, m, o)
	return counted.Rows, err
}

// castReader casts the SQL engine's rows to a table's column types. SQL lacks some of these types, such as
// nanoseconds with a time zone.
func castReader(r array.RecordReader, to *arrow.Schema) array.RecordReader {
	return batches.Reader(to, batches.Each(r, func(b arrow.RecordBatch) (arrow.RecordBatch, error) { return schema.Convert(b, to) }), r.Release)
}

// integers returns the first row's values in the given columns. A null becomes 0.
func integers(b arrow.RecordBatch, columns ...int) ([]int64, error) {
	out := make([]int64, len(columns))
	for i, c := range columns {
		a, err := schema.ConvertArray(b.Column(c), int64Type)
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

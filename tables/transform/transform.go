// Package transform makes tables from other tables: it aggregates rows by bins of time,
// combines several tables, or leaves out rows. Each function streams its result, mostly
// through the store's SQL engine, into a single put: readers of the target see all of the
// result or the previous state. The target may be one of the sources.
package transform

import (
	"encoding/json"

	"github.com/go-partd/partd/tables"
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

// Result reports how many rows were read and put.
type Result struct {
	SourceRows int64 // of all sources; 0 with ResampleOptions.SQL
	TargetRows int64
}

// ResampleOptions are the options of Resample. Set either SQL, or Rule, TimeColumn and
// Functions.
type ResampleOptions struct {
	Source, Target TableName

	// SQL is a SELECT statement whose rows are put. Table names without a bucket refer to
	// the source's bucket.
	SQL string

	// Rule is the length of a bin, as an offset of pandas: "10s", "2h", "D", "B", "W-FRI",
	// "ME", "QS-FEB", "YE". docs/transform.md lists all of them.
	Rule string
	// TimeColumn names a timestamp or date column of the source. It becomes the first
	// column of the target, where it holds the label of each bin.
	TimeColumn string
	// TimeIndex makes the time column the target's index in pandas. Otherwise it is the
	// index only if it is the source's.
	TimeIndex bool
	// Functions are aggregates: mean, sum, min, max, first, last, count, median, std, var,
	// sem, prod, size, ohlc, nunique and quantile, which is the median. With one function,
	// columns keep their names; with several, they are named column_function. The functions
	// ffill, bfill, nearest, asfreq and interpolate fill bins from adjacent rows instead;
	// one of them must be the only function.
	Functions []string
	// Columns are the columns to aggregate; nil means all except TimeColumn.
	Columns []string

	Mode tables.PutMode
}

// CombineOptions are the options of Combine.
type CombineOptions struct {
	Sources []TableName
	Target  TableName
	How     string   // "union" or "join"
	On      []string // the columns to join on
	Mode    tables.PutMode
}

// CleanOptions are the options of Clean. Those that are not set leave out no rows.
type CleanOptions struct {
	Source TableName
	// Target receives the rows that are kept. Nil means the source, whose rows they replace
	// in one commit.
	Target *TableName
	Mode   tables.PutMode // how to put them into Target

	// Where is a condition in SQL. Only rows for which it is true are kept.
	Where string
	// DropNulls leaves out rows with a null or a NaN in any of these columns.
	DropNulls []string
	// DropAnyNull is DropNulls for all columns.
	DropAnyNull bool
	// KeepFirstOf keeps only the first row of each combination of values in these columns,
	// among the rows that pass the other options.
	KeepFirstOf []string
}

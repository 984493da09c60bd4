// Package transform makes tables of tables: rows put into bins of time, tables
// put below or beside each other, rows left out. Each is SQL that the store's
// engine runs and streams, and one put: readers of the target see all of it, or
// what was there before. A source and the target may be the same table.
package transform

import (
	"encoding/json"

	"github.com/go-partd/partd/tables"
)

// TableName names a table.
type TableName struct{ Bucket, Name string }

// UnmarshalJSON reads an object, or the name of a table in the default bucket.
func (n *TableName) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, &n.Name)
	}
	type object TableName
	return json.Unmarshal(b, (*object)(n))
}

// Result says how many rows were read and put.
type Result struct {
	SourceRows int64 // of all sources; 0 where a statement of SQL was given
	TargetRows int64
}

// ResampleOptions of Resample: either SQL, or Rule with TimeColumn and Functions.
type ResampleOptions struct {
	Source, Target TableName

	// SQL is a SELECT whose rows are put. Names without a bucket are those of the
	// source's.
	SQL string

	// Rule is the length of the bins, an offset of pandas: "10s", "2h", "D",
	// "W-FRI", "ME", "QS-FEB", "YE". docs/transform.md has them all.
	Rule string
	// TimeColumn is a timestamp or a date. It is the target's first column, with
	// the label of the bin.
	TimeColumn string
	// Functions are of mean, sum, min, max, first, last, count, median, std, var,
	// sem, prod, size, ohlc and nunique. With one, the columns keep their names;
	// with more, they are named column_function.
	Functions []string
	// Columns are aggregated; nil means all but the time.
	Columns []string

	Mode tables.PutMode
}

// CombineOptions of Combine.
type CombineOptions struct {
	Sources []TableName
	Target  TableName
	How     string   // union or join
	On      []string // the columns of a join
	Mode    tables.PutMode
}

// CleanOptions of Clean. What is not set leaves out nothing.
type CleanOptions struct {
	Source TableName
	// Target gets the rows that are kept; nil means the source itself, whose rows
	// they replace in one commit.
	Target *TableName
	Mode   tables.PutMode // of a Target

	// Where is a condition of SQL, for the rows to keep.
	Where string
	// DropNulls leaves out rows with a null, or a NaN, in one of these columns.
	DropNulls []string
	// DropAnyNull is DropNulls of all columns.
	DropAnyNull bool
	// KeepFirstOf leaves out rows whose values in these columns an earlier row
	// has, of those that the other options keep.
	KeepFirstOf []string
}

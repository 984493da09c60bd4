//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package duck

import (
	"slices"
	"strings"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/sql/sqltext"
)

// boundTable is a table that a statement names, in the state that the statement reads. In the query's database,
// the table is a view on its files.
type boundTable struct {
	catalog       string // catalog of the view; "" means DuckDB's default catalog
	schema, name  string // schema and name of the view, as spelled in the statement
	bucket, table string
	columns       []column
	namedColumns  []string // columns that the statement can name, in lower case and sorted
	allColumns    bool     // the view must contain all columns
	files         []tables.PlannedFile
	plan          *tables.ScanPlan
	offset        int          // position of the name in the statement, in bytes
	extraRows     *scratchFile // contains the rows that are not in the table's files
	copied        bool         // whether extraRows contains all rows of the table, because column types must change
	deletedRows   *scratchFile // contains bitmaps of the deleted rows of files; nil if the view does not use bitmaps
	index         int          // position among the tables of the statement
	isPrivate     bool         // whether only this statement reads extraRows
	isTarget      bool         // whether the view has tables.FileColumn and tables.RowColumn
	// path of a file without rows, which readFunction adds to a single large file; "" if no file is large
	emptyFile string
}

func (t *boundTable) String() string { return sqltext.Qualified(t.bucket, t.table) }

func (t *boundTable) close() {
	if t.extraRows != nil {
		t.extraRows.release()
	}
	if t.deletedRows != nil {
		t.deletedRows.release()
	}
	if t.plan != nil {
		t.plan.Close()
	}
}

type column struct {
	id   string // Iceberg field ID
	name string
	sql  string // DuckDB type
}

const mainSchema = "main" // DuckDB's schema for unqualified names

// Columns that DuckDB's function read_parquet offers but does not include in *.
const fileIndex, fileRow = "file_index", "file_row_number"

// rowGroupRows is the approximate row count of each row group in our files.
const rowGroupRows = 128 << 10

func isLarge(f tables.PlannedFile) bool { return f.Rows > rowGroupRows }

func (t *boundTable) qualifiedSchema() string { return sqltext.Qualified(t.catalog, t.schema) }

// isNamed reports whether the statement can name the column.
func (t *boundTable) isNamed(c column) bool {
	_, found := slices.BinarySearch(t.namedColumns, strings.ToLower(c.name)) // there can be many names and many columns
	return found
}

// hidesRowNumbers reports whether a column of the table hides file_index or file_row_number, with which read_parquet
// numbers rows.
func (t *boundTable) hidesRowNumbers() bool {
	return slices.ContainsFunc(t.columns, func(c column) bool {
		return strings.EqualFold(c.name, "file_index") || strings.EqualFold(c.name, "file_row_number")
	})
}

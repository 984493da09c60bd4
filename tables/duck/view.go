//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package duck

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/sql/sqltext"
)

func (t *boundTable) createView() string {
	return fmt.Sprintf("CREATE OR REPLACE VIEW %s.%s AS SELECT ", t.qualifiedSchema(), sqltext.Name(t.name))
}

func (t *boundTable) emptyView() string {
	columns := make([]string, len(t.columns))
	for i, c := range t.columns {
		columns[i] = "NULL::" + c.sql + " AS " + sqltext.Name(c.name)
	}
	if t.isTarget {
		columns = append(columns, "NULL::UBIGINT AS "+sqltext.Name(tables.FileColumn), "NULL::BIGINT AS "+sqltext.Name(tables.RowColumn))
	}
	return t.createView() + strings.Join(columns, ", ") + " WHERE false"
}

// view returns the statement that creates the table's view. The view finds columns by their Iceberg IDs,
// because older files can have different names or fewer columns.
func (t *boundTable) view() string {
	if len(t.files) == 0 {
		return t.emptyView()
	}
	if t.lacksSchema() {
		return t.createView() + "NULL AS " + sqltext.Name(t.columns[0].name) + " FROM read_parquet(" + sqltext.Text(t.files[0].Path) + ", hive_partitioning=false)"
	}
	var parts []string
	for i, files := range t.fileGroups() {
		if len(files) == 0 {
			continue
		}
		source := t.readFunction(files)
		if f := t.keepFunction(i); f.Name != "" {
			source = fmt.Sprintf("(SELECT * FROM %s WHERE %s(file_index, file_row_number))", source, f.Name)
		}
		if i != overlapping {
			positions := ""
			if t.isTarget { // all files are in one group
				positions = ", " + fileIndex + " AS " + sqltext.Name(tables.FileColumn) + ", " + fileRow + " AS " + sqltext.Name(tables.RowColumn)
			}
			parts = append(parts, t.columnList("")+positions+" FROM "+source)
			continue
		}
		var conditions []string
		for _, name := range t.plan.KeyColumns {
			conditions = append(conditions, "old."+sqltext.Name(name)+" = new."+sqltext.Name(name))
		}
		parts = append(parts, fmt.Sprintf("%s FROM %s AS old ANTI JOIN %s AS new ON %s", t.columnList("old."), source,
			t.readFunction([]tables.PlannedFile{t.extraRows.planned()}), strings.Join(conditions, " AND ")))
	}
	return t.createView() + strings.Join(parts, " UNION ALL SELECT ")
}

// lacksSchema reports whether the view has no schema. Then DuckDB counts the rows of a single file from the footer, but
// a prepared statement keeps the file open.
func (t *boundTable) lacksSchema() bool {
	return len(t.files) == 1 && groupOf(t.files[0]) == plain && !t.isTarget && !t.allColumns && !slices.ContainsFunc(t.columns, t.isNamed)
}

// viewColumns returns the columns that the statement can name, and the key columns, which view may need.
// It returns at least one column.
func (t *boundTable) viewColumns() []column {
	if t.allColumns {
		return t.columns
	}
	var columns []column
	for _, c := range t.columns {
		if t.isNamed(c) || slices.Contains(t.plan.KeyColumns, c.name) {
			columns = append(columns, c)
		}
	}
	if len(columns) == 0 {
		return t.columns[:1]
	}
	return columns
}

// columnList returns the select list of the view's columns, each with a prefix. If a column may contain NaN, DuckDB
// must not skip rows by its Parquet statistics, which ignore NaN. columnList therefore wraps such a column in the
// function greatest, which returns its only argument. DuckDB has no statistics for the result of greatest; TestNaN
// fails if a new version has them.
func (t *boundTable) columnList(prefix string) string {
	if len(t.plan.NaN) == 0 {
		return prefix + "*"
	}
	viewColumns := t.viewColumns()
	columns := make([]string, len(viewColumns))
	for i, c := range viewColumns {
		columns[i] = prefix + sqltext.Name(c.name)
		if slices.Contains(t.plan.NaN, c.name) {
			columns[i] = "greatest(" + columns[i] + ") AS " + sqltext.Name(c.name)
		}
	}
	return strings.Join(columns, ", ")
}

// readFunction returns a call of the table function that reads files. The call passes the columns as JSON, which DuckDB
// binds in half the time of an expression. It also passes the row count, because DuckDB would otherwise assume one row
// per file and plan joins that may never end.
func (t *boundTable) readFunction(files []tables.PlannedFile) string {
	paths := make([]string, len(files))
	var rows int64
	for i, f := range files {
		paths[i] = sqltext.Text(f.Path)
		rows += max(f.Rows, 0) // a manifest from another program may contain a negative count
	}
	// with a schema, DuckDB reads a single file in one thread, so add an empty file
	if len(files) == 1 && isLarge(files[0]) {
		paths = append(paths, sqltext.Text(t.emptyFile))
	}
	viewColumns := t.viewColumns()
	columns := make([]string, len(viewColumns)) // a slice, because a Go map would lose the order of columns
	for i, c := range viewColumns {
		// encoding strings cannot fail
		definition, _ := json.Marshal(map[string]any{"name": c.name, "type": c.sql, "default_value": nil})
		columns[i] = fmt.Sprintf("%q:%s", c.id, definition)
	}
	return "read_parquet([" + strings.Join(paths, ",") + "], schema=" + sqltext.Text("{"+strings.Join(columns, ",")+"}") +
		`::JSON::MAP(INTEGER, STRUCT("name" VARCHAR, "type" VARCHAR, default_value VARCHAR)), explicit_cardinality=` + strconv.FormatInt(max(rows, 1), 10) + ")"
}

// footerBytes estimates the memory of the footers of a table's files.
func (t *boundTable) footerBytes() (n int64) {
	const perColumn, maxRowGroups = 512, 1 << 20 // manifests from other programs may contain any number of rows
	leaves := int64(0)
	for _, c := range t.columns {
		leaves += int64(1 + strings.Count(c.sql, ", "))
	}
	for _, f := range t.files {
		rowGroups := 1 + max(f.Rows, 0)/rowGroupRows + max(f.Bytes, 0)>>25
		n += min(rowGroups, maxRowGroups) * leaves * perColumn
	}
	return n
}

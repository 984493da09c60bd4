//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package duck

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-partd/partd/internal/base/textfmt"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/sql/database"
	"github.com/go-partd/partd/tables/internal/sql/sqltext"
	"github.com/go-partd/partd/tables/internal/sql/sqlwrite"
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
	index         int          // position in query.tables
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

// reserved contains names that DuckDB resolves before it looks for a schema.
var reserved = []string{"memory", "system", "temp", "pg_catalog", "information_schema"}

const mainSchema = "main" // DuckDB's schema for unqualified names

// resolve finds the tables that a statement names. Table names are case-sensitive, but DuckDB ignores case, even in
// quoted names. So resolve returns an error if a statement names two tables that differ only in case.
func (q *query) resolve(ctx context.Context, sql string, names []database.Name) (resolved []*boundTable, err error) {
	defer func() {
		if err != nil {
			for _, t := range resolved {
				t.close()
			}
			resolved = nil
		}
	}()
	byName := map[[3]string]*boundTable{}
	for _, n := range names {
		t := &boundTable{catalog: n.Catalog, schema: n.Schema, name: n.Table, offset: n.Offset, namedColumns: n.Columns, allColumns: n.AllColumns}
		state := q.o.At
		if n.Catalog == database.Before || n.Catalog == database.Changes {
			if q.o.Before == nil {
				return resolved, database.RefusedAt(sql, n.Offset, "%s refers to an earlier state of the tables, but the query does not select one", n.Catalog)
			}
			if n.Catalog == database.Before {
				state = q.o.Before
			}
		}
		t.schema = cmp.Or(t.schema, mainSchema)
		var opened *tables.Table
		t.isTarget = q.o.Target != nil && n.Catalog == "" && n.Schema == tables.TargetSchema
		if t.isTarget {
			t.bucket, t.table = q.o.Target.Bucket, q.o.Target.Table
		} else if t.bucket, t.table, opened, err = q.find(ctx, n, state); err != nil {
			return resolved, database.ErrorAt(sql, n.Offset, err)
		}
		if slices.Contains(reserved, strings.ToLower(n.Schema)) {
			return resolved, database.RefusedAt(sql, n.Offset, "%s is a reserved word in SQL: to use a bucket with this name, make it the bucket of the query, and omit it in the statement", sqltext.Name(n.Schema))
		}
		key := [3]string{t.catalog, strings.ToLower(t.schema), strings.ToLower(t.name)}
		if other := byName[key]; other != nil {
			if other.bucket != t.bucket || other.table != t.table {
				return resolved, database.RefusedAt(sql, n.Offset, "tables %v and %v differ only in case, or by a bucket named %s: use only one of them in a statement, because SQL cannot distinguish them", other, t, mainSchema)
			}
			continue
		}
		byName[key], t.index = t, len(resolved)
		resolved = append(resolved, t)
		if err := q.bind(ctx, t, opened); err != nil {
			return resolved, database.ErrorAt(sql, n.Offset, err)
		}
		if q.o.Target != nil {
			if i := slices.IndexFunc(t.columns, func(c column) bool { return sqlwrite.IsReserved(c.name) }); i >= 0 {
				return resolved, fmt.Errorf("table %v has a column %s, but a statement that changes rows needs this name: rename the column", t, sqltext.Name(t.columns[i].name))
			}
		}
		if t.isTarget {
			if err := t.checkTarget(n.WholeRows, q.o.Target.Alias); err != nil {
				return resolved, err
			}
		}
	}
	return resolved, nil
}

// find opens the table that n names, in the given state, and returns the names of its bucket and of the table. If no
// name matches exactly, but a single name differs only in case, find opens that table.
func (q *query) find(ctx context.Context, n database.Name, state tables.At) (bucket, table string, opened *tables.Table, err error) {
	bucket = n.Schema
	if n.Schema == "" {
		bucket = q.o.Bucket
	}
	var missing error
	buckets := []string{bucket}
	if n.Schema == "default" {
		buckets = append(buckets, "") // the default bucket, whose empty name SQL cannot express
	}
	for _, b := range buckets {
		if err := tables.CheckAccess(ctx, b); err != nil {
			missing = cmp.Or(missing, err)
			continue
		}
		opened, err := q.store.Bucket(b).Table(n.Table).At(ctx, state)
		if err == nil || !errors.Is(err, tables.ErrNotFound) {
			return b, n.Table, opened, err
		}
		missing = cmp.Or(missing, err)
	}
	var matches []*boundTable
	var names []string
	matchesBucket := func(b string) bool { return b == bucket || n.Schema != "" && strings.EqualFold(b, n.Schema) }
	for info, err := range q.accessible(ctx, state, matchesBucket) {
		if err != nil {
			return "", "", nil, err
		}
		names = append(names, info.Name)
		if strings.EqualFold(info.Name, n.Table) {
			matches = append(matches, &boundTable{bucket: info.Bucket, table: info.Name})
		}
	}
	switch len(matches) {
	case 0:
		if state.Snapshot() != "" && len(names) == 0 || errors.Is(missing, fs.ErrPermission) {
			return "", "", nil, missing // this error says whether the snapshot exists
		}
		missingTable := &boundTable{bucket: bucket, table: n.Table}
		return "", "", nil, fmt.Errorf("table %v %w%s", missingTable, tables.ErrNotFound, textfmt.Hint(n.Table, names))
	case 1:
		opened, err = q.store.Bucket(matches[0].bucket).Table(matches[0].table).At(ctx, state)
		return matches[0].bucket, matches[0].table, opened, err
	}
	return "", "", nil, fmt.Errorf("tables %v and %v differ only in case: write the name exactly", matches[0], matches[1])
}

// checkTarget returns an error if a column of the target table hides one of the columns that number rows, or if an
// expression uses whole rows of the table, because the view's rows have more columns than the table's.
func (t *boundTable) checkTarget(wholeRows []string, alias string) error {
	if t.hidesRowNumbers() {
		return fmt.Errorf("table %v has a column %s or %s, but SQL needs these names to change rows: rename the column", t, fileIndex, fileRow)
	}
	hasColumn := slices.ContainsFunc(t.columns, func(c column) bool { return strings.EqualFold(c.name, alias) })
	if slices.Contains(wholeRows, strings.ToLower(alias)) && !hasColumn {
		return fmt.Errorf("%s is a whole row, which is not supported here: name its columns", sqltext.Name(alias))
	}
	return nil
}

// Columns that DuckDB's function read_parquet offers, but does not include in *.
const fileIndex, fileRow = "file_index", "file_row_number"

func (q *query) bind(ctx context.Context, t *boundTable, table *tables.Table) (err error) {
	target := q.o.Target
	isSame := target != nil && (t.catalog == "" || t.catalog == database.Catalog) && t.bucket == target.Bucket && t.table == target.Table
	switch {
	case t.isTarget || isSame:
		if q.target == nil {
			q.target, err = target.Plan(ctx)
		}
		t.plan = q.target
	case t.catalog == database.Changes:
		t.plan, err = table.ChangesPlan(ctx, q.o.Before)
	default:
		t.plan, err = table.ScanPlan(ctx)
	}
	if err != nil {
		return err
	}
	t.copied = q.o.Nanoseconds && removeZones(t.plan)
	if t.columns, err = columnsOf(t.plan); err != nil {
		return fmt.Errorf("table %v: %w", t, err)
	}
	if q.o.KeepsNanoseconds {
		return t.checkNanoseconds(ctx)
	}
	return nil
}

func (t *boundTable) qualifiedSchema() string { return sqltext.Qualified(t.catalog, t.schema) }

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

// isNamed reports whether the statement can name the column.
func (t *boundTable) isNamed(c column) bool {
	_, found := slices.BinarySearch(t.namedColumns, strings.ToLower(c.name)) // there can be many names and many columns
	return found
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

// readFunction returns a call of the table function that reads files. The call passes the columns as JSON,
// which DuckDB binds in half the time of an expression. It also passes the row count, because DuckDB would
// otherwise assume one row per file, and plan joins that may never end.
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

// rowGroupRows is the approximate row count of each row group in our files.
const rowGroupRows = 128 << 10

func isLarge(f tables.PlannedFile) bool { return f.Rows > rowGroupRows }

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

// accessible yields the tables of all buckets for which match returns true and that the caller may access. It lists
// the tables in the given state.
func (q *query) accessible(ctx context.Context, state tables.At, match func(bucket string) bool) iter.Seq2[tables.TableInfo, error] {
	return func(yield func(tables.TableInfo, error) bool) {
		for b, err := range q.store.Buckets(ctx) {
			if err != nil {
				yield(tables.TableInfo{}, err)
				return
			}
			if !match(b) || tables.CheckAccess(ctx, b) != nil {
				continue
			}
			for info, err := range q.store.Bucket(b).Tables(ctx, &tables.Filter{Snapshot: state.Snapshot()}) {
				if err != nil && state.Snapshot() != "" && errors.Is(err, tables.ErrNotFound) {
					break // the bucket has no snapshot with this name
				}
				if !yield(info, err) || err != nil {
					return
				}
			}
		}
	}
}

var showTables = regexp.MustCompile(`(?i)^\s*SHOW\s+(ALL\s+)?TABLES\s*;?\s*$`)

// replaceShow replaces SHOW TABLES with an equivalent SELECT, because the query's database contains only the
// tables that a statement names. It returns other statements unchanged.
func (q *query) replaceShow(ctx context.Context, sql string) (string, error) {
	const maxTables, maxBytes = 100_000, 8 << 20
	match := showTables.FindStringSubmatch(sql)
	if match == nil {
		return sql, nil
	}
	rows, size := [][]any{}, 0
	for i, err := range q.accessible(ctx, q.o.At, func(b string) bool { return match[1] != "" || b == q.o.Bucket }) {
		if err != nil {
			return "", err
		}
		size += len(i.Bucket) + len(i.Name) + 64
		if len(rows) == maxTables || size > maxBytes {
			return "", fmt.Errorf("SHOW lists at most %d tables, or %d bytes of names: use SHOW TABLES for a single bucket", maxTables, maxBytes)
		}
		rows = append(rows, []any{i.Bucket, i.Name, i.Rows, i.Bytes, i.Version, i.Updated.Truncate(time.Microsecond)})
	}
	list, err := json.Marshal(rows)
	return `SELECT value->>'$[0]' AS bucket, value->>'$[1]' AS name, (value->>'$[2]')::BIGINT AS rows, (value->>'$[3]')::BIGINT AS bytes,
		(value->>'$[4]')::BIGINT AS version, (value->>'$[5]')::TIMESTAMPTZ AS updated FROM json_each(` + sqltext.Text(string(list)) + ") ORDER BY 1, 2", err
}

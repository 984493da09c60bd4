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

	"github.com/go-partd/partd/internal/nearest"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/database"
	"github.com/go-partd/partd/tables/internal/sqlquote"
)

// boundTable is a table of a statement: a view in the query's database, on the files of one state of
// the table.
type boundTable struct {
	catalog       string // "" means DuckDB's own
	schema, name  string // in the query's database, as the statement spells them
	bucket, table string
	columns       []column
	files         []tables.PlannedFile
	plan          *tables.ScanPlan
	offset        int          // position of the name in the statement, in bytes
	extraRows     *scratchFile // rows that are in no file of the table
	copied        bool         // extraRows contains all rows of the table, with changed types
	isPrivate     bool         // no other statement reads extraRows
}

func (t *boundTable) String() string { return sqlquote.Qualified(t.bucket, t.table) }

func (t *boundTable) close() {
	if t.extraRows != nil {
		t.extraRows.release()
	}
	if t.plan != nil {
		t.plan.Close()
	}
}

// reserved lists names that DuckDB resolves before schemas.
var reserved = []string{"memory", "system", "temp", "pg_catalog", "information_schema"}

const mainSchema = "main" // DuckDB's schema for unqualified names

// resolve finds the tables of names. DuckDB ignores the case of names, even in quotes; the names of
// tables are compared byte by byte.
func (q *query) resolve(ctx context.Context, sql string, names []database.Name) (bounds []*boundTable, err error) {
	defer func() {
		if err != nil {
			for _, t := range bounds {
				t.close()
			}
			bounds = nil
		}
	}()
	byName := map[[3]string]*boundTable{}
	for _, n := range names {
		t := &boundTable{catalog: n.Catalog, schema: n.Schema, name: n.Table, offset: n.Offset}
		state := q.o.At
		if n.Catalog == database.Before {
			if state = q.o.Before; state == nil {
				return bounds, database.RefusedAt(sql, n.Offset, "%s refers to the earlier state in a comparison, but none was given", database.Before)
			}
		}
		t.schema = cmp.Or(t.schema, mainSchema)
		var opened *tables.Table
		if t.bucket, t.table, opened, err = q.find(ctx, n, state); err != nil {
			return bounds, database.ErrorAt(sql, n.Offset, err)
		}
		if slices.Contains(reserved, strings.ToLower(n.Schema)) {
			return bounds, database.RefusedAt(sql, n.Offset, "%s is a reserved word in SQL: to use a bucket with this name, make it the bucket of the query, and omit it in the statement", sqlquote.Name(n.Schema))
		}
		key := [3]string{t.catalog, strings.ToLower(t.schema), strings.ToLower(t.name)}
		if other := byName[key]; other != nil {
			if other.bucket != t.bucket || other.table != t.table {
				return bounds, database.RefusedAt(sql, n.Offset, "bounds %v and %v differ only in case, or by a bucket named %s: SQL cannot tell them apart in one statement", other, t, mainSchema)
			}
			continue
		}
		byName[key] = t
		bounds = append(bounds, t)
		if err := q.bind(ctx, t, opened); err != nil {
			return bounds, database.ErrorAt(sql, n.Offset, err)
		}
	}
	return bounds, nil
}

// find opens a table in a state, and returns its exact name and its bucket's. It prefers a table with
// exactly this name. Otherwise a single table whose name differs only in case is used.
func (q *query) find(ctx context.Context, n database.Name, state tables.At) (bucket, table string, opened *tables.Table, err error) {
	bucket = n.Schema
	if n.Schema == "" {
		bucket = q.o.Bucket
	}
	var missing error
	buckets := []string{bucket}
	if n.Schema == "default" {
		buckets = append(buckets, "") // SQL cannot express the empty name
	}
	for _, b := range buckets {
		if err := tables.CheckAccess(ctx, b); err != nil {
			missing = cmp.Or(missing, err)
			continue
		}
		opened, err := q.store.Bucket(b).Table(ctx, n.Table, state)
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
			return "", "", nil, missing // the error says whether the snapshot exists
		}
		wanted := &boundTable{bucket: bucket, table: n.Table}
		return "", "", nil, fmt.Errorf("table %v%s: %w", wanted, nearest.Hint(n.Table, names), tables.ErrNotFound)
	case 1:
		opened, err = q.store.Bucket(matches[0].bucket).Table(ctx, matches[0].table, state)
		return matches[0].bucket, matches[0].table, opened, err
	}
	return "", "", nil, fmt.Errorf("tables %v and %v differ only in case: use one of these names", matches[0], matches[1])
}

// bind determines the state and the columns for the table's view.
func (q *query) bind(ctx context.Context, t *boundTable, table *tables.Table) (err error) {
	if t.plan, err = table.ScanPlan(ctx); err != nil {
		return err
	}
	t.copied = q.o.Nanoseconds && removeZones(t.plan)
	if t.columns, err = columnsOf(t.plan); err != nil {
		return fmt.Errorf("table %v: %w", t, err)
	}
	return nil
}

// fill determines the files for the table's view. If all rows must be copied to a file, it skips the
// copy for a statement that is only described.
func (q *query) fill(ctx context.Context, t *boundTable, describeOnly bool) (err error) {
	switch p := t.plan; {
	case p.NeedsScan || t.copied:
		if describeOnly {
			return nil
		}
		t.isPrivate = true
		t.extraRows, err = q.e.scratch.write(ctx, p, "")
	default:
		t.files = slices.Clone(p.Files)
		if len(p.Tail) > 0 {
			t.extraRows, err = q.e.scratch.write(ctx, p, p.TailMark)
		}
	}
	if err == nil && t.extraRows != nil {
		t.files = append(t.files, t.extraRows.planned())
	}
	return err
}

// qualifiedSchema returns the schema of the table's view, in SQL.
func (t *boundTable) qualifiedSchema() string { return sqlquote.Qualified(t.catalog, t.schema) }

func (t *boundTable) createView() string {
	return fmt.Sprintf("CREATE VIEW %s.%s AS SELECT ", t.qualifiedSchema(), sqlquote.Name(t.name))
}

// empty returns the statement that creates the view without rows.
func (t *boundTable) emptyView() string {
	columns := make([]string, len(t.columns))
	for i, c := range t.columns {
		columns[i] = "NULL::" + c.sql + " AS " + sqlquote.Name(c.name)
	}
	return t.createView() + strings.Join(columns, ", ") + " WHERE false"
}

// view returns the statement that creates the table's view. It finds columns by their Iceberg ids,
// because older files may use other names, or lack columns.
func (t *boundTable) view() string {
	if len(t.files) == 0 {
		return t.emptyView()
	}
	var plain, overlapping []tables.PlannedFile
	for _, f := range t.files {
		if f.Overlaps {
			overlapping = append(overlapping, f)
		} else {
			plain = append(plain, f)
		}
	}
	view := t.createView() + t.columnList("") + " FROM " + t.readFunction(plain)
	if len(overlapping) > 0 {
		var conditions []string
		for _, name := range t.plan.KeyColumns {
			conditions = append(conditions, "old."+sqlquote.Name(name)+" = new."+sqlquote.Name(name))
		}
		view += fmt.Sprintf(" UNION ALL SELECT %s FROM %s AS old ANTI JOIN %s AS new ON %s",
			t.columnList("old."), t.readFunction(overlapping), t.readFunction([]tables.PlannedFile{t.extraRows.planned()}), strings.Join(conditions, " AND "))
	}
	return view
}

// selected returns the list of the view's columns, each with the prefix from. For columns that may
// contain NaN, it calls the function greatest, which returns its only argument: DuckDB has no
// statistics of the result, and so skips no rows. TestNaN fails if another version of DuckDB does.
func (t *boundTable) columnList(prefix string) string {
	if len(t.plan.NaN) == 0 {
		return prefix + "*"
	}
	columns := make([]string, len(t.columns))
	for i, c := range t.columns {
		if columns[i] = prefix + sqlquote.Name(c.name); slices.Contains(t.plan.NaN, c.name) {
			columns[i] = "greatest(" + columns[i] + ") AS " + sqlquote.Name(c.name)
		}
	}
	return strings.Join(columns, ", ")
}

// readFunction returns the table function that reads files. It passes columns as JSON, which DuckDB
// binds in half the time of an expression. It must also pass the number of rows: with a schema,
// DuckDB assumes one row per file, and its joins may never end.
func (t *boundTable) readFunction(files []tables.PlannedFile) string {
	paths := make([]string, len(files))
	var rows int64
	for i, f := range files {
		paths[i] = sqlquote.Text(f.Path)
		rows += max(f.Rows, 0) // manifests of other programs may claim any number
	}
	columns := make([]string, len(t.columns)) // in column order, which a Go map would lose
	for i, c := range t.columns {
		definition, _ := json.Marshal(map[string]any{"name": c.name, "type": c.sql, "default_value": nil}) // strings always marshal
		columns[i] = fmt.Sprintf("%q:%s", c.id, definition)
	}
	return "read_parquet([" + strings.Join(paths, ",") + "], schema=" + sqlquote.Text("{"+strings.Join(columns, ",")+"}") +
		`::JSON::MAP(INTEGER, STRUCT("name" VARCHAR, "type" VARCHAR, default_value VARCHAR)), explicit_cardinality=` + strconv.FormatInt(max(rows, 1), 10) + ")"
}

// accessible yields the tables, in a state, of the wanted buckets that the caller may access.
func (q *query) accessible(ctx context.Context, state tables.At, wanted func(bucket string) bool) iter.Seq2[tables.TableInfo, error] {
	return func(yield func(tables.TableInfo, error) bool) {
		for b, err := range q.store.Buckets(ctx) {
			if err != nil {
				yield(tables.TableInfo{}, err)
				return
			}
			if !wanted(b) || tables.CheckAccess(ctx, b) != nil {
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

// replaceShow replaces SHOW TABLES with an equivalent SELECT, because DuckDB knows only the tables
// that a statement names. It returns any other statement unchanged.
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
		if size += len(i.Bucket) + len(i.Name) + 64; len(rows) == maxTables || size > maxBytes {
			return "", fmt.Errorf("SHOW lists at most %d tables, or %d bytes of names: use SHOW TABLES for a single bucket", maxTables, maxBytes)
		}
		rows = append(rows, []any{i.Bucket, i.Name, i.Rows, i.Bytes, i.Version, i.Updated.Truncate(time.Microsecond)})
	}
	list, err := json.Marshal(rows)
	return `SELECT value->>'$[0]' AS bucket, value->>'$[1]' AS name, (value->>'$[2]')::BIGINT AS rows, (value->>'$[3]')::BIGINT AS bytes,
		(value->>'$[4]')::BIGINT AS version, (value->>'$[5]')::TIMESTAMPTZ AS updated FROM json_each(` + sqlquote.Text(string(list)) + ") ORDER BY 1, 2", err
}

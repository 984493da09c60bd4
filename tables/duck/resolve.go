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
	"strings"
	"time"

	"github.com/go-partd/partd/internal/nearest"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/database"
	"github.com/go-partd/partd/tables/internal/sqlquote"
)

// bound is a table of a statement: a view in the query's database over the files
// of one state of it.
type bound struct {
	catalog       string // or "": DuckDB's own
	schema, name  string // in the query's database, as the statement writes them
	bucket, table string
	columns       []column
	files         []string
	replaced      []string // those of whose rows some are in rows anew
	plan          *tables.ScanPlan
	at            int          // in the statement, in bytes
	rows          *scratchFile // rows that are in no file of the table
	copied        bool         // all of them, to have other types
	once          bool         // no other statement reads them
}

func (t *bound) String() string { return sqlquote.Within(t.bucket, t.table) }

func (t *bound) close() {
	if t.rows != nil {
		t.rows.release()
	}
	if t.plan != nil {
		t.plan.Close()
	}
}

// reserved are names that DuckDB has before those of schemas.
var reserved = []string{"memory", "system", "temp", "pg_catalog", "information_schema"}

const mainSchema = "main" // of DuckDB: where names without a schema are

// resolve finds the tables of names. DuckDB takes names for the same that differ
// by case, even in quotes; the tables' names are compared byte by byte.
func (q *query) resolve(ctx context.Context, sql string, names []database.Name) (all []*bound, err error) {
	defer func() {
		if err != nil {
			for _, t := range all {
				t.close()
			}
			all = nil
		}
	}()
	known := map[[3]string]*bound{}
	for _, n := range names {
		t := &bound{catalog: n.Catalog, schema: n.Schema, name: n.Table, at: n.At}
		at := q.o.At
		if n.Catalog == database.Before {
			if at = q.o.Before; at == nil {
				return all, database.Refused(sql, n.At, "%s stands for a state to compare with, and none was given", database.Before)
			}
		}
		t.schema = cmp.Or(t.schema, mainSchema)
		var opened *tables.Table
		if t.bucket, t.table, opened, err = q.find(ctx, n, at); err != nil {
			return all, database.ErrorAt(sql, n.At, err)
		}
		if slices.Contains(reserved, strings.ToLower(n.Schema)) {
			return all, database.Refused(sql, n.At, "%s has a meaning of its own in SQL: a bucket of this name can only be that of the query, whose tables stand without one", sqlquote.Name(n.Schema))
		}
		key := [3]string{t.catalog, strings.ToLower(t.schema), strings.ToLower(t.name)}
		if was := known[key]; was != nil {
			if was.bucket != t.bucket || was.table != t.table {
				return all, database.Refused(sql, n.At, "tables %v and %v differ only by the case of their letters, or by a bucket that is called %s, and SQL cannot tell them apart in one statement", was, t, mainSchema)
			}
			continue
		}
		known[key] = t
		all = append(all, t)
		if err := q.bind(ctx, t, opened); err != nil {
			return all, database.ErrorAt(sql, n.At, err)
		}
	}
	return all, nil
}

// find opens the table that a name means, in a state, and says how it and its bucket are
// written: the one of just this name, else the only one whose name differs by case alone.
func (q *query) find(ctx context.Context, n database.Name, at tables.At) (bucket, table string, opened *tables.Table, err error) {
	bucket = n.Schema
	if n.Schema == "" {
		bucket = q.o.Bucket
	}
	var missing error
	exact := []string{bucket}
	if n.Schema == "default" {
		exact = append(exact, "") // which has no name that SQL could write
	}
	for _, b := range exact {
		if err := tables.Reaches(ctx, b); err != nil {
			missing = cmp.Or(missing, err)
			continue
		}
		opened, err := q.store.Bucket(b).Table(ctx, n.Table, at)
		if err == nil || !errors.Is(err, tables.ErrNotFound) {
			return b, n.Table, opened, err
		}
		missing = cmp.Or(missing, err)
	}
	var found []*bound
	var near []string
	mayBe := func(b string) bool { return b == bucket || n.Schema != "" && strings.EqualFold(b, n.Schema) }
	for info, err := range q.reached(ctx, at, mayBe) {
		if err != nil {
			return "", "", nil, err
		}
		near = append(near, info.Name)
		if strings.EqualFold(info.Name, n.Table) {
			found = append(found, &bound{bucket: info.Bucket, table: info.Name})
		}
	}
	switch len(found) {
	case 0:
		if at.Snapshot() != "" && len(near) == 0 || errors.Is(missing, fs.ErrPermission) {
			return "", "", nil, missing // which says whether there is such a snapshot
		}
		asked := &bound{bucket: bucket, table: n.Table}
		return "", "", nil, fmt.Errorf("table %v%s: %w", asked, nearest.Hint(n.Table, near), tables.ErrNotFound)
	case 1:
		opened, err = q.store.Bucket(found[0].bucket).Table(ctx, found[0].table, at)
		return found[0].bucket, found[0].table, opened, err
	}
	return "", "", nil, fmt.Errorf("tables %v and %v differ only by the case of their letters: write one of these names", found[0], found[1])
}

// bind finds the state and the columns that the table's view is over.
func (q *query) bind(ctx context.Context, t *bound, table *tables.Table) (err error) {
	if t.plan, err = table.ScanPlan(ctx); err != nil {
		return err
	}
	t.copied = q.o.Nanoseconds && withoutZones(t.plan)
	if t.columns, err = columnsOf(t.plan); err != nil {
		return fmt.Errorf("table %v: %w", t, err)
	}
	return nil
}

// fill finds the files that the table's view is over. Where all rows have to be copied to one, a
// statement that is only described does without.
func (q *query) fill(ctx context.Context, t *bound, describes bool) (err error) {
	switch p := t.plan; {
	case p.Scanned || t.copied:
		if describes {
			return nil
		}
		t.once = true
		t.rows, err = q.e.scratch.write(ctx, p, "")
	default:
		for _, f := range p.Files {
			t.files = append(t.files, f.Path)
			if f.Overlaps {
				t.replaced = append(t.replaced, f.Path)
			}
		}
		if len(p.Tail) > 0 {
			t.rows, err = q.e.scratch.write(ctx, p, p.TailMark)
		}
	}
	if err == nil && t.rows != nil {
		t.files = append(t.files, t.rows.path)
	}
	return err
}

// within is the schema of the table's view.
func (t *bound) within() string { return sqlquote.Within(t.catalog, t.schema) }

func (t *bound) create() string {
	return fmt.Sprintf("CREATE VIEW %s.%s AS SELECT ", t.within(), sqlquote.Name(t.name))
}

// empty is the view without rows.
func (t *bound) empty() string {
	columns := make([]string, len(t.columns))
	for i, c := range t.columns {
		columns[i] = "NULL::" + c.sql + " AS " + sqlquote.Name(c.name)
	}
	return t.create() + strings.Join(columns, ", ") + " WHERE false"
}

// view is the statement that makes the table known. Columns are found by Iceberg's
// ids: files may have them under older names, or lack them.
func (t *bound) view() string {
	if len(t.files) == 0 {
		return t.empty()
	}
	plain := slices.DeleteFunc(slices.Clone(t.files), func(f string) bool { return slices.Contains(t.replaced, f) })
	view := t.create() + "* FROM " + t.reading(plain)
	if len(t.replaced) > 0 {
		var same []string
		for _, name := range t.plan.Replaced {
			same = append(same, "old."+sqlquote.Name(name)+" = new."+sqlquote.Name(name))
		}
		view += fmt.Sprintf(" UNION ALL SELECT old.* FROM %s AS old ANTI JOIN %s AS new ON %s",
			t.reading(t.replaced), t.reading([]string{t.rows.path}), strings.Join(same, " AND "))
	}
	return view
}

// reading is what reads files of the table. DuckDB reads many columns as JSON in half of the time
// that it takes to bind an expression of as many.
func (t *bound) reading(files []string) string {
	paths := make([]string, len(files))
	for i, f := range files {
		paths[i] = sqlquote.Text(f)
	}
	columns := make([]string, len(t.columns)) // in their order, which a map of Go has not
	for i, c := range t.columns {
		one, _ := json.Marshal(map[string]any{"name": c.name, "type": c.sql, "default_value": nil}) // texts have one
		columns[i] = fmt.Sprintf("%q:%s", c.id, one)
	}
	return "read_parquet([" + strings.Join(paths, ",") + "], schema=" + sqlquote.Text("{"+strings.Join(columns, ",")+"}") +
		`::JSON::MAP(INTEGER, STRUCT("name" VARCHAR, "type" VARCHAR, default_value VARCHAR)))`
}

// reached are the tables, in a state, of those buckets that somebody wants and the
// caller may reach.
func (q *query) reached(ctx context.Context, at tables.At, wanted func(bucket string) bool) iter.Seq2[tables.TableInfo, error] {
	return func(yield func(tables.TableInfo, error) bool) {
		for b, err := range q.store.Buckets(ctx) {
			if err != nil {
				yield(tables.TableInfo{}, err)
				return
			}
			if !wanted(b) || tables.Reaches(ctx, b) != nil {
				continue
			}
			for info, err := range q.store.Bucket(b).Tables(ctx, &tables.Filter{Snapshot: at.Snapshot()}) {
				if err != nil && at.Snapshot() != "" && errors.Is(err, tables.ErrNotFound) {
					break // the bucket has no snapshot of this name
				}
				if !yield(info, err) || err != nil {
					return
				}
			}
		}
	}
}

var showTables = regexp.MustCompile(`(?i)^\s*SHOW\s+(ALL\s+)?TABLES\s*;?\s*$`)

// shown is the SELECT that SHOW TABLES stands for, which DuckDB cannot answer: it
// knows the tables that a statement names, and no others. Any other statement is as it
// was.
func (q *query) shown(ctx context.Context, sql string) (string, error) {
	const most, mostBytes = 100_000, 8 << 20
	form := showTables.FindStringSubmatch(sql)
	if form == nil {
		return sql, nil
	}
	rows, size := [][]any{}, 0
	for i, err := range q.reached(ctx, q.o.At, func(b string) bool { return form[1] != "" || b == q.o.Bucket }) {
		if err != nil {
			return "", err
		}
		if size += len(i.Bucket) + len(i.Name) + 64; len(rows) == most || size > mostBytes {
			return "", fmt.Errorf("there are more tables than SHOW lists, which is %d, or %d bytes of names: ask for those of one bucket", most, mostBytes)
		}
		rows = append(rows, []any{i.Bucket, i.Name, i.Rows, i.Bytes, i.Version, i.Updated.Truncate(time.Microsecond)})
	}
	list, err := json.Marshal(rows)
	return `SELECT value->>'$[0]' AS bucket, value->>'$[1]' AS name, (value->>'$[2]')::BIGINT AS rows, (value->>'$[3]')::BIGINT AS bytes,
		(value->>'$[4]')::BIGINT AS version, (value->>'$[5]')::TIMESTAMPTZ AS updated FROM json_each(` + sqlquote.Text(string(list)) + ") ORDER BY 1, 2", err
}

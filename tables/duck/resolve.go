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

	"github.com/go-partd/partd/internal/base/textfmt"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/sql/database"
	"github.com/go-partd/partd/tables/internal/sql/sqltext"
	"github.com/go-partd/partd/tables/internal/sql/sqlwrite"
)

// reservedNames contains names that DuckDB resolves before it looks for a schema.
var reservedNames = []string{"memory", "system", "temp", "pg_catalog", "information_schema"}

// resolver finds the tables that a statement names.
type resolver struct {
	store  *tables.Store
	o      tables.QueryOptions
	target *tables.ScanPlan // result of QueryOptions.Target's Plan; nil before the call
}

// resolve finds the tables that a statement names. Table names are case-sensitive, but DuckDB ignores case, even in
// quoted names. So resolve returns an error if a statement names two tables that differ only in case.
func (r *resolver) resolve(ctx context.Context, sql string, names []database.Name) (resolved []*boundTable, err error) {
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
		state := r.o.At
		if n.Catalog == database.Before || n.Catalog == database.Changes {
			if r.o.Before == nil {
				return resolved, sqltext.RefusedAt(sql, n.Offset, "%s refers to an earlier state of the tables, but the query does not select one", n.Catalog)
			}
			if n.Catalog == database.Before {
				state = r.o.Before
			}
		}
		t.schema = cmp.Or(t.schema, mainSchema)
		var opened *tables.Table
		t.isTarget = r.o.Target != nil && n.Catalog == "" && n.Schema == tables.TargetSchema
		if t.isTarget {
			t.bucket, t.table = r.o.Target.Bucket, r.o.Target.Table
		} else {
			t.bucket, t.table, opened, err = r.find(ctx, n, state)
			if err != nil {
				return resolved, sqltext.ErrorAt(sql, n.Offset, err)
			}
		}
		if slices.Contains(reservedNames, strings.ToLower(n.Schema)) {
			return resolved, sqltext.RefusedAt(sql, n.Offset, "%s is a reserved word in SQL: to use a bucket with this name, make it the bucket of the query, and omit it in the statement", sqltext.Name(n.Schema))
		}
		key := [3]string{t.catalog, strings.ToLower(t.schema), strings.ToLower(t.name)}
		if other := byName[key]; other != nil {
			if other.bucket != t.bucket || other.table != t.table {
				return resolved, sqltext.RefusedAt(sql, n.Offset, "tables %v and %v differ only in case, or by a bucket named %s: use only one of them in a statement, because SQL cannot distinguish them", other, t, mainSchema)
			}
			continue
		}
		byName[key], t.index = t, len(resolved)
		resolved = append(resolved, t)
		if err := r.bind(ctx, t, opened); err != nil {
			return resolved, sqltext.ErrorAt(sql, n.Offset, err)
		}
		if r.o.Target != nil {
			if i := slices.IndexFunc(t.columns, func(c column) bool { return sqlwrite.IsReserved(c.name) }); i >= 0 {
				return resolved, fmt.Errorf("table %v has a column %s, but a statement that changes rows needs this name: rename the column", t, sqltext.Name(t.columns[i].name))
			}
		}
		if t.isTarget {
			if err := t.checkTarget(n.WholeRows, r.o.Target.Alias); err != nil {
				return resolved, err
			}
		}
	}
	return resolved, nil
}

// find opens the table that n names in the given state. It also returns the names of the bucket and of the table. If no
// name matches exactly, but a single name differs only in case, find opens that table.
func (r *resolver) find(ctx context.Context, n database.Name, state tables.At) (bucket, table string, opened *tables.Table, err error) {
	bucket = n.Schema
	if n.Schema == "" {
		bucket = r.o.Bucket
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
		opened, err := r.store.Bucket(b).Table(n.Table).At(ctx, state)
		if err == nil || !errors.Is(err, tables.ErrNotFound) {
			return b, n.Table, opened, err
		}
		missing = cmp.Or(missing, err)
	}
	var matches []*boundTable
	var names []string
	matchesBucket := func(b string) bool { return b == bucket || n.Schema != "" && strings.EqualFold(b, n.Schema) }
	for info, err := range r.accessibleTables(ctx, state, matchesBucket) {
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
		return "", "", nil, fmt.Errorf("table %s %w%s", sqltext.Qualified(bucket, n.Table), tables.ErrNotFound, textfmt.Hint(n.Table, names))
	case 1:
		opened, err = r.store.Bucket(matches[0].bucket).Table(matches[0].table).At(ctx, state)
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

func (r *resolver) bind(ctx context.Context, t *boundTable, table *tables.Table) (err error) {
	target := r.o.Target
	isSame := target != nil && (t.catalog == "" || t.catalog == database.Catalog) && t.bucket == target.Bucket && t.table == target.Table
	switch {
	case t.isTarget || isSame:
		if r.target == nil {
			r.target, err = target.Plan(ctx)
		}
		t.plan = r.target
	case t.catalog == database.Changes:
		t.plan, err = table.ChangesPlan(ctx, r.o.Before)
	default:
		t.plan, err = table.ScanPlan(ctx)
	}
	if err != nil {
		return err
	}
	t.copied = r.o.Nanoseconds && removeZones(t.plan)
	t.columns, err = columnsOf(t.plan)
	if err != nil {
		return fmt.Errorf("table %v: %w", t, err)
	}
	if r.o.KeepsNanoseconds {
		return t.checkNanoseconds(ctx)
	}
	return nil
}

// accessibleTables yields the tables in the buckets that match accepts and the caller may access: the tables of the
// snapshot that state selects, or else the current tables.
func (r *resolver) accessibleTables(ctx context.Context, state tables.At, match func(bucket string) bool) iter.Seq2[tables.TableInfo, error] {
	return func(yield func(tables.TableInfo, error) bool) {
		for b, err := range r.store.Buckets(ctx) {
			if err != nil {
				yield(tables.TableInfo{}, err)
				return
			}
			if !match(b) || tables.CheckAccess(ctx, b) != nil {
				continue
			}
			for info, err := range r.store.Bucket(b).Tables(ctx, &tables.Filter{Snapshot: state.Snapshot()}) {
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
func (r *resolver) replaceShow(ctx context.Context, sql string) (string, error) {
	const maxTables, maxBytes = 100_000, 8 << 20
	match := showTables.FindStringSubmatch(sql)
	if match == nil {
		return sql, nil
	}
	rows, size := [][]any{}, 0
	showsAll := match[1] != "" // SHOW ALL TABLES
	for i, err := range r.accessibleTables(ctx, r.o.At, func(b string) bool { return showsAll || b == r.o.Bucket }) {
		if err != nil {
			return "", err
		}
		size += len(i.Bucket) + len(i.Name) + 64
		if len(rows) == maxTables || size > maxBytes {
			return "", fmt.Errorf("SHOW lists at most %d tables, or %d bytes of names: use SHOW TABLES for a single bucket", maxTables, maxBytes)
		}
		count := &i.Rows
		if i.AtMost {
			count = nil
		}
		rows = append(rows, []any{i.Bucket, i.Name, count, i.Bytes, i.Version, i.Updated.Truncate(time.Microsecond)})
	}
	list, err := json.Marshal(rows)
	return `SELECT value->>'$[0]' AS bucket, value->>'$[1]' AS name, (value->>'$[2]')::BIGINT AS rows, (value->>'$[3]')::BIGINT AS bytes,
		(value->>'$[4]')::BIGINT AS version, (value->>'$[5]')::TIMESTAMPTZ AS updated FROM json_each(` + sqltext.Text(string(list)) + ") ORDER BY 1, 2", err
}

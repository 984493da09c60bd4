package icecat

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
)

// Listed is a table in a listing.
type Listed struct {
	Namespace, Name, UUID string
	Rows, Bytes, Files    int64
	AtMost                bool // whether Rows is only a maximum
	Version               int64
	Location              string // location of the metadata
	Damaged               error  // error from reading the metadata of a table that another engine changed
	Info
}

// RowsProperty is a property of a snapshot's summary: the number of rows, preceded by "<=" if it is only a maximum.
// Commits add the property if the totals do not tell how many rows remain after delete files.
const RowsProperty = "partd.rows"

// SummaryOf returns the properties in the summary of s, which must not be modified. s can be nil, or lack a summary.
func SummaryOf(s *table.Snapshot) iceberg.Properties {
	if s == nil || s.Summary == nil {
		return nil
	}
	return s.Summary.Properties
}

// Totals sets the numbers of rows, bytes and files to those in a snapshot's summary.
func (l *Listed) Totals(s *table.Snapshot) {
	p := SummaryOf(s)
	l.Rows, l.Bytes, l.Files = p.GetInt64("total-records", 0), p.GetInt64("total-files-size", 0), p.GetInt64("total-data-files", 0)
	l.AtMost = p.GetInt64("total-delete-files", 0)|p.GetInt64("total-position-deletes", 0)|p.GetInt64("total-equality-deletes", 0) != 0
	text, atMost := strings.CutPrefix(p[RowsProperty], "<=")
	if rows, err := strconv.ParseInt(text, 10, 64); err == nil {
		l.Rows, l.AtMost = rows, atMost
	}
}

func listedFrom(meta table.Metadata) Listed {
	l := Listed{UUID: meta.TableUUID().String(), Info: Info{Updated: time.UnixMilli(meta.LastUpdatedMillis()).UTC()}}
	l.Metadata = FromProperties(meta.Properties())
	if s := meta.CurrentSnapshot(); s != nil {
		l.Version = s.SequenceNumber
		l.Totals(s)
	}
	return l
}

// listings lists tables as recorded in the database.
type listings struct {
	*database
	loader *loader
}

// listPage is the maximum number of tables that one query by List reads, so that a slow caller does not hold a
// connection.
const listPage = 1000

// List calls f for each table in a namespace, sorted by name, until f returns false. If another engine has changed a
// table, List reads the table's metadata.
func (ls *listings) List(ctx context.Context, namespace string, f func(Listed) bool) error {
	return ls.pages(ctx, f, selectTables+` AND t.table_namespace=? AND t.table_name>? ORDER BY t.table_name LIMIT ?`, namespace)
}

// pages calls f for each table that q selects, page by page. It adds the last two arguments of q itself: the last name
// on the previous page, and the limit.
func (ls *listings) pages(ctx context.Context, f func(Listed) bool, q string, args ...any) error {
	for lastName := ""; ; {
		page, err := ls.selectListed(ctx, q, append(slices.Clip(args), lastName, listPage)...)
		if err != nil {
			return err
		}
		for _, l := range page {
			if !f(l) {
				return nil
			}
		}
		if len(page) < listPage {
			return nil
		}
		lastName = page[len(page)-1].Name
	}
}

// Get returns the listing of a single table.
func (ls *listings) Get(ctx context.Context, namespace, name string) (Listed, error) {
	return ls.queryOne(ctx, selectTables+` AND t.table_namespace=? AND t.table_name=?`, namespace, name)
}

func (ls *listings) queryOne(ctx context.Context, q string, args ...any) (Listed, error) {
	page, err := ls.selectListed(ctx, q, args...)
	if err == nil && len(page) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return Listed{}, err
	}
	return page[0], nil
}

// selectListed returns the tables that q selects. q must select the columns of selectTables.
func (ls *listings) selectListed(ctx context.Context, q string, args ...any) ([]Listed, error) {
	var page []Listed
	var outdated []int // indices of tables that another engine has changed
	err := query(ctx, ls.readPool, func(rows *sql.Rows) (err error) {
		var l Listed
		var uuid, location, meta sql.NullString
		var numbers [5]sql.NullInt64
		if err := rows.Scan(&l.Namespace, &l.Name, &l.Location, &uuid, &location, &numbers[0], &numbers[1], &numbers[2], &numbers[3], &numbers[4], &meta); err != nil {
			return err
		}
		l.UUID, l.Rows, l.Bytes, l.Files, l.Version = uuid.String, numbers[0].Int64, numbers[1].Int64, numbers[2].Int64, numbers[3].Int64
		if l.Rows < 0 { // see insertInfo
			l.Rows, l.AtMost = -1-l.Rows, true
		}
		l.Updated = time.UnixMilli(numbers[4].Int64).UTC()
		if meta.Valid {
			l.Metadata, err = ParseMetadata([]byte(meta.String))
			if err != nil {
				l.Damaged = &Damaged{File: "the table's metadata in the catalog", Err: err, Remedy: RemedyUnrepairable}
			}
		}
		if location.String != l.Location {
			outdated = append(outdated, len(page))
		}
		page = append(page, l)
		return nil
	}, q, args...)
	if err != nil {
		return nil, err
	}
	for _, i := range outdated {
		l := &page[i]
		t, err := ls.loader.LoadAt(ctx, l.Namespace, l.Name, l.Location)
		if errors.Is(err, ErrContent) {
			l.Damaged = err
			continue
		}
		if err != nil {
			return nil, err
		}
		current := listedFrom(t.Metadata())
		current.Namespace, current.Name, current.Location = l.Namespace, l.Name, l.Location
		if l.UUID == current.UUID {
			current.Metadata = l.Metadata
		}
		*l = current
	}
	return page, nil
}

// ByUUID returns the name that the catalog has recorded for the table with the given UUID.
func (ls *listings) ByUUID(ctx context.Context, uuid string) (n TableName, err error) {
	err = ls.readPool.QueryRowContext(ctx, `SELECT namespace, name FROM partd_tables WHERE uuid=?`, uuid).Scan(&n.Namespace, &n.Name)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	return n, explain(ctx, err)
}

// Recorded returns the names of the given tables, by UUID. It omits tables that another program has changed or deleted.
func (ls *listings) Recorded(ctx context.Context, uuids []string) (map[string]TableName, error) {
	names := make(map[string]TableName, len(uuids))
	for chunk := range slices.Chunk(uuids, 500) {
		args := make([]any, len(chunk))
		for i, uuid := range chunk {
			args[i] = uuid
		}
		err := query(ctx, ls.readPool, func(rows *sql.Rows) error {
			var uuid string
			var n TableName
			err := rows.Scan(&uuid, &n.Namespace, &n.Name)
			names[uuid] = n
			return err
		}, `SELECT p.uuid, p.namespace, p.name
			FROM partd_tables p CROSS JOIN iceberg_tables t -- CROSS JOIN makes SQLite start with p, so it does not read all tables
			WHERE p.uuid IN (?`+strings.Repeat(",?", len(chunk)-1)+`) AND t.catalog_name='`+Name+`'
				AND t.table_namespace=p.namespace AND t.table_name=p.name AND t.metadata_location=p.metadata_location`, args...)
		if err != nil {
			return nil, err
		}
	}
	return names, nil
}

// UUIDs returns the names of all tables, by UUID. If tables are damaged, it returns the others and an error that wraps
// ErrContent.
func (ls *listings) UUIDs(ctx context.Context) (map[string]TableName, error) {
	names := map[string]TableName{}
	return names, ls.eachTable(ctx, func(n TableName, t *table.Table) error {
		names[t.Metadata().TableUUID().String()] = n
		return nil
	})
}

// eachTable calls f for every table that is not damaged. If tables are damaged, the final error wraps ErrContent.
func (ls *listings) eachTable(ctx context.Context, f func(TableName, *table.Table) error) error {
	names, err := namespaces{ls.database}.Namespaces(ctx)
	if err != nil {
		return err
	}
	var damaged error
	for _, ns := range names {
		var tableErr error
		err := ls.List(ctx, ns, func(l Listed) bool {
			var t *table.Table
			t, tableErr = ls.loader.Load(ctx, l.Namespace, l.Name)
			if errors.Is(tableErr, ErrNotFound) { // deleted in the meantime
				tableErr = nil
				return true
			}
			if tableErr == nil {
				tableErr = f(TableName{l.Namespace, l.Name}, t)
			}
			if errors.Is(tableErr, ErrContent) {
				damaged, tableErr = errors.Join(damaged, fmt.Errorf("table %q: %w", l.Name, tableErr)), nil
			}
			return tableErr == nil
		})
		if err := errors.Join(err, tableErr); err != nil {
			return err
		}
	}
	return damaged
}

// maxFindKeys limits the keys in a search, because SQLite limits the complexity of a query.
const maxFindKeys = 100

// Find calls f for the tables in a namespace that have the given metadata, sorted by name, until f returns false. f
// must check the metadata, because Find can also pass it other tables.
func (ls *listings) Find(ctx context.Context, namespace string, meta map[string]any, f func(Listed) bool) error {
	var q strings.Builder
	var args []any
	for i, k := range slices.Sorted(maps.Keys(meta)) {
		if i == maxFindKeys {
			break
		}
		if i > 0 {
			q.WriteString(" INTERSECT ")
		}
		q.WriteString(`SELECT name FROM partd_meta WHERE namespace=? AND key=? AND hash=?`)
		args = append(args, namespace, k, hashOf(meta[k]))
	}
	q.WriteString(` UNION SELECT name FROM partd_unlisted WHERE namespace=? ORDER BY 1`)
	names, err := ls.queryStrings(ctx, q.String(), append(args, namespace)...)
	if err != nil {
		return err
	}
	for chunk := range slices.Chunk(names, 500) {
		args := []any{namespace}
		for _, name := range chunk {
			args = append(args, name)
		}
		page, err := ls.selectListed(ctx, selectTables+` AND t.table_namespace=? AND t.table_name IN (?`+
			strings.Repeat(",?", len(chunk)-1)+`) ORDER BY t.table_name`, args...)
		if err != nil {
			return err
		}
		for _, l := range page {
			if !f(l) {
				return nil
			}
		}
	}
	return nil
}

// Unlisted returns the names of tables in a namespace that other engines have created or renamed. The tables may no
// longer exist.
func (ls *listings) Unlisted(ctx context.Context, namespace string) ([]string, error) {
	return ls.queryStrings(ctx, `SELECT name FROM partd_unlisted WHERE namespace=?`, namespace)
}

// Names returns the names of tables in a namespace, sorted: at most limit names, all after the given one.
func (ls *listings) Names(ctx context.Context, namespace, after string, limit int) ([]string, error) {
	return ls.queryStrings(ctx, `SELECT table_name FROM iceberg_tables WHERE catalog_name='`+Name+`' AND table_namespace=?
		AND table_name>? ORDER BY 1 LIMIT ?`, namespace, after, limit)
}

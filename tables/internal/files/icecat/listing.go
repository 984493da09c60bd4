package icecat

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/base/canceled"
)

const (
	// Iceberg properties whose names begin with MetaPrefix or JSONPrefix contain the metadata that users set on a table: strings, or
	// other values as JSON.
	MetaPrefix = "partd.meta."
	JSONPrefix = "partd.json."
	// UpdatedKey is the metadata key for the time of the last change.
	UpdatedKey = "_updated"
)

// Listed is a table in a listing.
type Listed struct {
	Namespace, Name, UUID string
	Rows, Bytes, Files    int64
	Version               int64
	Location              string // location of the metadata
	Damaged               error  // error from reading the metadata of a table that another engine changed
	Info
}

func listed(meta table.Metadata) Listed {
	l := Listed{UUID: meta.TableUUID().String(), Info: Info{Updated: time.UnixMilli(meta.LastUpdatedMillis()).UTC()}}
	l.Metadata = FromProperties(meta.Properties())
	if s := meta.CurrentSnapshot(); s != nil {
		l.Version = s.SequenceNumber
		l.Rows, l.Bytes, l.Files = Totals(s)
	}
	return l
}

// Totals returns the numbers of rows, bytes and files in a table according to a snapshot's summary.
func Totals(s *table.Snapshot) (rows, bytes, files int64) {
	if s.Summary == nil {
		return 0, 0, 0
	}
	p := s.Summary.Properties
	return int64(p.GetInt("total-records", 0)), int64(p.GetInt("total-files-size", 0)), int64(p.GetInt("total-data-files", 0))
}

// Namespaces returns the sorted names of the namespaces that contain tables, or were created and not dropped.
func (c *Catalog) Namespaces(ctx context.Context) ([]string, error) {
	return c.strings(ctx, selectNamespaces+` ORDER BY 1`)
}

// HasNamespace reports whether a namespace exists.
func (c *Catalog) HasNamespace(ctx context.Context, namespace string) (bool, error) {
	rows, err := c.strings(ctx, selectNamespace, namespace)
	return len(rows) > 0, err
}

// DropNamespace drops a namespace unless it contains tables or snapshots.
func (c *Catalog) DropNamespace(ctx context.Context, namespace string) error {
	return c.inTx(ctx, func(w *transaction) { w.exec(deleteNamespace, namespace) })
}

// Property returns a namespace's property, or "" if it is not set.
func (c *Catalog) Property(ctx context.Context, namespace, key string) (string, error) {
	return c.firstString(ctx, selectProperty, namespace, key)
}

// EditProperty replaces a namespace's property with the result of edit, in one transaction. It creates a missing namespace.
func (c *Catalog) EditProperty(ctx context.Context, namespace, key string, edit func(old string) (string, error)) error {
	return c.inTx(ctx, func(w *transaction) {
		old, edited := strings.Join(w.strings(selectProperty, namespace, key), ""), ""
		if w.err == nil {
			edited, w.err = edit(old)
		}
		if w.err != nil || edited == old {
			return
		}
		w.exec(insertNamespace, namespace)
		w.exec(insertProperty+` ON CONFLICT (catalog_name, namespace, property_key) DO UPDATE SET property_value=excluded.property_value`, namespace, key, edited)
	})
}

// listPage limits the tables that one query of List reads. Between queries, a slow caller does not occupy a connection.
const listPage = 1000

// List calls f for each table of a namespace, sorted by name, until f returns false. If another engine has changed a table, List
// reads the table's metadata.
func (c *Catalog) List(ctx context.Context, namespace string, f func(Listed) bool) error {
	return c.pages(ctx, f, selectTables+` AND t.table_namespace=? AND t.table_name>? ORDER BY t.table_name LIMIT ?`, namespace)
}

// pages calls f for each table that q selects, page by page. The last two arguments of q, which pages adds, are the last name on the
// previous page and the limit.
func (c *Catalog) pages(ctx context.Context, f func(Listed) bool, q string, args ...any) error {
	for lastName := ""; ; {
		page, err := c.listed(ctx, q, append(slices.Clip(args), lastName, listPage)...)
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
func (c *Catalog) Get(ctx context.Context, namespace, name string) (Listed, error) {
	return c.queryOne(ctx, selectTables+` AND t.table_namespace=? AND t.table_name=?`, namespace, name)
}

func (c *Catalog) queryOne(ctx context.Context, q string, args ...any) (Listed, error) {
	page, err := c.listed(ctx, q, args...)
	if err == nil && len(page) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return Listed{}, err
	}
	return page[0], nil
}

// listed returns the tables that q selects. q must select the columns of selectTables.
func (c *Catalog) listed(ctx context.Context, q string, args ...any) ([]Listed, error) {
	var page []Listed
	var outdated []int // indices of tables that another engine has changed
	err := query(ctx, c.reads, func(rows *sql.Rows) (err error) {
		var l Listed
		var uuid, location, meta sql.NullString
		var n [5]sql.NullInt64
		if err := rows.Scan(&l.Namespace, &l.Name, &l.Location, &uuid, &location, &n[0], &n[1], &n[2], &n[3], &n[4], &meta); err != nil {
			return err
		}
		l.UUID, l.Rows, l.Bytes, l.Files, l.Version = uuid.String, n[0].Int64, n[1].Int64, n[2].Int64, n[3].Int64
		l.Updated = time.UnixMilli(n[4].Int64).UTC()
		if meta.Valid {
			if l.Metadata, err = ParseMetadata([]byte(meta.String)); err != nil {
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
		t, err := c.LoadAt(ctx, l.Namespace, l.Name, l.Location)
		if errors.Is(err, ErrContent) {
			l.Damaged = err
			continue
		}
		if err != nil {
			return nil, err
		}
		current := listed(t.Metadata())
		current.Namespace, current.Name, current.Location = l.Namespace, l.Name, l.Location
		if l.UUID == current.UUID {
			current.Metadata = l.Metadata
		}
		*l = current
	}
	return page, nil
}

// TableName names a table.
type TableName struct{ Namespace, Name string }

// ByUUID returns the name that the catalog has recorded for the table with a UUID.
func (c *Catalog) ByUUID(ctx context.Context, uuid string) (n TableName, err error) {
	err = c.reads.QueryRowContext(ctx, `SELECT namespace, name FROM partd_tables WHERE uuid=?`, uuid).Scan(&n.Namespace, &n.Name)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	return n, canceled.Explain(ctx, err)
}

// UUIDs returns the names of all tables by UUID. If tables are damaged, it returns all others, and an error that wraps ErrContent.
func (c *Catalog) UUIDs(ctx context.Context) (map[string]TableName, error) {
	names := map[string]TableName{}
	return names, c.eachTable(ctx, func(n TableName, t *table.Table) error {
		names[t.Metadata().TableUUID().String()] = n
		return nil
	})
}

// eachTable calls f for every table that is not damaged. If tables are damaged, the final error wraps ErrContent.
func (c *Catalog) eachTable(ctx context.Context, f func(TableName, *table.Table) error) error {
	namespaces, err := c.Namespaces(ctx)
	if err != nil {
		return err
	}
	var damaged error
	for _, ns := range namespaces {
		var tableErr error
		err := c.List(ctx, ns, func(l Listed) bool {
			var t *table.Table
			t, tableErr = c.Load(ctx, l.Namespace, l.Name)
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

// PutsWithPrefix returns the IDs that begin with prefix and whose puts are committed to the table with a UUID.
func (c *Catalog) PutsWithPrefix(ctx context.Context, uuid, prefix string) ([]string, error) {
	return c.strings(ctx, `SELECT id FROM partd_puts WHERE uuid=? AND substr(id, 1, ?)=?`, uuid, utf8.RuneCountInString(prefix), prefix)
}

// PutsApplied returns the IDs whose puts are committed to the table with a UUID.
func (c *Catalog) PutsApplied(ctx context.Context, uuid string, ids ...string) (applied []string, err error) {
	for chunk := range slices.Chunk(ids, 500) {
		args := []any{uuid}
		for _, id := range chunk {
			args = append(args, id)
		}
		q := `SELECT id FROM partd_puts WHERE uuid=? AND id IN (?` + strings.Repeat(",?", len(chunk)-1) + `)`
		ids, err := c.strings(ctx, q, args...)
		if err != nil {
			return nil, err
		}
		applied = append(applied, ids...)
	}
	return applied, nil
}

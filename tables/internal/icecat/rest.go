package icecat

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"net/url"
	"path"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
)

// ErrExists means that a table or a namespace with this name exists.
var ErrExists = fmt.Errorf("exists (%w)", fs.ErrExist)

// Names returns at most limit names of a namespace's tables that come after a name.
func (c *Catalog) Names(ctx context.Context, namespace, after string, limit int) ([]string, error) {
	return c.strings(ctx, `SELECT table_name FROM iceberg_tables WHERE catalog_name='`+Name+`' AND table_namespace=? AND table_name>? ORDER BY 1 LIMIT ?`, namespace, after, limit)
}

// CreateNamespace creates a namespace with metadata. The namespace must not exist.
func (c *Catalog) CreateNamespace(ctx context.Context, namespace string, metadata map[string]any) error {
	return c.inTx(ctx, func(w *work) {
		if len(w.strings(selectNamespace, namespace)) > 0 {
			w.err = ErrExists
		}
		w.do(insertNamespace, namespace)
		for k, v := range Properties(metadata) {
			w.do(insertProperty, namespace, k, v)
		}
	})
}

// Rename renames a table. The new name must be free.
func (c *Catalog) Rename(ctx context.Context, from, to TableName) error {
	const (
		find   = `SELECT 1 FROM iceberg_tables WHERE catalog_name='` + Name + `' AND table_namespace=? AND table_name=?`
		rename = `UPDATE iceberg_tables SET table_namespace=?, table_name=? WHERE catalog_name='` + Name + `' AND table_namespace=? AND table_name=?`
		listed = `UPDATE partd_tables SET namespace=?, name=? WHERE namespace=? AND name=?`
	)
	return c.inTx(ctx, func(w *work) {
		if len(w.strings(find, to.Namespace, to.Name)) > 0 {
			w.err = ErrExists
		}
		meta := w.strings(`SELECT metadata FROM partd_tables WHERE namespace=? AND name=?`, from.Namespace, from.Name)
		w.reindex(from, "null")
		if n := w.do(rename, to.Namespace, to.Name, from.Namespace, from.Name); w.err == nil && n == 0 {
			w.err = ErrNotFound
		}
		w.do(insertNamespace, to.Namespace)
		w.do(deleteInfo, "", to.Namespace, to.Name)
		if len(meta) > 0 {
			w.reindex(to, meta[0])
		}
		w.do(listed, to.Namespace, to.Name, from.Namespace, from.Name)
	})
}

// DataLocation returns the prefix of the locations of tables.
func (c *Catalog) DataLocation() string { return c.location("data/") }

// LocationOf returns the location for a table that another engine creates with a UUID. All files of
// the table must be below it.
func (c *Catalog) LocationOf(id uuid.UUID) string { return c.location("data/" + id.String()) }

// MakeDirectories makes the directories for the files of a new table, because DuckDB does not. Sweep
// removes them if they stay empty.
func (c *Catalog) MakeDirectories(location string) error {
	if c.readOnly {
		return ErrReadOnly
	}
	for _, name := range []string{"/data", "/metadata"} {
		dir, err := c.own(location + name)
		if err == nil && c.root == "" {
			err = c.fs.MkdirAll(dir, 0o777)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// CheckVacant returns a hook that fails if a table, or a snapshot of another namespace, has metadata
// below a location. Another commit may have just created the table.
func CheckVacant(location, namespace string) TxHook {
	const q = `SELECT metadata_location FROM iceberg_tables WHERE metadata_location>=?1 AND metadata_location<?2
		UNION SELECT metadata_location FROM partd_snapshot_tables WHERE metadata_location>=?1 AND metadata_location<?2 AND namespace<>?3 LIMIT 1`
	return func(ctx context.Context, tx *sql.Tx) error {
		found, err := stringsOf(ctx, tx, q, location+"/", location+"0", namespace)
		if err == nil && len(found) > 0 {
			err = fmt.Errorf("a table at the location %s %w", location, ErrExists)
		}
		return err
	}
}

// CheckWithin returns an error unless a file exists and is below a location of the warehouse, both by
// its name and after resolving symbolic links.
func (c *Catalog) CheckWithin(location, file string) error {
	full := file
	if short, ok := strings.CutPrefix(file, "file:/"); ok && !strings.HasPrefix(short, "/") {
		full = "file:///" + short // Java writes file:/ with one slash
	}
	rest, ok := strings.CutPrefix(full, location+"/")
	if !ok || rest == "" || path.Clean("/"+rest) != "/"+rest {
		return outside(file, location)
	}
	dir, err := c.own(location + "/x")
	if err != nil {
		return err
	}
	if c.root != "" {
		return nil // a bucket has no links, and no ..
	}
	name, err := c.own(file)
	if err != nil {
		return err
	}
	dir = filepath.Dir(dir)
	if plain, err := url.PathUnescape(rest); err == nil && !filepath.IsLocal(plain) {
		return outside(file, location) // for engines that unescape %2e%2e
	}
	in, err := filepath.EvalSymlinks(dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(c.dir)
	}
	if err == nil && !strings.HasPrefix(in, filepath.Join(dir, "data")+"/") {
		return outside(file, location)
	}
	var at string
	if err == nil {
		at, err = filepath.EvalSymlinks(name)
	}
	switch {
	case err != nil: // an invalid name also ends here
		return fmt.Errorf("there is no file at %q: %w", file, fs.ErrNotExist)
	case !strings.HasPrefix(at, in+"/"):
		return outside(file, location)
	}
	return nil
}

func outside(file, location string) error {
	return fmt.Errorf("location %q is outside of the table's own, %s: %w", file, location, fs.ErrPermission)
}

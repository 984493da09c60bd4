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

// ErrExists says that there is a table, or a namespace, of the name already.
var ErrExists = fmt.Errorf("exists (%w)", fs.ErrExist)

// Names returns names of a namespace's tables that come after one, up to a number of them.
func (c *Catalog) Names(ctx context.Context, namespace, after string, most int) ([]string, error) {
	return c.strings(ctx, `SELECT table_name FROM iceberg_tables WHERE catalog_name='`+Name+`' AND table_namespace=? AND table_name>? ORDER BY 1 LIMIT ?`, namespace, after, most)
}

// CreateNamespace makes a namespace that is not there yet, with metadata.
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

// Rename gives a table another name, under which there must be none.
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

// DataLocation is what locations of tables begin with.
func (c *Catalog) DataLocation() string { return c.location("data/") }

// LocationOf returns where a table of a UUID goes that another engine makes: it is the
// only place of the warehouse that the table's files may be in.
func (c *Catalog) LocationOf(id uuid.UUID) string { return c.location("data/" + id.String()) }

// Vacant is an error where a table has its metadata below a location, as a part of a commit:
// another one may have been made just before.
func Vacant(location string) TxHook {
	const q = `SELECT metadata_location FROM iceberg_tables WHERE metadata_location>=? AND metadata_location<? LIMIT 1`
	return func(ctx context.Context, tx *sql.Tx) error {
		found, err := stringsOf(ctx, tx, q, location+"/", location+"0")
		if err == nil && len(found) > 0 {
			err = fmt.Errorf("a table at the location %s %w", location, ErrExists)
		}
		return err
	}
}

// Within is an error for a file that is not below a location of the warehouse, be it by
// its name or by symbolic links, or that is not there.
func (c *Catalog) Within(location, file string) error {
	full := file
	if short, ok := strings.CutPrefix(file, "file:/"); ok && !strings.HasPrefix(short, "/") {
		full = "file:///" + short // Java's have a slash of three
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
		return nil // a bucket has neither links nor ..
	}
	name, err := c.own(file)
	if err != nil {
		return err
	}
	dir = filepath.Dir(dir)
	if plain, err := url.PathUnescape(rest); err == nil && !filepath.IsLocal(plain) {
		return outside(file, location) // for whoever takes %2e%2e for two dots
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
	case err != nil: // whatever is wrong with the name
		return fmt.Errorf("there is no file at %q: %w", file, fs.ErrNotExist)
	case !strings.HasPrefix(at, in+"/"):
		return outside(file, location)
	}
	return nil
}

func outside(file, location string) error {
	return fmt.Errorf("location %q is outside of the table's own, %s: %w", file, location, fs.ErrPermission)
}

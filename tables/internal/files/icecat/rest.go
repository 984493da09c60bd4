package icecat

import (
	"context"
	"fmt"
	"io/fs"
	"net/url"
	"path"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
)

// ErrExists means that a table or namespace exists. Its text lacks the name, so wrap it as "NAME exists".
var ErrExists = fmt.Errorf("exists (%w)", fs.ErrExist)

// Names returns at most limit sorted names of a namespace's tables, all after the given name.
func (c *Catalog) Names(ctx context.Context, namespace, after string, limit int) ([]string, error) {
	return c.strings(ctx, `SELECT table_name FROM iceberg_tables WHERE catalog_name='`+Name+`' AND table_namespace=? AND table_name>? ORDER BY 1 LIMIT ?`, namespace, after, limit)
}

// CreateNamespace creates a namespace with metadata. The namespace must not exist.
func (c *Catalog) CreateNamespace(ctx context.Context, namespace string, metadata map[string]any) error {
	return c.inTx(ctx, func(w *transaction) {
		if len(w.strings(selectNamespace, namespace)) > 0 {
			w.err = ErrExists
		}
		w.exec(insertNamespace, namespace)
		for k, v := range Properties(metadata) {
			w.exec(insertProperty, namespace, k, v)
		}
	})
}

// Rename renames a table. The new name must be unused.
func (c *Catalog) Rename(ctx context.Context, from, to TableName) error {
	const (
		find                = `SELECT 1 FROM iceberg_tables WHERE catalog_name='` + Name + `' AND table_namespace=? AND table_name=?`
		rename              = `UPDATE iceberg_tables SET table_namespace=?, table_name=? WHERE catalog_name='` + Name + `' AND table_namespace=? AND table_name=?`
		renameInPartdTables = `UPDATE partd_tables SET namespace=?, name=? WHERE namespace=? AND name=?`
	)
	return c.inTx(ctx, func(w *transaction) {
		if len(w.strings(find, to.Namespace, to.Name)) > 0 {
			w.err = ErrExists
		}
		meta := w.strings(`SELECT metadata FROM partd_tables WHERE namespace=? AND name=?`, from.Namespace, from.Name)
		w.reindex(from, "null")
		if n := w.exec(rename, to.Namespace, to.Name, from.Namespace, from.Name); w.err == nil && n == 0 {
			w.err = ErrNotFound
		}
		w.exec(insertNamespace, to.Namespace)
		w.exec(deleteInfo, "", to.Namespace, to.Name)
		if len(meta) > 0 {
			w.reindex(to, meta[0])
		}
		w.exec(renameInPartdTables, to.Namespace, to.Name, from.Namespace, from.Name)
	})
}

// DataLocation returns the common prefix of all table locations.
func (c *Catalog) DataLocation() string { return c.location("data/") }

// LocationOf returns the location of a table that another engine creates with the given UUID. All the table's files
// must be below that location.
func (c *Catalog) LocationOf(id uuid.UUID) string { return c.location("data/" + id.String()) }

// MakeDirectories creates the directories for a new table's files, because DuckDB does not create them. If they stay
// empty, Sweep removes them.
func (c *Catalog) MakeDirectories(location string) error {
	if c.readOnly {
		return ErrReadOnly
	}
	for _, name := range []string{"/data", "/metadata"} {
		dir, err := c.ownPath(location + name)
		if err == nil && c.root == "" {
			err = c.fs.MkdirAll(dir, 0o777)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// CheckVacant returns a hook that fails if a location contains metadata of a current table, or of a table in a snapshot
// that belongs to a different namespace. The hook is needed because another commit may have created a table there in
// the meantime.
func CheckVacant(location, namespace string) TxHook {
	const q = `SELECT metadata_location FROM iceberg_tables WHERE metadata_location>=?1 AND metadata_location<?2
		UNION SELECT metadata_location FROM partd_snapshot_tables WHERE metadata_location>=?1 AND metadata_location<?2 AND namespace<>?3 LIMIT 1`
	return func(w *transaction) {
		if len(w.strings(q, location+"/", location+"0", namespace)) > 0 {
			w.err = fmt.Errorf("a table at location %s %w", location, ErrExists)
		}
	}
}

// CheckWithin returns an error unless a file exists and is below a table's location in the warehouse, both by name and after symbolic
// links are resolved.
func (c *Catalog) CheckWithin(location, file string) error {
	normalized := file
	if name, ok := strings.CutPrefix(file, "file:/"); ok && !strings.HasPrefix(name, "/") {
		normalized = "file:///" + name // Java writes file:/ with one slash
	}
	suffix, ok := strings.CutPrefix(normalized, location+"/")
	if !ok || suffix == "" || path.Clean("/"+suffix) != "/"+suffix {
		return outsideError(file, location)
	}
	dir, err := c.ownPath(location + "/x")
	if err != nil {
		return err
	}
	if c.root != "" {
		return nil // A bucket has neither links nor "..".
	}
	name, err := c.ownPath(file)
	if err != nil {
		return err
	}
	dir = filepath.Dir(dir)
	if unescaped, err := url.PathUnescape(suffix); err == nil && !filepath.IsLocal(unescaped) {
		return outsideError(file, location) // Some engines unescape %2e%2e.
	}
	realDir, err := filepath.EvalSymlinks(dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(c.dir)
	}
	if err == nil && !strings.HasPrefix(realDir, filepath.Join(dir, "data")+"/") {
		return outsideError(file, location)
	}
	var realFile string
	if err == nil {
		realFile, err = filepath.EvalSymlinks(name)
	}
	switch {
	case err != nil: // the file does not exist, or its name is invalid
		return fmt.Errorf("the file %q does not exist: %w", file, fs.ErrNotExist)
	case !strings.HasPrefix(realFile, realDir+"/"):
		return outsideError(file, location)
	}
	return nil
}

func outsideError(file, location string) error {
	return fmt.Errorf("location %q is outside the table's location %s: %w", file, location, fs.ErrPermission)
}

package tables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/state/commit"
)

// Bucket is a named group of tables.
type Bucket struct {
	s    *Store
	name string
}

// Bucket returns the bucket with the given name, whether or not it exists. The first put of a table creates a missing
// bucket. The default bucket's name is "".
func (s *Store) Bucket(name string) *Bucket { return &Bucket{s.orUnopened(), name} }

// Name returns the bucket's name.
func (b *Bucket) Name() string {
	if b == nil {
		return ""
	}
	return b.name
}

// Table is a table in its current state, or pinned to an old version or a snapshot. Unless it is pinned, each call sees
// the table as it is when the call starts. Writing methods of a pinned table return an error that wraps [ErrPinned].
type Table struct {
	b     *Bucket
	name  string
	old   *Version // the selected version; nil means the current state
	oldID int64    // ID of the selected version's snapshot
	uuid  string   // the table's UUID when old was selected, to detect that the table was created again

	// the selected snapshot, and the location of the table's metadata in the snapshot; "" if no snapshot is selected
	snapshot, location string
}

// Table returns the table with the given name, whether or not it exists. The first put creates a missing table. If the
// name is invalid, each operation on the table returns an error.
func (b *Bucket) Table(name string) *Table { return &Table{b: b, name: name} }

// Name returns the table's name.
func (t *Table) Name() string {
	if t == nil {
		return ""
	}
	return t.name
}

// Bucket returns the bucket that contains the table.
func (t *Table) Bucket() *Bucket {
	if t == nil || t.b == nil {
		return unopened().Bucket("")
	}
	return t.b
}

// check returns the table's name in the catalog. It returns an error if t is nil or zero, or if the name of the table
// or the bucket is invalid.
func (t *Table) check() (tableName, error) {
	if t == nil || t.b == nil {
		return tableName{}, ErrClosed
	}
	return t.b.check(t.name)
}

// checkUnpinned is like check, but also returns an error if t is pinned.
func (t *Table) checkUnpinned() (tableName, error) {
	n, err := t.check()
	if err == nil && (t.old != nil || t.snapshot != "") {
		err = ErrPinned
	}
	return n, err
}

// checkWritable is like checkUnpinned, but also returns an error if the store is read-only.
func (t *Table) checkWritable() (tableName, error) {
	n, err := t.checkUnpinned()
	if err == nil && t.store().opts.ReadOnly {
		err = ErrReadOnly
	}
	return n, err
}

// acquire returns the table's entry for a change; see Store.acquire. It returns an error if the store is read-only or t
// is pinned.
func (t *Table) acquire(ctx context.Context) (e entry, release func(), err error) {
	n, err := t.checkWritable()
	if err != nil {
		return e, nil, err
	}
	return t.store().acquire(ctx, n)
}

// update calls Store.Update, and calls it again if the table was changed concurrently. If t is pinned or its name is
// invalid, update returns an OpError for the operation op, and does not call Store.Update.
func (t *Table) update(ctx context.Context, op string, f func(*Txn) error) error {
	if _, err := t.checkUnpinned(); err != nil {
		return t.error(op, err)
	}
	var err error
	for range commit.MaxAttempts {
		err = t.store().Update(ctx, f)
		if !errors.Is(err, commit.ErrStale) {
			break
		}
	}
	return err
}

// Delete deletes the table with all its versions, even if it is damaged. To delete several tables in one commit, use
// [Bucket.Delete].
func (t *Table) Delete(ctx context.Context) error {
	return t.update(ctx, "delete", func(txn *Txn) error { return txn.Delete(t.Bucket().Name(), t.Name()) })
}

// Schema returns the columns in the types that readers see: as they were put, but without encodings such as
// dictionaries.
func (t *Table) Schema(ctx context.Context) (*arrow.Schema, error) {
	return withView(ctx, t, "read the schema of", func(v *view) (*arrow.Schema, error) { return v.def.Logical, nil })
}

// SchemaAsPut returns the columns as they were put, including dictionaries and their values, for [AsDictionaries].
func (t *Table) SchemaAsPut(ctx context.Context) (*arrow.Schema, error) {
	return withView(ctx, t, "read the schema of", func(v *view) (*arrow.Schema, error) { return v.def.Put, nil })
}

// Info describes the table in its selected state. For an old version, Metadata is nevertheless the current metadata.
func (t *Table) Info(ctx context.Context) (TableInfo, error) {
	n, err := t.check()
	if err != nil {
		return TableInfo{}, t.error("describe", err)
	}
	if t.snapshot != "" {
		l, err := t.listedAt(ctx)
		if err != nil {
			return TableInfo{}, t.error("describe", err)
		}
		return infoOf(l), nil
	}
	l, err := t.store().cat.Get(ctx, n.Namespace, n.Name)
	if err != nil {
		return TableInfo{}, t.error("describe", notFound(ctx, t.store().cat, n, err))
	}
	i, err := currentInfo(ctx, t.store().commits, l)
	err = cmp.Or(err, l.Damaged)
	if err == nil && t.old != nil {
		var v *view
		if v, err = t.view(ctx, false); err == nil {
			i.Version, i.Updated = *t.old, commit.TimeOf(v.snapshot)
			i.Rows, i.Bytes, i.Files = icecat.Totals(v.snapshot)
		}
	}
	if err != nil {
		return TableInfo{}, t.error("describe", notFound(ctx, t.store().cat, n, err))
	}
	return i, nil
}

// check returns the table's name in the catalog, or an error if the bucket's or the table's name is invalid.
func (b *Bucket) check(name string) (tableName, error) {
	if err := errors.Join(checkName("bucket", b.Name()), checkName("table", name)); err != nil {
		return tableName{}, err
	}
	return tableName{Namespace: namespaceOf(b.Name()), Name: name}, nil
}

func (t *Table) error(op string, err error) error {
	return &OpError{Op: op, Bucket: t.Bucket().Name(), Table: t.Name(), Err: err}
}

// unopened returns a closed Store, all of whose operations fail. It takes the place of a nil or zero Store.
var unopened = sync.OnceValue(func() *Store {
	s := &Store{hooks: hooks{FS: vfs.OS{}}, cat: icecat.Unopened(), care: newMaintenance()}
	s.opts, _ = (*Options)(nil).withDefaults() // the defaults are valid
	s.commits = commit.NewTables(commit.Options{Catalog: s.cat, BucketOf: bucketOf, Logger: s.opts.Logger, OnPrepared: func() {}})
	s.commits.Close()
	return s
})

// orUnopened returns s, or the unopened Store if s is nil or zero.
func (s *Store) orUnopened() *Store {
	if s == nil || s.commits == nil {
		return unopened()
	}
	return s
}

func (b *Bucket) store() *Store {
	if b == nil {
		return unopened()
	}
	return b.s.orUnopened()
}

func (t *Table) store() *Store { return t.Bucket().store() }

// checkName returns an error if a name is invalid. A table's name must not be empty; other names may be empty.
func checkName(kind, name string) error {
	invalid := func(format string, args ...any) error { return &ArgumentError{Err: fmt.Errorf(format, args...)} }
	switch {
	case len(name) > MaxName:
		return invalid("the %s name is %d bytes long: the limit is %d", kind, len(name), MaxName)
	case !utf8.ValidString(name):
		return invalid("the %s name is not valid UTF-8", kind)
	case kind == "table" && name == "":
		return invalid("the table name is empty")
	case strings.IndexByte(name, 0) >= 0:
		return invalid("the %s name contains a zero byte", kind)
	}
	return nil
}

// defaultNamespace is the namespace of the default bucket, whose name is "": a namespace's name cannot be empty.
// Buckets named "default", or "default" followed by underscores, get an extra underscore.
const defaultNamespace = "default"

func namespaceOf(bucket string) string {
	if bucket == "" {
		return defaultNamespace
	}
	if strings.TrimRight(bucket, "_") == defaultNamespace {
		return bucket + "_"
	}
	return bucket
}

func bucketOf(namespace string) string {
	if namespace == defaultNamespace {
		return ""
	}
	if strings.TrimRight(namespace, "_") == defaultNamespace {
		return namespace[:len(namespace)-1]
	}
	return namespace
}

package tables

import (
	"context"
	"sync"

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/state/commit"
)

// Store stores tables in a directory, or in a bucket of an object store. It is safe for concurrent use.
type Store struct {
	*core
	keeper *keeper
}

// Close stops background work and closes the Store, but not Options.Tail. Rows in the tail stay there.
func (s *Store) Close() error {
	s = s.orUnopened()
	if !s.commits.Close() {
		return nil
	}
	if err := s.closers.closeAll(); err != nil {
		return &OpError{Op: "close", Dir: s.dir, Err: err}
	}
	return nil
}

// Damage returns an error that wraps ErrDamaged if the Store has found damage in the catalog's files. Then all changes
// fail, and no files are removed. Damage returns an error that wraps partd.ErrNeedsReopen if the tail refuses all
// writes until the Store is reopened, because an earlier write failed.
func (s *Store) Damage() error {
	c := s.orUnopened()
	if err := c.cat.Damage(); err != nil || c.tail == nil || c.tail.Failure.Load() == nil {
		return err
	}
	return *c.tail.Failure.Load()
}

// Dir returns the directory's absolute path, or the URL that was passed to Open, without the URL's query.
func (s *Store) Dir() string { return s.orUnopened().dir }

// WithoutDir replaces paths that clients must not learn with "…" wherever they occur in text: the store's directories,
// the directory of temporary files, the user's home directory, and the paths in others.
func (s *Store) WithoutDir(text string, others ...string) string {
	return s.orUnopened().withoutDir(text, others...)
}

// ReadOnly reports whether Options.ReadOnly was set or the directory was not writable.
func (s *Store) ReadOnly() bool { return s.orUnopened().opts.ReadOnly }

// SeesTail reports whether reads return rows that are only in a tail. A read-only Store sees the rows that were in the
// writer's tail when the Store was opened, unless Options.NoTail is set. This requires that the writer's tail is in a
// directory on this machine, or is Options.Tail.
func (s *Store) SeesTail() bool { return s.orUnopened().tail != nil }

// BucketOf returns the bucket of an Iceberg namespace.
func (s *Store) BucketOf(namespace string) *Bucket { return s.Bucket(bucketOf(namespace)) }

// Namespace returns the bucket's Iceberg namespace.
func (b *Bucket) Namespace() string { return namespaceOf(b.Name()) }

// Bucket is a named group of tables.
type Bucket struct {
	s    *Store
	name string
}

// Bucket returns the bucket with the given name, whether or not it exists. The first put to one of its tables creates a
// missing bucket. The default bucket's name is "".
func (s *Store) Bucket(name string) *Bucket { return &Bucket{s.orUnopened(), name} }

// Name returns the bucket's name.
func (b *Bucket) Name() string {
	if b == nil {
		return ""
	}
	return b.name
}

// Table is a table in its current state, or pinned to an old version or a snapshot. Unless it is pinned, each call sees
// the state at the start of the call. Methods that change a pinned table return an error that wraps [ErrPinned].
type Table struct {
	b    *Bucket
	name string
	selection
}

// selection is the state of a table that a reader sees. The zero value is the current state.
type selection struct {
	oldVersion    *Version // the selected version; nil if none is selected
	oldSnapshotID int64    // ID of the selected version's snapshot
	uuid          string   // the table's UUID when the version was selected, to detect that the table was created again

	// name of the selected snapshot, and location of the table metadata in that snapshot; "" if no snapshot is selected
	snapshot, location string
}

// isPinned reports whether s selects an old version or a snapshot.
func (s *selection) isPinned() bool { return s.oldVersion != nil || s.snapshot != "" }

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

// check returns the table's name in the catalog. It returns an error if t is nil or zero, or if the table's or the
// bucket's name is invalid.
func (t *Table) check() (tableName, error) {
	if t == nil || t.b == nil {
		return tableName{}, ErrClosed
	}
	return checkTable(t.b.Name(), t.name)
}

// checkUnpinned is like check, but also returns an error if t is pinned.
func (t *Table) checkUnpinned() (tableName, error) {
	n, err := t.check()
	if err == nil && t.isPinned() {
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

// acquire returns a writer of the table; see core.acquire. It returns an error if the store is read-only or t is
// pinned.
func (t *Table) acquire(ctx context.Context) (e tableWriter, release func(), err error) {
	n, err := t.checkWritable()
	if err != nil {
		return e, nil, err
	}
	return t.store().acquire(ctx, n)
}

func (t *Table) error(op string, err error) error {
	return &OpError{Op: op, Bucket: t.Bucket().Name(), Table: t.Name(), Err: err}
}

// unopened returns a closed Store, on which all operations fail. It is used instead of a nil or zero Store.
var unopened = sync.OnceValue(func() *Store {
	c := &core{hooks: hooks{FS: vfs.OS{}}, cat: icecat.Unopened()}
	s := &Store{c, newKeeper(c)}
	s.opts, _ = (*Options)(nil).withDefaults() // the defaults are valid
	s.commits = commit.NewTables(commit.Options{Catalog: s.cat, BucketOf: bucketOf, Logger: s.opts.Logger, OnPrepared: func() {}})
	s.commits.Close()
	return s
})

// orUnopened returns s, or the unopened Store if s is nil or zero.
func (s *Store) orUnopened() *Store {
	if s == nil || s.core == nil {
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

// DiskSpace returns the free and total bytes of the disk with the tail or the disk with the catalog, whichever has less
// free space. It returns an error if a disk is read-only or has no free inodes, unless the store is open only for
// reading. The error wraps [errors.ErrUnsupported] if the operating system does not report disk space.
func (s *Store) DiskSpace() (free, total int64, err error) { return s.orUnopened().diskSpace() }

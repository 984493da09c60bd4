package tables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/go-partd/partd/tables/internal/commit"
	"github.com/go-partd/partd/tables/internal/icecat"
)

// Bucket is a named group of tables.
type Bucket struct {
	s    *Store
	name string
}

// Name returns the bucket's name.
func (b *Bucket) Name() string {
	if b == nil {
		return ""
	}
	return b.name
}

// Exists reports whether the bucket exists, even if it is empty.
func (b *Bucket) Exists(ctx context.Context) (_ bool, err error) {
	defer wrapError(&err, "look for", b.Name(), "")
	return b.store().cat.HasNamespace(ctx, namespaceOf(b.Name()))
}

// DeleteBucket deletes a bucket. If contents is true, it also deletes the bucket's tables and snapshots, in one
// commit. Otherwise, if the bucket is not empty, the error wraps [ErrNotEmpty]. If the bucket is missing, the
// error wraps [ErrNotFound].
func (s *Store) DeleteBucket(ctx context.Context, name string, contents bool) (err error) {
	s = s.orUnopened()
	defer wrapError(&err, "delete", name, "")
	b := s.Bucket(name)
	for range commit.MaxAttempts { // a concurrent put may create the bucket again
		exists, err := s.cat.HasNamespace(ctx, namespaceOf(b.Name()))
		if err == nil && !exists {
			err = ErrNotFound
		}
		if err != nil {
			return err
		}
		var names []string
		for info, err := range b.Tables(ctx, nil) {
			if err != nil {
				return err
			}
			if names = append(names, info.Name); !contents {
				return fmt.Errorf("%w: it contains the table %q", ErrNotEmpty, info.Name)
			}
		}
		snapshots, err := b.Snapshots(ctx)
		if err != nil {
			return err
		}
		if len(snapshots) > 0 {
			if !contents {
				return fmt.Errorf("%w: it contains the snapshot %q", ErrNotEmpty, snapshots[0].Name)
			}
			if err := b.DeleteSnapshots(ctx); err != nil {
				return err
			}
		}
		if len(names) > 0 {
			if err := b.Delete(ctx, names...); err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
		}
		if err := s.cat.DropNamespace(ctx, namespaceOf(b.Name())); err != nil {
			return err
		}
		if exists, err = s.cat.HasNamespace(ctx, namespaceOf(b.Name())); err != nil || !exists {
			return err
		}
	}
	return ErrConflict
}

// check returns the table's name in the catalog, or an error if the bucket's or the table's name is invalid.
func (b *Bucket) check(name string) (tableName, error) {
	if err := errors.Join(checkName("bucket", b.Name()), checkName("table", name)); err != nil {
		return tableName{}, err
	}
	return tableName{Namespace: namespaceOf(b.Name()), Name: name}, nil
}

// Delete deletes tables with all their versions, in one commit. If a table is missing, Delete deletes nothing.
func (b *Bucket) Delete(ctx context.Context, names ...string) error {
	return b.store().Update(ctx, func(t *Txn) error {
		for _, name := range names {
			if err := t.Delete(b.Name(), name); err != nil {
				return err
			}
		}
		return nil
	})
}

// Tables yields the bucket's tables that match f, sorted by name.
func (b *Bucket) Tables(ctx context.Context, f *Filter) iter.Seq2[TableInfo, error] {
	return func(yield func(TableInfo, error) bool) {
		if err := b.tables(ctx, cmp.Or(f, new(Filter)), yield); err != nil {
			yield(TableInfo{}, &OpError{Op: "list", Bucket: b.Name(), Dir: b.store().dir, Err: err})
		}
	}
}

func (b *Bucket) tables(ctx context.Context, f *Filter, yield func(TableInfo, error) bool) error {
	if _, err := path.Match(f.Pattern, ""); err != nil {
		return fmt.Errorf("pattern %q: %w", f.Pattern, err)
	}
	wanted, err := f.Metadata.normalize()
	if err = cmp.Or(checkName("bucket", b.Name()), err); err != nil {
		return err
	}
	f = &Filter{f.Pattern, wanted, f.Snapshot}
	var infoErr error
	err = b.list(ctx, f, func(l icecat.Listed) bool {
		if !f.selects(l) {
			return true
		}
		if f.Snapshot != "" {
			return yield(infoOf(l), nil)
		}
		var info TableInfo
		info, infoErr = b.store().info(ctx, l)
		if errors.Is(infoErr, icecat.ErrNotFound) { // the table was deleted after it was listed
			infoErr = nil
			return true
		}
		if errors.Is(infoErr, ErrDamaged) {
			info.Damaged, infoErr = infoErr.Error(), nil
		}
		return infoErr == nil && yield(info, nil)
	})
	return errors.Join(err, infoErr)
}

// list calls do with each table that may match f, until do returns false. The caller must check f.selects.
func (b *Bucket) list(ctx context.Context, f *Filter, do func(icecat.Listed) bool) error {
	switch ns := namespaceOf(b.Name()); {
	case f.Snapshot != "":
		return snapshotNotFound(b.store().cat.ListAt(ctx, ns, f.Snapshot, do))
	case len(f.Metadata) > 0:
		return b.store().cat.Find(ctx, ns, f.Metadata, do)
	default:
		return b.store().cat.List(ctx, ns, do)
	}
}

func (f *Filter) selects(l icecat.Listed) bool {
	if f.Pattern != "" {
		if ok, _ := path.Match(noSlashes(f.Pattern), noSlashes(l.Name)); !ok {
			return false
		}
	}
	return Metadata(l.Metadata).contains(f.Metadata)
}

func infoOf(l icecat.Listed) TableInfo {
	i := TableInfo{
		Bucket: bucketOf(l.Namespace), Name: l.Name, Rows: l.Rows, Bytes: l.Bytes, Files: l.Files,
		Version: Version(l.Version), Updated: l.Updated, Metadata: withUpdated(l.Metadata, l.Updated),
	}
	if l.Damaged != nil {
		i.Damaged = l.Damaged.Error()
	}
	return i
}

// info is like infoOf, but its row count and size include the rows in the tail.
func (s *Store) info(ctx context.Context, l icecat.Listed) (TableInfo, error) {
	current, err := s.commits.WithTailRows(ctx, l)
	return infoOf(current), err
}

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

// noSlashes replaces the slashes in a pattern or a table name, because path.Match would treat them as separators.
func noSlashes(s string) string { return strings.ReplaceAll(s, "/", "\x00") }

package tables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"path"
	"strings"

	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/state/commit"
)

// Exists reports whether the bucket exists, even if it is empty.
func (b *Bucket) Exists(ctx context.Context) (_ bool, err error) {
	defer wrapError(&err, "look for", b.Name(), "")
	return b.store().cat.HasNamespace(ctx, namespaceOf(b.Name()))
}

// DeleteBucket deletes a bucket. If contents is true, it also deletes the bucket's snapshots and tables,
// in several commits, so an error can leave a part of them. Otherwise, if the bucket is not empty, the error wraps
// [ErrNotEmpty]. If the bucket is missing, the error wraps [ErrNotFound].
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
			names = append(names, info.Name)
			if !contents {
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
	return b.store().infos(ctx, b.Name(), cmp.Or(f, new(Filter)))
}

func (s *core) infos(ctx context.Context, bucket string, f *Filter) iter.Seq2[TableInfo, error] {
	return func(yield func(TableInfo, error) bool) {
		if err := s.listTables(ctx, bucket, f, yield); err != nil {
			yield(TableInfo{}, &OpError{Op: "list", Bucket: bucket, Dir: s.dir, Err: err})
		}
	}
}

func (s *core) listTables(ctx context.Context, bucket string, f *Filter, yield func(TableInfo, error) bool) error {
	if _, err := path.Match(f.Pattern, ""); err != nil {
		return fmt.Errorf("pattern %q: %w", f.Pattern, err)
	}
	wanted, err := f.Metadata.normalize()
	if err = cmp.Or(checkName("bucket", bucket), err); err != nil {
		return err
	}
	f = &Filter{f.Pattern, wanted, f.Snapshot}
	var infoErr error
	err = f.list(ctx, s.cat, namespaceOf(bucket), func(l icecat.Listed) bool {
		if !f.selects(l) {
			return true
		}
		if f.Snapshot != "" {
			return yield(infoOf(l), nil)
		}
		var info TableInfo
		info, infoErr = currentInfo(ctx, s.commits, l)
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

// list calls do with each table of the namespace ns that may match f, until do returns false. The caller must check
// f.selects.
func (f *Filter) list(ctx context.Context, cat *icecat.Catalog, ns string, do func(icecat.Listed) bool) error {
	switch {
	case f.Snapshot != "":
		return snapshotNotFound(cat.ListAt(ctx, ns, f.Snapshot, do))
	case len(f.Metadata) > 0:
		return cat.Find(ctx, ns, f.Metadata, do)
	default:
		return cat.List(ctx, ns, do)
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

// currentInfo is like infoOf, but its row count and size include the rows in the tail.
func currentInfo(ctx context.Context, tables *commit.Tables, l icecat.Listed) (TableInfo, error) {
	current, err := tables.WithTailRows(ctx, l)
	return infoOf(current), err
}

// noSlashes replaces the slashes in a pattern or a table name, because path.Match would treat them as separators.
func noSlashes(s string) string { return strings.ReplaceAll(s, "/", "\x00") }

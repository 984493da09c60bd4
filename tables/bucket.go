package tables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"path"
	"strings"
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/rows/parallel"
	"github.com/go-partd/partd/tables/internal/state/commit"
)

// Exists reports whether the bucket exists, even if it is empty.
func (b *Bucket) Exists(ctx context.Context) (_ bool, err error) {
	defer wrapError(&err, "look for", b.Name(), "")
	return b.store().cat.HasNamespace(ctx, namespaceOf(b.Name()))
}

// DeleteBucket deletes a bucket. If contents is true, it also deletes the bucket's snapshots and tables; this takes
// several commits, so after an error some of them may remain. If contents is false and the bucket is not empty, the
// error wraps [ErrNotEmpty]. If the bucket is missing, the error wraps [ErrNotFound].
func (s *Store) DeleteBucket(ctx context.Context, name string, contents bool) (err error) {
	s = s.orUnopened()
	defer wrapError(&err, "delete", name, "")
	b := s.Bucket(name)
	for range commit.MaxAttempts { // retry, because a concurrent put may create the bucket again
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
		exists, err = s.cat.HasNamespace(ctx, namespaceOf(b.Name()))
		if err != nil || !exists {
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

// ChangeMetadata changes the bucket's own metadata. It creates the bucket if it is missing.
func (b *Bucket) ChangeMetadata(ctx context.Context, c MetadataChange) error {
	return b.store().Update(ctx, func(t *Txn) error { return t.ChangeMetadata(b.Name(), "", c) })
}

// Metadata returns the bucket's own metadata.
func (b *Bucket) Metadata(ctx context.Context) (_ Metadata, err error) {
	defer wrapError(&err, "read metadata", b.Name(), "")
	m, exists, err := b.store().cat.NamespaceMetadata(ctx, namespaceOf(b.Name()))
	if err == nil && !exists {
		err = ErrNotFound
	}
	return m, err
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
	metadata, err := f.Metadata.normalize()
	err = cmp.Or(checkName("bucket", bucket), err)
	if err != nil {
		return err
	}
	f = &Filter{f.Pattern, metadata, f.Snapshot}
	var infoErr error
	err = f.list(ctx, s.cat, namespaceOf(bucket), func(l icecat.Listed) bool {
		if !f.selects(l) {
			return true
		}
		if f.Snapshot != "" {
			return yield(infoOf(l), nil)
		}
		var info TableInfo
		infoErr = parallel.Catch(func() (err error) { info, err = currentInfo(ctx, s.commits, l); return err })
		if errors.As(infoErr, new(*parallel.Panic)) { // a panic must not hide the other tables
			info = infoOf(l)
			info.Damaged, infoErr = infoErr.Error(), nil
		}
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

// list calls visit for each table in the namespace ns that may match f, until visit returns false. The caller must
// check f.selects.
func (f *Filter) list(ctx context.Context, cat *icecat.Catalog, ns string, visit func(icecat.Listed) bool) error {
	switch {
	case f.Snapshot != "":
		return snapshotNotFound(cat.ListAt(ctx, ns, f.Snapshot, visit))
	case len(f.Metadata) > 0:
		return cat.Find(ctx, ns, f.Metadata, visit)
	default:
		return cat.List(ctx, ns, visit)
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
	info := TableInfo{
		Bucket: bucketOf(l.Namespace), Name: l.Name, Rows: l.Rows, Bytes: l.Bytes, Files: l.Files,
		Version: Version(l.Version), Updated: l.Updated, Metadata: withUpdated(l.Metadata, l.Updated), AtMost: AtMost(l.AtMost),
	}
	if l.Damaged != nil {
		info.Damaged = l.Damaged.Error()
	}
	return info
}

// currentInfo is like infoOf, but its row count and size include the rows in the tail.
func currentInfo(ctx context.Context, tables *commit.Tables, l icecat.Listed) (TableInfo, error) {
	current, err := tables.WithTailRows(ctx, l)
	return infoOf(current), err
}

// noSlashes replaces the slashes in a pattern or a table name, because path.Match would treat them as separators.
func noSlashes(s string) string { return strings.ReplaceAll(s, "/", "\x00") }

func withUpdated(m Metadata, at time.Time) Metadata {
	result := Metadata{}
	maps.Copy(result, m)
	result[UpdatedKey] = icecat.UpdatedText(at)
	return result
}

// info implements Table.Info.
func (t *tableReader) info(ctx context.Context) (TableInfo, error) {
	n, err := t.check()
	if err != nil {
		return TableInfo{}, err
	}
	if t.snapshot != "" {
		l, err := t.snapshotEntry(ctx)
		return infoOf(l), err
	}
	l, err := t.cat.Get(ctx, n.Namespace, n.Name)
	if err != nil {
		return TableInfo{}, notFound(ctx, t.cat, n, err)
	}
	i, err := currentInfo(ctx, t.commits, l)
	err = cmp.Or(err, l.Damaged)
	if err == nil && t.oldVersion != nil {
		var v *view
		v, err = t.view(ctx, false)
		if err == nil {
			i.Version, i.Updated = *t.oldVersion, commit.TimeOf(v.snapshot)
			l.Totals(v.snapshot)
			i.Rows, i.AtMost, i.Bytes, i.Files = l.Rows, AtMost(l.AtMost), l.Bytes, l.Files
		}
	}
	return i, notFound(ctx, t.cat, n, err)
}

// Info describes the table in its selected state. For an old version, though, Metadata is the current metadata.
func (t *Table) Info(ctx context.Context) (TableInfo, error) {
	i, err := t.reader().info(ctx)
	if err != nil {
		return TableInfo{}, t.error("describe", err)
	}
	return i, nil
}

// Versions returns the table's readable versions, oldest first. The rows in the tail count as one version, even if they
// are from several puts. To read it, they must be folded into files, so a read-only Store omits it. Versions also omits
// ambiguous version numbers: a put had returned the number, but another process then used it too.
func (t *Table) Versions(ctx context.Context) ([]VersionInfo, error) {
	return withView(ctx, t.reader(), "list the versions of", func(v *view) (versions []VersionInfo, _ error) {
		info, err := v.source.info(ctx)
		if err != nil {
			return nil, err
		}
		newest, isAmbiguous := versionOf(v.t.Metadata()), commit.IsAmbiguous(v.t.Metadata())
		for _, s := range v.t.Metadata().Snapshots() {
			if isAmbiguous(s.SequenceNumber) {
				continue
			}
			i := VersionInfo{Version: Version(s.SequenceNumber), Time: commit.TimeOf(&s)}
			if s.Summary != nil {
				i.Operation = string(s.Summary.Operation)
			}
			var l icecat.Listed
			l.Totals(&s)
			i.Rows, i.AtMost = l.Rows, AtMost(l.AtMost)
			if commit.MayAudit(ctx) {
				i.User = commit.UserOf(&s)
			}
			i.Current = i.Version == max(newest, info.Version)
			versions = append(versions, i)
		}
		if info.Version > newest && !t.store().opts.ReadOnly {
			versions = append(versions, VersionInfo{Version: info.Version, Time: info.Updated, Operation: string(table.OpAppend), Rows: info.Rows, AtMost: info.AtMost, Current: true})
		}
		return versions, nil
	})
}

func (s *core) buckets(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		namespaces, err := s.cat.Namespaces(ctx)
		if err != nil {
			yield("", &OpError{Op: "list buckets", Dir: s.dir, Err: err})
			return
		}
		for _, ns := range namespaces {
			if !yield(bucketOf(ns), nil) {
				return
			}
		}
	}
}

// Buckets yields the bucket names, sorted by Iceberg namespace. The default bucket's namespace is "default".
func (s *Store) Buckets(ctx context.Context) iter.Seq2[string, error] {
	return s.orUnopened().buckets(ctx)
}

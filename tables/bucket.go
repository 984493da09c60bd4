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

// Bucket is a group of tables.
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

// Exists reports whether there is such a bucket, be it empty.
func (b *Bucket) Exists(ctx context.Context) (_ bool, err error) {
	defer failed(&err, "look for", b.Name(), "")
	return b.store().cat.HasNamespace(ctx, namespaceOf(b.Name()))
}

// DeleteBucket deletes a bucket: with its tables, in one commit, and its snapshots, or only
// if it is empty. Its error wraps [ErrNotFound] or [ErrNotEmpty].
func (s *Store) DeleteBucket(ctx context.Context, name string, contents bool) (err error) {
	s = s.made()
	defer failed(&err, "delete", name, "")
	b := s.Bucket(name)
	for range commit.MostAttempts { // others may put into it meanwhile
		there, err := s.cat.HasNamespace(ctx, namespaceOf(b.Name()))
		if err == nil && !there {
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
				return fmt.Errorf("%w: it has the table %q", ErrNotEmpty, info.Name)
			}
		}
		snapshots, err := b.Snapshots(ctx)
		if err != nil {
			return err
		}
		if len(snapshots) > 0 {
			if !contents {
				return fmt.Errorf("%w: it has the snapshot %q", ErrNotEmpty, snapshots[0].Name)
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
		if there, err = s.cat.HasNamespace(ctx, namespaceOf(b.Name())); err != nil || !there {
			return err
		}
	}
	return ErrConflict
}

// check returns what the catalog calls a table.
func (b *Bucket) check(name string) (tableName, error) {
	if err := errors.Join(checkName("bucket", b.Name()), checkName("table", name)); err != nil {
		return tableName{}, err
	}
	return tableName{Namespace: namespaceOf(b.Name()), Name: name}, nil
}

// Delete deletes tables, with all their versions, in one commit: all, or none if
// one of them is missing.
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

// Tables yields the bucket's tables that f selects, sorted by name.
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
	wanted, err := f.Metadata.read()
	if err = cmp.Or(checkName("bucket", b.Name()), err); err != nil {
		return err
	}
	f = &Filter{f.Pattern, wanted, f.Snapshot}
	var failed error
	err = b.list(ctx, f, func(l icecat.Listed) bool {
		if !f.selects(l) {
			return true
		}
		if f.Snapshot != "" {
			return yield(infoOf(l), nil)
		}
		var info TableInfo
		info, failed = b.store().info(ctx, l)
		if errors.Is(failed, icecat.ErrNotFound) { // deleted meanwhile
			failed = nil
			return true
		}
		if errors.Is(failed, ErrDamaged) {
			info.Damaged, failed = failed.Error(), nil
		}
		return failed == nil && yield(info, nil)
	})
	return errors.Join(err, failed)
}

// list calls do with the tables that f may select.
func (b *Bucket) list(ctx context.Context, f *Filter, do func(icecat.Listed) bool) error {
	switch ns := namespaceOf(b.Name()); {
	case f.Snapshot != "":
		return noSnapshot(b.store().cat.ListAt(ctx, ns, f.Snapshot, do))
	case len(f.Metadata) > 0:
		return b.store().cat.Find(ctx, ns, f.Metadata, do)
	default:
		return b.store().cat.List(ctx, ns, do)
	}
}

func (f *Filter) selects(l icecat.Listed) bool {
	if f.Pattern != "" {
		// Names may hold any character, so a slash is none that separates.
		if ok, _ := path.Match(noSlashes(f.Pattern), noSlashes(l.Name)); !ok {
			return false
		}
	}
	return Metadata(l.Metadata).has(f.Metadata)
}

// infoOf is what the catalog lists.
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

// info is infoOf with what is in the tail.
func (s *Store) info(ctx context.Context, l icecat.Listed) (TableInfo, error) {
	now, err := s.commits.Now(ctx, l)
	return infoOf(now), err
}

// checkName says why a name is none. A bucket may be "", and a snapshot to be made;
// a table may not.
func checkName(what, name string) error {
	wrong := func(format string, args ...any) error { return &ArgumentError{Err: fmt.Errorf(format, args...)} }
	switch {
	case len(name) > MaxName:
		return wrong("the name of the %s has %d bytes, the limit is %d", what, len(name), MaxName)
	case !utf8.ValidString(name):
		return wrong("the name of the %s is not valid UTF-8", what)
	case what == "table" && name == "":
		return wrong("the name of the table is empty")
	case strings.IndexByte(name, 0) >= 0:
		return wrong("the name of the %s holds a zero byte", what)
	}
	return nil
}

// The default bucket is the namespace "default", since a namespace cannot be
// empty. A bucket that would have that name, or one that ends up as another's,
// gets an underscore more.
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

// noSlashes makes a pattern or a name one in which a slash is as any other
// character to path.Match.
func noSlashes(s string) string { return strings.ReplaceAll(s, "/", "\x00") }

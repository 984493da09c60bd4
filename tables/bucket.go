package tables

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path"

	"github.com/go-partd/partd/tables/internal/icecat"
)

// Bucket is a group of tables.
type Bucket struct {
	s    *Store
	name string
}

// Name returns the bucket's name.
func (b *Bucket) Name() string { return b.name }

// check returns what the catalog calls a table.
func (b *Bucket) check(name string) (tableName, error) {
	if err := errors.Join(checkName("bucket", b.name), checkName("table", name)); err != nil {
		return tableName{}, err
	}
	return tableName{namespaceOf(b.name), name}, nil
}

// Delete deletes tables, with all their versions, in one commit: all, or none if
// one of them is missing.
func (b *Bucket) Delete(ctx context.Context, names ...string) error {
	return b.s.Update(ctx, func(t *Txn) error {
		for _, name := range names {
			if err := t.Delete(b.name, name); err != nil {
				return err
			}
		}
		return nil
	})
}

// SetMetadata sets a table's own metadata as a whole.
func (b *Bucket) SetMetadata(ctx context.Context, name string, m map[string]string) error {
	return b.s.Update(ctx, func(t *Txn) error { return t.SetMetadata(b.name, name, m) })
}

// Tables yields the bucket's tables that f selects, sorted by name.
func (b *Bucket) Tables(ctx context.Context, f *Filter) iter.Seq2[TableInfo, error] {
	return func(yield func(TableInfo, error) bool) {
		fail := func(err error) { yield(TableInfo{}, &OpError{Op: "list", Bucket: b.name, Dir: b.s.dir, Err: err}) }
		if f == nil {
			f = &Filter{}
		}
		if _, err := path.Match(f.Pattern, ""); err != nil {
			fail(fmt.Errorf("pattern %q: %w", f.Pattern, err))
			return
		}
		if err := checkName("bucket", b.name); err != nil {
			fail(err)
			return
		}
		var failed error
		err := b.s.cat.List(ctx, namespaceOf(b.name), func(l icecat.Listed) bool {
			if !f.selects(l) {
				return true
			}
			var info TableInfo
			info, failed = b.s.info(ctx, l)
			if errors.Is(failed, icecat.ErrNotFound) { // deleted meanwhile
				failed = nil
				return true
			}
			if failed != nil {
				return false
			}
			return yield(info, nil)
		})
		if err = errors.Join(err, failed); err != nil {
			fail(err)
		}
	}
}

func (f *Filter) selects(l icecat.Listed) bool {
	if f.Pattern != "" {
		// Names may hold any character, so a slash is none that separates.
		if ok, _ := path.Match(noSlashes(f.Pattern), noSlashes(l.Name)); !ok {
			return false
		}
	}
	for k, v := range f.Metadata {
		if got, ok := l.Metadata[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// info adds what is in the tail to what the catalog lists.
func (s *Store) info(ctx context.Context, l icecat.Listed) (TableInfo, error) {
	i := TableInfo{
		Bucket: bucketOf(l.Namespace), Name: l.Name, Rows: l.Rows, Bytes: l.Bytes, Files: l.Files,
		Version: Version(l.Version), Updated: l.Updated,
	}
	s.mu.Lock()
	e := s.entries[tableName{l.Namespace, l.Name}]
	s.mu.Unlock()
	if e != nil {
		e.mu.Lock()
		defer e.mu.Unlock()
		// A fold may have come since the listing: both are read again together.
		if err := e.refresh(ctx); err != nil {
			return i, err
		}
		if e.log != nil {
			now, err := s.cat.Get(ctx, l.Namespace, l.Name)
			if err != nil {
				return i, err
			}
			rows, bytes, _, updated := e.log.Size(e.state.folded)
			i.Rows, i.Bytes, i.Files, i.Version, i.Updated = now.Rows+rows, now.Bytes+bytes, now.Files, Version(now.Version), now.Updated
			if updated.After(i.Updated) {
				i.Updated = updated
			}
		}
	}
	i.Metadata = withUpdated(l.Metadata, i.Updated)
	return i, nil
}

package tables

import (
	"context"
	"fmt"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/vfs"
	"github.com/go-partd/partd/tables/internal/commit"
	"github.com/go-partd/partd/tables/internal/datafile"
	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/icecat"
	"github.com/go-partd/partd/tables/internal/series"
	"github.com/go-partd/partd/tables/internal/take"
)

// view is one state of a table.
type view struct {
	of       *Table
	t        *table.Table
	snapshot *table.Snapshot // of an old version, else nil
	def      *definition.Definition
	tail     *commit.Tail
	rows     []arrow.RecordBatch // in the tail; released by whoever asked for the view

	found []table.FileScanTask // see tasks

	series   *series.Series // nil: the rows have no order
	replaces bool           // rows of the tail may take the place of some in files
}

// view returns the table's state, with rows if wanted.
func (t *Table) view(ctx context.Context, withRows bool) (v *view, err error) {
	t = t.made()
	v = &view{of: t}
	if t.snapshot != "" {
		if v.t, err = t.pinned(ctx); err == nil {
			v.def, err = definition.Of(v.t.Metadata())
		}
	} else {
		err = v.read(ctx, withRows)
	}
	if err == nil && v.def.Order != nil {
		v.series = series.New(v.def, v.t, t.b.s.opts.Memory, v.at()...)
	}
	return v, err
}

// read reads the state that the catalog and the tail have, or had.
func (v *view) read(ctx context.Context, withRows bool) error {
	t := v.of
	e, err := t.bucket().store().commits.Acquire(t.name)
	if err != nil {
		return err
	}
	defer e.Release()
	if v.t, v.def, v.tail, err = e.View(ctx, withRows && t.old == nil); err != nil {
		return notFound(err)
	}
	v.rows = v.tail.Rows // none of an old version
	if t.old == nil {
		return nil
	}
	meta := v.t.Metadata()
	if meta.TableUUID().String() != t.uuid {
		return fmt.Errorf("the table was deleted and made anew: %w", ErrNotFound)
	}
	if v.snapshot, err = snapshotOf(meta, *t.old); err == nil && v.snapshot.SchemaID != nil {
		v.def, err = definition.At(meta, v.t.Schemas()[*v.snapshot.SchemaID])
	}
	return err
}

// tasks returns the files of the state, nil if it has none. They are found once, and the caller
// does not change the slice.
func (v *view) tasks(ctx context.Context) (_ []table.FileScanTask, err error) {
	if v.found == nil && v.t.CurrentSnapshot() != nil {
		v.found, err = datafile.Tasks(ctx, v.t, v.at()...)
	}
	return v.found, err
}

// at chooses the version of a view.
func (v *view) at() []table.ScanOption {
	if v.snapshot == nil {
		return nil
	}
	return []table.ScanOption{table.WithSnapshotID(v.snapshot.SnapshotID)}
}

// look returns what f finds in a table's state.
func look[T any](ctx context.Context, t *Table, op string, f func(*view) (T, error)) (out T, err error) {
	v, err := t.view(ctx, false)
	if err == nil {
		out, err = f(v)
	}
	if err != nil {
		return out, t.error(op, err)
	}
	return out, nil
}

// deduped is view, with the tail's rows as they are read.
func (t *Table) deduped(ctx context.Context) (*view, error) {
	v, err := t.view(ctx, true)
	if err != nil {
		return nil, err
	}
	if err := v.dedupTail(ctx); err != nil {
		take.Release(v.rows)
		return nil, err
	}
	return v, nil
}

// dedupTail makes of the tail's rows one batch where they have an order; see
// series.DedupTail.
func (v *view) dedupTail(ctx context.Context) error {
	if v.series == nil || len(v.rows) == 0 {
		return nil
	}
	if v.tail.Deduped {
		v.replaces = v.tail.Replaces
		return nil
	}
	one, err := take.Concat(v.rows)
	if err == nil {
		one, v.replaces, err = v.series.DedupTail(ctx, one)
	}
	take.Release(v.rows)
	v.rows = nil
	if err == nil {
		v.rows = []arrow.RecordBatch{one}
		v.tail.Keep(one, v.replaces)
	}
	return err
}

func (t *Table) error(op string, err error) error {
	return &OpError{Op: op, Bucket: t.bucket().name, Table: t.made().name.Name, Err: err}
}

// unopened stands in for a Store that Open did not make: its operations are errors.
var unopened = sync.OnceValue(func() *Store {
	s := &Store{hooks: hooks{fs: vfs.OS{}}, cat: icecat.Unopened()}
	if err := s.setOptions(nil); err != nil {
		panic(err)
	}
	s.commits = commit.New(commit.Options{Catalog: s.cat, BucketOf: bucketOf, Logger: s.opts.Logger})
	s.commits.Close()
	return s
})

// made returns the store, or, where Open did not make it, one whose operations are errors.
func (s *Store) made() *Store {
	if s == nil || s.commits == nil {
		return unopened()
	}
	return s
}

// store returns the store of a bucket.
func (b *Bucket) store() *Store {
	if b == nil {
		return unopened()
	}
	return b.s.made()
}

// made returns the table, or a zero one for nil.
func (t *Table) made() *Table {
	if t == nil {
		return &Table{}
	}
	return t
}

// bucket returns the bucket of a table, or, for a zero Table, one whose operations are
// errors.
func (t *Table) bucket() *Bucket {
	if t.made().b == nil {
		return unopened().Bucket("")
	}
	return t.b
}

package tables

import (
	"context"
	"fmt"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/rows/take"
	"github.com/go-partd/partd/tables/internal/state/commit"
	"github.com/go-partd/partd/tables/internal/state/definition"
	"github.com/go-partd/partd/tables/internal/state/series"
)

// tableReader reads the selected state of a table.
type tableReader struct {
	*core
	bucket, name string
	selection
	err error // why the table cannot be read, such as ErrClosed for a nil Table; nil if it can be read
}

// reader returns a reader of t's selected state.
func (t *Table) reader() *tableReader {
	if t == nil || t.b == nil {
		return &tableReader{core: unopened().core, name: t.Name(), err: ErrClosed}
	}
	return &tableReader{core: t.store().core, bucket: t.b.Name(), name: t.name, selection: t.selection}
}

// check returns the table's name in the catalog, or an error if t.err is set or a name is invalid.
func (t *tableReader) check() (tableName, error) {
	if t.err != nil {
		return tableName{}, t.err
	}
	return checkTable(t.bucket, t.name)
}

func (t *tableReader) error(op string, err error) error {
	wrapError(&err, op, t.bucket, t.name)
	return err
}

// view is one state of a table.
type view struct {
	source   *tableReader
	t        *table.Table
	snapshot *table.Snapshot // the selected old version; nil for the current state, or for a bucket snapshot
	def      *definition.Definition
	tail     *commit.Tail
	rows     []arrow.RecordBatch // rows in the tail; the caller of tableReader.view must release them

	fileTasks []table.FileScanTask // the files of this state; nil until the method tasks is called

	series       *series.Series // nil if the table has no order
	tailReplaces bool           // whether rows in the tail can replace rows in files
}

// view returns the table's state, with the tail's rows if withRows is true.
func (t *tableReader) view(ctx context.Context, withRows bool) (v *view, err error) {
	n, err := t.check()
	if err != nil {
		return nil, err
	}
	v = &view{source: t}
	if t.snapshot != "" {
		v.t, err = t.loadSnapshot(ctx)
		if err == nil {
			v.def, err = definition.FromMetadata(v.t.Metadata())
		}
	} else {
		err = v.read(ctx, n, withRows)
	}
	if err == nil {
		err = schema.CheckReadable(v.def.Stored)
		if err != nil {
			take.Release(v.rows)
		}
	}
	if err == nil && v.def.Order != nil {
		v.series = series.New(v.def, v.t, t.opts.Memory, v.scanOptions()...)
	}
	return v, err
}

func (v *view) read(ctx context.Context, n tableName, withRows bool) error {
	t := v.source
	entry, err := t.commits.Acquire(ctx, n)
	if err != nil {
		return err
	}
	defer entry.Release()
	v.t, v.def, v.tail, err = entry.View(ctx, withRows && t.oldVersion == nil)
	if err != nil {
		return notFound(ctx, t.cat, n, err)
	}
	v.rows = v.tail.Rows // empty for an old version
	if t.oldVersion == nil {
		return nil
	}
	meta := v.t.Metadata()
	if meta.TableUUID().String() != t.uuid {
		return &notFoundError{"the table was deleted and created again: open it again"}
	}
	v.snapshot = meta.SnapshotByID(t.oldSnapshotID)
	if v.snapshot == nil {
		return errExpired(*t.oldVersion)
	}
	v.def, err = definition.ForSnapshot(meta, v.snapshot)
	return err
}

// tasks returns the table's files in this state, or nil if it has none. The result must not be modified.
func (v *view) tasks(ctx context.Context) (_ []table.FileScanTask, err error) {
	if v.fileTasks == nil {
		v.fileTasks, err = datafile.Tasks(ctx, v.t, v.scanOptions()...)
	}
	return v.fileTasks, err
}

func (v *view) scanOptions() []table.ScanOption {
	if v.snapshot == nil {
		return nil
	}
	return []table.ScanOption{table.WithSnapshotID(v.snapshot.SnapshotID)}
}

// withView calls f with the table's selected state, which excludes the tail's rows, and wraps any error in an OpError.
func withView[T any](ctx context.Context, t *tableReader, op string, f func(*view) (T, error)) (result T, err error) {
	v, err := t.view(ctx, false)
	if err == nil {
		result, err = f(v)
	}
	if err != nil {
		return result, t.error(op, err)
	}
	return result, nil
}

// pinnedView returns the table's state, including the tail's rows after deduplication. The rows and the table's files
// remain available until the caller calls release.
func (t *tableReader) pinnedView(ctx context.Context) (v *view, release func(), err error) {
	unpin, err := t.commits.Pin()
	if err != nil {
		return nil, nil, err
	}
	v, err = t.view(ctx, true)
	if err != nil {
		unpin()
		return nil, nil, err
	}
	release = sync.OnceFunc(func() {
		take.Release(v.rows)
		unpin()
	})
	err = v.dedupTail(ctx)
	if err != nil {
		release()
	}
	return v, release, err
}

// dedupTail replaces v.rows with one deduplicated batch, unless the table has no order; see Series.DedupTail.
func (v *view) dedupTail(ctx context.Context) error {
	if v.series == nil || len(v.rows) == 0 {
		return nil
	}
	if v.tail.Deduped {
		v.tailReplaces = v.tail.Replaces
		return nil
	}
	merged, replaces, err := v.series.DedupTail(ctx, v.rows)
	if err != nil {
		return err
	}
	take.Release(v.rows)
	v.rows, v.tailReplaces = []arrow.RecordBatch{merged}, replaces
	v.tail.Cache(merged, v.tailReplaces)
	return nil
}

func versionOf(meta table.Metadata) Version {
	if s := meta.CurrentSnapshot(); s != nil {
		return Version(s.SequenceNumber)
	}
	return 0
}

func snapshotOf(meta table.Metadata, v Version) (*table.Snapshot, error) {
	s, err := commit.SnapshotOf(meta, int64(v))
	if err == nil && s == nil {
		err = errExpired(v)
	}
	return s, err
}

func errExpired(v Version) error {
	return fmt.Errorf("version %d %w: it may have expired", v, ErrNotFound)
}

// snapshotEntry returns the table's entry in the snapshot t.snapshot. It fails if t.location is set but the snapshot
// now records another location for the table.
func (t *tableReader) snapshotEntry(ctx context.Context) (icecat.Listed, error) {
	l, err := t.cat.GetAt(ctx, namespaceOf(t.bucket), t.snapshot, t.name)
	if err == nil && t.location != "" && l.Location != t.location {
		return l, &notFoundError{"the snapshot was replaced by another one with the same name: call At again"}
	}
	return l, snapshotNotFound(err)
}

// loadSnapshot returns the table's state in the snapshot t.snapshot.
func (t *tableReader) loadSnapshot(ctx context.Context) (*table.Table, error) {
	l, err := t.snapshotEntry(ctx)
	if err != nil {
		return nil, err
	}
	return t.cat.LoadAt(ctx, namespaceOf(t.bucket), t.name, l.Location)
}

// Schema returns the columns with the types that readers see: the types as put, but without encodings such as
// dictionaries.
func (t *Table) Schema(ctx context.Context) (*arrow.Schema, error) {
	return withView(ctx, t.reader(), "read the schema of", func(v *view) (*arrow.Schema, error) { return v.def.Logical, nil })
}

// SchemaAsPut returns the columns with the types as put, including dictionaries and their values; see [AsDictionaries].
func (t *Table) SchemaAsPut(ctx context.Context) (*arrow.Schema, error) {
	return withView(ctx, t.reader(), "read the schema of", func(v *view) (*arrow.Schema, error) { return v.def.Put, nil })
}

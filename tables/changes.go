package tables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/tables/internal/arrowsafe"
	"github.com/go-partd/partd/tables/internal/datafile"
	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/sorted"
)

// Changes is a reader of the rows that differ between two states of a table; see [Table.Changes].
type Changes struct {
	array.RecordReader

	Version Version // the version that the changes lead to; the next call can start from it
	UUID    string  // the table's UUID
}

// ChangesOptions configures Changes. Nil or the zero value selects the defaults.
type ChangesOptions struct {
	// Keys are the columns that identify rows. Nil means the time and key columns in the table's settings. Without keys,
	// an update is a delete and an insert.
	Keys []string

	// UUID is the UUID that the table must have. Set it to Changes.UUID of the previous call to detect that the table was
	// deleted and created again. "" accepts every table.
	UUID string
}

// Kinds of changes, in the column that Changes adds.
const (
	ChangeInsert       = "insert"
	ChangeDelete       = "delete"
	ChangeUpdateBefore = "update_before" // the row before the update; the next row is the row after it
	ChangeUpdateAfter  = "update_after"
)

// Keys of the metadata of the schema of Changes, for readers that lack the fields Version and UUID.
const (
	VersionKey = "partd.version"
	UUIDKey    = "partd.uuid"
)

// Changes returns the net difference between the state that since selects and t's state: the rows that only one of them
// has. A row that was added and deleted in between does not appear, and neither does a compaction. A nil since or
// AtVersion(0) selects the empty table. If t has no selected state, Changes first moves the tail's rows into files; in a
// read-only Store, rows in the tail are left out. The caller must release the reader.
//
// The columns are those of t's state, followed by the column _change with one of the kinds above. If the table has a
// column _change, the name gets underscores at the end until it is unique. In the older state, a column that was added
// later is null or its default, and a dropped column is ignored. Values are equal if they are both null, both NaN, or
// stored with the same bits, so -0 differs from 0. Maps are equal if they have equal entries in the same order.
//
// If exactly one row with a given key was deleted and exactly one was inserted, they are an update; keys that are null
// count as equal. The rows have no particular order, except that the two rows of an update are adjacent.
//
// Changes reads only files that the states do not share, or whose deleted rows differ. It uses temporary files if they
// need more than Options.Memory. If since has expired, if the table was deleted and created again, or if it was replaced
// by a table without common columns, the error wraps ErrNotFound: start again with a nil since.
func (t *Table) Changes(ctx context.Context, since At, o *ChangesOptions) (*Changes, error) {
	t = t.orZero()
	ctx, end := t.bucket().store().begin(ctx, "changes", t.bucket().name, t.name.Name)
	d, err := t.difference(ctx, since, cmp.Or(o, new(ChangesOptions)))
	if err != nil {
		err = t.error("find the changes of", err)
		end(Outcome{Err: err})
		return nil, err
	}
	logical, uuid := d.withChange(d.to.def.Logical, arrow.Field{}), d.to.t.Metadata().TableUUID().String()
	m := logical.Metadata()
	m = arrow.NewMetadata(append(m.Keys(), VersionKey, UUIDKey), append(m.Values(), strconv.FormatInt(int64(d.version()), 10), uuid))
	logical = arrow.NewSchema(logical.Fields(), &m)
	rows := sorted.MapBatches(func(b arrow.RecordBatch) (arrow.RecordBatch, error) {
		defer b.Release()
		return schema.Convert(b, logical)
	})
	out := arrowsafe.Reader(logical, rows(d.batches(ctx)), d.release)
	return &Changes{t.bucket().store().observe(out, end), d.version(), uuid}, nil
}

// ChangesPlan returns a plan whose rows are the result of Changes. It has no Files and no Tail, and NeedsScan is set. The
// caller must close the plan.
func (t *Table) ChangesPlan(ctx context.Context, since At) (*ScanPlan, error) {
	d, err := t.orZero().difference(ctx, since, new(ChangesOptions))
	if err != nil {
		return nil, t.error("find the changes of", err)
	}
	stored, err := table.SchemaToArrowSchema(d.to.def.Columns, nil, true, false)
	if err != nil {
		d.release()
		return nil, t.error("find the changes of", err)
	}
	const changeTypeID = "2147483543" // Iceberg reserves this field ID for _change_type
	return &ScanPlan{
		UUID: d.to.t.Metadata().TableUUID().String(), Version: d.version(), NeedsScan: true, view: d.to, changes: d, close: d.release,
		Schema: d.withChange(d.to.def.Logical, arrow.Field{}),
		Stored: d.withChange(stored, arrow.Field{Metadata: arrow.NewMetadata([]string{datafile.IDKey}, []string{changeTypeID})}),
	}, nil
}

// difference is two states of a table to compare. Both states are read with the columns of to.
type difference struct {
	from, to *view // from is nil for the empty table
	keys     []string
	release  func()
}

func (t *Table) difference(ctx context.Context, since At, o *ChangesOptions) (_ *difference, err error) {
	unpin, err := t.bucket().store().commits.Pin()
	if err != nil {
		return nil, err
	}
	d := &difference{release: sync.OnceFunc(unpin)}
	defer func() {
		if err != nil {
			d.release()
		}
	}()
	selected := selectState(since)
	isEmpty := since == nil || selected.version != nil && *selected.version == 0
	var sinceErr error
	if !isEmpty {
		d.from, sinceErr = t.viewAt(ctx, since)
	}
	if d.to, err = t.foldedView(ctx); err != nil {
		return nil, err
	}
	uuid := d.to.t.Metadata().TableUUID()
	switch {
	case errors.Is(sinceErr, ErrNotFound):
		return nil, fmt.Errorf("start again with all rows (since version 0), because the state to compare with is not available: %w", sinceErr)
	case sinceErr != nil:
		return nil, sinceErr
	case o.UUID != "" && o.UUID != uuid.String(), d.from != nil && d.from.t.Metadata().TableUUID() != uuid:
		return nil, fmt.Errorf("start again with all rows (since version 0), because the table was deleted and created again: earlier version %w", ErrNotFound)
	case d.from != nil && !haveCommonColumn(d.from.def.Columns, d.to.def.Columns):
		return nil, fmt.Errorf("start again with all rows (since version 0), because the table was replaced with other columns: earlier version with these columns %w", ErrNotFound)
	}
	return d, d.setKeys(o.Keys)
}

// viewAt returns the state that a selects, without the tail's rows.
func (t *Table) viewAt(ctx context.Context, a At) (*view, error) {
	old, err := t.bucket().Table(ctx, t.name.Name, a)
	if err != nil {
		return nil, err
	}
	return old.view(ctx, false)
}

// foldedView returns t's state. If it is the current state, foldedView first moves the tail's rows into files.
func (t *Table) foldedView(ctx context.Context) (*view, error) {
	if t.old == nil && t.snapshot == "" {
		e, err := t.bucket().store().commits.Acquire(t.name)
		if err != nil {
			return nil, err
		}
		defer e.Release()
		if _, err := e.Fold(ctx); err != nil {
			return nil, notFound(err)
		}
	}
	return t.view(ctx, false)
}

func haveCommonColumn(a, b *iceberg.Schema) bool {
	return slices.ContainsFunc(a.Fields(), func(f iceberg.NestedField) bool {
		return slices.ContainsFunc(b.Fields(), func(g iceberg.NestedField) bool { return f.ID == g.ID })
	})
}

// setKeys sets d.keys to the requested keys, or to the columns in the table's settings if they all exist.
func (d *difference) setKeys(requested []string) error {
	for _, name := range requested {
		if _, err := schema.ColumnIndex(d.to.def.Stored, name); err != nil {
			return err
		}
	}
	if d.keys = requested; requested == nil {
		d.keys = d.to.def.Settings.Order()
		if slices.ContainsFunc(d.keys, func(name string) bool { return !d.to.def.Stored.HasField(name) }) {
			d.keys = nil // an older state can have other names
		}
	}
	return nil
}

func (d *difference) version() Version {
	if d.to.snapshot != nil {
		return *d.to.source.old
	}
	return versionOf(d.to.t.Metadata())
}

// withChange returns a schema of the table's columns with the column of changes, which has f's metadata.
func (d *difference) withChange(columns *arrow.Schema, f arrow.Field) *arrow.Schema {
	f.Name, f.Type = "_change", arrow.BinaryTypes.String
	// SQL ignores the case of names.
	for slices.ContainsFunc(schema.Names(columns), func(name string) bool { return strings.EqualFold(name, f.Name) }) {
		f.Name += "_"
	}
	metadata := columns.Metadata()
	return arrow.NewSchema(append(slices.Clone(columns.Fields()), f), &metadata)
}

// files returns the files of each state that the other lacks, or whose deleted rows differ.
func (d *difference) files(ctx context.Context) (deleted, inserted []table.FileScanTask, err error) {
	if d.from != nil {
		deleted, err = d.from.tasks(ctx)
	}
	if err == nil {
		inserted, err = d.to.tasks(ctx)
	}
	if err != nil {
		return nil, nil, err
	}
	inBoth := map[string]int{}
	for _, task := range deleted {
		inBoth[identity(task)] = 1
	}
	for _, task := range inserted {
		inBoth[identity(task)]++
	}
	isInBoth := func(task table.FileScanTask) bool { return inBoth[identity(task)] == 2 }
	return slices.DeleteFunc(slices.Clone(deleted), isInBoth), slices.DeleteFunc(slices.Clone(inserted), isInBoth), nil
}

// identity returns the path of a data file and the places of its delete files. Files are immutable, so tasks of equal
// identity have the same rows.
func identity(task table.FileScanTask) string {
	var deletes []string
	for _, f := range slices.Concat(task.DeleteFiles, task.EqualityDeleteFiles, task.DeletionVectorFiles) {
		place := f.FilePath()
		if offset := f.ContentOffset(); offset != nil { // one file contains deletion vectors for many data files
			place += " " + strconv.FormatInt(*offset, 10)
		}
		deletes = append(deletes, place)
	}
	slices.Sort(deletes)
	return strings.Join(append([]string{task.File.FilePath()}, deletes...), "\x00")
}

// read yields the rows of a state's files with the columns of d.to, in their stored types.
func (d *difference) read(ctx context.Context, state *view, tasks []table.FileScanTask) sorted.Batches {
	return func(yield func(arrow.RecordBatch, error) bool) {
		scan, err := datafile.NewScan(ctx, d.to.t, d.to.def.Columns, nil, nil)
		if err != nil {
			yield(nil, err)
			return
		}
		scan.Workers, scan.Memory = runtime.GOMAXPROCS(0), d.to.source.b.s.opts.Memory/8
		scan.Read(ctx, datafile.ToRead(state.t, tasks))(yield)
	}
}

// batches yields the changed rows in their stored types, with the column of changes last.
func (d *difference) batches(ctx context.Context) sorted.Batches {
	return func(yield func(arrow.RecordBatch, error) bool) {
		deleted, inserted, err := d.files(ctx)
		var rows sorted.Batches
		switch {
		case err != nil:
			rows = func(yield func(arrow.RecordBatch, error) bool) { yield(nil, err) }
		case len(deleted) == 0:
			rows = d.label(d.read(ctx, d.to, inserted), ChangeInsert)
		case len(inserted) == 0:
			rows = d.label(d.read(ctx, d.from, deleted), ChangeDelete)
		default:
			rows = d.compare(ctx, d.read(ctx, d.from, deleted), d.read(ctx, d.to, inserted))
		}
		for b, err := range rows {
			if err = cmp.Or(err, canceled.Err(ctx)); err != nil {
				if b != nil {
					b.Release()
				}
				yield(nil, d.to.source.error("find the changes of", err))
				return
			}
			if !yield(b, nil) {
				return
			}
		}
	}
}

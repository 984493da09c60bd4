package tables

import (
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
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

// difference compares two states of a table. Both states are read with the columns of to.
type difference struct {
	from, to *view    // from is nil for the empty table
	keys     []string // columns that identify a row; if empty, updates are not detected
	release  func()
}

func (t *tableReader) difference(ctx context.Context, since At, o *ChangesOptions) (_ *difference, err error) {
	if _, err := t.check(); err != nil {
		return nil, err
	}
	unpin, err := t.commits.Pin()
	if err != nil {
		return nil, err
	}
	d := &difference{release: sync.OnceFunc(unpin)}
	defer func() {
		if err != nil {
			d.release()
		}
	}()
	var sinceErr error
	if a := selectState(since); a.version != nil && *a.version != 0 || !a.time.IsZero() || a.snapshot != "" {
		d.from, sinceErr = t.viewAt(ctx, since)
	}
	d.to, err = t.foldedView(ctx)
	if err != nil {
		return nil, err
	}
	uuid := d.to.t.Metadata().TableUUID()
	switch {
	case errors.Is(sinceErr, ErrNotFound):
		return nil, fmt.Errorf("start again with all rows (since version 0), because the state to compare with is not available: %w", sinceErr)
	case sinceErr != nil:
		return nil, sinceErr
	case o.UUID != "" && o.UUID != uuid.String(), d.from != nil && d.from.t.Metadata().TableUUID() != uuid:
		return nil, fmt.Errorf("start again with all rows (since version 0), because the table was deleted and created again: the earlier version %w", ErrNotFound)
	case d.to.version() == 0 && d.to.t.CurrentSnapshot() != nil:
		return nil, fmt.Errorf("%w: Iceberg's format version 1 does not number a table's versions: upgrade the table to format version 2 with another program, and put rows once", errors.ErrUnsupported)
	}
	if d.from != nil {
		if err := d.checkColumns(); err != nil {
			return nil, fmt.Errorf("start again with all rows (since version 0), because %w: an earlier version with these columns %w", err, ErrNotFound)
		}
	}
	return d, d.setKeys(o.Keys)
}

// viewAt returns the state that a selects, without the tail's rows.
func (t *tableReader) viewAt(ctx context.Context, a At) (*view, error) {
	old, err := t.at(ctx, a)
	if err != nil {
		return nil, err
	}
	return old.view(ctx, false)
}

// foldedView returns the table's state. Unless a state is selected, foldedView first moves the tail's rows into files.
func (t *tableReader) foldedView(ctx context.Context) (*view, error) {
	if !t.isPinned() {
		n, err := t.check()
		if err != nil {
			return nil, err
		}
		e, err := t.commits.Acquire(ctx, n)
		if err != nil {
			return nil, err
		}
		defer e.Release()
		hasTail, err := e.HasTail(ctx)
		if err == nil && hasTail {
			_, err = e.Fold(ctx)
		}
		if err != nil {
			return nil, notFound(ctx, t.cat, n, err)
		}
	}
	return t.view(ctx, false)
}

// setKeys sets d.keys to the requested keys. By default, it uses the key columns in the table's settings, if all of
// them exist.
func (d *difference) setKeys(requested []string) error {
	for _, name := range requested {
		if _, err := schema.ColumnIndex(d.to.def.Stored, name); err != nil {
			return err
		}
	}
	d.keys = requested
	if requested == nil {
		d.keys = d.to.def.Settings.Order()
		if slices.ContainsFunc(d.keys, func(name string) bool { return !d.to.def.Stored.HasField(name) }) {
			d.keys = nil // an older state can have other names
		}
	}
	return nil
}

// withChange adds the column _change, with the metadata of f, to a schema that contains the table's columns.
func (d *difference) withChange(columns *arrow.Schema, f arrow.Field) *arrow.Schema {
	f.Name, f.Type = "_change", arrow.BinaryTypes.String
	// SQL ignores case in names.
	for slices.ContainsFunc(schema.Names(columns), func(name string) bool { return strings.EqualFold(name, f.Name) }) {
		f.Name += "_"
	}
	metadata := columns.Metadata()
	return arrow.NewSchema(append(slices.Clone(columns.Fields()), f), &metadata)
}

// files returns, for each state, the files that the other state lacks or has with different deleted rows.
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
	counts := map[string][2]int{} // number of times that each state has a file, by identity; more than 1 if another program added it repeatedly
	for state, tasks := range [][]table.FileScanTask{deleted, inserted} {
		for _, task := range tasks {
			id := identity(task)
			n := counts[id]
			n[state]++
			counts[id] = n
		}
	}
	isInBoth := func(task table.FileScanTask) bool { n := counts[identity(task)]; return n[0] == n[1] }
	return slices.DeleteFunc(slices.Clone(deleted), isInBoth), slices.DeleteFunc(slices.Clone(inserted), isInBoth), nil
}

// identity returns the path of a data file and the positions of its delete files. Files are immutable, so tasks with
// the same identity have the same rows.
func identity(task table.FileScanTask) string {
	var deletes []string
	for _, f := range slices.Concat(task.DeleteFiles, task.EqualityDeleteFiles, task.DeletionVectorFiles) {
		location := f.FilePath()
		if offset := f.ContentOffset(); offset != nil { // a file can contain deletion vectors for many data files
			location += " " + strconv.FormatInt(*offset, 10)
		}
		deletes = append(deletes, location)
	}
	slices.Sort(deletes)
	return strings.Join(append([]string{task.File.FilePath()}, deletes...), "\x00")
}

// read yields the rows of a state's files with the columns of d.to, in their stored types.
func (d *difference) read(ctx context.Context, state *view, tasks []table.FileScanTask) batches.Seq {
	return func(yield func(arrow.RecordBatch, error) bool) {
		scan, err := datafile.NewScan(ctx, d.to.t, d.to.def.Columns, nil, nil)
		if err != nil {
			yield(nil, err)
			return
		}
		scan.Workers, scan.Memory = runtime.GOMAXPROCS(0), d.to.source.opts.Memory/8
		scan.Read(ctx, datafile.ToRead(state.t, tasks))(yield)
	}
}

// label adds the column _change, with the same kind in all rows.
func (d *difference) label(rows batches.Seq, kind string) batches.Seq {
	return batches.Map(func(b arrow.RecordBatch) (arrow.RecordBatch, error) {
		defer b.Release()
		return d.withKinds(b, slices.Repeat([]string{kind}, int(b.NumRows()))), nil
	})(rows)
}

// withKinds returns b with the column _change. The caller must release the result.
func (d *difference) withKinds(b arrow.RecordBatch, kinds []string) arrow.RecordBatch {
	builder := array.NewStringBuilder(memory.DefaultAllocator)
	defer builder.Release()
	builder.AppendValues(kinds, nil)
	column := builder.NewArray()
	defer column.Release()
	return array.NewRecordBatch(d.withChange(d.to.def.Stored, arrow.Field{}), append(slices.Clone(b.Columns()), column), b.NumRows())
}

// Changes reads the rows that differ between two states of a table; see [Table.Changes].
type Changes struct {
	array.RecordReader

	Version Version // the table's version after the changes; the next call can start from it
	UUID    string  // the table's UUID
}

// ChangesOptions configures Changes. Nil or the zero value selects the defaults.
type ChangesOptions struct {
	// Keys are the columns that identify rows. Nil means the time and key columns in the table's settings. If there are
	// none, or if Keys is empty but not nil, updates appear as a delete and an insert.
	Keys []string

	// UUID is the UUID that the table must have. To detect that the table was deleted and created again, set it to the
	// UUID in the previous call's Changes. "" accepts every table.
	UUID string
}

// Kinds of changes, which are the values of the column _change that Changes adds.
const (
	ChangeInsert       = "insert"
	ChangeDelete       = "delete"
	ChangeUpdateBefore = "update_before" // the row before the update; the next row is the row after it
	ChangeUpdateAfter  = "update_after"
)

// Keys of Version and UUID in the schema metadata of Changes, for code that sees only the RecordReader.
const (
	VersionKey = "partd.version"
	UUIDKey    = "partd.uuid"
)

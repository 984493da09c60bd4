package pull

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/arrow/util"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/formats"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/rows/sorted"
	"github.com/go-partd/partd/tables/internal/rows/take"
	"github.com/go-partd/partd/tables/internal/state/series"
)

const (
	// MaxFrame limits the rows of one Save, in bytes of memory.
	MaxFrame = 1 << 30

	fileBytes = 64 << 20 // approximate maximum size of a file's rows, in bytes of memory
	smallRows = 64 << 10 // if the file before new rows has fewer rows than this, Save rewrites it with the new rows
)

// Save adds rows to a table and creates the table if it does not exist. The first timestamp or date32 column is the
// table's time column. If a new row has the time of an old one, the new row's columns replace the old values, and all
// other columns keep their values. New columns are null in older rows, and columns that r lacks are null in new rows.
// Save rejects times that are null or occur twice in r, columns whose type differs from the table's and cannot be
// widened to it, and rows without the time column.
//
// Once Save has returned the version, all nodes load it or a newer one, with at most the
// delay that the package documentation promises. The error wraps [ErrConflict] if another Save
// of the table came first. It wraps partd.ErrUnknownOutcome if the registry did not confirm the
// save. Save reads r to its end, holds all of its rows in memory, and does not release r.
func (n *Node) Save(ctx context.Context, name string, r array.RecordReader) (version int64, err error) {
	defer wrapError("save", name, &err)
	if err := n.checkOpened(); err != nil {
		return 0, err
	}
	if err := checkName(name); err != nil {
		return 0, err
	}
	if r == nil {
		return 0, errors.New("the reader is nil")
	}
	added, err := readFrame(r)
	if err != nil {
		return 0, err
	}
	defer added.batch.Release()
	base, revision, err := n.fetchBase(ctx, name)
	if err != nil {
		return 0, err
	}
	next, err := n.merge(ctx, base, added)
	if err != nil {
		return 0, err
	}
	next.Name = name
	rec, err := n.publish(ctx, next, base, revision)
	if err != nil {
		return 0, err
	}
	return rec.Version, nil
}

// publish writes the manifest next into a file and commits it as the version that follows previous.
// revision is that of the registry's current record.
func (n *Node) publish(ctx context.Context, next *manifest, previous version, revision uint64) (rec record, err error) {
	next.Version, next.Before = previous.record.Version+1, nil
	if previous.manifest != nil { // leave room for previous itself
		next.Before = previous.Before[max(0, len(previous.Before)+1-maxBefore):]
	}
	if previous.record.Version > 0 {
		next.Before = append(slices.Clone(next.Before), previous.shortName())
	}
	rec = record{Name: next.Name, Table: cmp.Or(previous.record.Table, rand.Text()), Version: next.Version}
	rec.Rows, rec.Bytes = next.totals()
	f, err := n.disk.Create(next.encode)
	if err != nil {
		return rec, err
	}
	rec.Manifest, rec.Size = f.Hash, f.Size
	if rec.Size > maxManifest {
		return rec, fmt.Errorf("the manifest would be too large, because the table has %d files: %w", len(next.files), partd.ErrTooLarge)
	}
	if err := n.commit(ctx, rec, revision); err != nil {
		return rec, err
	}
	return rec, n.adopt(ctx, rec)
}

// adopt makes rec, the newest version on any node, the head of its table in this directory.
// After the registry has lost a record, other nodes may have started another history of the table.
// If the old head is not part of rec's history, adopt keeps the old head under another name.
func (n *Node) adopt(ctx context.Context, rec record) error {
	n.reg.confirm(rec)
	h, err := n.disk.head(keyOf(rec.Name))
	if err == nil && h.Version > 0 && h.Version < rec.Version {
		m, err2 := n.manifest(ctx, rec)
		err = err2
		if err == nil && !m.follows(h.record) {
			err = n.keepBranch(ctx, h)
		}
	}
	if err == nil {
		err = n.disk.setHead(rec)
	}
	if err != nil {
		return fmt.Errorf("version %d is the newest, but this directory could not record that: %w", rec.Version, err)
	}
	if err := n.reg.reportHeld(ctx, rec); err != nil { // On failure, an audit reports the version later.
		n.log.Warn("pull: the registry could not record that this node has the version; the node tries again later", "table", rec.Name, "error", err)
	}
	return nil
}

// commit sets the record in the registry. If the registry's response is lost, commit reads
// the record to learn whether it was set.
func (n *Node) commit(ctx context.Context, rec record, revision uint64) error {
	setCtx, cancel := context.WithTimeout(ctx, n.opts.SyncTimeout)
	defer cancel()
	err := n.reg.set(setCtx, rec, revision)
	if err == nil || errors.Is(err, ErrConflict) {
		return err
	}
	if n.reg.sync(ctx, n.opts.SyncTimeout) == nil {
		e := n.reg.table(keyOf(rec.Name))
		switch {
		case e.record == rec:
			return nil
		case e.Version == rec.Version:
			return ErrConflict
		}
	}
	return fmt.Errorf("the registry did not confirm the version: %w (%w)", err, partd.ErrUnknownOutcome)
}

// frame is the rows of one Save, sorted by time.
type frame struct {
	batch arrow.RecordBatch
	time  int // index of the time column
}

// readFrame reads all rows of r and sorts them by time. It rejects null and duplicate times.
func readFrame(r array.RecordReader) (f frame, err error) {
	plain := schema.WithoutEncodings(r.Schema())
	fields := plain.Fields()
	if err := schema.CheckNames(plain); err != nil {
		return f, err
	}
	for i := range fields {
		fields[i].Nullable = true
	}
	f.time = slices.IndexFunc(fields, func(f arrow.Field) bool { return isTime(f.Type) })
	if f.time < 0 {
		return f, &tables.ArgumentError{Err: errors.New("the rows have no time column: one column must be a timestamp or a date32")}
	}
	columns := arrow.NewSchema(fields, nil)
	builder := array.NewRecordBuilder(memory.DefaultAllocator, columns)
	defer builder.Release()
	// Start with an empty batch: sorted.Block needs at least one.
	batches := []arrow.RecordBatch{builder.NewRecordBatch()}
	defer func() { take.Release(batches) }()
	size := int64(0)
	for r.Next() {
		b, err := schema.Convert(r.RecordBatch(), columns)
		if err != nil {
			return f, err
		}
		batches = append(batches, b)
		size += util.TotalRecordSize(b)
		if size > MaxFrame {
			return f, fmt.Errorf("the rows need more than %d bytes of memory: save them in parts: %w", MaxFrame, partd.ErrTooLarge)
		}
	}
	if err := r.Err(); err != nil && err != io.EOF { //nolint:errorlint // some readers end with io.EOF itself; an error that wraps it is a failure
		return f, err
	}
	f.batch, err = sorted.Block(batches, []int{f.time})
	if err != nil {
		return f, err
	}
	times := f.batch.Column(f.time)
	if times.NullN() > 0 {
		err = errNoTime
	}
	for i := 1; i < times.Len() && err == nil; i++ {
		if series.TimeAt(times, i) == series.TimeAt(times, i-1) {
			err = fmt.Errorf("two rows have the time %s: remove one of them", times.ValueStr(i))
		}
	}
	if err != nil {
		f.batch.Release()
		return f, &tables.SchemaError{Column: columns.Field(f.time).Name, Err: err}
	}
	return f, nil
}

// writeRows writes time-sorted rows as files of at most about fileBytes. timeColumn is the time column's index.
func (d *disk) writeRows(b arrow.RecordBatch, timeColumn int) (files []dataFile, err error) {
	times := b.Column(timeColumn)
	rowsPerFile := max(1, int(b.NumRows()*fileBytes/max(fileBytes, util.TotalRecordSize(b))))
	for start := 0; start < times.Len(); start += rowsPerFile {
		end := min(start+rowsPerFile, times.Len())
		part := b.NewSlice(int64(start), int64(end))
		f := dataFile{Rows: part.NumRows(), Min: series.TimeAt(times, start), Max: series.TimeAt(times, end-1)}
		f.HashNamed, err = d.Create(func(w io.Writer) error {
			out, err := formats.Parquet().Write(w, part.Schema(), formats.WriteOptions{})
			if err != nil {
				return err
			}
			return errors.Join(out.Write(part), out.Close())
		})
		part.Release()
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

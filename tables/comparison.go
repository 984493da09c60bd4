package tables

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/sorted"
	"github.com/go-partd/partd/tables/internal/rows/take"
)

// compare yields the rows that only one of the two states has. It sorts the rows of both states by their encoded keys
// and then their other columns, so that rows with equal keys are adjacent, and so are equal rows.
func (d *difference) compare(ctx context.Context, deleted, inserted batches.Seq) batches.Seq {
	keysIndex := d.to.def.Stored.NumFields() // the first column that encode adds
	in := sorted.Input{Keys: []int{keysIndex, keysIndex + 1}, Memory: min(d.to.source.opts.Memory/4, 2*maxComparedBytes), Size: datafile.SizeOf}
	in.Batches = batches.Concat(d.encode(deleted, false), d.encode(inserted, true))
	return func(yield func(arrow.RecordBatch, error) bool) {
		c := &comparison{d: d, yield: yield}
		defer func() { take.Release(c.batches) }()
		for b, err := range sorted.Sort(ctx, sorted.All, in) {
			if err != nil {
				yield(nil, err)
				return
			}
			c.add(b)
			if c.isStopped {
				break
			}
		}
		if !c.isStopped {
			c.finish()
		}
		if c.err != nil {
			yield(nil, c.err)
		}
	}
}

// maxComparedBytes limits the encoding of a row, in bytes, so that the offsets in a sorted block are below 1<<31.
const maxComparedBytes = 1 << 29

// encode adds three columns to rows: the encoded keys, the encoded other columns, and whether the row belongs to d.to.
// It splits batches, because the encodings can be much larger than the rows.
func (d *difference) encode(rows batches.Seq, isNew bool) batches.Seq {
	isKey := make([]bool, d.to.def.Stored.NumFields())
	for _, name := range d.keys {
		isKey[d.to.def.Stored.FieldIndices(name)[0]] = true
	}
	fields := append(slices.Clone(d.to.def.Stored.Fields()),
		arrow.Field{Name: "keys", Type: arrow.BinaryTypes.Binary}, arrow.Field{Name: "rest", Type: arrow.BinaryTypes.Binary}, arrow.Field{Name: "new", Type: arrow.FixedWidthTypes.Boolean})
	encodedSchema, limit := arrow.NewSchema(fields, nil), int(min(d.to.source.opts.Memory/4, maxComparedBytes))
	encodeFrom := func(b arrow.RecordBatch, start int) (_ arrow.RecordBatch, end int, err error) {
		build := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema(fields[len(isKey):], nil))
		defer build.Release()
		var keys, rest []byte
		size := 0
		appenders := make([]func(dst []byte, row int) []byte, len(b.Columns()))
		for i, c := range b.Columns() {
			appenders[i] = sorted.ExactKeyAppender(c, limit)
		}
		for end = start; end < int(b.NumRows()) && size < min(limit, maxChangedBytes); end++ {
			keys, rest = keys[:0], rest[:0]
			for i, appendValue := range appenders {
				if isKey[i] {
					keys = appendValue(keys, end)
				} else {
					rest = appendValue(rest, end)
				}
			}
			if len(keys)+len(rest) > limit {
				return nil, 0, fmt.Errorf("a row needs more than %d bytes for the comparison; the limit is a quarter of Options.Memory, and at most %d: %w", limit, maxComparedBytes, partd.ErrTooLarge)
			}
			size += len(keys) + len(rest)
			build.Field(0).(*array.BinaryBuilder).Append(keys)
			build.Field(1).(*array.BinaryBuilder).Append(rest)
			build.Field(2).(*array.BooleanBuilder).Append(isNew)
		}
		addedColumns := build.NewRecordBatch()
		defer addedColumns.Release()
		part := b.NewSlice(int64(start), int64(end))
		defer part.Release()
		return array.NewRecordBatch(encodedSchema, slices.Concat(part.Columns(), addedColumns.Columns()), part.NumRows()), end, nil
	}
	return func(yield func(arrow.RecordBatch, error) bool) {
		for b, err := range rows {
			if err != nil {
				yield(nil, err)
				return
			}
			more := true
			for start := 0; start < int(b.NumRows()) && more; {
				var part arrow.RecordBatch
				part, start, err = encodeFrom(b, start)
				more = yield(part, err) && err == nil
			}
			b.Release()
			if !more {
				return
			}
		}
	}
}

// Limits of a batch of changes. The limit on bytes is approximate.
const (
	maxChangedRows  = 1 << 15
	maxChangedBytes = 4 << 20
)

// comparison finds the changes in rows sorted by compare.
type comparison struct {
	d         *difference
	yield     func(arrow.RecordBatch, error) bool
	err       error
	isStopped bool                // yield returned false, or err is set
	batches   []arrow.RecordBatch // the sorted batches of current, deleted, inserted and changes

	current changedRow // the first of the equal rows that are being counted; its batch is nil at the start
	count   int64      // number of rows equal to current in d.to, minus their number in d.from

	deleted, inserted *changedRow // the current key's delete and insert, held back because they may be an update; nil if none
	isRepeated        bool        // whether the current key has several deletes or inserts, so that none is part of an update

	changes      []changedRow // changes to yield
	encodedBytes int          // total size of the encodings of changes
}

// changedRow is a row in a sorted batch, and the kind of its change.
type changedRow struct {
	batch arrow.RecordBatch
	row   int
	kind  string
}

// encoded returns an encoded column of the row: 0 for the keys, 1 for the rest.
func (r changedRow) encoded(column int) []byte {
	return r.batch.Column(int(r.batch.NumCols()) - 3 + column).(*array.Binary).Value(r.row)
}

// add adds the next sorted rows and takes ownership of them.
func (c *comparison) add(b arrow.RecordBatch) {
	c.batches = append(c.batches, b)
	isNew := b.Column(int(b.NumCols()) - 1).(*array.Boolean)
	for row := 0; row < int(b.NumRows()) && !c.isStopped; row++ {
		r := changedRow{batch: b, row: row}
		sameKey := c.current.batch != nil && bytes.Equal(c.current.encoded(0), r.encoded(0))
		if !sameKey || !bytes.Equal(c.current.encoded(1), r.encoded(1)) {
			c.endEqualRows()
			if !sameKey {
				c.endKey()
			}
			c.current = r
		}
		if isNew.Value(row) {
			c.count++
		} else {
			c.count--
		}
	}
	c.flush()
	c.batches = slices.DeleteFunc(c.batches, func(b arrow.RecordBatch) bool {
		for _, r := range []*changedRow{&c.current, c.deleted, c.inserted} {
			if r != nil && r.batch == b {
				return false
			}
		}
		b.Release()
		return true
	})
}

// finish yields the last changes.
func (c *comparison) finish() {
	c.endEqualRows()
	c.endKey()
	c.flush()
}

// endEqualRows records the inserts or deletes of rows that equal c.current. It holds the key's first one back, because
// it may be half of an update.
func (c *comparison) endEqualRows() {
	kind, held := ChangeInsert, &c.inserted
	if c.count < 0 {
		kind, held, c.count = ChangeDelete, &c.deleted, -c.count
	}
	for ; c.count > 0 && !c.isStopped; c.count-- {
		r := changedRow{c.current.batch, c.current.row, kind}
		switch {
		case len(c.d.keys) == 0 || c.isRepeated:
			c.record(r, kind)
		case *held == nil:
			*held = &r
		default:
			c.endPair(ChangeDelete, ChangeInsert)
			c.isRepeated = true
			c.record(r, kind)
		}
	}
}

// endKey records the remaining change for the current key, if any: an update, a delete or an insert.
func (c *comparison) endKey() {
	if c.deleted != nil && c.inserted != nil {
		c.endPair(ChangeUpdateBefore, ChangeUpdateAfter)
	}
	c.endPair(ChangeDelete, ChangeInsert)
	c.isRepeated = false
}

// endPair records the current key's delete and insert that were held back, if any, with the given kinds.
func (c *comparison) endPair(deleteKind, insertKind string) {
	if c.deleted != nil {
		c.record(*c.deleted, deleteKind)
	}
	if c.inserted != nil {
		c.record(*c.inserted, insertKind)
	}
	c.deleted, c.inserted = nil, nil
}

func (c *comparison) record(r changedRow, kind string) {
	r.kind = kind
	c.changes, c.encodedBytes = append(c.changes, r), c.encodedBytes+len(r.encoded(0))+len(r.encoded(1))
	if len(c.changes) == maxChangedRows || c.encodedBytes >= maxChangedBytes {
		c.flush()
	}
}

// flush yields the recorded changes.
func (c *comparison) flush() {
	for changes := c.changes; len(changes) > 0 && !c.isStopped; {
		batch := changes[0].batch
		var rows []int
		var kinds []string
		for len(rows) < len(changes) && changes[len(rows)].batch == batch {
			kinds, rows = append(kinds, changes[len(rows)].kind), append(rows, changes[len(rows)].row)
		}
		changes = changes[len(rows):]
		columns := array.NewRecordBatch(c.d.to.def.Stored, batch.Columns()[:c.d.to.def.Stored.NumFields()], batch.NumRows())
		taken, err := take.Batch(columns, rows)
		columns.Release()
		if err != nil {
			c.err, c.isStopped = err, true
			break
		}
		c.isStopped = !c.yield(c.d.withKinds(taken, kinds), nil)
		taken.Release()
	}
	c.changes, c.encodedBytes = c.changes[:0], 0
}

// batches yields the changed rows in their stored types, with the column _change last.
func (d *difference) batches(ctx context.Context) batches.Seq {
	return func(yield func(arrow.RecordBatch, error) bool) {
		deletedFiles, insertedFiles, err := d.files(ctx)
		var rows batches.Seq
		switch {
		case err != nil:
			rows = func(yield func(arrow.RecordBatch, error) bool) { yield(nil, err) }
		case len(deletedFiles) == 0:
			rows = d.label(d.read(ctx, d.to, insertedFiles), ChangeInsert)
		case len(insertedFiles) == 0:
			rows = d.label(d.read(ctx, d.from, deletedFiles), ChangeDelete)
		default:
			rows = d.compare(ctx, d.read(ctx, d.from, deletedFiles), d.read(ctx, d.to, insertedFiles))
		}
		for b, err := range rows {
			err = cmp.Or(err, canceled.Err(ctx))
			if err != nil {
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

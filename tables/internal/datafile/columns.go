package datafile

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/take"
)

// columns reads columns of a row group.
type columns struct {
	f       *file
	g       group
	at      int64 // the next row of the group
	rows    int64 // limit of rows to decode at once
	wanted  []Column
	readers []*pqarrow.ColumnReader // nil: the file lacks the column
	fields  []pqarrow.SchemaField   // as the file stores them
	codes   []int                   // the number of texts in the dictionary; 0: the column is not read as codes
	plain   []*plain                // replaces a reader, which then stays at the first row; nil: the reader is used
}

// columns returns a reader of the wanted columns of a group. The first coding columns may be read
// as dictionary codes.
func (f *file) columns(ctx context.Context, by *pqarrow.FileReader, g group, wanted []Column, coding int) (c *columns, err error) {
	n := len(wanted)
	c = &columns{
		f: f, g: g, wanted: wanted, readers: make([]*pqarrow.ColumnReader, n), fields: make([]pqarrow.SchemaField, n),
		codes: make([]int, n), plain: make([]*plain, n),
	}
	defer func() {
		if err != nil {
			c.release()
		}
	}()
	defer f.sane(&err)
	reader := *by // a copy with its own properties and fields
	fields := *reader.Manifest
	reader.Manifest, fields.Fields = &fields, slices.Clone(fields.Fields)
	// Sizes in the footer are trusted only up to maxHeldBytes.
	reader.Props.PreAllocBinaryData = f.size(g, wanted) <= maxHeldBytes
	every := map[int]bool{}
	for i, w := range wanted {
		at := f.place(w)
		if at < 0 {
			continue
		}
		c.fields[i] = f.reader.Manifest.Fields[at]
		all := map[int]bool{}
		addLeaves(&c.fields[i], all)
		for leaf := range all { // check first: the reader of structs starts goroutines, where a panic could not be recovered
			if err := f.sound(g, leaf); err != nil {
				return c, err
			}
			every[leaf] = true
		}
		if i < coding {
			if c.codes[i] = f.codes(g, &c.fields[i], w.Field.Type); c.codes[i] > 0 {
				fields.Fields[at] = asCodes(c.fields[i])
			}
		}
		if c.readers[i], err = reader.GetFieldReader(ctx, at, all, []int{g.number}); err != nil {
			return c, err
		}
		if c.fields[i].IsLeaf() {
			c.plain[i] = f.plain(g, c.fields[i].ColIndex, c.fields[i].Field.Type, by == f.looker)
		}
	}
	c.rows = f.stepRows(g, every)
	return c, nil
}

// sound checks the encoding of a column chunk, and the position and size that the footer claims for it.
func (f *file) sound(g group, leaf int) error {
	chunk, err := f.parsed.MetaData().RowGroup(g.number).ColumnChunk(leaf)
	if err != nil {
		return err
	}
	if err := schema.CheckEncoding(chunk); err != nil {
		return err
	}
	start, size := chunk.DataPageOffset(), f.parsed.MetaData().GetSourceFileSize()
	if chunk.HasDictionaryPage() && chunk.DictionaryPageOffset() > 0 {
		start = min(start, chunk.DictionaryPageOffset())
	}
	if length := chunk.TotalCompressedSize(); start < 0 || length < 0 || start > size || length > size-start {
		return fmt.Errorf("column %d of group %d is said to have %d bytes from %d on, and the file has %d: it is damaged", leaf, g.number, length, start, size)
	}
	return nil
}

func (c *columns) release() {
	for i := range c.plain {
		c.leavePlain(i)
	}
	for _, r := range c.readers {
		if r != nil {
			r.Release()
		}
	}
}

func (c *columns) next(rows int64) ([]arrow.Array, error) {
	all := make([]arrow.Array, len(c.wanted))
	for i, w := range c.wanted {
		var err error
		if c.readers[i] == nil {
			all[i], err = absent(w, int(rows))
		} else {
			all[i], err = c.one(i, rows)
		}
		if err != nil {
			return nil, c.named(i, err)
		}
	}
	c.at += rows
	return all, nil
}

// named adds the column's name to an error.
func (c *columns) named(i int, err error) error {
	if err == nil || errors.As(err, new(*schema.Error)) {
		return err
	}
	return fmt.Errorf("column %q: %w", c.wanted[i].Field.Name, err)
}

func (c *columns) one(i int, rows int64) (_ arrow.Array, err error) {
	defer c.f.sane(&err)
	whole, err := c.decoded(i, rows)
	if err != nil {
		return nil, err
	}
	if c.codes[i] > 0 {
		return whole, checkCodes(whole, c.codes[i])
	}
	to := c.wanted[i].Field.Type
	_, nested := whole.DataType().(arrow.NestedType)
	if !nested && arrow.TypeEqual(whole.DataType(), to) {
		return whole, nil
	}
	defer whole.Release()
	if nested { // the parts may have different lengths in a damaged file
		if err := array.ValidateFull(whole); err != nil {
			return nil, fmt.Errorf("the file is damaged: %w", err)
		}
	}
	fit, err := c.f.scan.fit(whole, *c.fields[i].Field, c.wanted[i].IDs, to)
	if err != nil { // a value outside the range of the table's type
		return nil, &schema.Error{Column: c.wanted[i].Field.Name, Err: err}
	}
	return fit, nil
}

// decoded returns the next rows of a column in the file's type. The caller releases them.
func (c *columns) decoded(i int, rows int64) (arrow.Array, error) {
	if p := c.plain[i]; p != nil {
		if a := p.nextRows(rows); a != nil {
			return a, nil
		}
		c.leavePlain(i)
		if err := c.skip(i, 0, c.at); err != nil {
			return nil, err
		}
	}
	chunks, err := c.readers[i].NextBatch(rows)
	if err != nil {
		return nil, err
	}
	defer chunks.Release()
	if int64(chunks.Len()) != rows {
		return nil, fmt.Errorf("it ends after %d of %d rows: the file is damaged", chunks.Len(), rows)
	}
	if len(chunks.Chunks()) > 1 {
		return array.Concatenate(chunks.Chunks(), memory.DefaultAllocator)
	}
	whole := chunks.Chunk(0)
	whole.Retain()
	return whole, nil
}

// absent returns the values of a column that the file lacks: its default, or nulls.
func absent(c Column, rows int) (arrow.Array, error) {
	if c.Absent == nil {
		return array.MakeArrayOfNull(memory.DefaultAllocator, c.Field.Type, rows), nil
	}
	return take.Rows(c.Absent, make([]int, rows))
}

// letGo releases values, and recycles their memory if nothing else uses it.
func (c *columns) letGo(all []arrow.Array) {
	for i, a := range all {
		if c.readers[i] != nil && c.fields[i].IsLeaf() {
			a.Release()
		}
	}
}

// seek moves to a row. Columns with a page index skip whole pages; others decode all rows in
// between.
func (c *columns) seek(row int64) error {
	for i, r := range c.readers {
		if r == nil || row == c.at {
			continue
		}
		if err := c.skip(i, c.at, row); err != nil {
			return c.named(i, err)
		}
	}
	c.at = row
	return nil
}

// skip moves a column forward from one row to another.
func (c *columns) skip(i int, from, to int64) (err error) {
	defer c.f.sane(&err)
	known := c.fields[i].IsLeaf() && to-from >= minSeekRows && c.f.pageStarts(c.g, c.fields[i].ColIndex) != nil
	if p := c.plain[i]; p != nil {
		if p.skip(from, to, known) {
			return nil
		}
		c.leavePlain(i)
		return c.skip(i, 0, to)
	}
	if known {
		return c.readers[i].SeekToRow(to)
	}
	for at := from; at < to && err == nil; at += c.rows {
		var between arrow.Array
		if between, err = c.decoded(i, min(c.rows, to-at)); err == nil {
			between.Release()
		}
	}
	return err
}

// leavePlain switches a column to the library's reader, which is still at the group's first row.
func (c *columns) leavePlain(i int) {
	if p := c.plain[i]; p != nil {
		p.close()
		c.plain[i] = nil
	}
}

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
	"github.com/apache/iceberg-go"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/rows/take"
)

// maxHeldBytes limits the decoded size of the condition's columns, which stay in memory until the rows to keep are
// known.
const maxHeldBytes = 32 << 20

// columnReader reads selected columns of a row group.
type columnReader struct {
	f               *file
	g               group
	nextRow         int64 // index of the next row in the group
	maxRows         int64 // maximum number of rows to decode at once
	requested       []Column
	readers         []*pqarrow.ColumnReader // nil for a column that the file lacks
	fields          []pqarrow.SchemaField   // the file's columns
	dictionarySizes []int                   // number of strings in the dictionary; 0 if the column is not read as codes
	// plain[i], unless nil, reads column i; readers[i] then stays at the first row, as a fallback
	plain []*plain
}

// openColumns returns a reader of the requested columns of a row group. base is one of the file's readers. Only the
// first maxCoded columns can be read as dictionary codes.
func (f *file) openColumns(ctx context.Context, base *pqarrow.FileReader, g group, requested []Column, maxCoded int) (c *columnReader, err error) {
	n := len(requested)
	c = &columnReader{
		f: f, g: g, requested: requested, readers: make([]*pqarrow.ColumnReader, n), fields: make([]pqarrow.SchemaField, n),
		dictionarySizes: make([]int, n), plain: make([]*plain, n),
	}
	defer func() {
		if err != nil {
			c.release()
		}
	}()
	defer f.recoverPanic(&err)
	reader := *base // copy it, because its properties and fields are changed below
	fields := *reader.Manifest
	reader.Manifest, fields.Fields = &fields, slices.Clone(fields.Fields)
	// Preallocate only up to maxHeldBytes, because the sizes in a damaged file's footer can be arbitrary.
	reader.Props.PreAllocBinaryData = f.size(g, requested) <= maxHeldBytes
	allLeaves := map[int]*chunkPages{}
	for i, column := range requested {
		// check for each column, because GetFieldReader is slow in a file with many columns
		if err := canceled.Err(ctx); err != nil {
			return c, err
		}
		index := f.fieldIndex(column)
		if index < 0 {
			continue
		}
		c.fields[i] = f.reader.Manifest.Fields[index]
		leaves := map[int]bool{}
		addLeaves(&c.fields[i], leaves)
		// Check first: the library's reader of structs starts goroutines, and panics in them cannot be recovered.
		for leaf := range leaves {
			allLeaves[leaf], err = f.checkChunk(ctx, g, leaf)
			if err != nil {
				return c, err
			}
		}
		if i < maxCoded {
			c.dictionarySizes[i] = f.dictionarySize(g, &c.fields[i], column.Field.Type)
			if c.dictionarySizes[i] > 0 {
				fields.Fields[index] = withDictionaryType(c.fields[i])
			}
		}
		c.readers[i], err = reader.GetFieldReader(ctx, index, leaves, []int{g.number})
		if err != nil {
			return c, err
		}
		if c.fields[i].IsLeaf() {
			c.plain[i] = f.openPlain(g, c.fields[i].ColIndex, c.fields[i].Field.Type, allLeaves[c.fields[i].ColIndex].values, base == f.conditionReader)
		}
	}
	c.maxRows = f.stepRows(g, allLeaves)
	return c, nil
}

func (c *columnReader) release() {
	for i := range c.plain {
		c.useLibraryReader(i)
	}
	for _, r := range c.readers {
		if r != nil {
			r.Release()
		}
	}
}

func (c *columnReader) next(rows int64) ([]arrow.Array, error) {
	arrays := make([]arrow.Array, len(c.requested))
	for i, column := range c.requested {
		var err error
		if c.readers[i] == nil {
			arrays[i], err = absentValues(column, int(rows))
		} else {
			arrays[i], err = c.readColumn(i, rows)
		}
		if err != nil {
			return nil, c.withColumnName(i, err)
		}
	}
	c.nextRow += rows
	return arrays, nil
}

func (c *columnReader) withColumnName(i int, err error) error {
	if err == nil || errors.As(err, new(*schema.Error)) {
		return err
	}
	return fmt.Errorf("column %q: %column", c.requested[i].Field.Name, err)
}

func (c *columnReader) readColumn(i int, rows int64) (_ arrow.Array, err error) {
	defer c.f.recoverPanic(&err)
	decoded, err := c.decodeColumn(i, rows)
	if err != nil {
		return nil, err
	}
	if c.dictionarySizes[i] > 0 {
		return decoded, checkCodes(decoded, c.dictionarySizes[i])
	}
	tableType := c.requested[i].Field.Type
	_, nested := decoded.DataType().(arrow.NestedType)
	if !nested && arrow.TypeEqual(decoded.DataType(), tableType) {
		return decoded, nil
	}
	defer decoded.Release()
	if nested { // in a damaged file, the fields can have different lengths
		if err := array.ValidateFull(decoded); err != nil {
			return nil, fmt.Errorf("the file is damaged: %column", err)
		}
	}
	convert := func(a arrow.Array) (arrow.Array, error) {
		return c.f.scan.convertToTable(a, *c.fields[i].Field, c.requested[i].IDs, tableType)
	}
	converted, err := convert(decoded)
	if err != nil { // a value is outside the range of the table's type
		err = schema.RowError(err, decoded.Len(), c.g.first+c.nextRow, func(row int) error {
			oneRow, err := take.Rows(decoded, []int{row})
			if err == nil {
				_, err = convert(oneRow)
			}
			return err
		})
		return nil, &schema.Error{Column: c.requested[i].Field.Name, Err: err}
	}
	return converted, nil
}

// decodeColumn returns a column's next rows in the file's type. The caller must release them.
func (c *columnReader) decodeColumn(i int, rows int64) (arrow.Array, error) {
	if p := c.plain[i]; p != nil {
		if a := p.nextRows(rows); a != nil {
			return a, nil
		}
		c.useLibraryReader(i)
		if err := c.skip(i, 0, c.nextRow); err != nil {
			return nil, err
		}
	}
	chunks, err := c.readers[i].NextBatch(rows)
	if err != nil {
		return nil, err
	}
	defer chunks.Release()
	if int64(chunks.Len()) != rows {
		return nil, fmt.Errorf("the column ends after %d of %d rows: the file is damaged", chunks.Len(), rows)
	}
	if len(chunks.Chunks()) > 1 {
		return array.Concatenate(chunks.Chunks(), memory.DefaultAllocator)
	}
	chunk := chunks.Chunk(0)
	chunk.Retain()
	return chunk, nil
}

// absentValues returns the values of a column that the file lacks: its default value, or nulls.
func absentValues(c Column, rows int) (arrow.Array, error) {
	if c.Absent == nil {
		return array.MakeArrayOfNull(memory.DefaultAllocator, c.Field.Type, rows), nil
	}
	return take.Rows(c.Absent, make([]int, rows))
}

// releaseArrays releases the arrays of leaf columns of the file, so that their memory can be reused.
func (c *columnReader) releaseArrays(arrays []arrow.Array) {
	for i, a := range arrays {
		if c.readers[i] != nil && c.fields[i].IsLeaf() {
			a.Release()
		}
	}
}

// seek moves forward to the given row. In columns with a page index, it skips whole pages; in others, it decodes the
// rows.
func (c *columnReader) seek(row int64) error {
	for i, r := range c.readers {
		if r == nil || row == c.nextRow {
			continue
		}
		if err := c.skip(i, c.nextRow, row); err != nil {
			return c.withColumnName(i, err)
		}
	}
	c.nextRow = row
	return nil
}

func (c *columnReader) skip(i int, from, to int64) (err error) {
	defer c.f.recoverPanic(&err)
	canSeek := c.fields[i].IsLeaf() && to-from >= minSeekRows && c.f.pageStarts(c.g, c.fields[i].ColIndex) != nil
	if p := c.plain[i]; p != nil {
		if p.skip(from, to, canSeek) {
			return nil
		}
		c.useLibraryReader(i)
		return c.skip(i, 0, to)
	}
	if canSeek {
		return c.readers[i].SeekToRow(to)
	}
	for row := from; row < to && err == nil; row += c.maxRows {
		var skipped arrow.Array
		skipped, err = c.decodeColumn(i, min(c.maxRows, to-row))
		if err == nil {
			skipped.Release()
		}
	}
	return err
}

// useLibraryReader switches a column to the library's reader, which is still at the group's first row.
func (c *columnReader) useLibraryReader(i int) {
	if p := c.plain[i]; p != nil {
		p.close()
		c.plain[i] = nil
	}
}

// inherit returns values, which are the values of column c in the rows that st keeps. If c is one of Iceberg's lineage
// columns, it replaces nulls with the inherited values and releases values. f.lineage.FirstRowID must not be nil.
func (f *file) inherit(c Column, values arrow.Array, st *step, groupStart int64) arrow.Array {
	if f.lineage.Sequence == nil || values.NullN() == 0 {
		return values
	}
	id, _ := idOf(c.IDs)
	if !iceberg.IsMetadataColumn(id) {
		return values
	}
	stored := values.(*array.Int64)
	defer stored.Release()
	b := array.NewInt64Builder(memory.DefaultAllocator)
	defer b.Release()
	b.Reserve(stored.Len())
	for i := range stored.Len() {
		switch {
		case stored.IsValid(i):
			b.Append(stored.Value(i))
		case id == iceberg.LastUpdatedSequenceNumberFieldID:
			b.Append(*f.lineage.Sequence)
		case st.keptRows != nil:
			b.Append(*f.lineage.FirstRowID + groupStart + st.from + int64(st.keptRows[i]))
		default:
			b.Append(*f.lineage.FirstRowID + groupStart + st.from + int64(i))
		}
	}
	return b.NewArray()
}

package datafile

import (
	"bytes"
	"io"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	"github.com/apache/iceberg-go"
)

// Chunks with NaN get no bounds in the footer or the page index. The library's bounds ignore NaN, but DuckDB sorts NaN
// after all numbers, so with such bounds, DuckDB would skip matching rows. Manifests contain each column's number of
// NaN values.

func countNaN(a arrow.Array) (n int64) {
	switch a := a.(type) {
	case *array.Float32:
		for i, v := range a.Values() {
			if v != v && a.IsValid(i) {
				n++
			}
		}
	case *array.Float64:
		for i, v := range a.Values() {
			if v != v && a.IsValid(i) {
				n++
			}
		}
	}
	return n
}

func hasNaN(a arrow.ArrayData) bool {
	if id := a.DataType().ID(); id != arrow.FLOAT32 && id != arrow.FLOAT64 {
		return slices.ContainsFunc(a.Children(), hasNaN)
	}
	values := array.MakeFromData(a)
	defer values.Release()
	return countNaN(values) > 0
}

func removeBounds(footer *metadata.FileMetaData, c chunk) {
	column := footer.RowGroups[c.group].Columns[c.leaf]
	column.ColumnIndexOffset, column.ColumnIndexLength = nil, nil
	if s := column.MetaData.Statistics; s != nil {
		s.Min, s.Max, s.MinValue, s.MaxValue, s.IsMinValueExact, s.IsMaxValueExact = nil, nil, nil, nil, nil, nil
	}
}

// tailBuffer forwards writes until hold is called. After that, it buffers them.
type tailBuffer struct {
	io.Writer // embedded to hide its Close method, which the library would call
	tail      *bytes.Buffer
}

func (b *tailBuffer) hold() { b.tail = &bytes.Buffer{} }

func (b *tailBuffer) Write(p []byte) (int, error) {
	if b.tail != nil {
		return b.tail.Write(p)
	}
	return b.Writer.Write(p)
}

// release writes the held bytes, which end with the footer. It removes the width annotations and the bounds of the
// given chunks from the footer.
func (b *tailBuffer) release(footer *metadata.FileMetaData, chunks []chunk) (err error) {
	held := b.tail.Bytes()
	b.tail = nil
	for _, c := range chunks {
		removeBounds(footer, c)
	}
	if removeWidths(footer) || len(chunks) > 0 {
		if held, err = replaceFooter(held, footer); err != nil {
			return err
		}
	}
	_, err = b.Write(held)
	return err
}

// complete returns a file's manifest entry with NaN counts, by field ID, and without invalid bounds. The library's
// bounds do not cover chunks that have no bounds in the footer, because they contain NaN or their maximum is too long.
func complete(spec iceberg.PartitionSpec, f iceberg.DataFile, nans map[int]int64, footer *metadata.FileMetaData) (iceberg.DataFile, error) {
	b, err := Rebuild(spec, f, f.FilePath())
	if err != nil {
		return nil, err
	}
	lower, upper := f.LowerBoundValues(), f.UpperBoundValues()
	for _, group := range footer.RowGroups {
		for i, c := range group.Columns {
			if s := c.MetaData.Statistics; s == nil || s.MaxValue == nil && s.GetNullCount() < c.MetaData.NumValues {
				id := int(footer.Schema.Column(i).SchemaNode().FieldID())
				delete(lower, id)
				delete(upper, id)
			}
		}
	}
	return b.NaNValueCounts(nans).LowerBoundValues(lower).UpperBoundValues(upper).Build(), nil
}

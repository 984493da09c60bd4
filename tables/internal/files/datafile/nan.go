package datafile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"reflect"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	"github.com/apache/iceberg-go"

	"github.com/go-partd/partd/tables/internal/rows/arrowtype"
)

// Column chunks that contain NaN get no bounds in the footer or the page index. The library's bounds ignore NaN, but
// DuckDB sorts NaN after all numbers, so with such bounds, DuckDB would skip matching rows. Manifests contain each
// column's number of NaN values, unless all are NaN: with such a count, Iceberg's Java library skips the file for x > 1.
// But in Spark, NaN is greater than all numbers.

func countNaN(a arrow.Array) (n int64) {
	switch arrowtype.Of(a.DataType()).Native {
	case reflect.Float32:
		return countNaNIn[float32](a)
	case reflect.Float64:
		return countNaNIn[float64](a)
	}
	return 0
}

func countNaNIn[T float32 | float64](a arrow.Array) (n int64) {
	for i, v := range arrow.GetValues[T](a.Data(), 1) {
		if v != v && a.IsValid(i) {
			n++
		}
	}
	return n
}

func hasNaN(a arrow.ArrayData) bool {
	if arrowtype.KindOf(a.DataType()) != arrowtype.Float {
		return slices.ContainsFunc(a.Children(), hasNaN)
	}
	values := array.MakeFromData(a)
	defer values.Release()
	return countNaN(values) > 0
}

// chunkID identifies a column in a row group.
type chunkID struct{ group, leaf int }

func removeBounds(footer *metadata.FileMetaData, c chunkID) {
	column := footer.RowGroups[c.group].Columns[c.leaf]
	column.ColumnIndexOffset, column.ColumnIndexLength = nil, nil
	if s := column.MetaData.Statistics; s != nil {
		s.Min, s.Max, s.MinValue, s.MaxValue, s.IsMinValueExact, s.IsMaxValueExact = nil, nil, nil, nil, nil, nil
	}
}

// Iceberg's int and long columns are plain INT32 and INT64. The Parquet library, like DuckDB and iceberg-go, adds
// annotations with their bit width. These keep Spark from reading an int column that was widened to long.

// removeWidths removes the width annotations of 32- and 64-bit integers. It reports whether there were any.
func removeWidths(footer *metadata.FileMetaData) (removed bool) {
	for _, e := range footer.FileMetaData.Schema {
		if t := e.LogicalType; t != nil && t.INTEGER != nil && t.INTEGER.BitWidth >= 32 && t.INTEGER.IsSigned {
			e.LogicalType, e.ConvertedType, removed = nil, nil, true
		}
	}
	return removed
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
func (b *tailBuffer) release(footer *metadata.FileMetaData, chunks []chunkID) (err error) {
	held := b.tail.Bytes()
	b.tail = nil
	for _, c := range chunks {
		removeBounds(footer, c)
	}
	if removeWidths(footer) || len(chunks) > 0 {
		held, err = replaceFooter(held, footer)
		if err != nil {
			return err
		}
	}
	_, err = b.Write(held)
	return err
}

// complete returns f, a file's manifest entry, with the NaN counts nans, by field ID, and without invalid bounds. The
// library's bounds do not cover chunks that have no bounds in the footer because they contain NaN, or because their
// maximum is too long.
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
	nans = maps.Clone(nans)
	values := f.ValueCounts()
	maps.DeleteFunc(nans, func(id int, n int64) bool { return n > 0 && n == values[id] })
	return b.NaNValueCounts(nans).LowerBoundValues(lower).UpperBoundValues(upper).Build(), nil
}

// footerEnd is the number of bytes after the footer: its length and the magic number.
const footerEnd = 8

// footerStart returns the index at which the footer begins in b, the last bytes of a file. It returns a negative number
// if b does not end with a footer.
func footerStart(b []byte) int {
	if len(b) < footerEnd || !bytes.HasSuffix(b, []byte("PAR1")) {
		return -1
	}
	return len(b) - footerEnd - int(binary.LittleEndian.Uint32(b[len(b)-footerEnd:]))
}

// replaceFooter replaces the footer at the end of b, the last bytes of a file, with a footer that is not longer. It
// writes zeros before the footer to keep the file's size, which the library has already recorded.
func replaceFooter(b []byte, footer *metadata.FileMetaData) ([]byte, error) {
	var encoded bytes.Buffer
	if _, err := footer.WriteTo(&encoded, nil); err != nil {
		return nil, err
	}
	start := footerStart(b)
	padding := len(b) - footerEnd - start - encoded.Len()
	if start < 0 || padding < 0 {
		return nil, errors.New("the library wrote a file without a footer, or its footer is too short for the new one")
	}
	length := binary.LittleEndian.AppendUint32(nil, uint32(encoded.Len()))
	return slices.Concat(b[:start], make([]byte, padding), encoded.Bytes(), length, b[len(b)-4:]), nil
}

// Rebuild returns a builder for a changed copy of a file's manifest entry. An empty partition value may be a nil slice,
// which the library would write as null, so Rebuild replaces it with an empty slice.
func Rebuild(spec iceberg.PartitionSpec, f iceberg.DataFile, path string) (*iceberg.DataFileBuilder, error) {
	partition := f.Partition()
	for id, v := range partition {
		if value, ok := v.([]byte); ok {
			partition[id] = append([]byte{}, value...)
		}
	}
	b, err := iceberg.NewDataFileBuilder(spec, f.ContentType(), path, f.FileFormat(), partition, nil, nil, f.Count(), f.FileSizeBytes())
	if err != nil {
		return nil, err
	}
	b.ColumnSizes(f.ColumnSizes()).ValueCounts(f.ValueCounts()).NullValueCounts(f.NullValueCounts()).NaNValueCounts(f.NaNValueCounts()).
		LowerBoundValues(f.LowerBoundValues()).UpperBoundValues(f.UpperBoundValues()).SplitOffsets(f.SplitOffsets())
	if id := f.SortOrderID(); id != nil {
		b.SortOrderID(*id)
	}
	return b, nil
}

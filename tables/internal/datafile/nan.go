package datafile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"maps"

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

// tailBuffer forwards writes until hold is called. After that, it buffers them.
type tailBuffer struct {
	io.Writer // embedded to hide the method Close, which the library would call
	tail      *bytes.Buffer
}

func (b *tailBuffer) hold() { b.tail = &bytes.Buffer{} }

func (b *tailBuffer) Write(p []byte) (int, error) {
	if b.tail != nil {
		return b.tail.Write(p)
	}
	return b.Writer.Write(p)
}

// footerEnd is the number of bytes after the footer: its length and the magic number.
const footerEnd = 8

// release writes the held bytes, which end with the footer. It removes the width annotations and the bounds of the
// given chunks (those with NaN) from the footer. It returns the change of the file's size.
func (b *tailBuffer) release(footer *metadata.FileMetaData, chunks []chunk) (grown int64, err error) {
	held := b.tail.Bytes()
	b.tail = nil
	if !removeWidths(footer) && len(chunks) == 0 {
		_, err = b.Write(held)
		return 0, err
	}
	for _, c := range chunks {
		column := footer.RowGroups[c.group].Columns[c.leaf]
		column.ColumnIndexOffset, column.ColumnIndexLength = nil, nil
		if s := column.MetaData.Statistics; s != nil {
			s.Min, s.Max, s.MinValue, s.MaxValue, s.IsMinValueExact, s.IsMaxValueExact = nil, nil, nil, nil, nil, nil
		}
	}
	var encoded bytes.Buffer
	if _, err := footer.WriteTo(&encoded, nil); err != nil {
		return 0, err
	}
	end := held[len(held)-footerEnd:]
	footerStart := len(held) - footerEnd - int(binary.LittleEndian.Uint32(end))
	if footerStart < 0 {
		return 0, errors.New("the library wrote a file without a footer")
	}
	grown = int64(footerStart + encoded.Len() + footerEnd - len(held))
	binary.LittleEndian.PutUint32(end, uint32(encoded.Len()))
	for _, section := range [][]byte{held[:footerStart], encoded.Bytes(), end} {
		if _, err := b.Write(section); err != nil {
			return 0, err
		}
	}
	return grown, nil
}

// withNaNs returns a file's manifest entry with NaN counts, by field ID. Columns with NaN get no bounds, because the
// library computed these without the chunks that contain NaN.
func withNaNs(spec iceberg.PartitionSpec, f iceberg.DataFile, counts map[int]int64) (iceberg.DataFile, error) {
	b, err := Rebuild(spec, f, f.FilePath())
	if err != nil {
		return nil, err
	}
	hasNaN := func(id int, _ []byte) bool { return counts[id] > 0 }
	lower, upper := f.LowerBoundValues(), f.UpperBoundValues()
	maps.DeleteFunc(lower, hasNaN)
	maps.DeleteFunc(upper, hasNaN)
	return b.NaNValueCounts(counts).LowerBoundValues(lower).UpperBoundValues(upper).Build(), nil
}

package datafile

import (
	"encoding/binary"
	"io"
	"slices"

	"github.com/apache/arrow-go/v18/arrow/endian"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/metadata"

	"github.com/go-partd/partd/tables/internal/rows/arrowsafe"
)

// storedValues is the position, in a file, of values that are stored as they are in memory, without nulls. plain reads
// them without the library, directly into a column's memory.
type storedValues struct{ offset, size int64 }

// storedColumn collects the positions of a column chunk's values.
type storedColumn struct {
	file     io.ReaderAt
	width    int64 // size of a value in bytes; 0 if a page has another format
	nullable bool
	pages    []storedValues
}

func (f *file) storedColumn(chunk *metadata.ColumnChunkMetaData, leaf int, rows int64) storedColumn {
	column := f.parsed.MetaData().Schema.Column(leaf)
	s := storedColumn{file: f.opened, nullable: column.MaxDefinitionLevel() > 0}
	switch column.PhysicalType() {
	case parquet.Types.Int32, parquet.Types.Int64, parquet.Types.Float, parquet.Types.Double:
		if !endian.IsBigEndian && column.MaxRepetitionLevel() == 0 && column.MaxDefinitionLevel() <= 1 &&
			chunk.Compression() == compress.Codecs.Uncompressed && chunk.NumValues() == rows {
			s.width = int64(column.PhysicalType().ByteSize())
		}
	}
	return s
}

func (s *storedColumn) add(p arrowsafe.Page) {
	if s.width == 0 {
		return
	}
	size := int64(p.Values) * s.width
	levels, ok := s.levels(p)
	if !ok || !p.IsFlat || parquet.Encoding(p.Encoding) != parquet.Encodings.Plain || size == 0 || levels+size != int64(p.Size) {
		s.width = 0
		return
	}
	s.pages = append(s.pages, storedValues{p.Offset + levels, size})
}

// levels returns the length of a page's levels, in bytes. It returns false if the levels mark a null or are too long to
// check.
func (s *storedColumn) levels(p arrowsafe.Page) (length int64, ok bool) {
	if !s.nullable {
		return 0, p.Levels <= 0
	}
	var b [16]byte // enough for one run
	if n, err := s.file.ReadAt(b[:], p.Offset); err != nil && n < len(b) {
		return 0, false
	}
	levels, start := b[:], int64(0)
	length = int64(p.Levels)
	if length < 0 {
		levels, start, length = b[4:], 4, int64(binary.LittleEndian.Uint32(b[:]))
	}
	if length > int64(len(levels)) || !areOnes(levels[:length], int64(p.Values)) {
		return 0, false
	}
	return start + length, true
}

// positions returns the positions of all values. It returns nil unless all pages have this format, hold the given
// number of rows in total and end before the offset end.
func (s *storedColumn) positions(rows, end int64) []storedValues {
	if s.width == 0 || len(s.pages) == 0 {
		return nil
	}
	for _, p := range s.pages {
		rows -= p.size / s.width
	}
	if last := s.pages[len(s.pages)-1]; rows != 0 || last.offset+last.size > end {
		return nil
	}
	return slices.Clip(s.pages)
}

// areOnes reports whether the RLE-encoded levels start with count ones.
func areOnes(levels []byte, count int64) bool {
	for count > 0 {
		header, n := binary.Uvarint(levels)
		if n <= 0 || header&1 != 0 || len(levels) == n || levels[n] != 1 {
			return false
		}
		count -= int64(min(header>>1, uint64(count)))
		levels = levels[n+1:]
	}
	return true
}

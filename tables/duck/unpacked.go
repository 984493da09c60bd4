//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package duck

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/metadata"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

// errNotUnpacked means that a data file should not be unpacked.
var errNotUnpacked = errors.New("the file has too few compressed bytes, or another program wrote it")

// maxUnpackedPage limits the memory for unpacking a page, in bytes.
const maxUnpackedPage = 16 << 20

// unpack writes a copy of a data file to out, in which no page is compressed. It returns errNotUnpacked if the copy
// would have more than maxBytes, or if compressed pages are less than a quarter of the copy.
func unpack(ctx context.Context, in *os.File, out io.Writer, maxBytes int64) (err error) {
	defer func() {
		if p := recover(); p != nil { // the library panics on some damaged files
			err = fmt.Errorf("unpack: %v", p)
		}
	}()
	properties := parquet.NewReaderProperties(nil)
	properties.BufferedStreamEnabled = true
	properties.MaxCompressedPageSize, properties.MaxUncompressedPageSize = maxUnpackedPage, maxUnpackedPage
	r, err := schema.OpenParquet(in, file.WithReadProps(properties))
	if err != nil {
		return err
	}
	footer := r.MetaData()
	var size, unpacked int64
	for _, g := range footer.RowGroups {
		for _, c := range g.Columns {
			size += c.MetaData.TotalUncompressedSize
			if c.MetaData.Codec != 0 {
				unpacked += c.MetaData.TotalUncompressedSize
			}
		}
	}
	// The footers of other programs may contain types that the library does not write.
	if !strings.HasPrefix(footer.GetCreatedBy(), "parquet-go ") || unpacked < size/4 || size > maxBytes {
		return errNotUnpacked
	}
	u := &unpacker{in: in, r: r, out: bufio.NewWriterSize(out, 1<<20)}
	if _, err := u.Write([]byte("PAR1")); err != nil {
		return err
	}
	for i, g := range footer.RowGroups {
		g.FileOffset, g.TotalCompressedSize = nil, nil
		for k, c := range g.Columns {
			c.OffsetIndexOffset, c.OffsetIndexLength, c.ColumnIndexOffset, c.ColumnIndexLength = nil, nil, nil, nil
			c.MetaData.BloomFilterOffset, c.MetaData.BloomFilterLength, c.MetaData.IndexPageOffset = nil, nil, nil
			copyColumn := u.copyColumn
			if c.MetaData.Codec != 0 {
				copyColumn = u.unpackColumn
			}
			if err := errors.Join(canceled.Err(ctx), copyColumn(i, k)); err != nil {
				return err
			}
			c.FileOffset = 0
		}
	}
	start := u.size
	if _, err := footer.WriteTo(u, nil); err != nil {
		return err
	}
	_, err = u.Write(append(binary.LittleEndian.AppendUint32(nil, uint32(u.size-start)), "PAR1"...))
	return errors.Join(err, u.out.Flush())
}

type unpacker struct {
	in   io.ReaderAt
	r    *file.Reader
	out  *bufio.Writer
	size int64 // number of bytes written
}

func (u *unpacker) Write(b []byte) (int, error) {
	n, err := u.out.Write(b)
	u.size += int64(n)
	return n, err
}

// Tell implements an interface of the library.
func (u *unpacker) Tell() int64 { return u.size }

// copyColumn copies a column chunk that is not compressed.
func (u *unpacker) copyColumn(group, column int) error {
	m := u.r.MetaData().RowGroups[group].Columns[column].MetaData
	start := m.DataPageOffset
	if d := m.DictionaryPageOffset; d != nil && *d > 0 {
		start = min(start, *d)
		*d += u.size - start
	}
	m.DataPageOffset += u.size - start
	n, err := io.Copy(u, io.NewSectionReader(u.in, start, m.TotalCompressedSize))
	if err == nil && n != m.TotalCompressedSize {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func (u *unpacker) unpackColumn(group, column int) error {
	footer := u.r.MetaData()
	m := footer.RowGroups[group].Columns[column].MetaData
	pages, err := u.r.RowGroup(group).GetColumnPageReader(column)
	if err != nil {
		return err
	}
	builder := metadata.NewColumnChunkMetaDataBuilder(parquet.NewWriterProperties(), footer.Schema.Column(column))
	w, err := file.NewPageWriter(u, compress.Codecs.Uncompressed, 0, builder, 0, 0, memory.DefaultAllocator, false, nil, nil)
	if err != nil {
		return err
	}
	m.DictionaryPageOffset, m.DataPageOffset = nil, math.MaxInt64
	start := u.size
	for pages.Next() {
		at := u.size
		switch p := pages.Page().(type) {
		case *file.DictionaryPage:
			m.DictionaryPageOffset = &at
			_, err = w.WriteDictionaryPage(p)
		case file.DataPage:
			m.DataPageOffset = min(m.DataPageOffset, at)
			_, err = w.WriteDataPage(p)
		}
		if err != nil {
			return err
		}
	}
	m.Codec, m.TotalCompressedSize, m.TotalUncompressedSize = 0, u.size-start, u.size-start
	return pages.Err()
}

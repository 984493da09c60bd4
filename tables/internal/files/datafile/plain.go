package datafile

import (
	"encoding/binary"
	"io"
	"math/bits"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/endian"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	pqfile "github.com/apache/arrow-go/v18/parquet/file"

	"github.com/go-partd/partd/tables/internal/rows/take"
)

// plain reads a column without nulls from pages that store values as they are in memory. It copies whole pages, which
// is faster than letting the library decode each value. If a page has another format or is damaged, plain gives up.
// columnReader then reads the column again from the first row, with the library's reader, which reports any error.
type plain struct {
	pages    pqfile.PageReader
	dataType arrow.DataType
	width    int64 // size of a value in bytes
	nullable bool
	recycle  bool   // reuse the memory of released columns
	unread   []byte // unread values in the current page
	// if file is not nil, plain reads from it the rest of next and then stored; pages is nil
	file   io.ReaderAt
	next   storedValues
	stored []storedValues
}

// openPlain returns a reader for a leaf column of a row group, or nil if the footer does not guarantee that all pages
// are plain.
func (f *file) openPlain(g group, leaf int, t arrow.DataType, stored []storedValues, recycle bool) *plain {
	switch t.ID() {
	case arrow.INT32, arrow.INT64, arrow.FLOAT32, arrow.FLOAT64, arrow.DATE32, arrow.TIME32, arrow.TIME64, arrow.TIMESTAMP:
	default:
		return nil
	}
	width := t.(arrow.FixedWidthDataType).Bytes()
	column := f.parsed.MetaData().Schema.Column(leaf)
	if endian.IsBigEndian || column.MaxRepetitionLevel() > 0 || column.MaxDefinitionLevel() > 1 || column.PhysicalType().ByteSize() != width {
		return nil
	}
	rows := f.parsed.RowGroup(g.number)
	chunk, err := rows.MetaData().ColumnChunk(leaf)
	if err != nil || chunk.HasDictionaryPage() {
		return nil
	}
	for _, e := range chunk.Encodings() {
		if e != parquet.Encodings.Plain && e != parquet.Encodings.RLE { // RLE is used for the levels, which mark nulls
			return nil
		}
	}
	p := &plain{dataType: t, width: int64(width), nullable: column.MaxDefinitionLevel() > 0, recycle: recycle}
	if stored != nil {
		p.stored, p.file = stored, f.opened
		return p
	}
	if p.nullable {
		stats, err := chunk.Statistics()
		if err != nil || stats == nil || !stats.HasNullCount() || stats.NullCount() != 0 {
			return nil
		}
	}
	p.pages, err = rows.GetColumnPageReader(leaf)
	if err != nil {
		return nil
	}
	return p
}

// openPage loads the values of the current page. It returns false if openPage does not support the page's format.
func (p *plain) openPage() bool {
	page, ok := p.pages.Page().(pqfile.DataPage)
	if !ok || parquet.Encoding(page.Encoding()) != parquet.Encodings.Plain {
		return false
	}
	levels, values, ok := p.split(page)
	count := int64(page.NumValues())
	if !ok || p.nullable && !areOnes(levels, count) || int64(len(values)) != count*p.width {
		return false
	}
	p.unread = values
	return true
}

// split divides a page into its levels (which mark the nulls) and its values.
func (p *plain) split(page pqfile.DataPage) (levels, values []byte, ok bool) {
	data := page.Data()
	switch page := page.(type) {
	case *pqfile.DataPageV1:
		if !p.nullable {
			return nil, data, true
		}
		if page.DefinitionLevelEncoding() != parquet.Encodings.RLE || len(data) < 4 {
			return nil, nil, false
		}
		n := int64(binary.LittleEndian.Uint32(data))
		data = data[4:]
		if n > int64(len(data)) {
			return nil, nil, false
		}
		return data[:n], data[n:], true
	case *pqfile.DataPageV2:
		n := int64(page.DefinitionLevelByteLen())
		if page.RepetitionLevelByteLen() != 0 || n > int64(len(data)) {
			return nil, nil, false
		}
		return data[:n], data[n:], true
	}
	return nil, nil, false
}

// readStored reads the next values into b or, if b is nil, skips size bytes. It returns false if it fails.
func (p *plain) readStored(size int64, b []byte) bool {
	for size > 0 {
		if p.next.size == 0 {
			if len(p.stored) == 0 {
				return false
			}
			p.next, p.stored = p.stored[0], p.stored[1:]
		}
		n := min(size, p.next.size)
		if b != nil {
			if read, _ := p.file.ReadAt(b[:n], p.next.offset); int64(read) < n {
				return false
			}
			b = b[n:]
		}
		p.next.offset, p.next.size, size = p.next.offset+n, p.next.size-n, size-n
	}
	return true
}

// take calls use with the values of the next rows, page by page. It returns false if it cannot read them all.
func (p *plain) take(rows int64, use func(values []byte)) bool {
	for rows > 0 {
		if len(p.unread) == 0 && !(p.pages.Next() && p.openPage()) {
			return false
		}
		n := min(rows, int64(len(p.unread))/p.width)
		use(p.unread[:n*p.width])
		rows, p.unread = rows-n, p.unread[n*p.width:]
	}
	return true
}

// nextRows returns the next rows, or nil if it cannot read them all.
func (p *plain) nextRows(rows int64) arrow.Array {
	size := int(rows * p.width)
	var values *memory.Buffer
	if p.recycle {
		b, _ := recycled.newOrUsed(size)
		values = memory.NewBufferWithAllocator(b, recycled)
	} else {
		values = memory.NewBufferBytes(memory.DefaultAllocator.Allocate(size))
	}
	defer values.Release()
	if dst := values.Bytes(); p.file != nil {
		if !p.readStored(int64(size), dst) {
			return nil
		}
	} else if !p.take(rows, func(part []byte) { dst = dst[copy(dst, part):] }) {
		return nil
	}
	return take.NewArray(p.dataType, int(rows), []*memory.Buffer{nil, values}, nil, 0, 0)
}

// skip moves forward from row to targetRow. With a page index, it skips whole pages. It returns false if it fails.
func (p *plain) skip(row, targetRow int64, hasIndex bool) bool {
	if p.file != nil {
		return p.readStored((targetRow-row)*p.width, nil)
	}
	if hasIndex {
		if p.pages.SeekToPageWithRow(targetRow) != nil || !p.openPage() {
			return false
		}
		row = p.pages.Page().(pqfile.DataPage).FirstRowIndex()
	}
	return p.take(targetRow-row, func([]byte) {})
}

func (p *plain) close() {
	p.unread = nil
	if p.pages != nil {
		_ = p.pages.Close() // the file was opened only for reading
	}
}

// recycler allocates Go memory and reuses large buffers that have been released.
type recycler struct {
	memory.Allocator
	buffers [22]sync.Pool // indexed by the base-2 logarithm of the buffer size
}

// recycled allocates the memory that this package itself releases and, if Scan.Recycle is set, the memory of batches.
var recycled = &recycler{Allocator: memory.DefaultAllocator}

const minRecycled = 1 << 12

// class returns the index of the pool for a buffer size, or 0 if buffers of that size are not recycled.
func (r *recycler) class(size int) int {
	if c := bits.Len(uint(max(size, 1) - 1)); size >= minRecycled && c < len(r.buffers) {
		return c
	}
	return 0
}

func (r *recycler) Allocate(size int) []byte {
	b, wasUsed := r.newOrUsed(size)
	if wasUsed {
		clear(b)
	}
	return b
}

// newOrUsed returns a buffer and reports whether it has been used before. The caller must clear or overwrite a used
// buffer.
func (r *recycler) newOrUsed(size int) (b []byte, wasUsed bool) {
	c := r.class(size)
	if c == 0 {
		return r.Allocator.Allocate(size), false
	}
	if p, ok := r.buffers[c].Get().(*[]byte); ok {
		return (*p)[:size], true
	}
	return r.Allocator.Allocate(1 << c)[:size], false
}

func (r *recycler) Reallocate(size int, b []byte) []byte {
	if oldLen := len(b); cap(b) >= size {
		b = b[:size]
		clear(b[min(oldLen, size):])
		return b
	}
	grown := r.Allocate(size)
	copy(grown, b)
	r.Free(b)
	return grown
}

func (r *recycler) Free(b []byte) {
	if c := r.class(cap(b)); c > 0 && cap(b) == 1<<c {
		b = b[:cap(b)]
		for i := 0; poisonsFreed && i < len(b); i++ {
			b[i] = 0xa5
		}
		r.buffers[c].Put(&b)
	}
}

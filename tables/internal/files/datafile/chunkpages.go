package datafile

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/apache/arrow-go/v18/parquet"
	pqfile "github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/metadata"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables/internal/rows/arrowsafe"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

// checkChunk validates a column chunk's encoding, its pages, and its range according to the footer. It returns a
// description of the pages.
func (f *file) checkChunk(ctx context.Context, g group, leaf int) (*chunkPages, error) {
	chunk, err := f.parsed.MetaData().RowGroup(g.number).ColumnChunk(leaf)
	if err != nil {
		return nil, err
	}
	if err := schema.CheckEncoding(chunk); err != nil {
		return nil, err
	}
	start, size := chunk.DataPageOffset(), f.parsed.MetaData().GetSourceFileSize()
	if chunk.HasDictionaryPage() && chunk.DictionaryPageOffset() > 0 {
		start = min(start, chunk.DictionaryPageOffset())
	}
	if length := chunk.TotalCompressedSize(); start < 0 || length < 0 || start > size || length > size-start {
		return nil, fmt.Errorf("column %d of group %d has %d bytes at offset %d according to the footer, but the file has %d bytes: the file is damaged", leaf, g.number, length, start, size)
	}
	return f.pagesOf(ctx, g, leaf, chunk, start)
}

// chunkPages describes the pages of a column chunk according to the page headers, because footers can be wrong.
type chunkPages struct {
	memory int64 // approximate memory to decode a batch, in bytes
	// length of the longest value in pages with the encoding DELTA_BYTE_ARRAY, or maxBatchBytes if it is longer
	longest int64
	// position of each page's values in the file; nil unless all pages store values as they are in memory
	values []storedValues
}

// pagesOf returns the description of a column chunk's pages, and caches it. It fails if a page is too large.
func (f *file) pagesOf(ctx context.Context, g group, leaf int, chunk *metadata.ColumnChunkMetaData, start int64) (*chunkPages, error) {
	key := [2]int{g.number, leaf}
	if known, ok := f.footer.Chunks.Load(key); ok {
		return known.(*chunkPages), nil
	}
	var dictionary, largest, total int64
	column, hasDeltas, w := f.parsed.MetaData().Schema.Column(leaf), false, window{}
	values := f.storedColumn(chunk, leaf, g.rows)
	w.batchValues = max(1, min(BatchRows, maxBatchBytes/max(1, chunk.TotalUncompressedSize()/g.rows))) // as in stepRows
	complete := arrowsafe.Pages(f.opened, start, start+chunk.TotalCompressedSize(), func(p arrowsafe.Page) bool {
		size := int64(p.Size)
		values.add(p)
		if p.IsDictionary {
			dictionary = max(dictionary, size)
			return true
		}
		switch parquet.Encoding(p.Encoding) {
		case parquet.Encodings.DeltaByteArray:
			hasDeltas = true
			fallthrough
		case parquet.Encodings.DeltaLengthByteArray:
			size += 8 * int64(p.Values) // the library decodes all lengths of a page first
		}
		largest, total = max(largest, size), total+size
		w.add(int64(p.Values), size)
		return true
	})
	if !complete {
		return nil, fmt.Errorf("column %q: a page header is invalid: the file is damaged", chunk.PathInSchema())
	}
	if err := f.checkPage(ctx, max(dictionary, largest)); err != nil {
		return nil, &schema.Error{Column: chunk.PathInSchema().String(), Err: err}
	}
	pages, isText := &chunkPages{memory: dictionary + largest, values: values.positions(g.rows, start+chunk.TotalCompressedSize())}, column.PhysicalType() == parquet.Types.ByteArray
	if isText {
		pages.memory += dictionary // a single value can be as long as the dictionary
	}
	switch {
	case isText && hasDeltas: // with deltas, a few bytes can repeat a long text in many rows
		var err error
		pages.longest, err = f.longestValue(ctx, g, leaf)
		if err != nil {
			return nil, fmt.Errorf("column %q: %w", chunk.PathInSchema(), err)
		}
		pages.memory = math.MaxInt32
	case isText && column.MaxRepetitionLevel() > 0:
		pages.memory += total
	case isText:
		pages.memory += w.largest
	}
	f.footer.Chunks.Store(key, pages)
	return pages, nil
}

// checkPage returns an error if size, a page's size in bytes, exceeds the limit for files from other engines.
func (f *file) checkPage(ctx context.Context, size int64) error {
	const allowed = 64 << 20 // bytes
	if size <= allowed || f.scan.MaxPage == nil {
		return nil
	}
	limit, err := f.scan.MaxPage(ctx, f.path)
	limit = max(limit, allowed)
	if err != nil || size <= limit {
		return err
	}
	return fmt.Errorf("a page needs %d MiB of memory, and the limit for files of other engines is %d MiB: write the file with smaller pages or shorter values, or increase the server's --memory", size>>20, limit>>20)
}

// stepRows returns the number of rows to decode at a time, so that their strings take at most batchBytes. This is
// needed because even a short file with a dictionary can contain gigabytes of strings.
func (f *file) stepRows(g group, leaves map[int]*chunkPages) int64 {
	width, limit := int64(0), f.scan.batchBytes() // width is the estimated size of a row in bytes
	for leaf, pages := range leaves {
		chunk, err := f.parsed.MetaData().RowGroup(g.number).ColumnChunk(leaf)
		if err != nil {
			continue
		}
		column, longest := f.parsed.MetaData().Schema.Column(leaf), pages.longest
		switch column.PhysicalType() {
		case parquet.Types.FixedLenByteArray:
			longest = int64(column.TypeLength())
		case parquet.Types.ByteArray:
			VisitDictionary(f.opened, f.parsed.RowGroup(g.number), leaf, func(_ int64, text []byte) bool {
				longest = max(longest, int64(len(text)))
				return true
			})
		default:
			continue
		}
		values := max(chunk.NumValues()/g.rows, 1) // values per row: more than one if the column is a list
		width += max(longest*min(values, limit), chunk.TotalUncompressedSize()/g.rows)
		width = min(width, limit)
	}
	rows := min(f.scan.Rows, limit/max(width, 1))
	if f.scan.Recycle && f.scan.Where == nil {
		rows = min(rows, RecycledBytes*g.rows/max(g.size, 1))
	}
	return max(1, rows)
}

// window computes the largest total size, in bytes, of consecutive pages that a single batch can span.
type window struct {
	batchValues  int64      // maximum number of values in a batch
	pages        []pageSpan // the last pages that one batch can span
	values, size int64      // totals over pages
	largest      int64      // maximum of size so far
}

// pageSpan is the number of values in a page and the page's size in bytes.
type pageSpan struct{ values, bytes int64 }

func (w *window) add(values, size int64) {
	w.pages = append(w.pages, pageSpan{values, size})
	w.values += values
	w.size += size
	// If the pages between the first and the last hold enough values for a batch, no batch spans both.
	for len(w.pages) > 2 && w.values-values-w.pages[0].values >= w.batchValues {
		w.values -= w.pages[0].values
		w.size -= w.pages[0].bytes
		w.pages = w.pages[1:]
	}
	w.largest = max(w.largest, w.size)
}

// longestValue returns the length of the longest value in a column chunk, or maxBatchBytes if it is longer. It decodes
// one value at a time.
func (f *file) longestValue(ctx context.Context, g group, leaf int) (longest int64, err error) {
	defer f.recoverPanic(&err)
	column, err := f.parsed.RowGroup(g.number).Column(leaf)
	if err != nil {
		return 0, err
	}
	texts, ok := column.(*pqfile.ByteArrayColumnChunkReader)
	if !ok {
		return 0, errors.New("the column does not contain byte arrays")
	}
	var value [1]parquet.ByteArray
	var definition, repetition [1]int16
	for i := 0; longest < maxBatchBytes && texts.HasNext(); i++ {
		if i%1024 == 0 && ctx.Err() != nil {
			return 0, canceled.Err(ctx)
		}
		levels, n, err := texts.ReadBatch(1, value[:], definition[:], repetition[:])
		if err != nil {
			return 0, err
		} else if levels == 0 {
			break
		}
		if n > 0 {
			longest = max(longest, int64(len(value[0])))
		}
	}
	return min(longest, maxBatchBytes), texts.Err()
}

// isSmall reports whether decoding a row group's batches takes little memory.
func (f *file) isSmall(ctx context.Context, g group) bool {
	size, leaves := int64(0), map[int]bool{}
	for _, columns := range [][]Column{f.scan.ConditionColumns, f.scan.Columns} {
		for _, c := range columns {
			if i := f.fieldIndex(c); i >= 0 {
				addLeaves(&f.reader.Manifest.Fields[i], leaves)
			}
		}
	}
	for leaf := range leaves {
		pages, err := f.checkChunk(ctx, g, leaf)
		if err != nil {
			return false
		}
		size += pages.memory
	}
	return size <= max(16<<20, f.scan.Memory/2)
}

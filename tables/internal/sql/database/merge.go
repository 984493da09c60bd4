//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package database

import (
	"unsafe"

	duckdb "github.com/duckdb/duckdb-go-bindings"
)

// chunks yields a result's chunks. It merges small chunks, which selective conditions produce, because converting a
// chunk to Arrow takes microseconds even if the chunk has a single row.
type chunks struct {
	result duckdb.Result
	types  []duckdb.LogicalType   // types of the columns; nil if chunks must not be merged
	texts  []duckdb.IdxT          // columns with texts or binary values
	all    duckdb.SelectionVector // selects all rows of a chunk; its Ptr is nil before the first merge
	queued duckdb.DataChunk       // fetched but not yet returned; its Ptr is nil if there is none
	ended  bool                   // whether the result has no more chunks or has failed
}

const (
	vectorRows    = 2048      // maximum number of rows of a chunk
	smallRows     = 256       // chunks with at most this number of rows are merged
	maxMergedText = 256 << 10 // maximum size of the texts in a merged chunk, in bytes
	// maximum number of columns of a merged chunk, which allocates up to 32 KiB for each column
	maxMergedCols = 256
)

// mergeSmall makes next merge small chunks, unless the result has many columns or has nested columns, whose sizes are
// unknown.
func (c *chunks) mergeSmall() {
	n := duckdb.ColumnCount(&c.result)
	if n > maxMergedCols {
		return
	}
	for i := range n {
		c.types = append(c.types, duckdb.ColumnLogicalType(&c.result, i))
		switch duckdb.GetTypeId(c.types[i]) {
		case duckdb.TypeVarchar, duckdb.TypeBlob:
			c.texts = append(c.texts, i)
		case duckdb.TypeBoolean, duckdb.TypeTinyInt, duckdb.TypeSmallInt, duckdb.TypeInteger, duckdb.TypeBigInt, duckdb.TypeUTinyInt, duckdb.TypeUSmallInt,
			duckdb.TypeUInteger, duckdb.TypeUBigInt, duckdb.TypeHugeInt, duckdb.TypeFloat, duckdb.TypeDouble, duckdb.TypeDecimal, duckdb.TypeDate, duckdb.TypeTime,
			duckdb.TypeTimestamp, duckdb.TypeTimestampS, duckdb.TypeTimestampMS, duckdb.TypeTimestampNS, duckdb.TypeTimestampTZ:
		default:
			c.close()
			return
		}
	}
}

func (c *chunks) fetch() (chunk duckdb.DataChunk) {
	if c.ended {
		return chunk
	}
	chunk = duckdb.FetchChunk(c.result)
	c.ended = chunk.Ptr == nil || duckdb.DataChunkGetSize(chunk) == 0
	if c.ended {
		duckdb.DestroyDataChunk(&chunk)
	}
	return chunk
}

// next returns the next chunk, which the caller must destroy. Its Ptr is nil at the end.
func (c *chunks) next() duckdb.DataChunk {
	first := c.queued
	c.queued = duckdb.DataChunk{}
	if first.Ptr == nil {
		first = c.fetch()
	}
	rows, text, ok := c.size(first)
	var merged duckdb.DataChunk
	for ok {
		c.queued = c.fetch()
		n, bytes, isSmall := c.size(c.queued)
		if !isSmall || rows+n > vectorRows || text+bytes > maxMergedText {
			break
		}
		if merged.Ptr == nil {
			merged = duckdb.CreateDataChunk(c.types)
			c.copy(merged, first, 0)
		}
		c.copy(merged, c.queued, rows)
		rows, text = rows+n, text+bytes
	}
	if merged.Ptr != nil {
		return merged
	}
	return first
}

// size returns the numbers of rows and of bytes of text in a chunk, and whether the chunk can be merged with others.
func (c *chunks) size(chunk duckdb.DataChunk) (rows duckdb.IdxT, text int, ok bool) {
	if c.types == nil || chunk.Ptr == nil {
		return 0, 0, false
	}
	rows = duckdb.DataChunkGetSize(chunk)
	if rows > smallRows {
		return rows, 0, false
	}
	for _, i := range c.texts {
		v := duckdb.DataChunkGetVector(chunk, i)
		valid, values := (*uint64)(duckdb.VectorGetValidity(v)), unsafe.Slice((*duckdb.StringT)(duckdb.VectorGetData(v)), rows)
		for row := range values {
			if valid == nil || unsafe.Slice(valid, row/64+1)[row/64]>>(row%64)&1 != 0 {
				text += int(*(*uint32)(unsafe.Pointer(&values[row]))) // a duckdb_string_t begins with its length
			}
		}
	}
	return rows, text, text <= maxMergedText
}

// copy appends the rows of src to dst, which already has the given number of rows. It destroys src.
func (c *chunks) copy(dst, src duckdb.DataChunk, rows duckdb.IdxT) {
	if c.all.Ptr == nil {
		c.all = duckdb.CreateSelectionVector(vectorRows)
		indices := unsafe.Slice(duckdb.SelectionVectorGetDataPtr(c.all), vectorRows)
		for i := range indices {
			indices[i] = duckdb.SelT(i)
		}
	}
	n := duckdb.DataChunkGetSize(src)
	for i := range duckdb.IdxT(len(c.types)) {
		duckdb.VectorCopySel(duckdb.DataChunkGetVector(src, i), duckdb.DataChunkGetVector(dst, i), c.all, n, 0, rows)
	}
	duckdb.DataChunkSetSize(dst, rows+n)
	duckdb.DestroyDataChunk(&src)
}

// close frees everything except the result.
func (c *chunks) close() {
	for i := range c.types {
		duckdb.DestroyLogicalType(&c.types[i])
	}
	c.types = nil
	duckdb.DestroySelectionVector(&c.all)
	duckdb.DestroyDataChunk(&c.queued)
}

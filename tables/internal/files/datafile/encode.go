package datafile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	pqfile "github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	pqschema "github.com/apache/arrow-go/v18/parquet/schema"

	"github.com/go-partd/partd/tables/internal/rows/arrowtype"
	"github.com/go-partd/partd/tables/internal/rows/parallel"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

const (
	dictionaryBytes = 1 << 20 // maximum size of a dictionary in bytes
	// maximum average size of a column's values, in bytes, for a page index; with larger values, the index would be
	// large
	maxIndexedBytes = 256
	zstdLevel       = 1
)

// encoder writes a file's row groups and chooses their encodings.
type encoder struct {
	columns     *pqschema.Schema
	compressAll bool // compress every column with zstd
	isFlatFile  bool // whether a FlatWriter writes the file
	// The library reads properties at the beginning and the end of a row group, so they must not change in between.
	properties *parquet.WriterProperties
	flat       *pqfile.Writer      // for files without nested columns; the columns are encoded concurrently
	nested     *pqarrow.FileWriter // for files with nested columns, which are encoded one after another
	ones       []int16             // definition levels of columns without nulls
	buffer     *tailBuffer
	groups     int           // number of row groups written
	nans       map[int]int64 // number of NaN values in each floating-point leaf column
	// column chunks with NaN, or with a maximum that is too long for the footer; their bounds must be removed
	unbounded []chunkID
}

var arrowProperties = pqarrow.NewArrowWriterProperties()

func newEncoder(out io.Writer, columns *arrow.Schema, compressAll bool, options ...pqfile.WriteOption) (e *encoder, err error) {
	initial := []parquet.WriterProperty{parquet.WithPageIndexEnabled(true), parquet.WithStoreDecimalAsInteger(true)}
	e = &encoder{compressAll: compressAll, properties: parquet.NewWriterProperties(initial...), buffer: &tailBuffer{Writer: out}, nans: map[int]int64{}}
	e.columns, err = pqarrow.ToParquet(columns, e.properties, arrowProperties)
	if err != nil {
		return nil, err
	}
	if hasNested(columns) {
		e.nested, err = pqarrow.NewFileWriter(columns, e.buffer, e.properties, arrowProperties)
		return e, err
	}
	e.flat, err = pqfile.NewParquetWriterWithError(e.buffer, e.columns.Root(), append(options, pqfile.WithWriterProps(e.properties))...)
	return e, err
}

func hasNested(columns *arrow.Schema) bool {
	return slices.ContainsFunc(columns.Fields(), func(f arrow.Field) bool { _, ok := f.Type.(arrow.NestedType); return ok })
}

func (e *encoder) write(ctx context.Context, rows arrow.RecordBatch) error {
	encodings, batchValues, err := e.chooseEncodings(ctx, rows)
	if err != nil {
		return err
	}
	if e.nested != nil {
		return e.nested.Write(rows)
	}
	group, err := e.flat.AppendBufferedRowGroupChecked()
	if err != nil {
		return err
	}
	for len(e.ones) < int(rows.NumRows()) {
		e.ones = append(e.ones, 1)
	}
	err = forEachColumn(ctx, int(rows.NumCols()), func(i int) error {
		a, field := rows.Column(i), rows.Schema().Field(i)
		writer, err := group.Column(i)
		switch {
		case err != nil:
		case encodings[i].texts != nil:
			err = encodings[i].texts.write(writer, a, e.levels(a, field.Nullable))
		default:
			err = e.writePages(ctx, writer, a, field.Nullable, pageRows/batchValues*batchValues)
		}
		if err != nil {
			return fmt.Errorf("column %q: %w", field.Name, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return group.Close()
}

// forEachColumn calls f for the column indices 0 to n-1, concurrently on all processors.
func forEachColumn(ctx context.Context, n int, f func(i int) error) error {
	indices := func(yield func(int) bool) {
		for i := range n {
			if !yield(i) {
				return
			}
		}
	}
	return parallel.Each(ctx, indices, runtime.GOMAXPROCS(0), func(_ context.Context, i int) error { return f(i) })
}

// chooseEncodings sets the properties for a row group and returns each column's encoding. batchValues is the number of
// values after which the library checks the page size.
func (e *encoder) chooseEncodings(ctx context.Context, rows arrow.RecordBatch) (encodings []columnEncoding, batchValues int, err error) {
	var leaves []arrow.Array
	for _, c := range rows.Columns() {
		leaves = leafArrays(c, leaves)
	}
	widest := int64(1)
	for _, a := range leaves {
		widest = max(widest, width(a))
	}
	pageSize := int64(pageBytes)
	if e.nested != nil {
		pageSize = nestedPageBytes
	}
	batchValues = int(min(max(pageSize/widest, 1), pageCheckValues))
	encodings = make([]columnEncoding, len(leaves))
	nans := make([]int64, len(leaves))
	err = forEachColumn(ctx, len(leaves), func(i int) error {
		encodings[i] = encodingOf(leaves[i], e.flat != nil, batchValues, e.compressAll)
		nans[i] = countNaN(leaves[i])
		return nil
	})
	options := []parquet.WriterProperty{
		parquet.WithDataPageVersion(parquet.DataPageV2),
		parquet.WithDataPageSize(pageSize),
		parquet.WithBatchSize(int64(batchValues)),
		parquet.WithDictionaryDefault(false),
		parquet.WithDictionaryPageSizeLimit(dictionaryBytes),
		parquet.WithStoreDecimalAsInteger(true),
		parquet.WithCompressionLevel(zstdLevel),
	}
	paths := map[string]int{}
	for i := range encodings {
		paths[e.columns.Column(i).Path()]++
	}
	for i := range encodings {
		path := e.columns.Column(i).Path()
		if paths[path] > 1 { // columns with equal paths share the library's options, and PLAIN suits all types
			encodings[i] = columnEncoding{encoding: parquet.Encodings.Plain, codec: compress.Codecs.Zstd}
		}
		w := encodings[i]
		options = append(options,
			parquet.WithEncodingFor(path, w.encoding),
			parquet.WithDictionaryFor(path, w.dictionary),
			parquet.WithDictionaryCostFallbackFor(path, false),
			parquet.WithCompressionFor(path, w.codec),
			parquet.WithCompressionLevelFor(path, zstdLevel),
			parquet.WithPageIndexEnabledFor(path, width(leaves[i]) <= maxIndexedBytes),
			// always in a table's files, because tables need null counts
			parquet.WithStatsFor(path, !e.isFlatFile || width(leaves[i]) <= schema.MaxStatsBytes),
		)
		if arrow.IsFloating(leaves[i].DataType().ID()) {
			e.nans[i] += nans[i]
		}
		if nans[i] > 0 {
			e.unbounded = append(e.unbounded, chunkID{e.groups, i})
		}
		leaves[i].Release()
	}
	e.groups++
	*e.properties = *parquet.NewWriterProperties(options...)
	return encodings, batchValues, err
}

// leafArrays appends the arrays of a column's Parquet leaf columns to leaves, in order. The caller must release them.
func leafArrays(a arrow.Array, leaves []arrow.Array) []arrow.Array {
	a = arrowtype.Storage(a)
	children := arrowtype.Children(a)
	if list, ok := a.(array.ListLike); ok {
		var start, end int64
		if a.Len() > 0 {
			start, _ = list.ValueOffsets(0)
			_, end = list.ValueOffsets(a.Len() - 1)
		}
		children[0] = array.NewSlice(children[0], start, end)
		defer children[0].Release()
	}
	for _, child := range children {
		leaves = leafArrays(child, leaves)
	}
	if len(children) == 0 {
		a.Retain()
		leaves = append(leaves, a)
	}
	return leaves
}

func (e *encoder) close() (footer *metadata.FileMetaData, size int64, err error) {
	e.buffer.hold()
	if e.nested != nil {
		err = e.nested.Close()
		if err == nil {
			footer, err = e.nested.FileMetadata()
		}
	} else {
		err = e.flat.Close()
		if err == nil {
			footer, err = e.flat.FileMetadata()
		}
	}
	if err != nil {
		return nil, 0, err
	}
	for g, group := range footer.RowGroups {
		for i, c := range group.Columns {
			if s := c.MetaData.Statistics; s != nil && s.MinValue != nil && s.MaxValue == nil {
				e.unbounded = append(e.unbounded, chunkID{g, i})
			}
		}
	}
	return footer, e.bytesWritten(), e.buffer.release(footer, e.unbounded)
}

// nanCounts returns the number of NaN values in each floating-point column, by field ID.
func (e *encoder) nanCounts() map[int]int64 {
	counts := map[int]int64{}
	for leaf, n := range e.nans {
		counts[int(e.columns.Column(leaf).SchemaNode().FieldID())] = n
	}
	return counts
}

func (e *encoder) bytesWritten() int64 {
	if e.nested != nil {
		return e.nested.TotalBytesWritten()
	}
	return e.flat.TotalBytesWritten()
}

// The library limits only a page's size in bytes. But 131,072 delta-encoded values can take as little as 6 KB, and a
// reader that needs a few of them would have to decode them all. So writePages also limits the rows in a page.
const (
	pageBytes = 256 << 10
	// maximum number of rows in a page, in files without nested columns; small, so that a reader with a page index
	// decodes few unneeded values
	pageRows = 8 << 10
	// pageBytes for files with nested columns, to which pageRows does not apply; a larger page could contain most of a
	// row group
	nestedPageBytes = 64 << 10
	pageCheckValues = 1024 // the library checks the page size after this number of values
)

// pager has a method of the library's column writers that is missing from their interface.
type pager interface{ FlushCurrentPage() error }

var _ pager = (*pqfile.ByteArrayColumnChunkWriter)(nil)

// writePages writes a column of a row group in pages of at most maxRows rows.
func (e *encoder) writePages(ctx context.Context, writer pqfile.ColumnChunkWriter, a arrow.Array, nullable bool, maxRows int) error {
	pages, ok := writer.(pager)
	if !ok {
		return errors.New("the library's column writer cannot end a page early")
	}
	ctx = pqarrow.NewArrowWriteContext(ctx, &arrowProperties)
	levels := e.levels(a, nullable)
	for start := 0; start < a.Len(); start += maxRows {
		end := min(start+maxRows, a.Len())
		var pageLevels []int16
		if levels != nil {
			pageLevels = levels[start:end]
		}
		page := array.NewSlice(a, int64(start), int64(end))
		err := pqarrow.WriteArrowToColumn(ctx, writer, page, pageLevels, nil, nullable)
		page.Release()
		if err != nil {
			return err
		}
		// Do not end the page if the library has just done so because of its size.
		if stats := writer.PageStatistics(); stats != nil && stats.NumValues()+stats.NullCount() > 0 {
			if err := pages.FlushCurrentPage(); err != nil {
				return err
			}
		}
	}
	return nil
}

// levels returns the Parquet definition levels of a column that is not nested.
func (e *encoder) levels(a arrow.Array, nullable bool) []int16 {
	switch {
	case !nullable:
		return nil
	case a.NullN() == 0:
		return e.ones[:a.Len()]
	}
	levels := make([]int16, a.Len())
	for i := range levels {
		if a.IsValid(i) {
			levels[i] = 1
		}
	}
	return levels
}

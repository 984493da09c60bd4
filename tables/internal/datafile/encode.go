package datafile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/parquet"
	pqfile "github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	pqschema "github.com/apache/arrow-go/v18/parquet/schema"

	"github.com/go-partd/partd/tables/internal/parallel"
)

const (
	dictionaryBytes = 1 << 20
	mostIndexed     = 256 // bytes of values, on average, whose pages have an index: of longer ones it is large
	zstdLevel       = 1
)

// encoder writes a file, group by group, each with encodings of its own.
type encoder struct {
	columns *pqschema.Schema
	// The library asks these when a group begins and when it ends: in between, they stay.
	properties *parquet.WriterProperties
	flat       *pqfile.Writer      // columns are encoded side by side, if none has parts
	nested     *pqarrow.FileWriter // or one after the other
	ones       []int16             // the levels of values that are all there
}

var arrowProperties = pqarrow.NewArrowWriterProperties()

// keepOpen hides the method Close, which the library would call.
type keepOpen struct{ io.Writer }

func newEncoder(out io.Writer, columns *arrow.Schema) (e *encoder, err error) {
	first := []parquet.WriterProperty{parquet.WithPageIndexEnabled(true), parquet.WithStoreDecimalAsInteger(true)}
	e = &encoder{properties: parquet.NewWriterProperties(first...)}
	if e.columns, err = pqarrow.ToParquet(columns, e.properties, arrowProperties); err != nil {
		return nil, err
	}
	if hasParts(columns) {
		e.nested, err = pqarrow.NewFileWriter(columns, keepOpen{out}, e.properties, arrowProperties)
		return e, err
	}
	e.flat, err = pqfile.NewParquetWriterWithError(keepOpen{out}, e.columns.Root(), pqfile.WithWriterProps(e.properties))
	return e, err
}

func hasParts(columns *arrow.Schema) bool {
	for _, f := range columns.Fields() {
		if _, ok := f.Type.(arrow.NestedType); ok {
			return true
		}
	}
	return false
}

// write writes rows as a group.
func (e *encoder) write(ctx context.Context, rows arrow.RecordBatch) error {
	ways, values, err := e.choose(ctx, rows)
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
	err = sideBySide(ctx, int(rows.NumCols()), func(i int) error {
		a, field := rows.Column(i), rows.Schema().Field(i)
		to, err := group.Column(i)
		switch {
		case err != nil:
		case ways[i].texts != nil:
			err = ways[i].texts.write(to, a, e.levels(a, field.Nullable))
		default:
			err = e.writePages(ctx, to, a, field.Nullable, pageRows/values*values)
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

// sideBySide calls f for the numbers of columns, on all processors.
func sideBySide(ctx context.Context, n int, f func(i int) error) error {
	numbers := func(yield func(int) bool) {
		for i := range n {
			if !yield(i) {
				return
			}
		}
	}
	return parallel.Each(ctx, numbers, runtime.GOMAXPROCS(0), func(_ context.Context, i int) error { return f(i) })
}

// choose sets the properties for a group of rows. It returns what they were made of, and how
// many values the library writes before it looks whether a page is large enough.
func (e *encoder) choose(ctx context.Context, rows arrow.RecordBatch) (ways []way, values int, err error) {
	var leaves []arrow.Array
	for _, c := range rows.Columns() {
		leaves = leafArrays(c, leaves)
	}
	widest := int64(1)
	for _, a := range leaves {
		widest = max(widest, width(a))
	}
	values = int(min(max(pageBytes/widest, 1), mostValues))
	ways = make([]way, len(leaves))
	err = sideBySide(ctx, len(leaves), func(i int) error {
		ways[i] = wayOf(leaves[i], e.flat != nil, values)
		return nil
	})
	options := []parquet.WriterProperty{
		parquet.WithDataPageVersion(parquet.DataPageV2),
		parquet.WithDataPageSize(pageBytes),
		parquet.WithBatchSize(int64(values)),
		parquet.WithDictionaryDefault(false),
		parquet.WithDictionaryPageSizeLimit(dictionaryBytes),
		parquet.WithStoreDecimalAsInteger(true),
		parquet.WithCompressionLevel(zstdLevel),
	}
	for i, w := range ways {
		path := e.columns.Column(i).Path()
		options = append(options,
			parquet.WithEncodingFor(path, w.encoding),
			parquet.WithDictionaryFor(path, w.dictionary),
			parquet.WithDictionaryCostFallbackFor(path, false),
			parquet.WithCompressionFor(path, w.codec),
			parquet.WithCompressionLevelFor(path, zstdLevel),
			parquet.WithPageIndexEnabledFor(path, width(leaves[i]) <= mostIndexed),
		)
		leaves[i].Release()
	}
	*e.properties = *parquet.NewWriterProperties(options...)
	return ways, values, err
}

// leafArrays adds the arrays that Parquet makes columns of, in their order, for the caller
// to release.
func leafArrays(a arrow.Array, to []arrow.Array) []arrow.Array {
	switch a := a.(type) {
	case array.ExtensionArray:
		return leafArrays(a.Storage(), to)
	case *array.Struct:
		for i := range a.NumField() {
			to = leafArrays(a.Field(i), to)
		}
		return to
	case array.ListLike:
		var from, end int64
		if a.Len() > 0 {
			from, _ = a.ValueOffsets(0)
			_, end = a.ValueOffsets(a.Len() - 1)
		}
		values := array.NewSlice(a.ListValues(), from, end)
		defer values.Release()
		return leafArrays(values, to)
	}
	a.Retain()
	return append(to, a)
}

// close completes the file, and returns what is said of it and its size.
func (e *encoder) close() (about *metadata.FileMetaData, size int64, err error) {
	if e.nested != nil {
		if err = e.nested.Close(); err == nil {
			about, err = e.nested.FileMetadata()
		}
		return about, e.nested.TotalBytesWritten(), err
	}
	if err = e.flat.Close(); err == nil {
		about, err = e.flat.FileMetadata()
	}
	return about, e.flat.TotalBytesWritten(), err
}

// written is how many bytes were written so far.
func (e *encoder) written() int64 {
	if e.nested != nil {
		return e.nested.TotalBytesWritten()
	}
	return e.flat.TotalBytesWritten()
}

// The library ends a page by its bytes alone. As deltas 131,072 times may take 6 KB, and who
// wants a few of them would decode all.
const (
	pageBytes  = 64 << 10 // a reader that knows where to look decodes little else
	pageRows   = 8 << 10  // at most, where no column has parts: as many as 64 KiB have of 8 bytes
	mostValues = 1024     // after which the library looks whether a page is large enough
)

// pager is what the library's columns have besides their interface.
type pager interface{ FlushCurrentPage() error }

// writePages writes a column of a group, in pages of so many rows at most.
func (e *encoder) writePages(ctx context.Context, to pqfile.ColumnChunkWriter, a arrow.Array, nullable bool, rows int) error {
	pages, ok := to.(pager)
	if !ok {
		return errors.New("the library does not end a page where it is told to")
	}
	ctx = pqarrow.NewArrowWriteContext(ctx, &arrowProperties)
	levels := e.levels(a, nullable)
	for from := 0; from < a.Len(); from += rows {
		end := min(from+rows, a.Len())
		var at []int16
		if levels != nil {
			at = levels[from:end]
		}
		part := array.NewSlice(a, int64(from), int64(end))
		err := pqarrow.WriteArrowToColumn(ctx, to, part, at, nil, nullable)
		part.Release()
		if err != nil {
			return err
		}
		// The library may just have ended a page, as large ones do.
		if about := to.PageStatistics(); about != nil && about.NumValues()+about.NullCount() > 0 {
			if err := pages.FlushCurrentPage(); err != nil {
				return err
			}
		}
	}
	return nil
}

// levels says which values of a column without parts are there, as Parquet does.
func (e *encoder) levels(a arrow.Array, nullable bool) []int16 {
	switch {
	case !nullable:
		return nil
	case a.NullN() == 0:
		return e.ones[:a.Len()]
	}
	all := make([]int16, a.Len())
	for i := range all {
		if a.IsValid(i) {
			all[i] = 1
		}
	}
	return all
}

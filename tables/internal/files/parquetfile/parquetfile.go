// Package parquetfile writes rows of any type as Parquet files that other programs can read.
package parquetfile

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	pqschema "github.com/apache/arrow-go/v18/parquet/schema"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/jobs/output"
	"github.com/go-partd/partd/tables/internal/rows/arrowtype"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

const (
	groupBytes = 16 << 20 // number of buffered bytes at which a row group is written
	zstdLevel  = 1        // the library's default level takes twice the time to save a few percent
)

// Write writes the rows of r to a file atomically and returns their number. If the file exists and replace is false,
// the error wraps output.ErrExists.
func Write(ctx context.Context, path string, replace bool, r array.RecordReader) (rows int64, err error) {
	f, err := output.Create(ctx, path, replace)
	if err != nil {
		return 0, err
	}
	buffered := bufio.NewWriterSize(f, 1<<20)
	w, err := NewWriter(buffered, r.Schema())
	for err == nil && r.Next() {
		err = canceled.Err(ctx)
		if err == nil {
			rows += r.RecordBatch().NumRows()
			err = w.Write(r.RecordBatch())
		}
	}
	if err == nil {
		err = r.Err()
	}
	if err == nil {
		err = errors.Join(w.Close(), buffered.Flush())
	}
	if err != nil {
		return 0, errors.Join(fmt.Errorf("%s: %w", path, err), f.Abort())
	}
	return rows, f.Commit()
}

// Writer writes rows as Parquet. If the Parquet library cannot write a column's type, Writer converts the column to the
// type in which a table would store it. Close completes the file, but does not close the underlying io.Writer.
type Writer struct {
	file         *pqarrow.FileWriter
	layout       *Layout
	dictionaries []dictionary // one per column
}

// keepOpen hides a writer's Close method, because the library would call it.
type keepOpen struct{ io.Writer }

// NewWriter returns a writer of rows with the given columns.
func NewWriter(w io.Writer, columns *arrow.Schema) (*Writer, error) {
	l, err := newLayout(columns, parquet.WithCompression(compress.Codecs.Zstd), parquet.WithCompressionLevel(zstdLevel))
	if err != nil {
		return nil, err
	}
	return l.NewWriter(w)
}

// Layout holds the schema and options that files with the same columns share.
type Layout struct {
	schema          *arrow.Schema
	properties      *parquet.WriterProperties
	arrowProperties pqarrow.ArrowWriterProperties
	recorded        *arrow.Schema // schema that readers restore
	isFast          bool
}

// fastPageBytes is the size of a page in the fast layout. Larger pages would not stay in the processor's cache.
const fastPageBytes = 256 << 10

// NewFastLayout returns a layout for files that are written with little work: each call to Write writes a row group. A
// column has dictionaries only if values repeat in the sample of its rows. Other columns are compressed, with Snappy,
// only if this shrinks the sample. If the files are small, no column has dictionaries, because these would cost more
// than everything else.
func NewFastLayout(sample arrow.RecordBatch, isSmall bool) (*Layout, error) {
	options := []parquet.WriterProperty{parquet.WithCompression(compress.Codecs.Snappy), parquet.WithDataPageSize(fastPageBytes)}
	if isSmall {
		options = append(options, parquet.WithDictionaryDefault(false))
	}
	for i, c := range sample.Columns() {
		if arrow.IsNested(c.DataType().ID()) {
			continue
		}
		if texts, ok := c.(array.BinaryLike); ok && len(texts.ValueBytes()) > schema.MaxStatsBytes*c.Len() {
			options = append(options, parquet.WithStatsFor(sample.ColumnName(i), false))
		}
		hasDictionary := !isSmall && repeats(c)
		options = append(options, parquet.WithDictionaryFor(sample.ColumnName(i), hasDictionary))
		if !hasDictionary && !shrinks(c) {
			options = append(options, parquet.WithCompressionFor(sample.ColumnName(i), compress.Codecs.Uncompressed))
		}
	}
	l, err := newLayout(sample.Schema(), options...)
	if err == nil {
		l.isFast = true
	}
	return l, err
}

// shrinks reports whether Snappy saves at least an eighth of a column's first values. A smaller saving is not worth the
// time, because compressing such values takes longer than all other work on the column.
func shrinks(a arrow.Array) bool {
	const sampleBytes = 64 << 10
	snappy, err := compress.GetCodec(compress.Codecs.Snappy)
	if err != nil || a.DataType().ID() == arrow.DICTIONARY {
		return true
	}
	var plain []byte
	buffers := a.Data().Buffers()
	if texts, ok := a.(array.BinaryLike); ok {
		all := texts.ValueBytes()
		for i := 0; i < a.Len() && len(plain) < sampleBytes; i++ {
			n := texts.ValueLen(i)
			plain = binary.LittleEndian.AppendUint32(plain, uint32(n))
			plain, all = append(plain, all[:min(n, sampleBytes)]...), all[n:]
		}
	} else if _, ok := a.DataType().(arrow.FixedWidthDataType); ok && len(buffers) == 2 && buffers[1] != nil {
		plain = buffers[1].Bytes()[:min(buffers[1].Len(), sampleBytes)]
	}
	return len(plain) < 1000 || 8*len(snappy.EncodeLevel(nil, plain, 0)) <= 7*len(plain)
}

// repeats reports whether at least a twentieth of the values in a sample equal other values in it.
func repeats(a arrow.Array) bool {
	const samples = 1000
	step := max(1, a.Len()/samples)
	values, n := map[string]bool{}, 0
	for i := 0; i < a.Len(); i += step {
		values[a.ValueStr(i)] = true
		n++
	}
	return len(values) < n-n/20
}

func newLayout(columns *arrow.Schema, options ...parquet.WriterProperty) (*Layout, error) {
	// fields has the types to write; recorded has the types to which readers convert them back.
	fields, recorded := slices.Clone(columns.Fields()), slices.Clone(columns.Fields())
	for i, f := range fields {
		if schema.ContainsType(f.Type, isInterval) {
			return nil, fmt.Errorf("column %q: Parquet has no type for %s: leave the column out, or write Arrow", f.Name, f.Type)
		}
		fields[i].Type = plainType(f.Type)
		recorded[i].Type = fields[i].Type
		if stored, err := schema.StoredType(fields[i].Type); err == nil && schema.ContainsType(fields[i].Type, unwritable) {
			recorded[i].Type = schema.Restore(stored, fields[i].Type, func(t arrow.DataType) bool { return isTime64(t) || schema.IsDuration(t) })
			fields[i].Type = schema.Restore(stored, fields[i].Type, isTime64)
		}
	}
	metadata := columns.Metadata()
	l := &Layout{schema: arrow.NewSchema(fields, &metadata)}
	l.arrowProperties = pqarrow.NewArrowWriterProperties()
	// Close records this schema, so that readers can restore types such as durations, which are written as integers.
	l.recorded = arrow.NewSchema(recorded, &metadata)
	parquetSchema, err := pqarrow.ToParquet(l.schema, parquet.NewWriterProperties(options...), l.arrowProperties)
	if err != nil {
		return nil, err
	}
	for i := range parquetSchema.NumColumns() {
		c := parquetSchema.Column(i)
		if _, isFloat16 := c.LogicalType().(pqschema.Float16LogicalType); isFloat16 || c.PhysicalType() == parquet.Types.Float || c.PhysicalType() == parquet.Types.Double {
			// The library's statistics ignore NaN. DuckDB orders NaN after all numbers, so with these statistics, it
			// would skip matching rows.
			options = append(options, parquet.WithStatsFor(c.Path(), false))
		}
	}
	l.properties = parquet.NewWriterProperties(options...)
	return l, nil
}

// NewWriter returns a Writer that writes a Parquet file with layout l to w.
func (l *Layout) NewWriter(w io.Writer) (*Writer, error) {
	f, err := pqarrow.NewFileWriter(l.schema, keepOpen{w}, l.properties, l.arrowProperties)
	return &Writer{file: f, layout: l, dictionaries: make([]dictionary, l.schema.NumFields())}, err
}

// isTime64 reports whether t is a 64-bit time of day. Tables store such a time in nanoseconds as an integer, but the
// Parquet library can write it as a time.
func isTime64(t arrow.DataType) bool { return t.ID() == arrow.TIME64 }

func isInterval(t arrow.DataType) bool { return arrowtype.KindOf(t) == arrowtype.Interval }

// plainType simplifies t at every level of nesting: run-end-encoded types become their values' types, views become
// plain strings, binaries and lists, fixed-size lists become variable-size lists, and dictionaries that the library
// cannot write become their values. In lists and maps, all dictionaries do, because the library cannot write a dictionary
// in lists without values.
func plainType(t arrow.DataType) arrow.DataType {
	info, fields := arrowtype.Of(t), slices.Clone(arrowtype.Fields(t))
	if list, ok := t.(arrow.ListLikeType); ok && info.Kind == arrowtype.List {
		fields = []arrow.Field{list.ElemField()} // also for list views
	}
	for i, f := range fields {
		if info.Kind != arrowtype.Struct {
			f.Type = schema.DecodedType(f.Type)
		}
		fields[i].Type = plainType(f.Type)
	}
	switch info.Kind {
	case arrowtype.Runs:
		return plainType(arrowtype.Inner(t))
	case arrowtype.Dictionary:
		valueType := arrowtype.Inner(t)
		isWritable := !arrowtype.Of(valueType).IsNested() && valueType.ID() != arrow.BOOL && !unwritable(valueType)
		if value := plainType(valueType); !isWritable || !arrow.TypeEqual(value, valueType) {
			return value
		}
	case arrowtype.List:
		if id := t.ID(); id == arrow.LARGE_LIST || id == arrow.LARGE_LIST_VIEW {
			return arrow.LargeListOfField(fields[0])
		}
		return arrow.ListOfField(fields[0])
	case arrowtype.Map:
		plain := arrow.MapOfFields(fields[0], fields[1])
		plain.KeysSorted = t.(*arrow.MapType).KeysSorted
		return plain
	case arrowtype.Struct:
		return arrow.StructOf(fields...)
	}
	if _, isView := t.(arrow.BinaryViewDataType); isView {
		return info.Plain
	}
	return t
}

// unwritable reports whether the library cannot write a type, or cannot read it back, in columns with nulls.
func unwritable(t arrow.DataType) bool {
	if e, ok := t.(arrow.ExtensionType); ok {
		return e.ExtensionName() == "arrow.json"
	}
	return slices.Contains([]arrow.Type{arrow.DATE64, arrow.DURATION, arrow.STRING_VIEW, arrow.BINARY_VIEW, arrow.DECIMAL32, arrow.DECIMAL64}, t.ID())
}

// Write writes rows. A row group can contain several batches.
func (p *Writer) Write(b arrow.RecordBatch) error {
	converted, err := schema.Convert(b, p.layout.schema)
	if err != nil {
		return err
	}
	defer converted.Release()
	for i, c := range converted.Columns() {
		if c, ok := c.(*array.Dictionary); ok {
			p.dictionaries[i].add(c)
		}
	}
	if err := schema.CheckNestedNulls(converted); err != nil {
		return err
	}
	if p.layout.isFast {
		return p.file.Write(converted)
	}
	if err := p.file.WriteBuffered(converted); err != nil {
		return err
	}
	if max(p.file.RowGroupTotalBytesWritten(), p.file.RowGroupTotalCompressedBytes()) >= groupBytes {
		return p.file.NewBufferedRowGroupChecked()
	}
	return nil
}

func (p *Writer) Close() error {
	fields := p.layout.recorded.Fields()
	for i, d := range p.dictionaries {
		if d.isLarge {
			t := *fields[i].Type.(*arrow.DictionaryType)
			t.IndexType, fields[i].Type = arrow.PrimitiveTypes.Int32, &t
		}
	}
	metadata := p.layout.recorded.Metadata()
	encoded := flight.SerializeSchema(arrow.NewSchema(fields, &metadata), memory.DefaultAllocator)
	err := p.file.AppendKeyValueMetadata("ARROW:schema", base64.StdEncoding.EncodeToString(encoded))
	return errors.Join(err, p.file.Close())
}

// dictionary collects the values in a column's dictionaries. Together, batches can have too many values for the index
// type; readers that use this type for the whole column would then fail.
type dictionary struct {
	last    arrow.Array
	values  map[string]bool
	isLarge bool
}

func (d *dictionary) add(a *array.Dictionary) {
	values := a.Dictionary()
	bits := a.DataType().(*arrow.DictionaryType).IndexType.(arrow.FixedWidthDataType).BitWidth()
	if d.isLarge || d.last == values || bits > 16 {
		return
	}
	d.last = values
	if d.values == nil {
		d.values = map[string]bool{}
	}
	for i := range values.Len() {
		d.values[values.ValueStr(i)] = true
	}
	if len(d.values) > 1<<(bits-1) { // also for unsigned types, because Parquet's readers may use signed ones
		*d = dictionary{isLarge: true}
	}
}

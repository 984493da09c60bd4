// Package formats reads and writes tables as files in the formats CSV, JSON lines, Parquet and Arrow.
// It also writes them as text for a terminal. It streams all data in batches. A [Set] contains the formats; commands,
// servers and jobs get it as a value. docs/import.md describes how the package chooses the types of CSV and JSON lines.
package formats

import (
	"bufio"
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/jobs/records"
	"github.com/go-partd/partd/tables/internal/rows/arrowsafe"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/parallel"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/sql/worker"
)

const (
	batchRows     = 16 << 10
	batchBytes    = 8 << 20  // bytes of text at which a batch ends early
	batchCells    = 1 << 20  // number of values at which a batch ends early
	maxRecordSize = 64 << 20 // maximum size of a text record in bytes
	maxColumns    = 1 << 16
	maxArrowBytes = 1 << 30   // maximum size of an Arrow batch in memory, in bytes
	maxWholeGroup = 32 << 20  // maximum compressed size of a Parquet row group that is read whole, in bytes
	streamBuffer  = 128 << 10 // bytes read at a time from a column chunk of a larger row group
)

// arrowSchemaKey is the key in Parquet metadata under which Arrow's writers store the Arrow schema.
const arrowSchemaKey = "ARROW:schema"

// Options returns the options of text that Read supports, with the fields of o as their values.
func Options(o *records.TextOptions) []records.Option {
	return records.Options(o, "no-header", "row-names", "skip-bad")
}

// MendedCount counts the records of one or more inputs that the option Ragged changed (see [records.TextOptions]).
type MendedCount struct{ filled, cut atomic.Int64 }

// Add adds counts.
func (m *MendedCount) Add(counts records.Mended) {
	m.filled.Add(counts.Filled)
	m.cut.Add(counts.Cut)
}

// Total returns the counts of all inputs.
func (m *MendedCount) Total() records.Mended {
	return records.Mended{Filled: m.filled.Load(), Cut: m.cut.Load()}
}

// Input is a file to read.
type Input struct {
	Name                string // file name in errors
	File                *os.File
	Format              *Format
	records.TextOptions              // options for text; Sep is an error in formats without the option "separator"
	Mended              *MendedCount // counts the records that Ragged changed; nil means that they are not counted

	// Known contains columns whose types are not inferred, such as the target table's columns. It can be nil. Text
	// formats use it for all columns, and Parquet for INT96 times.
	Known *arrow.Schema
	// IsUncompressed makes Read reject compressed text, because a small compressed file can expand to any size.
	IsUncompressed bool
	// Memory limits the memory of the rows, in bytes. 0 means no limit for text, and the default for Arrow.
	Memory int64
	// JobMemory is the approximate memory of a job that reads the file, in bytes. A row may take a quarter of it, and
	// so may decoding Parquet. 0 means no limit.
	JobMemory int64
	// Count, if not nil, is called after each read with the number of bytes read.
	Count func(n int)

	columns     *arrow.Schema // the columns of a text file; nil means that they must be inferred
	decodedFrom string        // encoding from which a text file was decoded; "" means UTF-8
	place       string        // in errors, the part of the file that is being read; "" means Name
}

// Read returns a reader of the file's batches. The caller must release the reader. Read does not close the file.
func (in *Input) Read(ctx context.Context) (array.RecordReader, error) {
	err := in.Format.CheckOption("separator", in.Sep)
	if in.Format.Read == nil {
		err = fmt.Errorf("cannot read format %s", in.Format.Name)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", in.Name, err)
	}
	r, err := in.Format.Read(ctx, in)
	if err != nil || in.JobMemory == 0 {
		return r, err
	}
	return in.limitRows(ctx, r), nil
}

// batches returns a reader of the batches that generate yields; generate must release its own references to them. If a
// library panics because a file is damaged, the reader returns an error. Releasing the reader calls onRelease.
func (in *Input) batches(ctx context.Context, schema *arrow.Schema, onRelease func(), generate func(yield func(arrow.RecordBatch) bool) error) array.RecordReader {
	return batches.Reader(schema, func(yield func(arrow.RecordBatch, error) bool) {
		stopped, yielding := false, false
		err := func() (err error) {
			defer func() {
				if p := recover(); p != nil && !yielding {
					err = fmt.Errorf("%s: the file is damaged: %v", cmp.Or(in.place, in.Name), p)
				} else if p != nil {
					panic(p)
				}
			}()
			return generate(func(b arrow.RecordBatch) bool {
				b.Retain() // The reader releases it.
				yielding = true
				stopped = stopped || ctx.Err() != nil || !yield(b, nil)
				yielding = false
				return !stopped
			})
		}()
		if ended := canceled.Err(ctx); !errors.Is(err, ended) {
			err = errors.Join(err, ended)
		}
		if err != nil && (!stopped || ctx.Err() != nil) {
			yield(nil, err)
		}
	}, onRelease)
}

func (in *Input) withCounter(r io.Reader) io.Reader {
	if in.Count == nil {
		return r
	}
	return io.TeeReader(r, counter(in.Count))
}

type counter func(n int)

func (c counter) Write(p []byte) (int, error) {
	c(len(p))
	return len(p), nil
}

// seekable returns the file if it is a regular file, and otherwise an unnamed copy and a function that closes it.
func (in *Input) seekable() (*os.File, func(), error) {
	if info, err := in.File.Stat(); err == nil && info.Mode().IsRegular() {
		return in.File, func() {}, nil
	}
	temp, err := os.CreateTemp("", "partd-tables-")
	if err != nil {
		return nil, nil, err
	}
	closeTemp := func() { _ = temp.Close() } // The error does not matter, because the file is only read.
	// Remove the file before copying, so that a killed process leaves nothing.
	err = os.Remove(temp.Name())
	if err == nil {
		_, err = io.Copy(temp, in.withCounter(in.File))
	}
	if err != nil {
		closeTemp()
		return nil, nil, fmt.Errorf("%s: copy the input to a temporary file: %w", in.Name, err)
	}
	return temp, closeTemp, nil
}

func readParquet(ctx context.Context, in *Input) (array.RecordReader, error) {
	f, closeFile, err := in.seekable()
	if err != nil {
		return nil, err
	}
	reader, columns, err := in.openParquet(f)
	if err != nil {
		closeFile()
		return nil, fmt.Errorf("%s: %w", in.Name, err)
	}
	return in.batches(ctx, columns, closeFile, func(yield func(arrow.RecordBatch) bool) error {
		stopped, rows := false, int64(0)
		for group := 0; group < reader.ParquetReader().NumRowGroups() && !stopped; group++ {
			in.place = fmt.Sprintf("%s, row group %d", in.Name, group)
			read, err := in.groupBatches(ctx, f, reader, group)
			if err != nil {
				return fmt.Errorf("%s: %w", in.place, err)
			}
			converted := batches.Map(func(b arrow.RecordBatch) (arrow.RecordBatch, error) {
				defer b.Release()
				if in.Count != nil && f == in.File { // otherwise seekable has counted all bytes
					g := reader.ParquetReader().MetaData().RowGroup(group)
					in.Count(int(float64(g.TotalCompressedSize()) * float64(b.NumRows()) / float64(g.NumRows())))
				}
				converted, err := schema.Convert(b, columns)
				if err != nil {
					return nil, schema.RowError(err, int(b.NumRows()), rows, func(row int) error {
						_, err := schema.Convert(b.NewSlice(int64(row), int64(row)+1), columns)
						return err
					})
				}
				rows += b.NumRows()
				return converted, nil
			})(read)
			err = in.forward(converted, func(b arrow.RecordBatch) bool {
				stopped = !yield(b)
				return !stopped
			})
			if err != nil {
				return err
			}
		}
		if n := reader.ParquetReader().NumRows(); !stopped && rows != n {
			return fmt.Errorf("%s: the file is damaged: it has %d rows, but its footer says %d", in.Name, rows, n)
		}
		return nil
	}), nil
}

// forward yields batches and releases them.
func (in *Input) forward(batches iter.Seq2[arrow.RecordBatch, error], yield func(arrow.RecordBatch) bool) error {
	for b, err := range batches {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("the file is damaged: %w", err)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", cmp.Or(in.place, in.Name), err)
		}
		more := yield(b)
		b.Release()
		if !more {
			return nil
		}
	}
	return nil
}

// openParquet opens a Parquet file. It also returns the schema that the file's batches should be converted to.
func (in *Input) openParquet(f *os.File) (reader *pqarrow.FileReader, columns *arrow.Schema, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the file is damaged: %s", parallel.Reason(p))
		}
	}()
	properties := parquet.NewReaderProperties(memory.DefaultAllocator)
	parquetFile, err := schema.OpenParquet(f, file.WithReadProps(properties))
	if err != nil {
		return nil, nil, err
	}
	properties.BufferSize = streamBuffer
	properties.MaxCompressedPageSize = parquet.DefaultMaxUncompressedPageSize
	maxGroupSize := int64(0) // uncompressed size of the largest row group, in bytes
	for g := range parquetFile.NumRowGroups() {
		size := int64(0)
		// The library reads the column chunks of a row group whole, unless it streams them.
		properties.BufferedStreamEnabled = properties.BufferedStreamEnabled || parquetFile.MetaData().RowGroup(g).TotalCompressedSize() > maxWholeGroup
		for c := range parquetFile.MetaData().Schema.NumColumns() {
			chunk, err := parquetFile.MetaData().RowGroup(g).ColumnChunk(c)
			if err == nil {
				err = schema.CheckEncoding(chunk)
			}
			if err != nil {
				return nil, nil, err
			}
			size += min(max(chunk.TotalUncompressedSize(), 0), maxWholeGroup+1)
		}
		maxGroupSize = max(maxGroupSize, size)
	}
	// Check the schema that Arrow's writers store, because the library trusts the numbers in it.
	if encoded := parquetFile.MetaData().KeyValueMetadata().FindValue(arrowSchemaKey); encoded != nil {
		message, err := base64.StdEncoding.DecodeString(*encoded)
		if err == nil {
			_, err = arrowsafe.SchemaMessage(message)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	open := func() (reader *pqarrow.FileReader, err error) {
		// Preallocate texts only if all row groups are small, because the sizes in the footer of a damaged file can be
		// arbitrary.
		readProperties := pqarrow.ArrowReadProperties{BatchSize: batchRows, PreAllocBinaryData: maxGroupSize <= maxWholeGroup}
		reader, err = pqarrow.NewFileReader(parquetFile, readProperties, memory.DefaultAllocator)
		if err == nil && columns == nil {
			columns, err = reader.Schema()
		}
		return reader, err
	}
	reader, err = open()
	if err == nil && replaceDurations(parquetFile, columns) {
		reader, err = open()
	}
	if err != nil {
		return nil, nil, err
	}
	return reader, schema.WithInt96(withoutParquetIDs(columns), reader, in.Known), nil
}

// replaceDurations changes the Arrow schema in f's metadata, in memory only: durations become integers, because
// arrow-go 18.8 cannot read durations. It reports whether it replaced any.
func replaceDurations(f *file.Reader, columns *arrow.Schema) (replaced bool) {
	fields := slices.Clone(columns.Fields())
	for i, field := range fields {
		if schema.ContainsType(field.Type, func(t arrow.DataType) bool { return t.ID() == arrow.DURATION }) {
			if stored, err := schema.StoredType(field.Type); err == nil {
				fields[i].Type, replaced = stored, true
			}
		}
	}
	for _, note := range f.MetaData().FileMetaData.KeyValueMetadata {
		if note.Key == arrowSchemaKey && replaced {
			note.Value = new(base64.StdEncoding.EncodeToString(worker.Schema(arrow.NewSchema(fields, nil))))
		}
	}
	return replaced
}

// withoutParquetIDs removes the metadata that the Parquet reader adds to columns and their nested fields. It keeps the
// writer's metadata, such as the pandas index.
func withoutParquetIDs(columns *arrow.Schema) *arrow.Schema {
	fields := slices.Clone(columns.Fields())
	withoutID := func(f arrow.Field) arrow.Field {
		notes := f.Metadata.ToMap()
		maps.DeleteFunc(notes, func(key, _ string) bool { return strings.HasPrefix(key, "PARQUET:") })
		f.Metadata = arrow.MetadataFrom(notes)
		return f
	}
	for i, f := range fields {
		f.Type = schema.MapFields(f.Type, withoutID)
		fields[i] = withoutID(f)
	}
	metadata := columns.Metadata()
	return arrow.NewSchema(fields, &metadata)
}

// readArrow reads an Arrow stream or an Arrow file. A file is a stream between a magic string and a footer.
func readArrow(ctx context.Context, in *Input) (array.RecordReader, error) {
	const magic = "ARROW1\x00\x00"
	buffered := &endRecorder{Reader: bufio.NewReaderSize(in.withCounter(in.File), 1<<20)}
	start, err := buffered.Peek(len(magic))
	isFile := err == nil && string(start) == magic
	if isFile {
		_, err = buffered.Discard(len(magic))
	} else if err == io.EOF { // The Arrow reader reports that the file is too short.
		err = nil
	}
	if strings.HasPrefix(string(start), "FEA1") {
		return nil, fmt.Errorf("%s: Feather version 1 is not supported: convert the file with pyarrow.feather.read_table and write_feather", in.Name)
	}
	var r *ipc.Reader
	limit := cmp.Or(in.Memory, maxArrowBytes)
	if err == nil {
		size := limit
		if info, err := in.File.Stat(); err == nil && info.Mode().IsRegular() {
			size = info.Size()
		}
		r, err = arrowsafe.NewReader(buffered, size, limit)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: cannot read the file as an Arrow file or stream: %w", in.Name, err)
	}
	checker := arrowsafe.Checker{Limit: limit}
	checked := batches.Each(r, func(b arrow.RecordBatch) (arrow.RecordBatch, error) {
		if _, err := checker.Check(ctx, b); err != nil {
			return nil, err
		}
		b.Retain()
		return b, nil
	})
	return in.batches(ctx, r.Schema(), r.Release, func(yield func(arrow.RecordBatch) bool) error {
		err := in.forward(checked, yield)
		if err == nil && buffered.reachedEnd {
			err = fmt.Errorf("%s: the file is incomplete: %w", in.Name, io.ErrUnexpectedEOF)
		}
		return err
	}), nil
}

// endRecorder records whether the input was read to its end. A complete stream has an end marker, after which nothing
// is read. Arrow also permits streams without the marker, but then a stream whose writer died would look complete.
type endRecorder struct {
	*bufio.Reader
	reachedEnd bool
}

func (e *endRecorder) Read(p []byte) (int, error) {
	n, err := e.Reader.Read(p)
	e.reachedEnd = e.reachedEnd || err == io.EOF
	return n, err
}

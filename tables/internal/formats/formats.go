// Package formats reads and writes tables as files: CSV, JSON lines, Parquet and Arrow, and
// text for a terminal. It streams everything in batches. docs/import.md describes how it
// chooses the types of CSV and JSON lines.
package formats

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/tables/internal/arrowsafe"
	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/worker"
)

// Format is the name of a format.
type Format string

// Formats. Table can only be written.
const (
	CSV     Format = "csv"
	JSONL   Format = "jsonl"
	Parquet Format = "parquet"
	Arrow   Format = "arrow"
	Table   Format = "table"
)

// Names lists the formats that can be read.
var Names = []string{"csv", "jsonl", "parquet", "arrow"}

var extensions = map[string]Format{
	".csv": CSV, ".jsonl": JSONL, ".ndjson": JSONL, ".parquet": Parquet, ".pq": Parquet,
	".arrow": Arrow, ".feather": Arrow, ".arrows": Arrow, ".ipc": Arrow,
}

// ByName returns the format for a file's name.
func ByName(name string) (Format, error) {
	if f, ok := extensions[strings.ToLower(filepath.Ext(name))]; ok {
		return f, nil
	}
	return "", fmt.Errorf("%s: its name does not say what format it has: give --format, one of %s", name, strings.Join(Names, ", "))
}

const (
	batchRows  = 16 << 10
	batchBytes = 8 << 20  // text size at which a batch ends early
	batchCells = 1 << 20  // number of cells at which a batch ends early
	maxRecord  = 64 << 20 // bytes of a text record
	maxColumns = 1 << 16
	maxArrow   = 1 << 30 // memory of an Arrow batch, in bytes
)

// arrowNote is the Parquet metadata key under which Arrow's writers store a schema.
const arrowNote = "ARROW:schema"

// Input is a file to read.
type Input struct {
	Name   string // for errors
	File   *os.File
	Format Format
	Sep    string // single byte that separates CSV fields; "" means a comma

	// Known contains the columns whose types are known, such as those of the target table. Nil
	// means none. Only text formats use it.
	Known *arrow.Schema
	// Count, if not nil, is called after each read with the number of bytes.
	Count func(n int)
}

// Read returns a reader of the file's batches, which the caller must release. It does not
// close the file.
func (in *Input) Read(ctx context.Context) (array.RecordReader, error) {
	if in.Sep != "" && in.Format != CSV {
		return nil, fmt.Errorf("%s: a separator is for csv, not for %s", in.Name, in.Format)
	}
	switch in.Format {
	case CSV, JSONL:
		return in.readText(ctx)
	case Parquet:
		return in.readParquet(ctx)
	case Arrow:
		return in.readArrow(ctx)
	}
	return nil, fmt.Errorf("%s: format %q cannot be read: there are %s", in.Name, in.Format, strings.Join(Names, ", "))
}

// batches returns a reader of the batches that each yields. It retains them, so each must release
// its own reference. It turns a library's panic on a damaged file into an error.
func (in *Input) batches(ctx context.Context, schema *arrow.Schema, end func(), each func(yield func(arrow.RecordBatch) bool) error) array.RecordReader {
	return arrowsafe.Reader(schema, func(yield func(arrow.RecordBatch, error) bool) {
		stopped, yielding := false, false
		err := func() (err error) {
			defer func() {
				if p := recover(); p != nil && !yielding {
					err = fmt.Errorf("%s: the file is damaged: %v", in.Name, p)
				} else if p != nil {
					panic(p)
				}
			}()
			return each(func(b arrow.RecordBatch) bool {
				b.Retain() // the reader releases it
				yielding = true
				stopped = stopped || ctx.Err() != nil || !yield(b, nil)
				yielding = false
				return !stopped
			})
		}()
		if err = errors.Join(err, canceled.Err(ctx)); err != nil && (!stopped || ctx.Err() != nil) {
			yield(nil, err)
		}
	}, end)
}

// counted wraps r to call Count.
func (in *Input) counted(r io.Reader) io.Reader {
	if in.Count == nil {
		return r
	}
	return counter{r, in.Count}
}

type counter struct {
	io.Reader
	count func(int)
}

func (c counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.count(n)
	return n, err
}

// seekable returns the file, or an unnamed copy if it is not a regular file.
func (in *Input) seekable() (*os.File, func(), error) {
	if info, err := in.File.Stat(); err == nil && info.Mode().IsRegular() {
		return in.File, func() {}, nil
	}
	temp, err := os.CreateTemp("", "partd-tables-")
	if err != nil {
		return nil, nil, err
	}
	end := func() { _ = temp.Close() } // it is only read from here on
	_, err = io.Copy(temp, in.counted(in.File))
	if err = errors.Join(err, os.Remove(temp.Name())); err != nil {
		end()
		return nil, nil, fmt.Errorf("%s: a copy, to read it twice: %w", in.Name, err)
	}
	return temp, end, nil
}

func (in *Input) readParquet(ctx context.Context) (array.RecordReader, error) {
	f, end, err := in.seekable()
	if err != nil {
		return nil, err
	}
	r, columns, err := in.parquetBatches(ctx, f)
	if err != nil {
		end()
		return nil, fmt.Errorf("%s: %w", in.Name, err)
	}
	return in.batches(ctx, columns, func() { r.Release(); end() }, func(yield func(arrow.RecordBatch) bool) error {
		for r.Next() {
			b, err := schema.Convert(r.RecordBatch(), columns)
			if err != nil {
				return fmt.Errorf("%s: %w", in.Name, err)
			}
			more := yield(b)
			b.Release()
			if !more {
				return nil
			}
		}
		if err := r.Err(); err != nil && err != io.EOF {
			return fmt.Errorf("%s: %w", in.Name, err)
		}
		return nil
	}), nil
}

func (in *Input) parquetBatches(ctx context.Context, f *os.File) (r pqarrow.RecordReader, columns *arrow.Schema, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the file is damaged: %v", p)
		}
	}()
	parquetFile, err := schema.OpenParquet(f, file.WithReadProps(parquet.NewReaderProperties(memory.DefaultAllocator)))
	if err != nil {
		return nil, nil, err
	}
	for g := range parquetFile.NumRowGroups() {
		for c := range parquetFile.MetaData().Schema.NumColumns() {
			chunk, err := parquetFile.MetaData().RowGroup(g).ColumnChunk(c)
			if err == nil {
				err = schema.CheckEncoding(chunk)
			}
			if err != nil {
				return nil, nil, err
			}
		}
	}
	// The library trusts the numbers in the schema that Arrow's writers store, so check them first.
	if noted := parquetFile.MetaData().KeyValueMetadata().FindValue(arrowNote); noted != nil {
		message, err := base64.StdEncoding.DecodeString(*noted)
		if err == nil {
			_, err = arrowsafe.SchemaMessage(message)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	open := func() (reader *pqarrow.FileReader, err error) {
		reader, err = pqarrow.NewFileReader(parquetFile, pqarrow.ArrowReadProperties{BatchSize: batchRows}, memory.DefaultAllocator)
		if err == nil && columns == nil {
			columns, err = reader.Schema()
		}
		return reader, err
	}
	reader, err := open()
	if err == nil && noteIntegers(parquetFile, columns) {
		reader, err = open()
	}
	if err != nil {
		return nil, nil, err
	}
	r, err = reader.GetRecordReader(ctx, nil, nil)
	return r, withoutParquetIDs(columns), err
}

// noteIntegers turns durations into integers in the Arrow schema of a file's metadata in memory. It
// reports whether there are any. Otherwise the library could not read them (arrow-go 18.8; see
// TestArrowReadsDurations).
func noteIntegers(f *file.Reader, columns *arrow.Schema) (some bool) {
	fields := slices.Clone(columns.Fields())
	for i, field := range fields {
		if schema.ContainsType(field.Type, func(t arrow.DataType) bool { return t.ID() == arrow.DURATION }) {
			if kept, err := schema.StoredType(field.Type); err == nil {
				fields[i].Type, some = kept, true
			}
		}
	}
	for _, note := range f.MetaData().FileMetaData.KeyValueMetadata {
		if note.Key == arrowNote && some {
			note.Value = new(base64.StdEncoding.EncodeToString(worker.Schema(arrow.NewSchema(fields, nil))))
		}
	}
	return some
}

// withoutParquetIDs removes the metadata that Parquet's reader adds to columns, such as the
// file's ids. It keeps metadata of the writer, such as the index of pandas.
func withoutParquetIDs(schema *arrow.Schema) *arrow.Schema {
	fields := slices.Clone(schema.Fields())
	for i, f := range fields {
		notes := f.Metadata.ToMap()
		maps.DeleteFunc(notes, func(key, _ string) bool { return strings.HasPrefix(key, "PARQUET:") })
		fields[i].Metadata = arrow.MetadataFrom(notes)
	}
	metadata := schema.Metadata()
	return arrow.NewSchema(fields, &metadata)
}

// readArrow reads a stream, or a file, which is a stream between a magic word and a table
// of contents.
func (in *Input) readArrow(ctx context.Context) (array.RecordReader, error) {
	const magic = "ARROW1\x00\x00"
	buffered := &endNoted{Reader: bufio.NewReaderSize(in.counted(in.File), 1<<20)}
	head, err := buffered.Peek(len(magic))
	isFile := err == nil && string(head) == magic
	if isFile {
		_, err = buffered.Discard(len(magic))
	} else if err == io.EOF { // the reader reports it
		err = nil
	}
	if strings.HasPrefix(string(head), "FEA1") {
		return nil, fmt.Errorf("%s: it is Feather of version 1, which is not supported: convert it, with pyarrow.feather.read_table and write_feather", in.Name)
	}
	var r *ipc.Reader
	if err == nil {
		size := int64(maxArrow)
		if info, err := in.File.Stat(); err == nil && info.Mode().IsRegular() {
			size = info.Size()
		}
		r, err = arrowsafe.NewReader(buffered, size, maxArrow)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: no Arrow file or stream: %w", in.Name, err)
	}
	return in.batches(ctx, r.Schema(), r.Release, func(yield func(arrow.RecordBatch) bool) error {
		for r.Next() {
			if _, err := arrowsafe.Check(r.RecordBatch(), maxArrow); err != nil {
				return fmt.Errorf("%s: %w", in.Name, err)
			}
			if !yield(r.RecordBatch()) {
				return nil
			}
		}
		if err := r.Err(); err != nil {
			return fmt.Errorf("%s: %w", in.Name, err)
		}
		if isFile && buffered.ended {
			return fmt.Errorf("%s: it is cut: %w", in.Name, io.ErrUnexpectedEOF)
		}
		return nil
	}), nil
}

// endNoted records whether the input was read to its end. In a complete file, more bytes follow the
// stream.
type endNoted struct {
	*bufio.Reader
	ended bool
}

func (e *endNoted) Read(p []byte) (int, error) {
	n, err := e.Reader.Read(p)
	e.ended = e.ended || err == io.EOF
	return n, err
}

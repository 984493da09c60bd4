// Package formats reads and writes tables as files: CSV, JSON lines, Parquet and
// Arrow, and lines for a terminal. Everything is streamed in batches. The types
// that CSV and JSON lines are given are described in docs/import.md.
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
	pqschema "github.com/apache/arrow-go/v18/parquet/schema"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/tables/internal/arrowsafe"
	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/worker"
)

// Format is the name of a format.
type Format string

// The formats. Table can only be written.
const (
	CSV     Format = "csv"
	JSONL   Format = "jsonl"
	Parquet Format = "parquet"
	Arrow   Format = "arrow"
	Table   Format = "table"
)

// Names are the formats that can be read.
var Names = []string{"csv", "jsonl", "parquet", "arrow"}

var extensions = map[string]Format{
	".csv": CSV, ".jsonl": JSONL, ".ndjson": JSONL, ".parquet": Parquet, ".pq": Parquet,
	".arrow": Arrow, ".feather": Arrow, ".arrows": Arrow, ".ipc": Arrow,
}

// ByName returns the format that a file's name stands for.
func ByName(name string) (Format, error) {
	if f, ok := extensions[strings.ToLower(filepath.Ext(name))]; ok {
		return f, nil
	}
	return "", fmt.Errorf("%s: its name does not say what format it has: give --format, one of %s", name, strings.Join(Names, ", "))
}

const (
	batchRows  = 16 << 10
	batchBytes = 8 << 20  // of text, at which a batch ends early
	batchCells = 1 << 20  // at which one of many columns does
	maxRecord  = 64 << 20 // bytes of one record of text
	maxColumns = 1 << 16
	maxArrow   = 1 << 30 // bytes of memory for a batch of Arrow
)

// arrowNote is where Arrow's writers note a schema in Parquet.
const arrowNote = "ARROW:schema"

// Input is a file to read.
type Input struct {
	Name   string // in errors
	File   *os.File
	Format Format
	Sep    string // of CSV: the one byte between fields; "" is a comma

	// Known are columns whose types are known already, as those of the table
	// that rows are appended to. Nil means none. Only text formats need it.
	Known *arrow.Schema
	// Count is called with the bytes read of the file. It may be nil.
	Count func(n int)
}

// Read returns a reader of the batches of a file. The caller releases it; the
// file stays the caller's.
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

// batches makes a reader of a function that yields batches, which stay its own. A
// panic in a library that was given a damaged file is an error.
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
				b.Retain() // for the reader, which releases it
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

// counted counts what is read.
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

// seekable returns the file, or a copy without a name of what is no regular file.
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

func (in *Input) parquetBatches(ctx context.Context, f *os.File) (r pqarrow.RecordReader, schema *arrow.Schema, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the file is damaged: %v", p)
		}
	}()
	parquetFile, err := file.NewParquetReader(f, file.WithReadProps(parquet.NewReaderProperties(memory.DefaultAllocator)))
	if err != nil {
		return nil, nil, err
	}
	// The library believes the numbers in the schema that Arrow's writers note.
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
		if err == nil && schema == nil {
			if schema, err = reader.Schema(); err == nil {
				schema = withTexts(schema, reader.Manifest.Fields, parquetFile)
			}
		}
		return reader, err
	}
	reader, err := open()
	if err == nil && noteIntegers(parquetFile, schema) {
		reader, err = open()
	}
	if err != nil {
		return nil, nil, err
	}
	r, err = reader.GetRecordReader(ctx, nil, nil)
	return r, withoutParquetIDs(schema), err
}

// withTexts makes texts of columns that are said to be JSON, or names of an enum, which
// the library takes for bytes.
func withTexts(s *arrow.Schema, columns []pqarrow.SchemaField, f *file.Reader) *arrow.Schema {
	fields, notes := slices.Clone(s.Fields()), s.Metadata()
	for i := range fields {
		if columns[i].IsLeaf() && fields[i].Type.ID() == arrow.BINARY {
			switch f.MetaData().Schema.Column(columns[i].ColIndex).LogicalType().(type) {
			case pqschema.JSONLogicalType, pqschema.EnumLogicalType:
				fields[i].Type = arrow.BinaryTypes.String
			}
		}
	}
	return arrow.NewSchema(fields, &notes)
}

// noteIntegers notes in a file, as it is in memory, that its durations are integers,
// and reports whether there are any. The library cannot read them otherwise (arrow-go
// 18.8; see TestArrowReadsDurations).
func noteIntegers(f *file.Reader, columns *arrow.Schema) (some bool) {
	fields := slices.Clone(columns.Fields())
	for i, field := range fields {
		if schema.Has(field.Type, func(t arrow.DataType) bool { return t.ID() == arrow.DURATION }) {
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

// withoutParquetIDs leaves out what Parquet's reader notes beside the columns: the
// ids of that file. What the file's writer noted, as pandas its index, is kept.
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

// readArrow reads a stream, or a file: that is a stream, too, with a word before
// it and a table of contents behind.
func (in *Input) readArrow(ctx context.Context) (array.RecordReader, error) {
	const magic = "ARROW1\x00\x00"
	buffered := &endNoted{Reader: bufio.NewReaderSize(in.counted(in.File), 1<<20)}
	head, err := buffered.Peek(len(magic))
	isFile := err == nil && string(head) == magic
	if isFile {
		_, err = buffered.Discard(len(magic))
	} else if err == io.EOF { // which is the reader's to judge
		err = nil
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

// endNoted notes that everything was read. A stream may end there, a file goes on.
type endNoted struct {
	*bufio.Reader
	ended bool
}

func (e *endNoted) Read(p []byte) (int, error) {
	n, err := e.Reader.Read(p)
	e.ended = e.ended || err == io.EOF
	return n, err
}

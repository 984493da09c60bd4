package formats

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/go-partd/partd/internal/jobs/records"
	"github.com/go-partd/partd/internal/jobs/zfile"
	"github.com/go-partd/partd/tables/internal/files/parquetfile"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

// Format describes a file format. Programs depend on its fields, never on its name, so a new format needs only a new
// value in [Standard].
type Format struct {
	Name            string   // name in flags and requests, and extension of files that are named after their keys
	Extensions      []string // file extensions, in lower case; nil if the format is not written to files
	InputExtensions []string // additional extensions of files to read
	ContentType     string   // media type in HTTP
	Options         []string // which of the options "separator" and "null" apply

	// Records says how text is divided into records, whose types are inferred. 0 means that files specify their types.
	Records records.Format
	// Read returns a reader of a file's rows, which the caller must release. nil means that the format cannot be read.
	Read func(context.Context, *Input) (array.RecordReader, error)
	// Write returns a writer. nil means that the format cannot be written.
	Write func(io.Writer, *arrow.Schema, WriteOptions) (Writer, error)
	// Layout returns a faster alternative to Write for several files with rows like those in sample. isSmall says that
	// the files have few rows. nil means that there is no alternative.
	Layout func(sample arrow.RecordBatch, isSmall bool) (func(io.Writer) (Writer, error), error)

	IsArrow   bool // columns can be dictionaries, and a later run can continue a stream
	IsLines   bool // each row is a line, without a header, so a later run can add lines
	IsDelayed bool // the writer holds many batches in memory before it writes them

	// MustIsolate says that reading even a small file can take much memory, so an untrusted file must be read in a
	// separate process.
	MustIsolate bool
	// ValuesPerByte is the maximum number of values in an untrusted file for each of its bytes. Without this limit, a
	// few bytes could claim any number of values, all of them null or equal.
	ValuesPerByte int64
}

// WriteOptions configures a writer.
type WriteOptions struct {
	Stream bool   // Arrow: write a stream even if a file is possible
	Null   string // text for nulls in formats with the option "null"
}

// CSV returns the format CSV.
func CSV() *Format {
	return &Format{
		Name: "csv", Extensions: []string{".csv"}, ContentType: "text/csv; charset=utf-8", Options: []string{"separator", "null"},
		Records: records.CSV, Read: readText, Write: newCSVWriter, ValuesPerByte: 256,
	}
}

// TSV returns the format of tab-separated fields, which treats quotes as data. It can only be read.
func TSV() *Format {
	return &Format{Name: "tsv", InputExtensions: []string{".tsv", ".tab"}, Records: records.TSV, Read: readText, ValuesPerByte: 256}
}

// JSONL returns the format JSON lines. A JSON array of objects can be read as well.
func JSONL() *Format {
	return &Format{
		Name: "jsonl", Extensions: []string{".jsonl", ".ndjson"}, InputExtensions: []string{".json"}, ContentType: "application/jsonl",
		Records: records.JSONL, Read: readText, Write: newJSONWriter, IsLines: true, ValuesPerByte: 256,
	}
}

// Parquet returns the format Parquet.
func Parquet() *Format {
	return &Format{
		Name: "parquet", Extensions: []string{".parquet", ".pq"}, ContentType: "application/vnd.apache.parquet", Read: readParquet,
		Write: func(w io.Writer, columns *arrow.Schema, _ WriteOptions) (Writer, error) {
			return parquetfile.NewFast(w, columns)
		},
		Layout: func(sample arrow.RecordBatch, isSmall bool) (func(io.Writer) (Writer, error), error) {
			layout, err := parquetfile.NewFastLayout(sample, isSmall)
			return func(w io.Writer) (Writer, error) { return layout.NewWriter(w) }, err
		},
		IsDelayed: true, MustIsolate: true, ValuesPerByte: 16 << 10, // many, because pages are compressed
	}
}

// Arrow returns the format of Arrow files and streams.
func Arrow() *Format {
	return &Format{
		Name: "arrow", Extensions: []string{".arrow", ".feather", ".arrows", ".ipc"}, ContentType: "application/vnd.apache.arrow.stream",
		Read: readArrow, Write: newArrowWriter, IsArrow: true, ValuesPerByte: 16 << 10, // many, because buffers can be compressed
	}
}

// Table returns the format of aligned columns for a terminal, which can only be written.
func Table() *Format { return &Format{Name: "table", Write: newTableWriter} }

// newArrowWriter writes a stream if o.Stream is true or if columns have dictionaries, and otherwise a file: the library
// can write only one dictionary per column to a file.
func newArrowWriter(w io.Writer, columns *arrow.Schema, o WriteOptions) (Writer, error) {
	if o.Stream || slices.ContainsFunc(columns.Fields(), func(f arrow.Field) bool { return schema.ContainsType(f.Type, isDictionary) }) {
		return ipc.NewWriter(w, ipc.WithSchema(columns)), nil
	}
	return ipc.NewFileWriter(keepOpen{w}, ipc.WithSchema(columns))
}

// String returns the format's name.
func (f *Format) String() string { return f.Name }

// HasHeader reports whether the first record of a file contains the column names.
func (f *Format) HasHeader() bool { return records.Layout{Format: f.Records}.HasHeader() }

// CheckOption returns an error if an option has a value but does not apply to the format.
func (f *Format) CheckOption(option, value string) error {
	if value == "" || slices.Contains(f.Options, option) {
		return nil
	}
	return fmt.Errorf("%s does not apply to the format %s", option, f.Name)
}

// Set contains the formats that a program knows, in the order in which help texts list them. A nil Set stands for the
// formats of [Standard].
type Set []*Format

// Standard returns the formats of this package.
func Standard() Set { return Set{CSV(), TSV(), JSONL(), Parquet(), Arrow(), Table()} }

// Readable returns the formats that can be read.
func (s Set) Readable() Set { return s.filter(func(f *Format) bool { return f.Read != nil }) }

// Writable returns the formats that can be written.
func (s Set) Writable() Set { return s.filter(func(f *Format) bool { return f.Write != nil }) }

// Files returns the formats that can be written to files and sent over HTTP.
func (s Set) Files() Set {
	return s.Writable().filter(func(f *Format) bool { return len(f.Extensions) > 0 })
}

// Growing returns the formats whose files a later run can continue.
func (s Set) Growing() Set {
	return s.Files().filter(func(f *Format) bool { return f.IsLines || f.IsArrow })
}

func (s Set) filter(keep func(*Format) bool) Set {
	if s == nil {
		s = Standard()
	}
	return slices.DeleteFunc(slices.Clone(s), func(f *Format) bool { return !keep(f) })
}

// Find returns the format with the given name. The error begins with the name.
func (s Set) Find(name string) (*Format, error) {
	for _, f := range s {
		if f.Name == name {
			return f, nil
		}
	}
	return nil, fmt.Errorf("%.40q: use %s", name, s.Choice())
}

// ForInput returns the format of a file to read. It ignores the extension of a compressed file.
func (s Set) ForInput(file string) (*Format, error) {
	return s.Readable().byExtension(file, zfile.TrimName(file), func(f *Format) []string { return slices.Concat(f.Extensions, f.InputExtensions) })
}

// ForOutput returns the format of a file to write.
func (s Set) ForOutput(file string) (*Format, error) {
	return s.Files().byExtension(file, file, func(f *Format) []string { return f.Extensions })
}

func (s Set) byExtension(file, name string, extensions func(*Format) []string) (*Format, error) {
	extension := strings.ToLower(filepath.Ext(name))
	for _, f := range s {
		if slices.Contains(extensions(f), extension) {
			return f, nil
		}
	}
	return nil, fmt.Errorf("%s: the file name does not indicate the format", file)
}

// Names returns the names of the formats.
func (s Set) Names() (names []string) {
	for _, f := range s {
		names = append(names, f.Name)
	}
	return names
}

// Choice lists the names of the formats in a sentence, such as "csv, jsonl or arrow".
func (s Set) Choice() string {
	names := strings.Join(s.Names(), ", ")
	if i := strings.LastIndex(names, ", "); i >= 0 {
		names = names[:i] + " or " + names[i+len(", "):]
	}
	return names
}

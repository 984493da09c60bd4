package bulk

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/util"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/jobs/output"
	"github.com/go-partd/partd/tables/internal/faces/formats"
	"github.com/go-partd/partd/tables/internal/parted"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/parallel"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/rows/sorted"
	"github.com/go-partd/partd/tables/internal/rows/take"
)

// SplitOptions configures [Split]. By and Dir are required.
type SplitOptions struct {
	By  []string // columns; rows with equal values in them go to the same file
	Dir string   // directory for the files; it and its parents are created
	// Hive writes DIR/COLUMN=VALUE/data.parquet without the columns By, instead of DIR/VALUE.parquet.
	Hive bool
	// Append, Replace or Force allow a directory that is not empty; at most one can be set. Split never changes files
	// that it could not have written for a key in this format. Append adds to the files of earlier runs: it copies their
	// rows to new files or, with Hive, adds files named data-2 and so on. Replace removes files of earlier runs that this
	// run does not write. With Force, such files are an error.
	//
	// If an earlier run was killed while it moved its files, Split first moves the remaining ones. It then continues only
	// with Replace or Force. Otherwise, it returns an error, because it might add the same rows twice.
	Append, Replace, Force bool

	Format string // name of the file format; "" means parquet; arrow files are streams if columns have dictionaries
	Memory int64  // approximate limit of memory in bytes; 0 means [DefaultMemory]
	Temp   string // directory for temporary data; "" means the system's

	formats formats.Set
}

// UseFormats replaces the standard file formats: csv, jsonl, parquet and arrow. Only this module can call it, because
// its parameter has an internal type.
func (o *SplitOptions) UseFormats(set formats.Set) { o.formats = set }

// SplitResult says what Split wrote.
type SplitResult struct {
	Rows  int64 `json:"rows"`
	Files int   `json:"files"`
	// Finished reports whether Split first moved the remaining files of an earlier run that was killed.
	Finished bool `json:"finished,omitempty"`
}

// ErrOtherKeys is wrapped by the error that Split returns if, with Force, the directory contains files of other keys.
var ErrOtherKeys = output.ErrOtherKeys

// ErrNotEmpty is wrapped by the error that Split returns if the directory already contains files.
var ErrNotEmpty = output.ErrNotEmpty

// Split writes the rows of r to a file for each key, in the order of r. The files appear in the directory only when all
// are complete; after an error, the directory is unchanged. Two values are equal if their CSV texts are equal. NaN
// equals NaN, and null is also a key.
//
// A file's name is the value of its key. Each byte that is not a letter, digit or one of "-_.() " is written as %XX,
// and so is "." or "_" at the beginning, because readers of directories omit such files. If By has several columns, the
// name is a CSV line. Null goes to the file named %null, and an empty text to the file named %. The file of a value
// that is too long for a name is named %h and the value's SHA-256.
func Split(ctx context.Context, r array.RecordReader, o *SplitOptions) (result SplitResult, err error) {
	defer func() {
		if err != nil {
			result, err = SplitResult{}, fmt.Errorf("bulk: split: %w", err)
		}
	}()
	s := &splitter{SplitOptions: *o, columns: r.Schema()}
	s.format, err = o.formats.Files().Find(cmp.Or(o.Format, "parquet"))
	if err != nil {
		return result, fmt.Errorf("format %w", err)
	}
	if o.Append && !o.Hive && s.format.Read == nil {
		return result, fmt.Errorf("cannot append to files of format %s, because they cannot be read", s.format.Name)
	}
	if o.Append && o.Replace || o.Force && (o.Append || o.Replace) {
		return result, errors.New("only one of append, replace and force can be set")
	}
	s.Memory, err = memoryLimit(o.Memory)
	if err != nil {
		return result, err
	}
	s.by, err = positions(r.Schema(), o.By)
	if err != nil {
		return result, err
	}
	if o.Hive {
		s.columns = without(r.Schema(), s.by)
		if s.columns.NumFields() == 0 {
			return result, errors.New("no columns are left for the files, because Hive's layout omits the key columns")
		}
		if err := checkHive(r.Schema(), s.by); err != nil {
			return result, err
		}
	}
	if w, err := s.format.Write(io.Discard, s.columns, formats.WriteOptions{}); err != nil {
		return result, err
	} else if err := w.Close(); err != nil {
		return result, err
	}
	err = output.CheckDir(o.Dir)
	result.Finished = errors.Is(err, output.ErrFinished)
	switch {
	case result.Finished && !o.Force && !o.Replace:
		return result, fmt.Errorf("%w: run again only to add these rows once more", err)
	case err != nil && !result.Finished && !((o.Force || o.Append || o.Replace) && errors.Is(err, ErrNotEmpty)):
		return result, err
	}
	s.dir, err = output.CreateDir(o.Dir)
	if err != nil {
		return result, err
	}
	s.dir.Visible, s.dir.IsKeyFile, s.dir.Durable = true, s.isKeyFile, o.Append || o.Replace
	switch {
	case o.Replace:
		s.dir.Others = output.RemoveOthers
	case !o.Append:
		s.dir.Others = output.RefuseOthers
	}
	// Without dictionaries, because each piece of a batch would contain a whole dictionary.
	s.plain = schema.Without(r.Schema(), arrow.DICTIONARY)
	rows := batches.Blocks(batches.Each(r, func(b arrow.RecordBatch) (arrow.RecordBatch, error) { return schema.Convert(b, s.plain) }), batches.SmallBatch)
	s.isWide = int64(s.plain.NumFields())*batches.ArrayBytes > s.Memory/32
	if s.isWide && !slices.ContainsFunc(s.by, func(column int) bool { return !sorted.HasOrder(s.plain.Field(column).Type) }) {
		// With many columns, batches of few rows take far more memory and time than their values, so group rows by key.
		rows = sorted.Sort(ctx, sorted.All, sorted.Input{Batches: rows, Keys: s.by, Memory: s.Memory / 4, Size: util.TotalRecordSize})
	}
	rowsRead, err := s.split(ctx, rows, 0)
	if written := s.rowsWritten.Load(); err == nil && written != rowsRead {
		err = fmt.Errorf("%d rows were read, but %d rows were written", rowsRead, written)
	}
	if err != nil {
		return result, errors.Join(err, s.dir.Abort())
	}
	result.Rows, result.Files = rowsRead, s.dir.Files()
	return result, s.dir.Commit()
}

// splitter is a call of Split.
type splitter struct {
	SplitOptions
	by          []int         // indices of the key columns
	plain       *arrow.Schema // schema of the rows in memory, without dictionaries
	columns     *arrow.Schema // schema of the files
	format      *formats.Format
	layout      func(io.Writer) (formats.Writer, error) // returns a writer of a file; nil if the format has no layouts
	smallLayout func(io.Writer) (formats.Writer, error) // returns a writer of a file with few rows
	isWide      bool                                    // whether even a batch of one row takes a large part of the memory
	dir         *output.Dir
	rowsWritten atomic.Int64
}

func without(s *arrow.Schema, columns []int) *arrow.Schema {
	metadata := s.Metadata()
	return arrow.NewSchema(withoutIndices(s.Fields(), columns), &metadata)
}

// withoutIndices returns the elements of s whose indices are not listed.
func withoutIndices[T any](s []T, indices []int) (rest []T) {
	for i, v := range s {
		if !slices.Contains(indices, i) {
			rest = append(rest, v)
		}
	}
	return rest
}

// split writes rows to files and returns the number of rows. Level 0 gets all rows; level n gets the rows of one bucket
// of level n-1.
func (s *splitter) split(ctx context.Context, rows batches.Seq, level int) (n int64, err error) {
	p := s.newPartition(level)
	defer func() { err = errors.Join(err, p.buckets.Close()) }()
	for block, err := range batches.Ahead(batches.Blocks(rows, p.blockBytes.Load), 1) {
		if err == nil {
			err = s.chooseLayout(block)
			if err == nil {
				n += block.NumRows()
				err = p.add(ctx, block)
			}
			block.Release()
			p.blockBytes.Store(p.chooseBlockBytes())
		}
		if err != nil {
			return 0, p.finish(ctx, err)
		}
	}
	if err := p.finish(ctx, nil); err != nil {
		return 0, err
	}
	var small, large []int // indices of buckets
	for bucket, size := range p.bucketBytes {
		if size > min(s.Memory/8, maxBlock) {
			large = append(large, bucket)
		} else if size > 0 {
			small = append(small, bucket)
		}
	}
	err = parallel.Each(ctx, slices.Values(small), numWorkers, func(ctx context.Context, bucket int) error {
		return s.writeBucket(ctx, p.buckets.Read(ctx, 0, bucket, s.plain))
	})
	for _, bucket := range large {
		if err == nil {
			_, err = s.split(ctx, p.buckets.Read(ctx, 0, bucket, s.plain), level+1)
		}
	}
	return n, err
}

// writeBucket writes a file for each key of rows, which fit in memory.
func (s *splitter) writeBucket(ctx context.Context, rows batches.Seq) error {
	block, err := batches.Join(rows, nil)
	if err != nil {
		return err
	}
	defer block.Release()
	keyNumbers := map[string]int{}
	numbers, err := numberRows(block, s.by, func(key []byte) int {
		n, ok := keyNumbers[string(key)]
		if !ok {
			n = len(keyNumbers)
			keyNumbers[string(key)] = n
		}
		return n
	})
	if err != nil {
		return err
	}
	for _, g := range parted.GroupRows(numbers, len(keyNumbers)) {
		rows, err := take.Batch(block, g.Rows)
		if err != nil {
			return err
		}
		f := &file{}
		f.add(rows)
		if err := errors.Join(s.write(ctx, f, true), f.discard()); err != nil {
			return err
		}
	}
	return nil
}

// chooseLayout chooses the layouts of all files when it gets the first rows, if the format has layouts.
func (s *splitter) chooseLayout(rows arrow.RecordBatch) error {
	if s.layout != nil || s.format.Layout == nil {
		return nil
	}
	for sample, err := range s.encode(rows) { // the first batch is enough
		if err == nil {
			s.layout, err = s.format.Layout(sample, false)
			if err == nil {
				s.smallLayout, err = s.format.Layout(sample, true)
			}
			sample.Release()
		}
		return err
	}
	return nil
}

// file is an output file and the rows that wait to be written to it.
type file struct {
	collected []arrow.RecordBatch // rows that are not written yet
	bytes     int64               // size of collected

	file      *os.File // nil before the first write, and after the last one
	io.Writer          // buffer in front of file, set during a write
	writer    formats.Writer
}

// add collects rows for the next write and returns the memory that they take, in bytes. It takes ownership of rows.
func (f *file) add(rows arrow.RecordBatch) (size int64) {
	size = util.TotalRecordSize(rows) + batches.ArrayBytes*rows.NumCols()
	f.collected, f.bytes = append(f.collected, rows), f.bytes+size
	return size
}

// discard releases the rows and closes the file if it is open.
func (f *file) discard() error {
	take.Release(f.collected)
	f.collected = nil
	if f.file == nil {
		return nil
	}
	return f.file.Close()
}

var buffers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, 1<<16) }}

// write writes the collected rows of a file. The first write creates the file, and the last one closes it.
func (s *splitter) write(ctx context.Context, f *file, isLast bool) error {
	if err := canceled.Err(ctx); err != nil {
		return err
	}
	buffer := buffers.Get().(*bufio.Writer)
	defer buffers.Put(buffer)
	f.Writer = buffer
	if len(f.collected) > 0 {
		rows, err := take.Concat(f.collected)
		if err != nil {
			return err
		}
		defer rows.Release()
		take.Release(f.collected)
		f.collected, f.bytes = nil, 0
		if f.file == nil {
			err = s.create(ctx, f, rows, isLast)
		} else {
			buffer.Reset(f.file)
		}
		if err == nil {
			err = s.writeRows(f.writer, rows)
		}
		if err != nil {
			return err
		}
	} else {
		buffer.Reset(f.file)
	}
	if !isLast {
		return buffer.Flush()
	}
	err := errors.Join(f.writer.Close(), buffer.Flush(), f.file.Close())
	f.file = nil
	return err
}

// encode yields rows with the columns of the files.
func (s *splitter) encode(rows arrow.RecordBatch) batches.Seq {
	columns := rows.Columns()
	if s.Hive {
		columns = withoutIndices(columns, s.by)
	}
	return encode(columns, rows.NumRows(), s.columns)
}

func (s *splitter) writeRows(w formats.Writer, rows arrow.RecordBatch) error {
	return batches.ForEach(s.encode(rows), func(b arrow.RecordBatch) error {
		s.rowsWritten.Add(b.NumRows())
		return w.Write(b)
	})
}

// create creates the file for the key of rows and sets f.writer. To append to a file of an earlier run, create first
// copies its rows. isComplete means that this run has no other rows for the file.
func (s *splitter) create(ctx context.Context, f *file, rows arrow.RecordBatch, isComplete bool) error {
	const smallRows = 1000
	texts, err := keyTexts(rows, s.by, 0)
	if err != nil {
		return err
	}
	var oldPath string
	f.file, oldPath, err = s.createFile(texts)
	if err != nil {
		return err
	}
	isComplete = isComplete && oldPath == ""
	f.Writer.(*bufio.Writer).Reset(f.file)
	switch {
	case oldPath != "" && s.format.Records != 0:
		return s.continueText(ctx, f, oldPath)
	case s.layout == nil:
		f.writer, err = s.format.Write(f, s.columns, formats.WriteOptions{})
	case isComplete && rows.NumRows() < smallRows:
		f.writer, err = s.smallLayout(f)
	default:
		f.writer, err = s.layout(f)
	}
	if err != nil || oldPath == "" {
		return err
	}
	return s.copyRows(ctx, f.writer, oldPath)
}

package bulk

import (
	"bufio"
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

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/jobs/output"
	"github.com/go-partd/partd/tables/internal/faces/formats"
	"github.com/go-partd/partd/tables/internal/files/parquetfile"
	"github.com/go-partd/partd/tables/internal/rows/arrowsafe"
	"github.com/go-partd/partd/tables/internal/rows/parallel"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/rows/sorted"
)

// SplitOptions configures [Split]. By and Dir are required.
type SplitOptions struct {
	By  []string // columns; rows with equal values in them go to the same file
	Dir string   // directory for the files; it and its parents are created
	// Hive writes DIR/COLUMN=VALUE/data.parquet without the columns By, instead of DIR/VALUE.parquet.
	Hive bool
	// Force also writes to a directory that is not empty, and replaces files of the same names.
	Force  bool
	Format string // parquet, arrow, csv or jsonl; "" means parquet
	Memory int64  // approximate limit of memory in bytes; 0 means [DefaultMemory]
	Temp   string // directory for temporary data; "" means that of the system
}

// SplitResult says what Split wrote.
type SplitResult struct {
	Rows  int64 `json:"rows"`
	Files int   `json:"files"`
}

// ErrNotEmpty is wrapped by the error of Split for a directory that already contains files.
var ErrNotEmpty = output.ErrNotEmpty

// Split writes the rows of r to a file for each key, in the order of r. The files appear in the directory only when all
// are complete; after an error, the directory is unchanged. Two values are equal if their texts in CSV are: NaN equals
// NaN, and null is a key, too.
//
// A file's name is the value. Each byte that is not a letter, digit or one of "-_.() " is written as %XX. For several
// columns it is a line of CSV. Null goes to the file named %null, an empty text to the file named %, and a value too
// long for a name is named %h and its SHA-256.
func Split(ctx context.Context, r array.RecordReader, o *SplitOptions) (result SplitResult, err error) {
	defer func() {
		if err != nil {
			result, err = SplitResult{}, fmt.Errorf("bulk: split: %w", err)
		}
	}()
	s := &splitter{SplitOptions: *o, columns: r.Schema(), format: formats.Parquet}
	if o.Format != "" {
		s.format = formats.Format(o.Format)
	}
	if s.Memory, err = memoryLimit(o.Memory); err != nil {
		return result, err
	}
	if s.by, err = positions(r.Schema(), o.By); err != nil {
		return result, err
	}
	if o.Hive {
		s.columns = without(r.Schema(), s.by)
		if s.columns.NumFields() == 0 {
			return result, errors.New("no columns are left for the files, because Hive's layout omits those of the key")
		}
	}
	if w, err := formats.NewWriter(s.format, io.Discard, s.columns, false); err != nil {
		return result, err
	} else if err := w.Close(); err != nil {
		return result, err
	}
	if err := output.CheckDir(o.Dir); err != nil && !(o.Force && errors.Is(err, ErrNotEmpty)) {
		return result, err
	}
	if s.dir, err = output.CreateDir(o.Dir); err != nil {
		return result, err
	}
	plain := plainSchema(r.Schema())
	read, err := s.split(ctx, arrowsafe.Each(r, func(b arrow.RecordBatch) (arrow.RecordBatch, error) { return schema.Convert(b, plain) }))
	if written := s.rows.Load(); err == nil && written != read {
		err = fmt.Errorf("%d rows were read, but %d rows were written", read, written)
	}
	if err != nil {
		return result, errors.Join(err, s.dir.Abort())
	}
	return SplitResult{Rows: read, Files: s.dir.Files()}, s.dir.Commit()
}

type splitter struct {
	SplitOptions
	by      []int
	columns *arrow.Schema // of the files
	format  formats.Format
	dir     *output.Dir
	rows    atomic.Int64 // rows written
}

func without(s *arrow.Schema, columns []int) *arrow.Schema {
	var fields []arrow.Field
	for i, f := range s.Fields() {
		if !slices.Contains(columns, i) {
			fields = append(fields, f)
		}
	}
	metadata := s.Metadata()
	return arrow.NewSchema(fields, &metadata)
}

// workers write files at the same time.
const workers = 2

// split writes the files of rows, and returns the number of rows read.
func (s *splitter) split(ctx context.Context, rows sorted.Batches) (n int64, err error) {
	p, n, err := partition(ctx, rows, s.by, s.Memory, s.Temp)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, p.store.Close()) }()
	var small, large []int // buckets
	for bucket, size := range p.sizes {
		if bucket >= len(p.keys) && size > s.Memory/8 {
			large = append(large, bucket)
		} else if size > 0 {
			small = append(small, bucket)
		}
	}
	err = parallel.Each(ctx, slices.Values(small), workers, func(ctx context.Context, bucket int) error {
		if bucket < len(p.keys) {
			return s.writeFile(ctx, p.keys[bucket], p.read(ctx, bucket), 0)
		}
		return s.writeGroups(ctx, p.read(ctx, bucket))
	})
	for _, bucket := range large {
		if err == nil {
			_, err = s.split(ctx, p.read(ctx, bucket))
		}
	}
	return n, err
}

// writeGroups writes a file for each key of rows, which fit in memory.
func (s *splitter) writeGroups(ctx context.Context, rows sorted.Batches) error {
	block, err := sorted.Join(rows, nil)
	if err != nil {
		return err
	}
	defer block.Release()
	ids := make([]int, block.NumRows())
	idOf := map[string]int{}
	var keys []string
	var key, text []byte
	for row := range ids {
		if key, text, err = appendKey(key[:0], block, s.by, row, text); err != nil {
			return err
		}
		id, ok := idOf[string(key)]
		if !ok {
			id = len(keys)
			keys = append(keys, string(key))
			idOf[keys[id]] = id
		}
		ids[row] = id
	}
	for g, err := range groups(block, ids, len(keys)) {
		if err == nil {
			err = s.writeFile(ctx, keys[g.id], sorted.Single(g.rows), g.rows.NumRows())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// writeFile writes the file of a key. rowsHint is the number of rows, or 0 if it is unknown.
func (s *splitter) writeFile(ctx context.Context, key string, rows sorted.Batches, rowsHint int64) (err error) {
	f, err := s.create(parseKey(key))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	buffer := buffers.Get().(*bufio.Writer)
	defer buffers.Put(buffer)
	buffer.Reset(f)
	w, err := s.newWriter(buffer, rowsHint)
	if err != nil {
		return err
	}
	for b, err := range rows {
		if err == nil {
			err = canceled.Err(ctx)
		}
		if err != nil {
			return err
		}
		s.rows.Add(b.NumRows())
		of, err := encode(b, s.columns)
		b.Release()
		if err != nil {
			return err
		}
		err = w.Write(of)
		of.Release()
		if err != nil {
			return err
		}
	}
	return errors.Join(w.Close(), buffer.Flush())
}

var buffers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, 1<<16) }}

func (s *splitter) newWriter(w io.Writer, rowsHint int64) (formats.Writer, error) {
	const small = 1000 // rows
	if s.format == formats.Parquet && 0 < rowsHint && rowsHint < small {
		return parquetfile.NewSmallWriter(w, s.columns)
	}
	return formats.NewWriter(s.format, w, s.columns, false)
}

func (s *splitter) create(texts []*string) (*os.File, error) {
	ext := "." + string(s.format)
	if s.Hive {
		path, err := hivePath(s.By, texts)
		if err != nil {
			return nil, err
		}
		return s.dir.CreateAt(path + "/data" + ext)
	}
	if len(texts) == 1 && texts[0] == nil {
		return s.dir.CreateAt(nullName + ext)
	}
	f, _, err := s.dir.CreateFile(plainName(texts), ext)
	return f, err
}

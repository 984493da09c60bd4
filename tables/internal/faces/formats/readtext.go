package formats

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/jobs/records"
	"github.com/go-partd/partd/internal/jobs/zfile"
	"github.com/go-partd/partd/tables/internal/rows/arrowsafe"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

type rows interface {
	// inferColumns restricts the columns of root to types that can represent the rows' values.
	inferColumns(root *column) error
	// add adds a row to the columns. It returns the size of the row's text, in bytes, or io.EOF at the end.
	add(columns *fields) (int, error)
}

func (t *text) rows(c chunk) rows {
	if t.layout.Format != records.JSONL {
		return t.csvRows(c)
	}
	return &lines{in: t.in, remaining: c.data, line: c.linesBefore}
}

const maxFileSize = 1 << 62 // larger than any file, so that section readers end at the end of the file

// readText reads the file twice: first to infer the types, then to read the rows.
func readText(ctx context.Context, in *Input) (_ array.RecordReader, err error) {
	f, closeFile, err := in.seekable()
	if err != nil {
		return nil, err
	}
	closeAll := closeFile
	defer func() {
		if err != nil {
			closeAll()
		}
	}()
	columns := in.columns
	workers := textWorkers
	if columns == nil {
		root, err := in.inferText(ctx, f)
		if err != nil {
			return nil, err
		}
		columns, err = schemaOf(root.fields, in.Known)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", in.Name, err)
		}
	}
	if schema.CountFields(columns) > fewColumns {
		workers = 1
	}
	var file io.Reader = io.NewSectionReader(f, 0, maxFileSize)
	if f == in.File {
		file = in.withCounter(file)
	}
	source, closeSource, err := in.content(file)
	if err != nil {
		return nil, err
	}
	closeAll = func() { closeSource(); closeFile() }
	rowPass, err := in.newText(ctx, source)
	if err != nil {
		return nil, err
	}
	if workers == 1 {
		rowPass.size = batchBytes
	}
	return in.batches(ctx, columns, closeAll, func(yield func(arrow.RecordBatch) bool) error {
		return rowPass.batches(ctx, columns, workers, yield)
	}), nil
}

// inferText returns a column whose nested columns are the columns of the text in f.
func (in *Input) inferText(ctx context.Context, f *os.File) (*column, error) {
	source, closeSource, err := in.content(io.NewSectionReader(f, 0, maxFileSize))
	if err != nil {
		return nil, err
	}
	defer closeSource()
	t, err := in.newText(ctx, source)
	if err != nil {
		return nil, err
	}
	return t.inferColumns(ctx)
}

// content returns the text of a file, which may be compressed, and a function that frees its memory.
func (in *Input) content(file io.Reader) (io.Reader, func(), error) {
	const headSize = 4 << 10
	buffered := bufio.NewReaderSize(file, headSize) // Larger reads do not use the buffer.
	head, err := buffered.Peek(zfile.HeadSize)
	if err != nil && err != io.EOF {
		return nil, nil, fmt.Errorf("%s: %w", in.Name, err)
	}
	format := zfile.Detect(head)
	if strings.HasPrefix(string(head), "\xfd7zX") {
		format = "xz"
	}
	if format == "xz" || in.IsUncompressed && format != zfile.None {
		return nil, nil, fmt.Errorf("%s: the file is compressed: decompress it first, with %s -d", in.Name, strings.Replace(string(format), "bz2", "bzip2", 1))
	}
	closeReader := func() {}
	if format != zfile.None {
		r, err := zfile.NewReader(in.Name, format, buffered, maxRecordSize)
		if err != nil {
			return nil, nil, err
		}
		closeReader = func() { _ = r.Close() } // cannot fail: Close only frees memory
		buffered = bufio.NewReaderSize(r, headSize)
	}
	buffered, in.decodedFrom, err = records.Decode(buffered, in.Encoding)
	if err == nil {
		head, _ = buffered.Peek(headSize) // Read will return the error
		err = records.CheckEncoding(head)
	}
	if err != nil {
		closeReader()
		return nil, nil, fmt.Errorf("%s: %w", in.Name, err)
	}
	return buffered, closeReader, nil
}

// errNoColumns is the error for JSON lines in which no object has a member.
var errNoColumns = errors.New("the file contains no object with a column")

// inferColumns returns a column whose nested columns are the text's columns, with the types that fit all values.
func (t *text) inferColumns(ctx context.Context) (*column, error) {
	newColumns := func() *column {
		root := newColumn("")
		for _, name := range t.names {
			root.fields = append(root.fields, newColumn(name))
		}
		return root
	}
	root := newColumns()
	var isWide atomic.Bool // there are too many columns to infer the types in each chunk separately
	err := t.forEachChunk(ctx, textWorkers, func(ctx context.Context, c chunk) error {
		chunkColumns := newColumns()
		isSeparate := !isWide.Load()
		if isSeparate {
			if err := t.rows(c).inferColumns(chunkColumns); err != nil {
				return err
			}
		}
		if err := canceled.Wait(ctx, c.turn); err != nil {
			return err
		}
		if n, err := root.merge(chunkColumns); err != nil || !isSeparate {
			// Infer the types in root itself. If merge has failed, this also finds the line with the error.
			return t.rows(c).inferColumns(root)
		} else if n > fewColumns {
			isWide.Store(true)
		}
		return nil
	})
	if err == nil && len(root.fields) == 0 {
		err = fmt.Errorf("%s: %w", t.in.Name, errNoColumns)
	}
	return root, err
}

// batches yields the rows in batches, which it builds concurrently.
func (t *text) batches(ctx context.Context, schema *arrow.Schema, workers int, yield func(arrow.RecordBatch) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	mem := memory.DefaultAllocator
	if t.in.Memory > 0 {
		mem = arrowsafe.Bounded(t.in.Memory)
	}
	builtBatches, result := make(chan arrow.RecordBatch), make(chan error, 1)
	go func() {
		defer close(builtBatches)
		result <- t.forEachChunk(ctx, workers, func(ctx context.Context, c chunk) error {
			b := array.NewRecordBuilder(mem, schema)
			defer b.Release()
			return build(b, t.rows(c), func(batch arrow.RecordBatch) error {
				if err := canceled.Wait(ctx, c.turn); err != nil {
					return err
				}
				return canceled.Send(ctx, builtBatches, batch)
			})
		})
	}()
	defer func() {
		cancel()
		for b := range builtBatches {
			b.Release()
		}
	}()
	for b := range builtBatches {
		more := yield(b)
		b.Release()
		if !more {
			return nil
		}
	}
	if err := <-result; ctx.Err() == nil {
		return err
	}
	return nil // The caller canceled ctx, and [Input.batches] reports that.
}

// build adds source's rows to b and calls emit with each batch.
func build(b *array.RecordBuilder, source rows, emit func(arrow.RecordBatch) error) error {
	columns := newFields("column", b.Schema().Fields(), b.Field)
	maxRows := min(batchRows, max(1, batchCells/max(1, b.Schema().NumFields())))
	for atEnd := false; !atEnd; {
		rows := 0
		for size := 0; rows < maxRows && size < batchBytes; rows++ {
			n, err := source.add(columns)
			if err == io.EOF {
				atEnd = true
				break
			} else if err != nil {
				return err
			}
			size += n
		}
		if rows == 0 {
			return nil
		}
		batch := b.NewRecordBatch()
		if err := emit(batch); err != nil {
			batch.Release()
			return err
		}
	}
	return nil
}

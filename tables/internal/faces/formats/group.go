package formats

import (
	"context"
	"fmt"
	"io"
	"iter"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/arrow/util"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/rows/arrowsafe"
	"github.com/go-partd/partd/tables/internal/rows/arrowtype"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

// groupBatches yields the rows of a row group. The library decodes all columns at the same time and keeps a page and a
// dictionary of each. If these would exceed the job's memory, groupBatches decodes a few columns at a time to temporary
// files and joins them.
func (in *Input) groupBatches(ctx context.Context, f io.ReaderAt, reader *pqarrow.FileReader, group int) (batches.Seq, error) {
	g := reader.ParquetReader().MetaData().RowGroup(group)
	isEmpty, err := hasNoValues(g)
	if isEmpty || err != nil {
		return func(func(arrow.RecordBatch, error) bool) {}, err
	}
	parts, rowBytes, err := in.columnParts(reader, g)
	if err != nil {
		return nil, err
	}
	bytes := int64(batchBytes)
	if in.JobMemory > 0 {
		bytes = min(bytes, in.JobMemory/16)
	}
	rows := min(batchRows, bytes/max(1, rowBytes), batchCells/int64(max(1, g.NumColumns())))
	if in.JobMemory > 0 {
		decoded, err := decodedRowBytes(f, reader, group)
		if err != nil {
			return nil, err
		}
		rows = min(rows, in.JobMemory/8/max(1, decoded))
	}
	reader.Props.BatchSize = max(1, rows)
	sources := make([]batches.Seq, len(parts))
	for i, leaves := range parts {
		sources[i] = func(yield func(arrow.RecordBatch, error) bool) {
			r, err := reader.GetRecordReader(ctx, leaves, []int{group})
			if err != nil {
				yield(nil, err)
				return
			}
			defer r.Release()
			checked := batches.Each(r, func(b arrow.RecordBatch) (arrow.RecordBatch, error) {
				err := canceled.Err(ctx) // ViaFile reads all batches before its consumer can stop
				if err == nil {
					err = checkNested(b.Columns())
				}
				if err != nil {
					return nil, err
				}
				b.Retain()
				return b, nil
			})
			for b, err := range checked {
				if err == io.EOF || !yield(b, err) { // the library returns io.EOF at the end
					return
				}
			}
		}
		if len(parts) > 1 {
			sources[i] = batches.Chunks(batches.ViaFile(sources[i], schema.Convert), reader.Props.BatchSize)
		}
	}
	if len(sources) == 1 {
		return sources[0], nil
	}
	return joinColumns(sources, g.NumRows()), nil
}

// hasNoValues reports whether a row group has no rows. The library cannot read such a group from pyarrow, which writes
// 0 as the offset of its missing pages.
func hasNoValues(g *metadata.RowGroupMetaData) (bool, error) {
	for c := range g.NumColumns() {
		chunk, err := g.ColumnChunk(c)
		if err != nil || chunk.NumValues() != 0 {
			return false, err
		}
	}
	return g.NumRows() == 0, nil
}

// checkNested returns an error if lists or structs refer to values that they lack, as in a damaged file. The library's
// ValidateFull would also refuse maps whose fields have other names than key and value.
//
// If all lists are empty, the library returns their dictionaries without an array of values, and later fails on them.
// checkNested adds an empty array to such a dictionary.
func checkNested(arrays []arrow.Array) error {
	for _, a := range arrays {
		children := arrowtype.Children(a)
		isComplete := true
		switch a := a.(type) {
		case array.ListLike:
			for i, last := 0, int64(0); i < a.Len() && isComplete; i++ {
				from, to := a.ValueOffsets(i)
				isComplete = last <= from && from <= to && to <= int64(children[0].Len())
				last = from
			}
		case *array.Struct:
			isComplete = !slices.ContainsFunc(children, func(field arrow.Array) bool { return field.Len() < a.Len() })
		case *array.Dictionary:
			if data := a.Data().(*array.Data); data.Dictionary() == (*array.Data)(nil) {
				empty := array.MakeArrayOfNull(memory.DefaultAllocator, arrowtype.Inner(a.DataType()), 0)
				data.SetDictionary(empty.Data())
				empty.Release()
			}
		}
		if !isComplete {
			return fmt.Errorf("the file is damaged: %s refers to values that it does not have", a.DataType())
		}
		if err := checkNested(children); err != nil {
			return err
		}
	}
	return nil
}

// decodedRowBytes returns an upper bound on the average size of a row group's decoded rows, without texts outside of
// dictionaries. Repeated values take few bytes in the file, but their full size in a batch.
func decodedRowBytes(f io.ReaderAt, reader *pqarrow.FileReader, group int) (total int64, err error) {
	g := reader.ParquetReader().RowGroup(group)
	for c := range g.NumColumns() {
		chunk, err := g.MetaData().ColumnChunk(c)
		if err != nil {
			return 0, err
		}
		size := int64(0) // maximum size of a value
		switch t := chunk.Type(); {
		case t == parquet.Types.FixedLenByteArray:
			size = int64(reader.ParquetReader().MetaData().Schema.Column(c).TypeLength())
		case t != parquet.Types.ByteArray:
			size = int64(t.ByteSize())
		default:
			datafile.VisitDictionary(f, g, c, func(_ int64, text []byte) bool {
				size = max(size, int64(len(text)))
				return true
			})
		}
		total += min(max(chunk.NumValues(), 0), 1<<31) * min(size, 1<<31) / max(1, g.NumRows())
		total = min(total, 1<<40)
	}
	return total, nil
}

// columnParts divides a row group's columns into parts to decode one after another. It returns the indices of each
// part's leaf columns, and the average size of a row.
func (in *Input) columnParts(reader *pqarrow.FileReader, g *metadata.RowGroupMetaData) (parts [][]int, rowBytes int64, err error) {
	const (
		pageBytes   = 2 << 20  // size of a large page, and of a large dictionary
		readerBytes = 16 << 10 // memory of a column's reader besides pages
	)
	columns := reader.ParquetReader().MetaData().Schema
	parts = [][]int{nil}
	used := int64(0) // memory of the last part
	for c := range g.NumColumns() {
		chunk, err := g.ColumnChunk(c)
		if err != nil {
			return nil, 0, err
		}
		size := max(chunk.TotalUncompressedSize(), 0)
		rowBytes += min(size, 1<<40) / max(1, g.NumRows())
		if err := in.checkRowSize(rowBytes); err != nil {
			return nil, 0, fmt.Errorf("column %q: the average row up to it is %w", columns.Column(c).Path(), err)
		}
		cost := 2*min(size, pageBytes) + min(max(chunk.TotalCompressedSize(), 0), streamBuffer) + readerBytes
		isSameField := c > 0 && columns.ColumnRoot(c) == columns.ColumnRoot(c-1)
		if c > 0 && !isSameField && in.JobMemory > 0 && used+cost > in.JobMemory/4 {
			parts, used = append(parts, nil), 0
		}
		parts[len(parts)-1] = append(parts[len(parts)-1], c)
		used += cost
	}
	return parts, rowBytes, nil
}

// joinColumns yields batches with the columns of all sources, which yield different columns of the same rows.
func joinColumns(sources []batches.Seq, rows int64) batches.Seq {
	return func(yield func(arrow.RecordBatch, error) bool) {
		next := make([]func() (arrow.RecordBatch, error, bool), len(sources))
		for i, s := range sources {
			var stop func()
			next[i], stop = iter.Pull2(s)
			defer stop()
		}
		for rows > 0 {
			b, err := nextRows(next)
			if err == nil {
				rows -= b.NumRows()
			}
			if !yield(b, err) || err != nil {
				return
			}
		}
	}
}

func nextRows(next []func() (arrow.RecordBatch, error, bool)) (arrow.RecordBatch, error) {
	var fields []arrow.Field
	var arrays []arrow.Array
	rows := int64(-1)
	for _, n := range next {
		b, err, ok := n()
		if err != nil {
			return nil, err
		}
		if ok {
			defer b.Release()
		}
		if !ok || rows >= 0 && b.NumRows() != rows {
			return nil, io.ErrUnexpectedEOF
		}
		rows = b.NumRows()
		fields, arrays = append(fields, b.Schema().Fields()...), append(arrays, b.Columns()...)
	}
	return array.NewRecordBatch(arrow.NewSchema(fields, nil), arrays, rows), nil
}

// limitRows returns r, but with an error before the first row that is too large for the job's memory.
func (in *Input) limitRows(ctx context.Context, r array.RecordReader) array.RecordReader {
	rows := int64(0) // number of rows before the batch
	return batches.Reader(r.Schema(), batches.Each(r, func(b arrow.RecordBatch) (arrow.RecordBatch, error) {
		if in.checkRowSize(util.TotalRecordSize(b)) != nil {
			row, size := arrowsafe.LargestRow(ctx, b)
			if err := in.checkRowSize(size); err != nil {
				return nil, fmt.Errorf("%s: row %d is %w", in.Name, rows+int64(row)+1, err)
			}
		}
		rows += b.NumRows()
		b.Retain()
		return b, nil
	}), r.Release)
}

// checkRowSize returns an error if a row of the given size is too large for the job's memory.
func (in *Input) checkRowSize(size int64) error {
	const share = 4 // a row may take a quarter of the memory, because writing it can take eighteen times its size
	if in.JobMemory == 0 || size <= in.JobMemory/share {
		return nil
	}
	needed := (share*size + 1<<20 - 1) >> 20
	return fmt.Errorf("%d MiB, more than a quarter of --memory: use --memory %dMiB or more: %w", size>>20, needed, partd.ErrTooLarge)
}

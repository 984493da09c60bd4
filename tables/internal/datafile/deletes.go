package datafile

import (
	"context"
	"fmt"
	"path"
	"reflect"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/apache/iceberg-go/table/dv"

	"github.com/go-partd/partd/tables/internal/sorted"
)

// deleteReader reads delete files, which other programs write. It reads a position delete file once for all data files.
type deleteReader struct {
	t  *table.Table
	mu sync.Mutex

	positions map[string]map[string]map[int64]bool // deleted row numbers, by delete file and data file
}

// deletesOf returns the Deletes for a data file, which mark the rows that the file's delete files delete.
func (d *deleteReader) deletesOf(ctx context.Context, task table.FileScanTask) (*Deletes, error) {
	result := &Deletes{}
	var deletesRow []func(int64) bool
	fs, err := d.t.FS(ctx)
	if err != nil {
		return nil, err
	}
	for _, f := range task.DeletionVectorFiles {
		rows, err := dv.ReadDV(fs, f)
		if err != nil {
			return nil, fmt.Errorf("reading the delete file %s: %w", path.Base(f.FilePath()), err)
		}
		deletesRow = append(deletesRow, func(row int64) bool { return rows.Contains(uint64(row)) })
	}
	for _, f := range task.DeleteFiles {
		if len(task.DeletionVectorFiles) > 0 { // a deletion vector includes the rows of position delete files
			break
		}
		rows, err := d.rowsOf(ctx, f, task.File.FilePath())
		if err != nil {
			return nil, fmt.Errorf("reading the delete file %s: %w", path.Base(f.FilePath()), err)
		}
		deletesRow = append(deletesRow, func(row int64) bool { return rows[row] })
	}
	var matchesEqualityDelete []func(columns []arrow.Array, i int, buffer *[]byte) bool
	for _, f := range task.EqualityDeleteFiles {
		firstColumn := len(result.Columns)
		columns, keys, err := d.keysOf(ctx, f)
		if err != nil {
			return nil, fmt.Errorf("reading the delete file %s: %w", path.Base(f.FilePath()), err)
		}
		result.Columns = append(result.Columns, columns...)
		matchesEqualityDelete = append(matchesEqualityDelete, func(all []arrow.Array, i int, buffer *[]byte) bool {
			*buffer = appendNullable((*buffer)[:0], all[firstColumn:firstColumn+len(columns)], i)
			return keys[string(*buffer)]
		})
	}
	result.MarkDeleted = func(firstRow int64, keep []bool, columns []arrow.Array) error {
		var buffer []byte // for keys
		for i := range keep {
			for _, deletes := range deletesRow {
				keep[i] = keep[i] && !deletes(firstRow+int64(i))
			}
			for _, deletes := range matchesEqualityDelete {
				keep[i] = keep[i] && !deletes(columns, i, &buffer)
			}
		}
		return nil
	}
	return result, nil
}

// Iceberg's field IDs for the columns of position delete files.
const (
	pathID     = 2147483546
	positionID = 2147483545
)

// rowsOf returns the row numbers that the position delete file f marks as deleted in dataFile.
func (d *deleteReader) rowsOf(ctx context.Context, f iceberg.DataFile, dataFile string) (map[int64]bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if rowsByFile, ok := d.positions[f.FilePath()]; ok {
		return rowsByFile[dataFile], nil
	}
	rowsByFile := map[string]map[int64]bool{}
	s := iceberg.NewSchema(0,
		iceberg.NestedField{ID: pathID, Name: "file_path", Type: iceberg.PrimitiveTypes.String, Required: true},
		iceberg.NestedField{ID: positionID, Name: "pos", Type: iceberg.PrimitiveTypes.Int64, Required: true})
	columns, err := columnsByID(s)
	if err != nil {
		return nil, err
	}
	err = d.eachBatch(ctx, f, columns, func(b arrow.RecordBatch) {
		paths, rows := b.Column(0).(*array.String), b.Column(1).(*array.Int64)
		for i := range paths.Len() {
			if rowsByFile[paths.Value(i)] == nil {
				rowsByFile[paths.Value(i)] = map[int64]bool{}
			}
			rowsByFile[paths.Value(i)][rows.Value(i)] = true
		}
	})
	if err != nil {
		return nil, err
	}
	if d.positions == nil {
		d.positions = map[string]map[string]map[int64]bool{}
	}
	d.positions[f.FilePath()] = rowsByFile
	return rowsByFile[dataFile], nil
}

// keysOf returns the columns of an equality delete file, and the keys of the deleted rows, encoded by appendNullable.
func (d *deleteReader) keysOf(ctx context.Context, f iceberg.DataFile) (columns []Column, keys map[string]bool, err error) {
	for _, id := range f.EqualityFieldIDs() {
		column, err := d.column(id)
		if err != nil {
			return nil, nil, err
		}
		columns = append(columns, column)
	}
	keys = map[string]bool{}
	err = d.eachBatch(ctx, f, columns, func(b arrow.RecordBatch) {
		for i := range int(b.NumRows()) {
			keys[string(appendNullable(nil, b.Columns(), i))] = true
		}
	})
	return columns, keys, err
}

// column returns the table's column with a field ID, even if the column was dropped.
func (d *deleteReader) column(id int) (c Column, err error) {
	schemas := d.t.Metadata().Schemas()
	for _, s := range append([]*iceberg.Schema{d.t.Schema()}, schemas...) {
		all, err := columnsByID(s)
		if err != nil {
			return c, err
		}
		for i, f := range s.Fields() {
			if f.ID == id {
				return all[i], nil
			}
		}
	}
	return c, fmt.Errorf("it deletes by the column with ID %d, which the table never had", id)
}

func (d *deleteReader) eachBatch(ctx context.Context, f iceberg.DataFile, columns []Column, use func(arrow.RecordBatch)) error {
	fs, err := d.t.FS(ctx)
	if err != nil {
		return err
	}
	scan := &Scan{Open: func(path string) (parquet.ReaderAtSeeker, error) { return fs.Open(path) }, Columns: columns, Rows: BatchRows}
	for b, err := range scan.Read(ctx, []File{{Path: f.FilePath()}}) {
		if err != nil {
			return err
		}
		use(b)
		b.Release()
	}
	return nil
}

// appendNullable appends a key for the values of a row. Keys are equal if all values are equal or null in both rows.
func appendNullable(dst []byte, columns []arrow.Array, row int) []byte {
	for _, c := range columns {
		if c.IsNull(row) {
			dst = append(dst, 0)
			continue
		}
		dst = sorted.AppendKey(append(dst, 1), c, row)
	}
	return dst
}

// valueOf converts v, a column's default value in Iceberg's schema, to an array with one value.
func valueOf(v any, t arrow.DataType) (arrow.Array, error) {
	b := array.NewBuilder(memory.DefaultAllocator, t)
	defer b.Release()
	value := reflect.ValueOf(v)
	switch b := b.(type) {
	case *array.Decimal128Builder:
		if d, ok := v.(iceberg.Decimal); ok {
			b.Append(d.Val)
		}
	case *array.FixedSizeBinaryBuilder:
		if value.Kind() == reflect.Array { // a UUID; Bytes requires an addressable array
			addressable := reflect.New(value.Type()).Elem()
			addressable.Set(value)
			value = addressable
		}
		b.Append(value.Bytes())
	case *array.BinaryBuilder:
		b.Append(value.Bytes())
	case *array.StringBuilder:
		b.Append(value.String())
	case *array.BooleanBuilder:
		b.Append(value.Bool())
	case *array.Float32Builder:
		b.Append(float32(value.Float()))
	case *array.Float64Builder:
		b.Append(value.Float())
	case *array.Int32Builder:
		b.Append(int32(value.Int()))
	case *array.Int64Builder:
		b.Append(value.Int())
	case *array.Date32Builder:
		b.Append(arrow.Date32(value.Int()))
	case *array.Time64Builder:
		b.Append(arrow.Time64(value.Int()))
	case *array.TimestampBuilder:
		b.Append(arrow.Timestamp(value.Int()))
	}
	if b.Len() != 1 {
		return nil, fmt.Errorf("its default value, %v, is not of type %s", v, t)
	}
	return b.NewArray(), nil
}

package datafile

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"path"
	"strings"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/io"
	"github.com/apache/iceberg-go/table"
	"github.com/apache/iceberg-go/table/dv"

	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/sorted"
)

// maxDeleteBytes limits the memory, in bytes, for the positions and keys of a deleteReader, and for each deletion
// vector.
const maxDeleteBytes = 512 << 20

// deleteReader reads delete files, which other programs have written. It reads each position or equality delete file
// once, for all data files.
type deleteReader struct {
	t         *table.Table
	dataFiles map[string]bool // paths of the data files to read

	mu        sync.Mutex
	bytes     int64                                           // estimated size of positions and keys
	positions map[string]map[string]*dv.RoaringPositionBitmap // deleted row numbers, by delete file and data file
	keys      map[string]*deletedKeys                         // by delete file
}

// deletedKeys is the content of an equality delete file.
type deletedKeys struct {
	columns []Column
	keys    map[string]bool // encoded by sorted.RowKeyAppender, with nulls
}

// deletesOf returns the Deletes of a data file: the rows that its delete files mark as deleted.
func (d *deleteReader) deletesOf(ctx context.Context, task table.FileScanTask) (*Deletes, error) {
	result := &Deletes{}
	fs, err := d.t.FS(ctx)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	deletedRows := dv.NewRoaringPositionBitmap()
	for _, f := range task.DeletionVectorFiles {
		rows, err := ReadVector(fs, f)
		if err != nil {
			return nil, err
		}
		deletedRows.Or(rows)
	}
	for _, f := range task.DeleteFiles {
		if len(task.DeletionVectorFiles) > 0 { // a deletion vector includes the rows of position delete files
			break
		}
		rows, err := d.rowsOf(ctx, f, task.File.FilePath())
		if err != nil {
			return nil, fmt.Errorf("reading the delete file %s: %w", path.Base(f.FilePath()), err)
		}
		deletedRows.Or(rows)
	}
	var equalityDeletes []func(columns []arrow.Array) (isDeleted func(row int) bool)
	for _, f := range task.EqualityDeleteFiles {
		firstColumn := len(result.Columns)
		deleted, err := d.keysOf(ctx, f)
		if err != nil {
			return nil, fmt.Errorf("reading the delete file %s: %w", path.Base(f.FilePath()), err)
		}
		result.Columns = append(result.Columns, deleted.columns...)
		equalityDeletes = append(equalityDeletes, func(all []arrow.Array) func(row int) bool {
			var key []byte
			appendKey := sorted.RowKeyAppender(all[firstColumn:firstColumn+len(deleted.columns)], true)
			return func(row int) bool {
				key = appendKey(key[:0], row)
				return deleted.keys[string(key)]
			}
		})
	}
	hasPositions := !deletedRows.IsEmpty()
	result.MarkDeleted = func(firstRow int64, keep []bool, columns []arrow.Array) error {
		areDeleted := make([]func(row int) bool, len(equalityDeletes))
		for i, newMatcher := range equalityDeletes {
			areDeleted[i] = newMatcher(columns)
		}
		for i := range keep {
			if hasPositions && deletedRows.Contains(uint64(firstRow)+uint64(i)) {
				keep[i] = false
			}
			for _, isDeleted := range areDeleted {
				keep[i] = keep[i] && !isDeleted(i)
			}
		}
		return nil
	}
	return result, nil
}

// ReadVector returns the row numbers in a deletion vector.
func ReadVector(fs io.IO, f iceberg.DataFile) (*dv.RoaringPositionBitmap, error) {
	err := checkVector(fs, f)
	var rows *dv.RoaringPositionBitmap
	if err == nil {
		rows, err = dv.ReadDV(fs, f)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the delete file %s: %w", path.Base(f.FilePath()), err)
	}
	return rows, nil
}

// CheckDeletes returns an error if a delete file cannot be read.
func CheckDeletes(ctx context.Context, t *table.Table, f iceberg.DataFile) error {
	task, files := table.FileScanTask{File: f}, []iceberg.DataFile{f}
	switch {
	case table.IsDeletionVector(f):
		task.DeletionVectorFiles = files
	case f.ContentType() == iceberg.EntryContentEqDeletes:
		task.EqualityDeleteFiles = files
	default:
		task.DeleteFiles = files
	}
	_, err := (&deleteReader{t: t}).deletesOf(ctx, task)
	return err
}

var errDeletesTooLarge = fmt.Errorf("the table's delete files need more than %d MiB of memory: compact the table with the program that wrote them", maxDeleteBytes>>20)

// addBytes adds n to d.bytes. It returns an error if the sum exceeds maxDeleteBytes. d.mu must be held.
func (d *deleteReader) addBytes(n int64) error {
	d.bytes += n
	if d.bytes > maxDeleteBytes {
		return errDeletesTooLarge
	}
	return nil
}

// bitmapBytes is the approximate size, in bytes, of a bitmap with few rows. A dv.RoaringPositionBitmap has one bitmap
// for every 2^32 rows.
const bitmapBytes = 256

// checkVector returns an error if a deletion vector would need more than maxDeleteBytes, or claims more bitmaps than it
// can contain. dv.ReadDV would allocate memory for all claimed bitmaps.
func checkVector(fs io.IO, f iceberg.DataFile) error {
	const growth = 6 // in memory, a vector is up to 6 times as large as in the file
	offset, size := f.ContentOffset(), f.ContentSizeInBytes()
	if offset == nil || size == nil {
		return nil // dv.ReadDV returns an error
	}
	file, err := fs.Open(f.FilePath())
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // opened only for reading
	var head [16]byte  // length, magic number, and number of bitmaps
	if _, err := file.ReadAt(head[:], *offset); err != nil {
		return err
	}
	const minBytes = 12 // minimum size of a bitmap in the file
	bitmaps := binary.LittleEndian.Uint64(head[8:])
	if bitmaps > uint64(max(*size, 0))/minBytes {
		return fmt.Errorf("the deletion vector has %d bytes, too few for the %d bitmaps that it claims", *size, bitmaps)
	}
	if *size > maxDeleteBytes/growth || *size*growth+int64(bitmaps)*bitmapBytes > maxDeleteBytes {
		return errDeletesTooLarge
	}
	return nil
}

// Iceberg's field IDs for the columns of position delete files.
const (
	pathID     = 2147483546
	positionID = 2147483545
)

// rowsOf returns the row numbers that the position delete file f marks as deleted in dataFile. d.mu must be held.
func (d *deleteReader) rowsOf(ctx context.Context, f iceberg.DataFile, dataFile string) (*dv.RoaringPositionBitmap, error) {
	if rowsByFile, ok := d.positions[f.FilePath()]; ok {
		return rowsByFile[dataFile], nil
	}
	rowsByFile := map[string]*dv.RoaringPositionBitmap{}
	s := iceberg.NewSchema(0,
		iceberg.NestedField{ID: pathID, Name: "file_path", Type: iceberg.PrimitiveTypes.String, Required: true},
		iceberg.NestedField{ID: positionID, Name: "pos", Type: iceberg.PrimitiveTypes.Int64, Required: true})
	columns, err := columnsByID(s)
	if err != nil {
		return nil, err
	}
	err = d.eachBatch(ctx, f, columns, func(b arrow.RecordBatch) error {
		const blockRows, rowBytes, blockBytes = 1 << 16, 2, 64 // rows in a block; approximate bytes per row and per block
		const noBlock = math.MinInt64
		lastBlock, size := int64(noBlock), int64(0)
		paths, rows := b.Column(0).(*array.String), b.Column(1).(*array.Int64)
		for i := range paths.Len() {
			if !d.dataFiles[paths.Value(i)] { // a delete file can also contain positions in replaced files
				continue
			}
			deleted := rowsByFile[paths.Value(i)]
			if deleted == nil {
				deleted = dv.NewRoaringPositionBitmap()
				rowsByFile[strings.Clone(paths.Value(i))] = deleted
				size += int64(len(paths.Value(i)))
				lastBlock = noBlock
			}
			deleted.Set(uint64(rows.Value(i)))
			if block := rows.Value(i) / blockRows; block != lastBlock {
				size += blockBytes
				if lastBlock == noBlock || block>>16 != lastBlock>>16 {
					size += bitmapBytes
				}
				lastBlock = block
			}
			size += rowBytes
		}
		return d.addBytes(size)
	})
	if err != nil {
		return nil, err
	}
	if d.positions == nil {
		d.positions = map[string]map[string]*dv.RoaringPositionBitmap{}
	}
	d.positions[f.FilePath()] = rowsByFile
	return rowsByFile[dataFile], nil
}

// keysOf returns the content of an equality delete file. d.mu must be held.
func (d *deleteReader) keysOf(ctx context.Context, f iceberg.DataFile) (*deletedKeys, error) {
	if deleted, ok := d.keys[f.FilePath()]; ok {
		return deleted, nil
	}
	deleted := &deletedKeys{keys: map[string]bool{}}
	for _, id := range f.EqualityFieldIDs() {
		column, err := d.column(id)
		if err != nil {
			return nil, err
		}
		deleted.columns = append(deleted.columns, column)
	}
	err := d.eachBatch(ctx, f, deleted.columns, func(b arrow.RecordBatch) error {
		const entryBytes = 48 // approximate size of a map entry
		var key []byte
		size := int64(0)
		appendKey := sorted.RowKeyAppender(b.Columns(), true)
		for i := range int(b.NumRows()) {
			key = appendKey(key[:0], i)
			if !deleted.keys[string(key)] {
				deleted.keys[string(key)] = true
				size += entryBytes + int64(len(key))
			}
		}
		return d.addBytes(size)
	})
	if err != nil {
		return nil, err
	}
	if d.keys == nil {
		d.keys = map[string]*deletedKeys{}
	}
	d.keys[f.FilePath()] = deleted
	return deleted, nil
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
	return c, fmt.Errorf("the file deletes by the column with ID %d, which the table never had", id)
}

func (d *deleteReader) eachBatch(ctx context.Context, f iceberg.DataFile, columns []Column, use func(arrow.RecordBatch) error) error {
	fs, err := d.t.FS(ctx)
	if err != nil {
		return err
	}
	scan := &Scan{Open: func(path string) (parquet.ReaderAtSeeker, error) { return fs.Open(path) }, Columns: columns, Rows: BatchRows}
	return batches.ForEach(scan.Read(ctx, []File{{Path: f.FilePath()}}), use)
}

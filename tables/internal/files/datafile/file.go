package datafile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path"
	"slices"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	pqfile "github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/apache/iceberg-go"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/rows/parallel"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

type file struct {
	scan            *Scan
	path            string
	name            string // base name, because errors must not reveal the directory
	deletes         *Deletes
	skip            int64 // number of leading rows to skip
	lineage         Lineage
	opened          parquet.ReaderAtSeeker
	parsed          *pqfile.Reader
	footer          *icecat.Footer
	reader          *pqarrow.FileReader
	conditionReader *pqarrow.FileReader // reads the condition's columns into recycled memory
	groups          []group             // row groups that can contain matching rows

	indexOnce sync.Once
	index     map[int]int // index of a field, by its ID
	lacksIDs  bool        // whether a field has no ID
}

type group struct {
	number      int
	first, rows int64                             // index of the group's first row in the file, and number of rows
	size        int64                             // estimated decoded size of the selected columns, in bytes
	index       *metadata.RowGroupPageIndexReader // page index, loaded when the rows are read; can be nil
}

// recoverPanic converts a panic to an error, because the Parquet library panics on some damaged files. It must be
// deferred.
func (f *file) recoverPanic(err *error) {
	if p := recover(); p != nil {
		*err = &partd.CorruptError{Path: f.name, Offset: -1, Err: fmt.Errorf("the Parquet data cannot be read: %s", parallel.Reason(p))}
	}
}

func (s *Scan) open(ctx context.Context, source File) (f *file, err error) {
	f = &file{scan: s, path: source.Path, name: path.Base(source.Path), skip: source.Skip, lineage: source.Lineage}
	defer func() {
		if err != nil {
			f.close()
			err = fmt.Errorf("file %s: %w", f.name, err)
		}
	}()
	defer f.recoverPanic(&err)
	if source.Deletes != nil {
		f.deletes, err = source.Deletes(ctx)
		if err != nil {
			return f, err
		}
	}
	f.opened, err = s.Open(source.Path)
	if err != nil {
		return f, err
	}
	f.parsed, f.footer, err = s.parse(source.Path, f.opened)
	if err != nil {
		return f, err
	}
	f.conditionReader, err = pqarrow.NewFileReader(f.parsed, pqarrow.ArrowReadProperties{}, recycled)
	if err != nil {
		return f, err
	}
	f.reader = f.conditionReader
	if !s.Recycle {
		f.reader, err = pqarrow.NewFileReader(f.parsed, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
		if err != nil {
			return f, err
		}
	}
	firstRow := int64(0)
	for i := range f.parsed.NumRowGroups() {
		g := group{number: i, first: firstRow, rows: f.parsed.MetaData().RowGroup(i).NumRows()}
		firstRow += g.rows
		if g.rows < 0 {
			return f, errors.New("a row group has a negative row count")
		}
		if g.rows > 0 && firstRow > f.skip && (s.Where == nil && s.MayMatch == nil || f.mayMatch(g)) {
			g.size = f.size(g, s.ConditionColumns) + f.size(g, s.Columns)
			f.groups = append(f.groups, g)
		}
	}
	return f, nil
}

// readProperties make the library read files page by page, so that unneeded pages can be skipped.
var readProperties = func() *parquet.ReaderProperties {
	p := parquet.NewReaderProperties(recycled)
	p.BufferedStreamEnabled = true
	p.MaxCompressedPageSize, p.MaxUncompressedPageSize = math.MaxInt32, math.MaxInt32 // see pagesOf
	return p
}()

// parse opens a Parquet file. It caches the footer by the file's name, size and modification time, because a repair can
// replace the file.
func (s *Scan) parse(name string, in parquet.ReaderAtSeeker) (*pqfile.Reader, *icecat.Footer, error) {
	withProperties := pqfile.WithReadProps(readProperties)
	key := ""
	if file, ok := in.(fs.File); ok && s.Footers != nil {
		info, err := file.Stat()
		if err != nil {
			return nil, nil, err
		}
		key = fmt.Sprintf("%s %d %d", name, info.Size(), info.ModTime().UnixNano())
		if footer, ok := s.Footers.Get(key); ok {
			r, err := pqfile.NewParquetReader(in, withProperties, pqfile.WithMetadata(footer.FileMetaData))
			return r, footer, err
		}
	}
	r, err := schema.OpenParquet(in, withProperties)
	if err != nil {
		return nil, nil, err
	}
	footer := &icecat.Footer{FileMetaData: r.MetaData()}
	// Discard a stored Arrow schema: it would change the column types, and could cause large allocations.
	footer.FileMetaData.FileMetaData.KeyValueMetadata = nil
	if key != "" {
		s.Footers.Put(key, footer, 8*int64(footer.Size())+1024)
	}
	return r, footer, nil
}

// GroupBounds returns the bounds of the scan's first column in each row group of the named file.
func (s *Scan) GroupBounds(ctx context.Context, name string) (bounds []filter.Bounds, err error) {
	f, err := s.open(ctx, File{Path: name})
	if err != nil {
		return nil, err
	}
	defer f.close()
	defer f.recoverPanic(&err)
	for _, g := range f.groups {
		bounds = append(bounds, f.bounds(g, s.Columns[0]))
	}
	return bounds, nil
}

func (f *file) close() {
	if c, ok := f.opened.(io.Closer); ok && f.opened != nil {
		_ = c.Close() // The file was opened only for reading.
	}
}

// fieldIndex returns a column's index in the file, or -1 if the file lacks it.
func (f *file) fieldIndex(c Column) int {
	f.indexOnce.Do(func() {
		f.index = map[int]int{}
		for i, field := range slices.Backward(f.reader.Manifest.Fields) {
			id, ok := idOf(*field.Field)
			f.lacksIDs = f.lacksIDs || !ok
			f.index[id] = i
		}
	})
	if !f.lacksIDs { // searching for each column would take long in a file with thousands of columns
		id, _ := idOf(c.IDs)
		if i, ok := f.index[id]; ok {
			return i
		}
		return -1
	}
	return slices.IndexFunc(f.reader.Manifest.Fields, func(field pqarrow.SchemaField) bool { return f.scan.matchesField(*field.Field, c.IDs) })
}

// matchesField reports whether a file's field has the values of a table's field. It compares IDs, or names if the file
// has no IDs.
func (s *Scan) matchesField(field, tableField arrow.Field) bool {
	id, _ := idOf(tableField)
	if fieldID, ok := idOf(field); ok {
		return fieldID == id
	}
	if iceberg.IsMetadataColumn(id) {
		return false
	}
	if names, ok := s.Names[id]; ok {
		return slices.Contains(names, field.Name)
	}
	return field.Name == tableField.Name
}

// leafIndex returns the leaf index of a column that is not nested, or -1.
func (f *file) leafIndex(c Column) int {
	if i := f.fieldIndex(c); i >= 0 && f.reader.Manifest.Fields[i].IsLeaf() {
		return f.reader.Manifest.Fields[i].ColIndex
	}
	return -1
}

func addLeaves(f *pqarrow.SchemaField, set map[int]bool) {
	if f.IsLeaf() {
		set[f.ColIndex] = true
	}
	for i := range f.Children {
		addLeaves(&f.Children[i], set)
	}
}

// size estimates the decoded size of columns in a row group, in bytes.
func (f *file) size(g group, columns []Column) (n int64) {
	for _, c := range columns {
		if i := f.fieldIndex(c); i >= 0 {
			leaves := map[int]bool{}
			addLeaves(&f.reader.Manifest.Fields[i], leaves)
			for leaf := range leaves {
				if chunk, err := f.parsed.MetaData().RowGroup(g.number).ColumnChunk(leaf); err == nil {
					// limited because a damaged file can claim any size
					n += min(max(chunk.TotalUncompressedSize(), 8*g.rows, 0), 1<<40)
				}
			}
		}
	}
	return n
}

// mayMatch reports whether a row group can contain matching rows, according to its statistics.
func (f *file) mayMatch(g group) bool {
	mayMatch := f.scan.MayMatch
	if mayMatch == nil {
		mayMatch = f.scan.Where.May
	}
	matches, _ := mayMatch(func(name string) filter.Bounds { return f.boundsOf(g, name) })
	return matches
}

func (f *file) boundsOf(g group, name string) filter.Bounds {
	for _, c := range slices.Concat(f.scan.ConditionColumns, f.scan.Columns) {
		if c.Field.Name == name {
			return f.bounds(g, c)
		}
	}
	return filter.Bounds{Rows: g.rows, Nulls: -1}
}

// bounds returns a column's statistics in a row group, except statistics that are unreliable for its type.
func (f *file) bounds(g group, c Column) filter.Bounds {
	b := filter.Bounds{Rows: g.rows, Nulls: -1}
	leaf, exists := f.statsLeaf(c)
	if !exists && c.Absent == nil {
		b.Nulls = g.rows
	}
	if leaf < 0 {
		return b
	}
	chunk, err := f.parsed.MetaData().RowGroup(g.number).ColumnChunk(leaf)
	if err != nil {
		return b
	}
	stats, err := chunk.Statistics()
	if err != nil || stats == nil {
		return b
	}
	if stats.HasNullCount() {
		b.Nulls = stats.NullCount()
	}
	if stats.HasMinMax() {
		b.Min, b.Max = stats.EncodeMin(), knownMax(stats.EncodeMax())
	}
	return b
}

// knownMax returns bound or, if it is empty, nil, which means that the bound is unknown. Writers omit a maximum that is
// too long, and libraries then return an empty one.
func knownMax(bound []byte) []byte {
	if len(bound) == 0 {
		return nil
	}
	return bound
}

// statsLeaf returns a column's leaf index, or -1 if its statistics are not usable. It also returns whether the file has
// the column.
func (f *file) statsLeaf(c Column) (leaf int, exists bool) {
	i := f.fieldIndex(c)
	if i < 0 {
		return -1, false
	}
	field := f.reader.Manifest.Fields[i]
	if !field.IsLeaf() || !hasValidBounds(field.Field.Type, c.Field.Type) {
		return -1, true
	}
	return field.ColIndex, true
}

// hasValidBounds reports whether bounds of a file's column type are valid for the table's type: both types must have
// the same order and unit.
func hasValidBounds(fileType, tableType arrow.DataType) bool {
	switch tableType.ID() {
	case arrow.INT64:
		return fileType.ID() == arrow.INT32 || fileType.ID() == arrow.INT64
	case arrow.FLOAT64:
		return fileType.ID() == arrow.FLOAT32 || fileType.ID() == arrow.FLOAT64
	case arrow.TIMESTAMP:
		t, ok := fileType.(*arrow.TimestampType)
		return ok && t.Unit == tableType.(*arrow.TimestampType).Unit
	case arrow.INT32, arrow.FLOAT32, arrow.DATE32, arrow.TIME64, arrow.STRING, arrow.BINARY:
		return arrow.TypeEqual(fileType, tableType)
	}
	return false
}

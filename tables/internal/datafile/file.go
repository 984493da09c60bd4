package datafile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	pqfile "github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables/filter"
)

// file is an open data file.
type file struct {
	scan   *Scan
	name   string // without the directory, which errors must not reveal
	drop   *Drop
	skip   int64
	opened parquet.ReaderAtSeeker
	parsed *pqfile.Reader
	reader *pqarrow.FileReader
	looker *pqarrow.FileReader // reads the condition's columns, into recycled memory
	groups []group             // groups that may have matching rows
}

// group is a row group. first is the index of its first row in the file.
type group struct {
	number      int
	first, rows int64
	size        int64                             // estimated decoded bytes of the wanted columns
	index       *metadata.RowGroupPageIndexReader // page index, set when the rows are read; may be nil
}

// sane must be deferred. It converts a panic of the library, which some damaged files cause, to an error.
func (f *file) sane(err *error) {
	if p := recover(); p != nil {
		*err = &partd.CorruptError{Path: f.name, Offset: -1, Err: fmt.Errorf("its Parquet cannot be read: %v", p)}
	}
}

func (s *Scan) open(ctx context.Context, source File) (f *file, err error) {
	f = &file{scan: s, name: path.Base(source.Path), skip: source.Skip}
	defer func() {
		if err != nil {
			f.close()
			err = fmt.Errorf("file %s: %w", f.name, err)
		}
	}()
	defer f.sane(&err)
	if source.Drop != nil {
		if f.drop, err = source.Drop(ctx); err != nil {
			return f, err
		}
	}
	if f.opened, err = s.Open(source.Path); err != nil {
		return f, err
	}
	if f.parsed, err = s.parse(source.Path, f.opened); err != nil {
		return f, err
	}
	if f.looker, err = pqarrow.NewFileReader(f.parsed, pqarrow.ArrowReadProperties{}, recycled); err != nil {
		return f, err
	}
	if f.reader = f.looker; !s.Recycle {
		f.reader, err = pqarrow.NewFileReader(f.parsed, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
		if err != nil {
			return f, err
		}
	}
	firstRow := int64(0)
	for i := range f.parsed.NumRowGroups() {
		g := group{number: i, first: firstRow, rows: f.parsed.MetaData().RowGroup(i).NumRows()}
		if firstRow += g.rows; g.rows < 0 {
			return f, errors.New("it has a group of less than no rows")
		}
		if g.rows > 0 && firstRow > f.skip && f.mayMatch(g) {
			g.size = f.size(g, s.Looked) + f.size(g, s.Columns)
			f.groups = append(f.groups, g)
		}
	}
	return f, nil
}

// Groups returns the bounds of the scan's first column in each row group of a file.
func (s *Scan) Groups(ctx context.Context, name string) (all []filter.Bounds, err error) {
	f, err := s.open(ctx, File{Path: name})
	if err != nil {
		return nil, err
	}
	defer f.close()
	defer f.sane(&err)
	for _, g := range f.groups {
		all = append(all, f.bounds(g, s.Columns[0]))
	}
	return all, nil
}

func (f *file) close() {
	if c, ok := f.opened.(io.Closer); ok && f.opened != nil {
		_ = c.Close() // opened only for reading
	}
}

// place returns the index of a column in the file, or -1.
func (f *file) place(c Column) int {
	return slices.IndexFunc(f.reader.Manifest.Fields, func(field pqarrow.SchemaField) bool { return f.scan.matchesField(*field.Field, c.IDs) })
}

// matchesField reports whether a field of a file is the wanted field of the table. It compares ids, or names
// if the file has no ids.
func (s *Scan) matchesField(field, wanted arrow.Field) bool {
	id, _ := idOf(wanted)
	if fieldID, ok := idOf(field); ok {
		return fieldID == id
	}
	if names, ok := s.Names[id]; ok {
		return slices.Contains(names, field.Name)
	}
	return field.Name == wanted.Name
}

// leaf returns the leaf index of a flat column, or -1.
func (f *file) leaf(c Column) int {
	if i := f.place(c); i >= 0 && f.reader.Manifest.Fields[i].IsLeaf() {
		return f.reader.Manifest.Fields[i].ColIndex
	}
	return -1
}

// addLeaves adds the leaf columns of a field to a set.
func addLeaves(f *pqarrow.SchemaField, set map[int]bool) {
	if f.IsLeaf() {
		set[f.ColIndex] = true
	}
	for i := range f.Children {
		addLeaves(&f.Children[i], set)
	}
}

// size estimates the decoded bytes of columns in a group.
func (f *file) size(g group, columns []Column) (n int64) {
	for _, c := range columns {
		if i := f.place(c); i >= 0 {
			all := map[int]bool{}
			addLeaves(&f.reader.Manifest.Fields[i], all)
			for leaf := range all {
				if chunk, err := f.parsed.MetaData().RowGroup(g.number).ColumnChunk(leaf); err == nil {
					n += min(max(chunk.TotalUncompressedSize(), 8*g.rows, 0), 1<<40) // limited, because a damaged file may claim any size
				}
			}
		}
	}
	return n
}

// mayMatch reports whether a group may have matching rows, as its statistics say.
func (f *file) mayMatch(g group) bool {
	mayMatch := f.scan.May
	if mayMatch == nil && f.scan.Where != nil {
		mayMatch = f.scan.Where.May
	}
	if mayMatch == nil {
		return true
	}
	matches, _ := mayMatch(func(name string) filter.Bounds { return f.boundsOf(g, name) })
	return matches
}

func (f *file) boundsOf(g group, name string) filter.Bounds {
	for _, c := range slices.Concat(f.scan.Looked, f.scan.Columns) {
		if c.Field.Name == name {
			return f.bounds(g, c)
		}
	}
	return filter.Bounds{Rows: g.rows, Nulls: -1}
}

// bounds returns the statistics of a column in a group, if statistics of its type are reliable.
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
		b.Min, b.Max = stats.EncodeMin(), stats.EncodeMax()
	}
	return b
}

// statsLeaf returns the leaf index of a column with usable statistics, or -1, and reports whether the file
// has the column.
func (f *file) statsLeaf(c Column) (leaf int, exists bool) {
	i := f.place(c)
	if i < 0 {
		return -1, false
	}
	field := f.reader.Manifest.Fields[i]
	if !field.IsLeaf() || !hasValidBounds(field.Field.Type, c.Field.Type) {
		return -1, true
	}
	return field.ColIndex, true
}

// hasValidBounds reports whether bounds of a column in a file are valid for the table's type: the types must
// have the same order and unit.
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

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
	name   string // without its directory, which errors must not reveal
	drop   *Drop
	skip   int64
	opened parquet.ReaderAtSeeker
	parsed *pqfile.Reader
	reader *pqarrow.FileReader
	looker *pqarrow.FileReader // reads the condition's columns, with recycled memory
	groups []group             // groups that may have matching rows
}

// group is a row group. first is the index in the file of its first row.
type group struct {
	number      int
	first, rows int64
	size        int64                             // estimated decoded bytes of the wanted columns
	index       *metadata.RowGroupPageIndexReader // page index, set when the rows are read; nil: none
}

// sane, when deferred, turns a panic of the library into an error. Some damaged files cause panics.
func (f *file) sane(err *error) {
	if p := recover(); p != nil {
		*err = &partd.CorruptError{Path: f.name, Offset: -1, Err: fmt.Errorf("its Parquet cannot be read: %v", p)}
	}
}

func (s *Scan) open(ctx context.Context, of File) (f *file, err error) {
	f = &file{scan: s, name: path.Base(of.Path), skip: of.Skip}
	defer func() {
		if err != nil {
			f.close()
			err = fmt.Errorf("file %s: %w", f.name, err)
		}
	}()
	defer f.sane(&err)
	if of.Drop != nil {
		if f.drop, err = of.Drop(ctx); err != nil {
			return f, err
		}
	}
	if f.opened, err = s.Open(of.Path); err != nil {
		return f, err
	}
	if f.parsed, err = s.parse(of.Path, f.opened); err != nil {
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
	first := int64(0)
	for i := range f.parsed.NumRowGroups() {
		g := group{number: i, first: first, rows: f.parsed.MetaData().RowGroup(i).NumRows()}
		if first += g.rows; g.rows < 0 {
			return f, errors.New("it has a group of less than no rows")
		}
		if g.rows > 0 && first > f.skip && f.may(g) {
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
	return slices.IndexFunc(f.reader.Manifest.Fields, func(has pqarrow.SchemaField) bool { return f.scan.is(*has.Field, c.IDs) })
}

// is reports whether a field of a file is a field of the table. Fields are compared by id, or by
// name if the file has no ids.
func (s *Scan) is(has, wanted arrow.Field) bool {
	id, _ := idOf(wanted)
	if of, ok := idOf(has); ok {
		return of == id
	}
	if names, ok := s.Names[id]; ok {
		return slices.Contains(names, has.Name)
	}
	return has.Name == wanted.Name
}

// leaf returns the leaf index of a flat column, or -1.
func (f *file) leaf(c Column) int {
	if at := f.place(c); at >= 0 && f.reader.Manifest.Fields[at].IsLeaf() {
		return f.reader.Manifest.Fields[at].ColIndex
	}
	return -1
}

// leaves adds the leaf columns of a field to a set.
func leaves(f *pqarrow.SchemaField, to map[int]bool) {
	if f.IsLeaf() {
		to[f.ColIndex] = true
	}
	for i := range f.Children {
		leaves(&f.Children[i], to)
	}
}

// size estimates the decoded bytes of columns of a group.
func (f *file) size(g group, columns []Column) (n int64) {
	for _, c := range columns {
		if at := f.place(c); at >= 0 {
			all := map[int]bool{}
			leaves(&f.reader.Manifest.Fields[at], all)
			for leaf := range all {
				if chunk, err := f.parsed.MetaData().RowGroup(g.number).ColumnChunk(leaf); err == nil {
					n += min(max(chunk.TotalUncompressedSize(), 8*g.rows, 0), 1<<40) // limited, because a damaged file may claim any size
				}
			}
		}
	}
	return n
}

// may reports whether a group may have matching rows, by its statistics.
func (f *file) may(g group) bool {
	may := f.scan.May
	if may == nil && f.scan.Where != nil {
		may = f.scan.Where.May
	}
	if may == nil {
		return true
	}
	some, _ := may(func(name string) filter.Bounds { return f.boundsOf(g, name) })
	return some
}

func (f *file) boundsOf(g group, name string) filter.Bounds {
	for _, c := range slices.Concat(f.scan.Looked, f.scan.Columns) {
		if c.Field.Name == name {
			return f.bounds(g, c)
		}
	}
	return filter.Bounds{Rows: g.rows, Nulls: -1}
}

// bounds returns the statistics of a column in a group, if its type's statistics are reliable.
func (f *file) bounds(g group, c Column) filter.Bounds {
	b := filter.Bounds{Rows: g.rows, Nulls: -1}
	leaf, there := f.compared(c)
	if !there && c.Absent == nil {
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

// compared returns the leaf of a column with usable statistics, or -1, and reports whether the file
// has the column.
func (f *file) compared(c Column) (leaf int, there bool) {
	at := f.place(c)
	if at < 0 {
		return -1, false
	}
	field := f.reader.Manifest.Fields[at]
	if !field.IsLeaf() || !comparable(field.Field.Type, c.Field.Type) {
		return -1, true
	}
	return field.ColIndex, true
}

// comparable reports whether a file column's bounds are valid for the table's type: same order and
// same unit.
func comparable(has, wanted arrow.DataType) bool {
	switch wanted.ID() {
	case arrow.INT64:
		return has.ID() == arrow.INT32 || has.ID() == arrow.INT64
	case arrow.FLOAT64:
		return has.ID() == arrow.FLOAT32 || has.ID() == arrow.FLOAT64
	case arrow.TIMESTAMP:
		t, ok := has.(*arrow.TimestampType)
		return ok && t.Unit == wanted.(*arrow.TimestampType).Unit
	case arrow.INT32, arrow.FLOAT32, arrow.DATE32, arrow.TIME64, arrow.STRING, arrow.BINARY:
		return arrow.TypeEqual(has, wanted)
	}
	return false
}

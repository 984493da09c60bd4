package datafile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	pqfile "github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/take"
)

// file is an open file.
type file struct {
	scan   *Scan
	name   string // without where it is, which errors keep from strangers
	drop   *Drop
	source parquet.ReaderAtSeeker
	parsed *pqfile.Reader
	reader *pqarrow.FileReader
	groups []group // that may have rows
}

// group is a group of rows, by its number.
type group struct {
	number      int
	first, rows int64
}

// sane makes an error of a panic of the library, which some damaged files lead to.
func (f *file) sane(err *error) {
	if p := recover(); p != nil {
		*err = &partd.CorruptError{Path: f.name, Offset: -1, Err: fmt.Errorf("its Parquet cannot be read: %v", p)}
	}
}

func (s *Scan) open(ctx context.Context, of File) (f *file, err error) {
	f = &file{scan: s, name: path.Base(of.Path)}
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
	if f.source, err = s.Open(of.Path); err != nil {
		return f, err
	}
	if f.parsed, err = pqfile.NewParquetReader(f.source); err != nil {
		return f, err
	}
	// An Arrow schema that a writer left would change the types, and is a way to have much
	// memory allocated.
	f.parsed.MetaData().FileMetaData.KeyValueMetadata = nil
	f.reader, err = pqarrow.NewFileReader(f.parsed, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
	if err != nil {
		return f, err
	}
	first := int64(0)
	for i := range f.parsed.NumRowGroups() {
		g := group{i, first, f.parsed.MetaData().RowGroup(i).NumRows()}
		if first += g.rows; g.rows < 0 {
			return f, errors.New("it has a group of less than no rows")
		}
		if g.rows > 0 && f.may(g) {
			f.groups = append(f.groups, g)
		}
	}
	return f, nil
}

// Groups returns what the statistics of a file say of the first column, in each group.
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
	if c, ok := f.source.(io.Closer); ok && f.source != nil {
		_ = c.Close() // it was only read
	}
}

// place returns where the file has a column, -1 if it lacks it.
func (f *file) place(c Column) int {
	return slices.IndexFunc(f.reader.Manifest.Fields, func(has pqarrow.SchemaField) bool { return f.scan.is(*has.Field, c.IDs) })
}

// is reports whether a field of a file is a field of the table: by its id, or where
// the file has none by its name.
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

// leaves adds the leaf columns of a field.
func leaves(f *pqarrow.SchemaField, to map[int]bool) {
	if f.IsLeaf() {
		to[f.ColIndex] = true
	}
	for i := range f.Children {
		leaves(&f.Children[i], to)
	}
}

// size is about how many bytes columns of a group take, decoded.
func (f *file) size(g group, columns []Column) (n int64) {
	for _, c := range columns {
		if at := f.place(c); at >= 0 {
			all := map[int]bool{}
			leaves(&f.reader.Manifest.Fields[at], all)
			for leaf := range all {
				if chunk, err := f.parsed.MetaData().RowGroup(g.number).ColumnChunk(leaf); err == nil {
					n += min(max(chunk.TotalUncompressedSize(), 8*g.rows, 0), 1<<40) // a damaged file may say anything
				}
			}
		}
	}
	return n
}

// columns are columns of a group, being read.
type columns struct {
	f       *file
	wanted  []Column
	readers []*pqarrow.ColumnReader // nil: the file lacks the column
	fields  []arrow.Field           // as the file has them
}

func (f *file) columns(ctx context.Context, g group, wanted []Column) (c *columns, err error) {
	c = &columns{f, wanted, make([]*pqarrow.ColumnReader, len(wanted)), make([]arrow.Field, len(wanted))}
	defer func() {
		if err != nil {
			c.release()
		}
	}()
	defer f.sane(&err)
	reader := *f.reader // with properties of its own
	// What the footer says is believed as far as it is not much.
	reader.Props.PreAllocBinaryData = f.size(g, wanted) <= mostHeld
	for i, w := range wanted {
		at := f.place(w)
		if at < 0 {
			continue
		}
		field := &f.reader.Manifest.Fields[at]
		all := map[int]bool{}
		leaves(field, all)
		for leaf := range all { // the reader of structs begins in goroutines of its own, which must not panic
			if err := f.sound(g, leaf); err != nil {
				return c, err
			}
		}
		if c.readers[i], err = reader.GetFieldReader(ctx, at, all, []int{g.number}); err != nil {
			return c, err
		}
		c.fields[i] = *field.Field
	}
	return c, nil
}

// sound looks at where a column's bytes are said to be.
func (f *file) sound(g group, leaf int) error {
	chunk, err := f.parsed.MetaData().RowGroup(g.number).ColumnChunk(leaf)
	if err != nil {
		return err
	}
	start, size := chunk.DataPageOffset(), f.parsed.MetaData().GetSourceFileSize()
	if chunk.HasDictionaryPage() && chunk.DictionaryPageOffset() > 0 {
		start = min(start, chunk.DictionaryPageOffset())
	}
	if length := chunk.TotalCompressedSize(); start < 0 || length < 0 || start > size || length > size-start {
		return fmt.Errorf("column %d of group %d is said to have %d bytes from %d on, and the file has %d: it is damaged", leaf, g.number, length, start, size)
	}
	return nil
}

func (c *columns) release() {
	for _, r := range c.readers {
		if r != nil {
			r.Release()
		}
	}
}

// next returns the next rows.
func (c *columns) next(rows int64) ([]arrow.Array, error) {
	all := make([]arrow.Array, len(c.wanted))
	for i, w := range c.wanted {
		var err error
		if c.readers[i] == nil {
			all[i], err = absent(w, int(rows))
		} else {
			all[i], err = c.one(i, rows)
		}
		if err != nil {
			return nil, fmt.Errorf("column %q: %w", w.Field.Name, err)
		}
	}
	return all, nil
}

func (c *columns) one(i int, rows int64) (_ arrow.Array, err error) {
	defer c.f.sane(&err)
	chunks, err := c.readers[i].NextBatch(rows)
	if err != nil {
		return nil, err
	}
	defer chunks.Release()
	if int64(chunks.Len()) != rows {
		return nil, fmt.Errorf("it ends after %d of %d rows: the file is damaged", chunks.Len(), rows)
	}
	whole := chunks.Chunk(0)
	if len(chunks.Chunks()) > 1 {
		if whole, err = array.Concatenate(chunks.Chunks(), memory.DefaultAllocator); err != nil {
			return nil, err
		}
	}
	if _, ok := whole.DataType().(arrow.NestedType); ok { // whose parts may not belong together in a damaged file
		if err := array.ValidateFull(whole); err != nil {
			return nil, fmt.Errorf("the file is damaged: %w", err)
		}
	}
	return c.f.scan.fit(whole, c.fields[i], c.wanted[i].IDs, c.wanted[i].Field.Type)
}

// absent returns what files have that lack a column.
func absent(c Column, rows int) (arrow.Array, error) {
	if c.Absent == nil {
		return array.MakeArrayOfNull(memory.DefaultAllocator, c.Field.Type, rows), nil
	}
	return take.Rows(c.Absent, make([]int, rows))
}

// decide finds which rows of a step are kept.
func (f *file) decide(st *step, first int64) error {
	where, drop := f.scan.Where, f.drop
	if where == nil && drop == nil {
		return nil
	}
	var keep []bool
	var err error
	if where == nil {
		keep = slices.Repeat([]bool{true}, int(st.rows))
	} else {
		keep, err = where.Holds(int(st.rows), func(name string) arrow.Array { return st.looked[slices.Index(where.Columns, name)] })
		if err != nil {
			return err
		}
	}
	if drop != nil {
		if err := drop.Gone(first, keep, st.looked[len(f.scan.Looked):]); err != nil {
			return err
		}
	}
	at := take.Indices(keep)
	st.none = len(at) == 0
	if int64(len(at)) < st.rows {
		st.at = at
	}
	return nil
}

// picked makes a batch of the rows of a step that are kept.
func picked(schema *arrow.Schema, columns []arrow.Array, st step) (arrow.RecordBatch, error) {
	rows := st.rows
	if st.at != nil {
		rows = int64(len(st.at))
		for i, c := range columns {
			var err error
			if columns[i], err = take.Rows(c, st.at); err != nil {
				return nil, fmt.Errorf("column %q: %w", schema.Field(i).Name, err)
			}
		}
	}
	return array.NewRecordBatch(schema, columns, rows), nil
}

// may reports whether a group may have rows of the condition, as its statistics say.
func (f *file) may(g group) bool {
	may := f.scan.May
	if may == nil && f.scan.Where != nil {
		may = f.scan.Where.May
	}
	if may == nil {
		return true
	}
	some, _ := may(func(name string) filter.Bounds {
		for _, c := range slices.Concat(f.scan.Looked, f.scan.Columns) {
			if c.Field.Name == name {
				return f.bounds(g, c)
			}
		}
		return filter.Bounds{Rows: g.rows, Nulls: -1}
	})
	return some
}

// bounds returns what the statistics of a group say of a column, for the types of
// which they are known to be right.
func (f *file) bounds(g group, c Column) filter.Bounds {
	b := filter.Bounds{Rows: g.rows, Nulls: -1}
	at := f.place(c)
	if at < 0 {
		if c.Absent == nil {
			b.Nulls = g.rows
		}
		return b
	}
	field := f.reader.Manifest.Fields[at]
	if !field.IsLeaf() || !comparable(field.Field.Type, c.Field.Type) {
		return b
	}
	chunk, err := f.parsed.MetaData().RowGroup(g.number).ColumnChunk(field.ColIndex)
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
		b.Least, b.Most = stats.EncodeMin(), stats.EncodeMax()
	}
	return b
}

// comparable reports whether the smallest and largest values of a column of a file are
// those of the table's: in the order of its values, and in the same unit.
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

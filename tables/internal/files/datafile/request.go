package datafile

import (
	"context"
	"slices"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

// Column is a table column to read.
type Column struct {
	Field  arrow.Field // the column as scans return it
	IDs    arrow.Field // Field, with field IDs in its metadata and in that of nested fields
	Absent arrow.Array // array of length 1 with the value to use for files that lack the column; nil means null
}

// IDKey is the key in a field's metadata under which the field's ID is stored.
const IDKey = "PARQUET:field_id"

func idOf(f arrow.Field) (int, bool) {
	text, ok := f.Metadata.GetValue(IDKey)
	id, err := strconv.Atoi(text)
	return id, ok && err == nil && id >= 0 // The library uses -1 if the file has no IDs.
}

// Deletes marks the deleted rows in a file.
type Deletes struct {
	Columns []Column // columns that MarkDeleted needs
	// MarkDeleted sets keep[i] to false if row firstRow+i of the file is deleted. columns has the values of Columns for
	// the rows in keep.
	MarkDeleted func(firstRow int64, keep []bool, columns []arrow.Array) error
}

// File is a file to read.
type File struct {
	Path    string
	Deletes func(context.Context) (*Deletes, error) // returns the deleted rows; a nil function means none
	Skip    int64                                   // number of leading rows to skip
	Lineage Lineage                                 // used only if the scan reads Iceberg's lineage columns
}

// Lineage contains the values that a file's rows inherit if Iceberg's lineage columns are missing or null. Row n in the
// file, counted from 0, inherits the ID FirstRowID+n. A nil FirstRowID means that the rows have no IDs yet.
type Lineage struct{ FirstRowID, Sequence *int64 }

// Scan configures how files are read.
type Scan struct {
	Open    func(path string) (parquet.ReaderAtSeeker, error) // if the opened file is an io.Closer, the scan closes it
	Footers *icecat.Cache[*icecat.Footer]                     // cache of footers; can be nil
	// MaxPage returns the maximum size of a page in a file, in bytes. Nil means no limit.
	MaxPage          func(ctx context.Context, path string) (int64, error)
	Small            *icecat.Cache[bool] // results of AreSmall; can be nil
	Columns          []Column
	Where            *filter.Condition // nil selects all rows
	ConditionColumns []Column          // the columns of Where, in the same order
	// MayMatch reports whether rows with the given column bounds can match, and whether they can fail to match. If it
	// is nil, the scan uses Where.May.
	MayMatch func(column func(name string) filter.Bounds) (mayHold, mayFail bool)
	Names    map[int][]string // by field ID: other names of the field, used to find it in files without IDs; can be nil
	Rows     int64            // maximum number of rows per batch
	Workers  int              // number of row groups to read concurrently, ahead of the consumer
	Memory   int64            // approximate limit for the decoded size of the row groups being read, in bytes
	Recycle  bool             // reuse the memory of released batches
}

// Schema returns the schema of the batches.
func (s *Scan) Schema() *arrow.Schema {
	fields := make([]arrow.Field, len(s.Columns))
	for i, c := range s.Columns {
		fields[i] = c.Field
	}
	return arrow.NewSchema(fields, nil)
}

// maxAhead limits how many batches of a row group are decoded ahead of the consumer. A row group that this package
// wrote has at most this number of batches of BatchRows rows.
const maxAhead = 4

// BatchRows is the maximum number of rows in a batch. Larger batches need buffers that are slow to allocate.
const BatchRows = 1 << 15

// NewScan returns a scan of a table's files. It reads the named columns of schema s in their stored types, or all
// columns if columns is nil.
func NewScan(ctx context.Context, t *table.Table, s *iceberg.Schema, columns []string, where *filter.Condition) (*Scan, error) {
	fs, err := t.FS(ctx)
	if err != nil {
		return nil, err
	}
	scan := &Scan{
		Open: func(path string) (parquet.ReaderAtSeeker, error) { return fs.Open(path) }, Names: map[int][]string{},
		Rows: BatchRows, Workers: 1, Where: where,
	}
	if fileIO, ok := fs.(*icecat.FileIO); ok {
		scan.Footers, scan.MaxPage, scan.Small = fileIO.Footers(), fileIO.MaxPage, fileIO.Small()
	}
	AddMappedNames(t.Metadata().NameMapping(), scan.Names)
	tableColumns, err := columnsByID(s)
	if err != nil {
		return nil, err
	}
	for _, c := range tableColumns {
		if columns == nil || slices.Contains(columns, c.Field.Name) {
			scan.Columns = append(scan.Columns, c)
		}
	}
	if where != nil {
		for _, name := range where.Columns {
			i := slices.IndexFunc(tableColumns, func(c Column) bool { return c.Field.Name == name })
			scan.ConditionColumns = append(scan.ConditionColumns, tableColumns[i])
		}
	}
	return scan, nil
}

// AddMappedNames adds the names of a name mapping to names, by field ID. The mapping applies to files without IDs.
func AddMappedNames(fields []iceberg.MappedField, names map[int][]string) {
	for _, f := range fields {
		if f.FieldID != nil {
			names[*f.FieldID] = f.Names
		}
		AddMappedNames(f.Fields, names)
	}
}

// columnsByID returns a schema's columns in their stored types, with field IDs.
func columnsByID(s *iceberg.Schema) ([]Column, error) {
	stored, err := schema.StoredSchema(s)
	if err == nil {
		err = schema.CheckReadable(stored)
	}
	if err != nil {
		return nil, err
	}
	ids, err := table.SchemaToArrowSchema(s, nil, true, false)
	if err != nil {
		return nil, err
	}
	defaults, err := schema.DefaultsOf(s, stored)
	if err != nil {
		return nil, err
	}
	columns := make([]Column, stored.NumFields())
	for i := range columns {
		columns[i] = Column{Field: stored.Field(i), IDs: ids.Field(i), Absent: defaults.Initial[i]}
	}
	return columns, nil
}

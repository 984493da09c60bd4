package datafile

import (
	"context"
	"fmt"
	"io"
	"path"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	pqschema "github.com/apache/arrow-go/v18/parquet/schema"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables/internal/rows/arrowtype"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

// Fields describes the schema of a Parquet file.
type Fields struct {
	Names map[int]string // names of fields by ID; fields without an ID are omitted
	// Unreadable lists the scan's columns whose type cannot represent all values that the file may contain. Each entry
	// names both types.
	Unreadable []string
}

// FieldsOf returns the fields of a file that s may read. The error is a [*partd.CorruptError] if the storage can read the
// file, but it is not a valid Parquet file.
func (s *Scan) FieldsOf(ctx context.Context, name string) (_ *Fields, err error) {
	f, err := s.open(ctx, File{Path: name})
	if err != nil {
		return nil, s.withCause(err, name)
	}
	defer f.close()
	defer f.recoverPanic(&err)
	fields := &Fields{Names: map[int]string{}}
	addFieldNames(f.parsed.MetaData().Schema.Root(), fields.Names)
	for _, c := range s.Columns {
		if i := f.fieldIndex(c); i >= 0 {
			fields.Unreadable = append(fields.Unreadable, s.unreadable(c.Field.Name, *f.reader.Manifest.Fields[i].Field, c.IDs, c.Field.Type)...)
		}
	}
	return fields, nil
}

// withCause wraps err, an error from opening a file, in a CorruptError unless the storage caused it.
func (s *Scan) withCause(err error, name string) error {
	opened, openErr := s.Open(name)
	if openErr != nil {
		return err
	}
	if c, ok := opened.(io.Closer); ok {
		defer c.Close() //nolint:errcheck // opened only for reading
	}
	if _, readErr := opened.ReadAt(make([]byte, 1), 0); readErr != nil && readErr != io.EOF {
		return err
	}
	return &partd.CorruptError{Path: path.Base(name), Offset: -1, Err: err}
}

func addFieldNames(group *pqschema.GroupNode, names map[int]string) {
	for i := range group.NumFields() {
		field := group.Field(i)
		if field.FieldID() >= 0 {
			names[int(field.FieldID())] = field.Name()
		}
		if nested, ok := field.(*pqschema.GroupNode); ok {
			addFieldNames(nested, names)
		}
	}
}

// unreadable describes the mismatch between a file's field and a table's type, and between the fields nested in them.
// Its parameters are like those of convertToTable.
func (s *Scan) unreadable(name string, fileField, ids arrow.Field, tableType arrow.DataType) (mismatches []string) {
	nested, isNested := tableType.(arrow.NestedType)
	switch {
	case isNested && fileField.Type.ID() == tableType.ID():
	case represents(tableType, fileField.Type):
		return nil
	default:
		return []string{fmt.Sprintf("%s: %s instead of %s", name, fileField.Type, tableType)}
	}
	fileFields, idFields := fileField.Type.(arrow.NestedType).Fields(), ids.Type.(arrow.NestedType).Fields()
	for i, f := range nested.Fields() {
		k := i
		if tableType.ID() == arrow.STRUCT {
			k = slices.IndexFunc(fileFields, func(inFile arrow.Field) bool { return s.matchesField(inFile, idFields[i]) })
		}
		if k >= 0 {
			mismatches = append(mismatches, s.unreadable(name+"."+f.Name, fileFields[k], idFields[i], f.Type)...)
		}
	}
	return mismatches
}

// represents reports whether a table's type can represent the values of a file's type. Neither type may be nested. It
// also returns true for types in which writers store values of the table's type: bytes for texts and for values of
// fixed size, INT96 (12 bytes) for timestamps, and integers without a logical type for dates and times.
func represents(tableType, fileType arrow.DataType) bool {
	tableType, fileType = arrowtype.Unwrap(tableType), arrowtype.Unwrap(fileType)
	from, size := fileType.ID(), 0
	if from == arrow.NULL {
		return true
	}
	if t, ok := fileType.(*arrow.FixedSizeBinaryType); ok {
		size = t.ByteWidth
	}
	file := arrowtype.Of(fileType)
	unit, _ := fileType.(arrow.TemporalWithUnit)
	switch t := arrowtype.Of(tableType); t.Kind {
	case arrowtype.Text:
		return arrow.TypeEqual(fileType, tableType) || from == arrow.BINARY
	case arrowtype.Binary:
		if tableType.ID() == arrow.BINARY {
			return from == arrow.BINARY || from == arrow.FIXED_SIZE_BINARY
		}
		return arrow.TypeEqual(fileType, tableType) || from == arrow.BINARY
	case arrowtype.Date:
		return from == arrow.DATE32 || from == arrow.INT32
	case arrowtype.Time:
		return from == arrow.INT64 || file.Kind == t.Kind && unit.TimeUnit() <= tableType.(*arrow.Time64Type).Unit
	case arrowtype.Timestamp:
		return file.Kind == t.Kind && unit.TimeUnit() <= tableType.(*arrow.TimestampType).Unit || from == arrow.INT64 || from == arrow.DATE32 || size == 12
	}
	if tableType.ID() == arrow.INT64 && from == arrow.TIME64 { // nanoseconds of a day
		return unit.TimeUnit() == arrow.Nanosecond
	}
	if tableType.ID() == arrow.FLOAT64 && from == arrow.INT64 { // CanWiden leaves checking the values to its caller
		return false
	}
	return arrow.TypeEqual(fileType, tableType) || schema.CanWiden(fileType, tableType)
}

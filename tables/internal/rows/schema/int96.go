package schema

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	pqschema "github.com/apache/arrow-go/v18/parquet/schema"

	"github.com/go-partd/partd/tables/internal/rows/arrowtype"
)

// INT96 is Parquet's old type for times: a Julian day, and the nanoseconds within that day. arrow-go reads it only as
// nanoseconds since 1970, which end in 2262. So OpenParquet presents it as 12 bytes, and ConvertArray converts these to
// timestamps in any unit. To mark the columns, OpenParquet gives them the logical type INTERVAL. It removes that type
// from columns that really have it; this changes nothing else, because arrow-go reads intervals as bytes.

const (
	int96Size     = 12
	unixEpoch     = 2440588 // Julian day of 1970-01-01
	secondsPerDay = 24 * 60 * 60
)

// IsInt96 reports whether a column of a file from [OpenParquet] has the type INT96.
func IsInt96(c *pqschema.Column) bool {
	_, marked := c.LogicalType().(pqschema.IntervalLogicalType)
	return marked
}

// WithInt96 returns a Parquet file's columns with timestamps in place of INT96. A timestamp has its column's type in
// known, which can be nil. By default, it is in microseconds without a zone.
func WithInt96(columns *arrow.Schema, file *pqarrow.FileReader, known *arrow.Schema) *arrow.Schema {
	fields := columns.Fields()
	for i, f := range fields {
		knownType := arrow.DataType(arrow.Null)
		if known != nil {
			if same := known.FieldIndices(f.Name); len(same) == 1 {
				knownType = known.Field(same[0]).Type
			}
		}
		fields[i].Type = int96Type(file.ParquetReader().MetaData().Schema, &file.Manifest.Fields[i], f.Type, knownType)
	}
	metadata := columns.Metadata()
	return arrow.NewSchema(fields, &metadata)
}

// int96Type applies WithInt96 to the type of a field and of the fields nested in it.
func int96Type(s *pqschema.Schema, f *pqarrow.SchemaField, t, known arrow.DataType) arrow.DataType {
	switch {
	case f.IsLeaf() && !IsInt96(s.Column(f.ColIndex)):
		return t
	case f.IsLeaf() && arrowtype.KindOf(known) == arrowtype.Timestamp:
		return known
	case f.IsLeaf():
		return &arrow.TimestampType{Unit: arrow.Microsecond}
	}
	children, knownFields := f.Children, nestedFields(known)
	if t.ID() == arrow.MAP {
		children = children[0].Children
	}
	if len(knownFields) != len(children) {
		knownFields = slices.Repeat([]arrow.Field{{Type: arrow.Null}}, len(children))
	}
	next := 0
	return rebuild(t, func(field arrow.Field) arrow.Field {
		field.Type = int96Type(s, &children[next], field.Type, knownFields[next].Type)
		next++
		return field
	}, func(t arrow.DataType) arrow.DataType { return t })
}

func nestedFields(t arrow.DataType) (fields []arrow.Field) {
	rebuild(t, func(f arrow.Field) arrow.Field {
		fields = append(fields, f)
		return f
	}, func(t arrow.DataType) arrow.DataType { return t })
	return fields
}

// int96Time returns the timestamp in an INT96 value, or an error if it is not an exact number of units.
func int96Time(b []byte, to *arrow.TimestampType) (arrow.Timestamp, error) {
	if len(b) != int96Size {
		return 0, fmt.Errorf("cannot convert %d bytes to %s", len(b), to)
	}
	days, nanoseconds := int64(binary.LittleEndian.Uint32(b[8:]))-unixEpoch, int64(binary.LittleEndian.Uint64(b))
	t := time.Unix(days*secondsPerDay, nanoseconds).UTC()
	value, err := arrow.TimestampFromTime(t, to.Unit)
	const layout = "2006-01-02 15:04:05.999999999"
	switch {
	case nanoseconds%int64(to.Unit.Multiplier()) != 0:
		return 0, fmt.Errorf("the INT96 time %s has digits that are too small for %s: only an existing column in nanoseconds keeps all digits", t.Format(layout), to)
	case err != nil || !value.ToTime(to.Unit).Equal(t):
		return 0, fmt.Errorf("the INT96 time %s is outside the range of %s", t.Format(layout), to)
	}
	return value, nil
}

// RowError returns convert's error for the first row that it rejects, with the row's number. If it rejects none,
// RowError returns err. rowsBefore is the number of rows before the given ones.
func RowError(err error, rows int, rowsBefore int64, convert func(row int) error) error {
	for row := range rows {
		if rowErr := convert(row); rowErr != nil {
			return fmt.Errorf("row %d: %w", rowsBefore+int64(row)+1, rowErr)
		}
	}
	return err
}

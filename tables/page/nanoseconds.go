package page

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/sql/sqltext"
)

// keepNanoseconds makes a view keep the nanoseconds in timestamps with a time zone, although SQL truncates them. It sets
// v.source to a subquery that has two columns for each column of such timestamps. The first has the column's name and
// its SQL type, for use in conditions. The second has another name and no time zone, and its values stay exact because
// of QueryOptions.Nanoseconds.
func (h *handler) keepNanoseconds(q *request, v *view) error {
	var names, typeQueries []string
	for _, f := range v.schema.Fields() {
		if stored, err := schema.StoredType(f.Type); err == nil && schema.ContainsType(stored, schema.IsZonedNanos) {
			names = append(names, f.Name)
			typeQueries = append(typeQueries, "typeof((SELECT "+sqltext.Name(f.Name)+" FROM "+sqltext.Name(v.name)+" LIMIT 1))")
		}
	}
	if names == nil {
		return nil
	}
	types, err := h.queryTexts(q, v, "SELECT "+strings.Join(typeQueries, ", "), nil)
	if err != nil {
		return err
	}
	var casts, exactColumns, hidden, restored []string
	v.exact = map[string]string{}
	for i, name := range names {
		exactName := fmt.Sprint("partd_exact_", i)
		for slices.ContainsFunc(v.schema.Fields(), func(f arrow.Field) bool { return strings.EqualFold(f.Name, exactName) }) {
			exactName += "_"
		}
		v.exact[name] = exactName
		name, exactName = sqltext.Name(name), sqltext.Name(exactName)
		casts = append(casts, "CAST("+name+" AS "+types[0][i]+") AS "+name)
		exactColumns, hidden, restored = append(exactColumns, name+" AS "+exactName), append(hidden, exactName), append(restored, exactName+" AS "+name)
	}
	v.source = "(SELECT * REPLACE (" + strings.Join(casts, ", ") + "), " + strings.Join(exactColumns, ", ") + " FROM " + sqltext.Name(v.name) + ")"
	v.star = "* EXCLUDE (" + strings.Join(hidden, ", ") + ") REPLACE (" + strings.Join(restored, ", ") + ")"
	return nil
}

// rowsFrom is like from, but selects from v.source. The statement that returns the rows uses rowsFrom.
func (v *view) rowsFrom(condition string) string {
	return v.fromSource(cmp.Or(v.source, sqltext.Name(v.name)), condition)
}

// linesAboveInRows returns the number of lines before the filter in a statement from rowsSQL.
func (v *view) linesAboveInRows() int {
	return 2 + strings.Count(cmp.Or(v.source, v.name)+v.star, "\n")
}

// rowsSQL returns the statement for the rows that satisfy a condition.
func (v *view) rowsSQL(condition string) string {
	return "SELECT " + cmp.Or(v.star, "*") + v.rowsFrom(condition) + v.orderBy(false)
}

// restoreZones returns r with the table's time zones, because SQL returns all times with a zone in UTC.
func (v *view) restoreZones(r array.RecordReader) array.RecordReader {
	fields := r.Schema().Fields()
	for i, f := range v.schema.Fields() {
		zoned, _ := f.Type.(*arrow.TimestampType)
		got, _ := fields[i].Type.(*arrow.TimestampType)
		if v.exact[f.Name] != "" {
			stored, _ := schema.StoredType(f.Type) // keepNanoseconds has checked the error
			fields[i].Type = schema.Restore(fields[i].Type, stored, schema.IsZonedNanos)
		} else if zoned != nil && got != nil && got.TimeZone != "" {
			fields[i].Type = &arrow.TimestampType{Unit: got.Unit, TimeZone: zoned.TimeZone}
		}
	}
	to := arrow.NewSchema(fields, nil)
	if to.Equal(r.Schema()) {
		return r
	}
	return batches.Reader(to, batches.Each(r, func(b arrow.RecordBatch) (arrow.RecordBatch, error) { return schema.Convert(b, to) }), r.Release)
}

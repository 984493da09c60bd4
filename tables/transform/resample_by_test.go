package transform_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/transform"
)

// TestResampleByKeys checks that the rows of a table with keys are grouped by them, unless By names other columns, and
// that a table of bars keeps the keys, so that it can be resampled again.
func TestResampleByKeys(t *testing.T) {
	s := newStore(t)
	dictionary := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{
		{Name: "sym", Type: dictionary}, timeField(arrow.Microsecond, ""), {Name: "x", Type: integer, Nullable: true}, {Name: "venue", Type: arrow.BinaryTypes.String, Nullable: true},
	}, nil))
	for i, row := range []string{"B0", "A1X", "B1Y", "A1Y", "A4X", "B2X"} { // symbol, hour, and venue or null
		must.Do(t, b.Field(0).(*array.BinaryDictionaryBuilder).AppendString(row[:1]))
		b.Field(1).(*array.TimestampBuilder).Append(arrow.Timestamp(time.Duration(row[1]-'0') * time.Hour / time.Microsecond))
		b.Field(2).(*array.Int64Builder).Append(int64(i))
		if row[2:] == "" {
			b.Field(3).AppendNull()
		} else {
			b.Field(3).(*array.StringBuilder).Append(row[2:])
		}
	}
	putWith(t, s, "in", tables.PutError, &tables.PutOptions{Settings: &tables.Settings{Time: "t", Keys: []string{"sym"}}}, b.NewRecordBatch())
	for i, c := range []struct {
		rule      string
		by        []string
		functions []string
		want      string
		keys      string
	}{
		{"h", nil, []string{"sum(x)"}, "0 B 0, 1 A 4, 1 B 2, 2 A 0, 2 B 5, 3 A 0, 4 A 4", "[sym]"},
		{"h", []string{}, []string{"sum(x)"}, "0 0, 1 6, 2 5, 3 0, 4 4", "[]"},
		{"2h", []string{"sym", "venue"}, []string{"first(x)"}, "0 A X 1, 0 A Y 3, 0 B Y 2, 0 B (null) 0, 2 A X (null), 2 B X 5, 4 A X 4", "[]"},
		{"D", []string{"venue"}, []string{"max(x)", "size"}, "0 X 5 3, 0 Y 3 2, 0 (null) 0 1", "[]"},
	} {
		target := fmt.Sprint("bars", i)
		o := transform.ResampleOptions{Source: tableName("in"), Target: tableName(target), TimeColumn: "t", Rule: c.rule, By: c.by, Functions: c.functions}
		read, types := readResampled(t, s, o)
		must.Get(transform.Resample(t.Context(), s, &o))(t)
		if put, putTypes := text(t, s, target); put != read || putTypes != types {
			t.Errorf("%+v: Resample() puts\n%s\nof types %s, want the rows of Resampled()\n%s\nof types %s", o, put, putTypes, read, types)
		}
		_, batches := scan(t, s, target)
		var got []string
		for row := range int(batches[0].NumRows()) {
			hour := int64(batches[0].Column(0).(*array.Timestamp).Value(row)) / time.Hour.Microseconds()
			texts := []string{fmt.Sprint(hour)}
			for _, column := range batches[0].Columns()[1:] {
				texts = append(texts, column.ValueStr(row))
			}
			got = append(got, strings.Join(texts, " "))
		}
		settings := must.Get(s.Bucket("").Table(target).Settings(t.Context()))(t)
		if keys := fmt.Sprint(settings.Keys); strings.Join(got, ", ") != c.want || keys != c.keys {
			t.Errorf("%+v: bins are %q, with keys %s, want %q with keys %s", o, got, keys, c.want, c.keys)
		}
	}
	for want, o := range map[string]transform.ResampleOptions{
		`ffill cannot group by "sym"`:                {Functions: []string{"ffill"}},
		`column "y": the table has no such column`:   {Functions: []string{"size"}, By: []string{"y"}},
		"the result would have two columns":          {Functions: []string{"nunique(sym)"}},
		"two columns with this name: choose other c": {Functions: []string{"size"}, By: []string{"t"}},
	} {
		o.Source, o.TimeColumn, o.Rule = tableName("in"), "t", "h"
		if _, err := transform.Resampled(t.Context(), s, &o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Resampled(%+v): error = %v, want one with %q", o, err, want)
		}
	}
}

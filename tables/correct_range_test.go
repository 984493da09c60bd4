package tables_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

func ticks(unit arrow.TimeUnit, zone string) *arrow.Schema {
	return arrow.NewSchema([]arrow.Field{
		{Name: "at", Type: &arrow.TimestampType{Unit: unit, TimeZone: zone}},
		{Name: "sym", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	}, nil)
}

var day0 = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

// ticksAt returns a row with number n for each time, given in hours since day0.
func ticksAt(schema *arrow.Schema, n int64, hours ...int) array.RecordReader {
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	unit := schema.Field(0).Type.(*arrow.TimestampType).Unit
	for _, h := range hours {
		at, err := arrow.TimestampFromTime(day0.Add(time.Duration(h)*time.Hour), unit)
		if err != nil {
			panic(err)
		}
		b.Field(0).(*array.TimestampBuilder).Append(at)
		b.Field(1).(*array.StringBuilder).Append(fmt.Sprint("S", h%3))
		b.Field(2).(*array.Int64Builder).Append(n)
	}
	return tabletest.OneBatch(b.NewRecordBatch())
}

func hours(start, end int) (all []int) {
	for h := start; h < end; h++ {
		all = append(all, h)
	}
	return all
}

func hour(h int) time.Time { return day0.Add(time.Duration(h) * time.Hour) }

// numbersByHour returns "hour:n" for each row of a table, sorted by hour.
func numbersByHour(t testing.TB, b *tables.Bucket, name string) []string {
	t.Helper()
	table := b.Table(name)
	r, err := table.Scan(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	var all []string
	for r.Next() {
		at := r.RecordBatch().Column(0).(*array.Timestamp)
		timeType := at.DataType().(*arrow.TimestampType)
		for i := range at.Len() {
			h := at.Value(i).ToTime(timeType.Unit).Sub(day0) / time.Hour
			all = append(all, fmt.Sprintf("%04d:%s", h, r.RecordBatch().Column(2).ValueStr(i)))
		}
	}
	if r.Err() != nil {
		t.Fatal(r.Err())
	}
	slices.Sort(all)
	return all
}

func wantHours(t testing.TB, b *tables.Bucket, name string, want map[int]int64) {
	t.Helper()
	var all []string
	for h, n := range want {
		all = append(all, fmt.Sprintf("%04d:%d", h, n))
	}
	slices.Sort(all)
	if got := numbersByHour(t, b, name); !slices.Equal(got, all) {
		t.Fatalf("table %q has rows %q, want %q", name, got, all)
	}
}

func TestReplaceRange(t *testing.T) {
	for _, unit := range []arrow.TimeUnit{arrow.Second, arrow.Microsecond, arrow.Nanosecond} {
		t.Run(unit.String(), func(t *testing.T) {
			ctx := t.Context()
			b := tabletest.Open(t, t.TempDir(), nil).Bucket("")
			s := ticks(unit, "UTC")
			want := map[int]int64{}
			for _, part := range [][2]int{{0, 10}, {10, 20}, {20, 30}} {
				tabletest.PutRows(t, b, "t", ticksAt(s, 1, hours(part[0], part[1])...), tables.PutAppend, nil)
				tabletest.Fold(t, b.Store())
				for h := part[0]; h < part[1]; h++ {
					want[h] = 1
				}
			}
			before := tabletest.FilesOf(t, b, "t")
			result, err := b.Table("t").ReplaceRange(ctx, hour(8), hour(13), ticksAt(s, 2, 12, 8, 9), nil)
			if err != nil || result.Deleted != 5 || result.Written != 3 || result.Files != 2 {
				t.Fatalf("ReplaceRange = %+v, %v; want Deleted 5, Written 3 and Files 2", result, err)
			}
			for h := 8; h < 13; h++ {
				delete(want, h)
			}
			want[8], want[9], want[12] = 2, 2, 2
			wantHours(t, b, "t", want)
			if after := tabletest.FilesOf(t, b, "t"); !slices.Contains(after, before[2]) {
				t.Errorf("files before: %q, after: %q; the last one should not have been rewritten", before, after)
			}
			for _, outside := range []int{7, 13} { // the range excludes its end
				_, err := b.Table("t").ReplaceRange(ctx, hour(8), hour(13), ticksAt(s, 3, 9, outside), nil)
				if err == nil || !strings.Contains(err.Error(), "row 2") {
					t.Errorf("ReplaceRange with a row at hour %d: error = %v, want an error for row 2", outside, err)
				}
			}
			wantHours(t, b, "t", want)
			if result, err := b.Table("t").ReplaceRange(ctx, hour(28), time.Time{}, ticksAt(s, 4, 28, 99), nil); err != nil || result.Deleted != 2 {
				t.Fatalf("ReplaceRange = %+v, %v; want Deleted 2", result, err)
			}
			delete(want, 29)
			want[28], want[99] = 4, 4
			wantHours(t, b, "t", want)
			for _, r := range [][2]time.Time{{}, {hour(2), hour(2)}, {hour(3), hour(2)}} {
				if _, err := b.Table("t").ReplaceRange(ctx, r[0], r[1], ticksAt(s, 3), nil); err == nil {
					t.Errorf("ReplaceRange of the range %v succeeded, want an error", r)
				}
			}
		})
	}
}

// TestReplaceRangeTimeColumn checks that the result of ReplaceRange names the time column, in a table with
// two timestamp columns.
func TestReplaceRangeTimeColumn(t *testing.T) {
	b := tabletest.Open(t, t.TempDir(), nil).Bucket("")
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "created", Type: arrow.FixedWidthTypes.Timestamp_us, Nullable: true}, {Name: "at", Type: arrow.FixedWidthTypes.Timestamp_us},
	}, nil)
	rows := func() array.RecordReader {
		build := array.NewRecordBuilder(memory.DefaultAllocator, schema)
		defer build.Release()
		build.Field(0).AppendNull()
		build.Field(1).(*array.TimestampBuilder).AppendTime(day0)
		return tabletest.OneBatch(build.NewRecordBatch())
	}
	tabletest.PutRows(t, b, "t", rows(), tables.PutAppend, &tables.PutOptions{Settings: &tables.Settings{Time: "at"}})
	result, err := b.Table("t").ReplaceRange(t.Context(), day0, day0.Add(1), rows(), nil)
	if err != nil || result.TimeColumn != "at" || result.Deleted != 1 {
		t.Errorf(`ReplaceRange = %+v, %v; want TimeColumn "at" and Deleted 1`, result, err)
	}
	if result, err = b.Table("t").DeleteRows(t.Context(), filter.IsNull("created")); err != nil || result.TimeColumn != "" {
		t.Errorf(`DeleteRows = %+v, %v; want TimeColumn ""`, result, err)
	}
}

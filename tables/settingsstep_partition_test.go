package tables_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// fileSpans returns the hours after day0 of the first and last row in each file, sorted.
func fileSpans(t testing.TB, b *tables.Bucket, name string) (all [][2]int) {
	t.Helper()
	v := must.Get(b.Table(name).View(t.Context(), false))(t)
	files := must.Get(v.Series().Files(t.Context()))(t)
	for _, f := range files {
		if f.Bounds == nil || !v.Series().InOrder(f.Data()) {
			t.Fatal("a file has no bounds, or its rows are not in order")
		}
		hour := func(n int64) int {
			if stamp, ok := v.Definition().Stored.Field(0).Type.(*arrow.TimestampType); ok {
				return int(arrow.Timestamp(n).ToTime(stamp.Unit).Sub(day0) / time.Hour)
			}
			return int(arrow.Date32(n).ToTime().Sub(day0) / time.Hour)
		}
		all = append(all, [2]int{hour(f.Bounds.Lowest), hour(f.Bounds.Highest)})
	}
	slices.SortFunc(all, func(a, b [2]int) int { return slices.Compare(a[:], b[:]) })
	return all
}

func TestPartition(t *testing.T) {
	ctx := t.Context()
	b := tabletest.BucketWithoutTail(t)
	s := ticks(arrow.Microsecond, "UTC")
	o := &tables.PutOptions{Settings: &tables.Settings{Time: "at", Keys: []string{"sym"}, Partition: tables.PartitionDay}}
	tabletest.PutRows(t, b, "t", ticksAt(s, 1, hours(5, 60)...), tables.PutAppend, o)
	if got, want := fileSpans(t, b, "t"), [][2]int{{5, 23}, {24, 47}, {48, 59}}; !slices.Equal(got, want) {
		t.Fatalf("the files have hours %v, want %v", got, want)
	}
	want := map[int]int64{}
	for _, h := range hours(5, 60) {
		want[h] = 1
	}
	result, err := b.Table("t").Partition(ctx, tables.PartitionMonth)
	if err != nil || result.Partition != tables.PartitionMonth || result.FilesBefore != 3 || result.FilesAfter != 1 || result.Version != 2 {
		t.Fatalf("Partition = %+v, %v; want PartitionMonth, FilesBefore 3, FilesAfter 1 and Version 2", result, err)
	}
	wantHours(t, b, "t", want)
	if result, err := b.Table("t").Partition(ctx, tables.PartitionMonth); err != nil || result.FilesBefore != 0 || result.Version != 2 {
		t.Fatalf("repeated Partition = %+v, %v, want no change", result, err)
	}
	if result, err = b.Table("t").Partition(ctx, tables.PartitionDay); err != nil || result.FilesBefore != 1 || result.FilesAfter != 3 {
		t.Fatalf("Partition = %+v, %v; want FilesBefore 1 and FilesAfter 3", result, err)
	}
	wantHours(t, b, "t", want)
	// With rows over two years, PartitionAuto chooses quarters.
	lastHour := 2 * 365 * 24
	tabletest.PutRows(t, b, "t", ticksAt(s, 2, lastHour), tables.PutAppend, nil)
	want[lastHour] = 2
	result, err = b.Table("t").Partition(ctx, tables.PartitionAuto)
	if err != nil || result.Partition != tables.PartitionQuarter || !strings.Contains(result.Why, "three years") || result.FilesBefore != 3 {
		t.Fatalf("Partition = %+v, %v; want PartitionQuarter because of three years, and FilesBefore 3", result, err)
	}
	wantHours(t, b, "t", want)
	table := b.Table("t")
	if settings, err := table.Settings(ctx); err != nil || settings.Partition != tables.PartitionAuto || settings.Time != "at" {
		t.Errorf("Settings = %+v, %v, want PartitionAuto and time column at", settings, err)
	}
	if _, err := b.Table("t").Partition(ctx, "week"); err == nil || !strings.Contains(err.Error(), "quarter") {
		t.Errorf(`Partition by week: error = %v, want an error with the text "quarter"`, err)
	}
	tabletest.Put(t, b, "plain", tables.PutAppend, 1)
	if _, err := b.Table("plain").Partition(ctx, tables.PartitionDay); err == nil || !strings.Contains(err.Error(), "time column") {
		t.Errorf(`Partition of a table without a time column: error = %v, want an error with the text "time column"`, err)
	}
	if result, err := b.Table("plain").Partition(ctx, ""); err != nil || result.Partition != tables.PartitionNone {
		t.Errorf("Partition = %+v, %v; want Partition PartitionNone", result, err)
	}
	if _, err := b.Table("missing").Partition(ctx, tables.PartitionDay); !errors.Is(err, tables.ErrNotFound) {
		t.Errorf("Partition of a missing table: error = %v, want ErrNotFound", err)
	}
}

// TestPartitionAuto checks that the periods become longer as rows over five years arrive in one put.
func TestPartitionAuto(t *testing.T) {
	b := tabletest.BucketWithoutTail(t)
	s := ticks(arrow.Second, "")
	var dayStarts []int
	for day := range 5 * 365 {
		dayStarts = append(dayStarts, 24*day)
	}
	o := &tables.PutOptions{Settings: &tables.Settings{Time: "at", Partition: tables.PartitionAuto}}
	tabletest.PutRows(t, b, "t", ticksAt(s, 1, dayStarts...), tables.PutAppend, o)
	if n := len(tabletest.FilesOf(t, b, "t")); n != 12+8+2 {
		t.Errorf("got %d files, want 12 months, 8 quarters and 2 years: %v", n, fileSpans(t, b, "t"))
	}
	tabletest.Compact(t, b.Store())
	if n := len(tabletest.FilesOf(t, b, "t")); n != 5 {
		t.Errorf("after the compaction, got %d files, want 5 years: %v", n, fileSpans(t, b, "t"))
	}
}

// TestCompactOrdered checks that Compact merges small or overlapping files of an ordered table, and keeps the
// other files.
func TestCompactOrdered(t *testing.T) {
	for _, unit := range []arrow.TimeUnit{arrow.Microsecond, arrow.Nanosecond} { // nanoseconds require version 3 of Iceberg's format
		t.Run(unit.String(), func(t *testing.T) {
			ctx := t.Context()
			b := openHooked(t, t.TempDir(), &tables.Options{NoTail: true}, tables.Hooks{FileBytes: 12 << 10}).Bucket("b")
			s := ticks(unit, "UTC")
			o := &tables.PutOptions{Settings: &tables.Settings{Time: "at", Keys: []string{"sym"}, Partition: tables.PartitionMonth}}
			put := func(n int64, hours ...int) {
				t.Helper()
				tabletest.PutRows(t, b, "t", ticksAt(s, n, hours...), tables.PutAppend, o)
			}
			var odd, even []int
			for h := range 700 {
				if h%2 == 0 {
					even = append(even, h)
				} else {
					odd = append(odd, h)
				}
			}
			put(1, odd...)
			put(2, even...)
			put(3, 800, 801)
			put(4, 900)
			want := map[int]int64{800: 3, 801: 3, 900: 4}
			for _, h := range hours(0, 700) {
				want[h] = int64(2 - h%2)
			}
			r, err := b.Store().Compact(ctx, nil)
			if err != nil || r.FilesBefore != 4 || r.FilesAfter != 2 {
				t.Fatalf("Compact = %+v, %v; want FilesBefore 4 and FilesAfter 2", r, err)
			}
			if got, want := fileSpans(t, b, "t"), [][2]int{{0, 699}, {800, 900}}; !slices.Equal(got, want) {
				t.Errorf("the files have hours %v, want %v", got, want)
			}
			wantHours(t, b, "t", want)
			if !slices.IsSorted(tabletest.ColumnTexts(t, b, "t", "at")) {
				t.Error("the rows are not in order")
			}
			put(5, 1700) // in another month
			want[1700] = 5
			if r, err = b.Store().Compact(ctx, nil); err != nil || r.FilesBefore != 0 {
				t.Errorf("Compact with nothing to merge = %+v, %v, want no files", r, err)
			}
			put(6, 350)
			if r, err = b.Store().Compact(ctx, nil); err != nil || r.FilesBefore != 2 {
				t.Errorf("Compact after a put of an overlapping file = %+v, %v, want 2 files replaced", r, err)
			}
			if got := len(numbersByHour(t, b, "t")); got != len(want)+1 {
				t.Errorf("got %d rows, want %d", got, len(want)+1)
			}
			before := tabletest.FilesOf(t, b, "t")
			put(7, 710)
			if r, err = b.Store().Compact(ctx, nil); err != nil || r.FilesBefore != 2 || r.FilesAfter != 1 {
				t.Errorf("Compact of two small files after a large one = %+v, %v; want FilesBefore 2 and FilesAfter 1", r, err)
			}
			if after := tabletest.FilesOf(t, b, "t"); !slices.ContainsFunc(after, func(f string) bool { return slices.Contains(before, f) }) {
				t.Errorf("Compact replaced all of the files %q by %q", before, after)
			}
		})
	}
}

// TestPartitionDuringDelete checks that rows stay deleted if another Store deletes them while their files are
// partitioned.
func TestPartitionDuringDelete(t *testing.T) {
	ctx := t.Context()
	b := tabletest.BucketWithoutTail(t)
	o := &tables.PutOptions{Settings: &tables.Settings{Time: "at"}}
	tabletest.PutRows(t, b, "t", ticksAt(ticks(arrow.Second, ""), 1, hours(0, 50)...), tables.PutAppend, o)
	pending := true
	s := openHooked(t, b.Store().Dir(), &tables.Options{NoTail: true}, tables.Hooks{OnPrepared: func() {
		if pending {
			pending = false
			tabletest.DeleteRows(t, b, "t", "at >= '2024-01-01T10:00:00'")
		}
	}})
	if result, err := s.Bucket("b").Table("t").Partition(ctx, tables.PartitionDay); err != nil || pending || result.FilesAfter != 0 {
		t.Fatalf("Partition = %+v, %v, rows were deleted: %v; want them deleted and FilesAfter 0", result, err, !pending)
	}
	want := map[int]int64{}
	for h := range 10 {
		want[h] = 1
	}
	wantHours(t, b, "t", want)
}

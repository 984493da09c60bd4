package tables

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/vfs"
)

// small returns a bucket of a store without a tail, whose data files have about fileBytes bytes.
func small(t testing.TB, fileBytes int) *Bucket {
	s, err := open(t.Context(), t.TempDir(), &Options{NoTail: true}, hooks{fs: vfs.OS{}, fileBytes: fileBytes})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s.Bucket("b")
}

// spans returns the first and last hour of each file, sorted.
func spans(t testing.TB, b *Bucket, name string) (all [][2]int) {
	t.Helper()
	table, err := b.Table(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	v, err := table.view(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	files, err := v.series.Files(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.Bounds == nil || !v.series.InOrder(f.Data()) {
			t.Fatal("a file has no bounds, or no order")
		}
		hour := func(n int64) int {
			if stamp, ok := v.def.Stored.Field(0).Type.(*arrow.TimestampType); ok {
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
	b := direct(t)
	s := ticks(arrow.Microsecond, "UTC")
	o := &PutOptions{Settings: &Settings{Time: "at", Keys: []string{"sym"}, Partition: PartitionDay}}
	if _, err := b.Put(ctx, "t", ticksAt(s, 1, hours(5, 60)...), PutAppend, o); err != nil {
		t.Fatal(err)
	}
	if got, want := spans(t, b, "t"), [][2]int{{5, 23}, {24, 47}, {48, 59}}; !slices.Equal(got, want) {
		t.Fatalf("files %v, want %v", got, want)
	}
	want := map[int]int64{}
	for _, h := range hours(5, 60) {
		want[h] = 1
	}
	done, err := b.Partition(ctx, "t", PartitionMonth)
	if err != nil || done.Partition != PartitionMonth || done.FilesBefore != 3 || done.FilesAfter != 1 || done.Version != 2 {
		t.Fatalf("%+v, %v", done, err)
	}
	wantHours(t, b, "t", want)
	if done, err := b.Partition(ctx, "t", PartitionMonth); err != nil || done.FilesBefore != 0 || done.Version != 2 {
		t.Fatalf("again: %+v, %v", done, err)
	}
	if done, err = b.Partition(ctx, "t", PartitionDay); err != nil || done.FilesBefore != 1 || done.FilesAfter != 3 {
		t.Fatalf("%+v, %v", done, err)
	}
	wantHours(t, b, "t", want)
	// Another two years of rows make auto choose quarters.
	late := 2 * 365 * 24
	if _, err := b.Put(ctx, "t", ticksAt(s, 2, late), PutAppend, nil); err != nil {
		t.Fatal(err)
	}
	want[late] = 2
	done, err = b.Partition(ctx, "t", PartitionAuto)
	if err != nil || done.Partition != PartitionQuarter || !strings.Contains(done.Why, "three years") || done.FilesBefore != 3 {
		t.Fatalf("%+v, %v", done, err)
	}
	wantHours(t, b, "t", want)
	table, err := b.Table(ctx, "t")
	if err != nil {
		t.Fatal(err)
	}
	if has, err := table.Settings(ctx); err != nil || has.Partition != PartitionAuto || has.Time != "at" {
		t.Errorf("settings %+v, %v", has, err)
	}
	if _, err := b.Partition(ctx, "t", "week"); err == nil || !strings.Contains(err.Error(), "quarter") {
		t.Error(err)
	}
	mustPut(t, b, "plain", PutAppend, 1)
	if _, err := b.Partition(ctx, "plain", PartitionDay); err == nil || !strings.Contains(err.Error(), "time column") {
		t.Error(err)
	}
	if done, err := b.Partition(ctx, "plain", ""); err != nil || done.Partition != PartitionNone {
		t.Error(done, err)
	}
	if _, err := b.Partition(ctx, "missing", PartitionDay); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

// TestPartitionAuto puts five years of rows at once: the periods grow as more of the rows arrive.
func TestPartitionAuto(t *testing.T) {
	b := direct(t)
	s := ticks(arrow.Second, "")
	var each []int
	for day := range 5 * 365 {
		each = append(each, 24*day)
	}
	o := &PutOptions{Settings: &Settings{Time: "at", Partition: PartitionAuto}}
	if _, err := b.Put(t.Context(), "t", ticksAt(s, 1, each...), PutAppend, o); err != nil {
		t.Fatal(err)
	}
	if n := len(filesOf(t, b, "t")); n != 12+8+2 {
		t.Errorf("%d files, want 12 months, 8 quarters and 2 years: %v", n, spans(t, b, "t"))
	}
	if _, err := b.s.Compact(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if n := len(filesOf(t, b, "t")); n != 5 {
		t.Errorf("%d files after a compaction, want 5 years: %v", n, spans(t, b, "t"))
	}
}

// TestCompactInTime checks that small or overlapping files are merged, and good ones left.
func TestCompactInTime(t *testing.T) {
	for _, unit := range []arrow.TimeUnit{arrow.Microsecond, arrow.Nanosecond} { // Iceberg's second and third format version
		t.Run(unit.String(), func(t *testing.T) {
			ctx := t.Context()
			b := small(t, 12<<10)
			s := ticks(unit, "UTC")
			o := &PutOptions{Settings: &Settings{Time: "at", Keys: []string{"sym"}, Partition: PartitionMonth}}
			put := func(n int64, hours ...int) {
				t.Helper()
				if _, err := b.Put(ctx, "t", ticksAt(s, n, hours...), PutAppend, o); err != nil {
					t.Fatal(err)
				}
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
			r, err := b.s.Compact(ctx, nil)
			if err != nil || r.FilesBefore != 4 || r.FilesAfter != 2 {
				t.Fatalf("%+v, %v", r, err)
			}
			if got, want := spans(t, b, "t"), [][2]int{{0, 699}, {800, 900}}; !slices.Equal(got, want) {
				t.Errorf("files %v, want %v", got, want)
			}
			wantHours(t, b, "t", want)
			if !slices.IsSorted(hoursInOrder(t, b, "t")) {
				t.Error("the rows are not in order")
			}
			put(5, 1700) // in another month
			want[1700] = 5
			if r, err = b.s.Compact(ctx, nil); err != nil || r.FilesBefore != 0 {
				t.Errorf("with nothing to do: %+v, %v", r, err)
			}
			put(6, 350)
			if r, err = b.s.Compact(ctx, nil); err != nil || r.FilesBefore != 2 {
				t.Errorf("a row in between: %+v, %v", r, err)
			}
			if got := len(numbersByHour(t, b, "t")); got != len(want)+1 {
				t.Errorf("%d rows, want %d", got, len(want)+1)
			}
		})
	}
}

// TestCompactLeavesGood merges small files, and leaves a large one of the same month.
func TestCompactLeavesGood(t *testing.T) {
	ctx := t.Context()
	b := small(t, 16<<10)
	o := &PutOptions{Settings: &Settings{Time: "at", Partition: PartitionMonth}}
	if _, err := b.Put(ctx, "t", evenly(50_000, time.Second), PutAppend, o); err != nil {
		t.Fatal(err)
	}
	before := filesOf(t, b, "t")
	for _, h := range []int{100, 200, 300} {
		if _, err := b.Put(ctx, "t", ticksAt(ticks(arrow.Microsecond, "UTC"), 1, h), PutAppend, nil); err != nil {
			t.Fatal(err)
		}
	}
	r, err := b.s.Compact(ctx, nil)
	if err != nil || r.FilesBefore != 3 || r.FilesAfter != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	for _, f := range before {
		if !slices.Contains(filesOf(t, b, "t"), f) {
			t.Errorf("%s was written anew, and it was large and overlapped with none", f)
		}
	}
}

// TestPartitionBesideDelete has another process delete rows while their files are partitioned.
func TestPartitionBesideDelete(t *testing.T) {
	ctx := t.Context()
	b := direct(t)
	o := &PutOptions{Settings: &Settings{Time: "at"}}
	if _, err := b.Put(ctx, "t", ticksAt(ticks(arrow.Second, ""), 1, hours(0, 50)...), PutAppend, o); err != nil {
		t.Fatal(err)
	}
	once := true
	s, err := open(ctx, b.s.dir, &Options{NoTail: true}, hooks{fs: vfs.OS{}, prepared: func() {
		if once {
			once = false
			deleteWhere(t, b, "t", "at >= '2024-01-01T10:00:00'")
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if done, err := s.Bucket("b").Partition(ctx, "t", PartitionDay); err != nil || once || done.FilesAfter != 0 {
		t.Fatalf("%+v, %v", done, err)
	}
	want := map[int]int64{}
	for h := range 10 {
		want[h] = 1
	}
	wantHours(t, b, "t", want)
}

func hoursInOrder(t testing.TB, b *Bucket, name string) (all []int64) {
	t.Helper()
	table, err := b.Table(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	r, err := table.Scan(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	for r.Next() {
		for i := range int(r.RecordBatch().NumRows()) {
			all = append(all, int64(r.RecordBatch().Column(0).(*array.Timestamp).Value(i)))
		}
	}
	if r.Err() != nil {
		t.Fatal(r.Err())
	}
	return all
}

// evenly returns rows at intervals of step, in batches of a hundred thousand.
func evenly(rows int, step time.Duration) array.RecordReader {
	s := ticks(arrow.Microsecond, "UTC")
	next := 0
	return array.ReaderFromIter(s, func(yield func(arrow.RecordBatch, error) bool) {
		for next < rows {
			b := array.NewRecordBuilder(memory.DefaultAllocator, s)
			for end := min(next+100_000, rows); next < end; next++ {
				at := day0.Add(time.Duration(next) * step).UnixMicro()
				b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(at))
				b.Field(1).(*array.StringBuilder).Append(fmt.Sprint("S", next%10))
				b.Field(2).(*array.Int64Builder).Append(int64(next) * 7919 % 1000003)
			}
			if !yield(b.NewRecordBatch(), nil) {
				return
			}
		}
	})
}

// TestHourOfDays checks that a read of one hour, from a million rows partitioned by day, reads
// little more than the file that contains it.
func TestHourOfDays(t *testing.T) {
	ctx := context.Background()
	b := direct(t)
	o := &PutOptions{Settings: &Settings{Time: "at", Keys: []string{"sym"}, Partition: PartitionDay}}
	if _, err := b.Put(ctx, "t", evenly(1_000_000, time.Second), PutAppend, o); err != nil {
		t.Fatal(err)
	}
	if n := len(filesOf(t, b, "t")); n != 12 {
		t.Fatalf("%d files, want 12 days", n)
	}
	var counted atomic.Int64
	s, err := open(ctx, b.s.dir, &Options{NoTail: true}, hooks{fs: countingFS{vfs.OS{}, &counted}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	table, err := s.Bucket("b").Table(ctx, "t")
	if err != nil {
		t.Fatal(err)
	}
	from := hour(5*24 + 13)
	r, err := table.Scan(ctx, &ScanOptions{From: from, To: from.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	rows := int64(0)
	for r.Next() {
		rows += r.RecordBatch().NumRows()
	}
	if r.Err() != nil || rows != 3600 {
		t.Fatalf("%d rows, %v", rows, r.Err())
	}
	m, err := table.ScanPlan(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	file := m.Files[0].Bytes
	for _, f := range m.Files {
		file = max(file, f.Bytes)
	}
	if read := counted.Load(); read == 0 || float64(read) > 1.2*float64(file) {
		t.Errorf("%d bytes were read, and the file with the hour has %d", read, file)
	} else {
		t.Logf("%d bytes were read, and the file with the hour has %d", read, file)
	}
}

package tables_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

func TestDeleteRows(t *testing.T) {
	b := tabletest.BucketWithoutTail(t)
	for i := range int64(4) {
		tabletest.Put(t, b, "t", tables.PutAppend, tabletest.Sequence(10*i, 10)...)
	}
	before := tabletest.FilesOf(t, b, "t")
	result := tabletest.DeleteRows(t, b, "t", "n >= 8 and n < 25 or n = 100")
	if result.Deleted != 17 || result.Files != 3 || result.Version != 5 || result.Written != 0 {
		t.Errorf("DeleteRows = %+v, want 17 rows deleted from 3 files, version 5", result)
	}
	tabletest.WantRows(t, b, "t", append(tabletest.Sequence(0, 8), tabletest.Sequence(25, 15)...)...)
	after := tabletest.FilesOf(t, b, "t")
	if len(after) != 3 || !slices.Contains(after, before[3]) {
		t.Errorf("files before: %q, after: %q; want two new files and the last of the old ones", before, after)
	}
	if result := tabletest.DeleteRows(t, b, "t", "n > 1000 or s = 'row 9'"); result != (tables.RewriteResult{Version: 5}) {
		t.Errorf("DeleteRows without a matching row = %+v, want no change", result)
	}
	if result := tabletest.DeleteRows(t, b, "t", "n = 3 and s = 'row 4'"); result != (tables.RewriteResult{Version: 5}) { // the files' bounds do not rule out such a row
		t.Errorf("DeleteRows without a matching row = %+v, want no change", result)
	}
	if now := tabletest.FilesOf(t, b, "t"); !slices.Equal(now, after) {
		t.Errorf("files before: %q, after: %q; want no change because no row was deleted", after, now)
	}
	if result := tabletest.DeleteRows(t, b, "t", "n >= 0"); result.Deleted != 23 {
		t.Errorf("DeleteRows of all rows = %+v, want 23 rows deleted", result)
	}
	tabletest.WantRows(t, b, "t")
	tabletest.Put(t, b, "t", tables.PutAppend, 1)
	tabletest.WantRows(t, b, "t", 1)
}

// TestDeleteRowsDropsUnread checks that files whose rows are all deleted are dropped without being read.
func TestDeleteRowsDropsUnread(t *testing.T) {
	b := tabletest.BucketWithoutTail(t)
	for i := range int64(3) {
		tabletest.Put(t, b, "t", tables.PutAppend, tabletest.Sequence(10*i, 10)...)
	}
	var reads atomic.Int64
	countingStore := openHooked(t, b.Store().Dir(), &tables.Options{NoTail: true}, tables.Hooks{FS: countingFS{b.Store().HooksInUse().FS, &reads}})
	result := tabletest.DeleteRows(t, countingStore.Bucket("b"), "t", "n < 20")
	if result.Deleted != 20 || result.Files != 2 {
		t.Errorf("DeleteRows = %+v, want Deleted 20 and Files 2", result)
	}
	if n := reads.Load(); n > 0 {
		t.Errorf("read %d bytes of data files, want 0 because their bounds suffice", n)
	}
	// A delete that must read shows that reads are counted.
	tabletest.DeleteRows(t, countingStore.Bucket("b"), "t", "n < 22")
	if reads.Load() == 0 {
		t.Error("reads are not counted")
	}
}

// TestDeleteRowsUnknown checks that rows where the condition is null are kept, even if all other rows in the
// file are deleted.
func TestDeleteRowsUnknown(t *testing.T) {
	schema := tabletest.ParseColumns(t, "i int32; f float64; d utf8")
	b := tabletest.BucketWithoutTail(t)
	nan := math.NaN()
	ptr := func(f float64) *float64 { return &f }
	values := []*float64{ptr(1), ptr(2), nil, &nan}
	for trial, where := range []string{"f > 0", "f < 10", "not f > 10", "i = 1", "i = 1 and f > 0", "i = 1 or f > 0", "d is null", "d is not null", "f <> 1", "i in (1, 2)", "not (i in (1))", "not (f > 0 and i = 2)"} {
		name := fmt.Sprint("t", trial)
		var all []string
		isKept := map[string]bool{}
		cond := must.Get(filter.Parse(where))(t)
		// Some files have one value, so their bounds decide the condition; others have several values.
		for _, group := range [][]*float64{values[:1], values[1:2], values[2:3], values[3:], values[:2], {values[0], nil}, {values[0], &nan}, values} {
			rb := array.NewRecordBuilder(memory.DefaultAllocator, schema)
			for _, v := range group {
				if v == nil {
					rb.Field(0).AppendNull()
					rb.Field(1).AppendNull()
					rb.Field(2).AppendNull()
				} else {
					rb.Field(0).(*array.Int32Builder).Append(1)
					rb.Field(1).(*array.Float64Builder).Append(*v)
					rb.Field(2).(*array.StringBuilder).Append(fmt.Sprint(*v))
				}
			}
			batch := rb.NewRecordBatch()
			tabletest.PutRows(t, b, name, tabletest.OneBatch(batch), tables.PutAppend, nil)
			bound := must.Get(cond.Bind(batch.Schema()))(t)
			mask := must.Get(bound.Holds(int(batch.NumRows()), func(name string) arrow.Array { return batch.Column(batch.Schema().FieldIndices(name)[0]) }))(t)
			for i, isDeleted := range mask {
				row := fmt.Sprint(len(all), " ", batch.Column(1).ValueStr(i))
				all = append(all, row)
				isKept[row] = !isDeleted
			}
		}
		var want []string
		for _, row := range all {
			if isKept[row] {
				_, value, _ := strings.Cut(row, " ")
				want = append(want, value)
			}
		}
		result := tabletest.DeleteRows(t, b, name, where)
		got := tabletest.ColumnTexts(t, b, name, "f")
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) || int(result.Deleted) != len(all)-len(want) {
			t.Errorf("DeleteRows(%s) = %+v; remaining rows are %q, want %q", where, result, got, want)
		}
	}
}

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
	r := must.Get(b.Table(name).Scan(t.Context(), nil))(t)
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
	must.Do(t, r.Err())
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
				must.Fail(t, err, "row 2", "ReplaceRange with a row at hour %d", outside)
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

// TestAtTimeDuringCorrection checks that Table.At with AtTime and Table.Changes, which must wait for a concurrent
// correction of a table with a rule for duplicates, stop waiting when their context ends. Changes does not wait if the
// tail has no rows.
func TestAtTimeDuringCorrection(t *testing.T) {
	b := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1, FoldBytes: 1024}).Bucket("")
	put := func(ts int64, o *tables.PutOptions) {
		t.Helper()
		r := ticksOf([]tick{{ts: ts}}, 1)
		defer r.Release()
		tabletest.PutRows(t, b, "t", r, tables.PutAppend, o)
	}
	put(1, &tables.PutOptions{Settings: &tables.Settings{Time: "ts", OnDuplicate: tables.KeepLast}})
	ticks := make([]tick, 1001)
	for i := range ticks {
		ticks[i].ts = int64(100 + i)
	}
	rows := ticksOf(ticks, 1000)
	defer rows.Release()
	reached, proceed, upsertErr := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		upsertErr <- must.Err(b.Table("t").Upsert(t.Context(), &slowReader{rows, 0, reached, proceed}, nil))
	}()
	<-reached
	cause := errors.New("test cause")
	during := func(timeout time.Duration, f func(context.Context) error) error {
		ctx, cancel := context.WithTimeoutCause(t.Context(), timeout, cause)
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- f(ctx) }()
		select {
		case err := <-done:
			return err
		case <-time.After(10 * time.Second):
			return errors.New("the call did not return when its context ended")
		}
	}
	at := func(ctx context.Context) error { return must.Err(b.Table("t").At(ctx, tables.AtTime(time.Now()))) }
	changes := func(ctx context.Context) error {
		r, err := b.Table("t").Changes(ctx, nil, nil)
		if err == nil {
			r.Release()
		}
		return err
	}
	if err := during(5*time.Second, changes); err != nil {
		t.Errorf("Changes without rows in the tail: %v", err)
	}
	put(2, nil)
	for name, f := range map[string]func(context.Context) error{"At": at, "Changes": changes} {
		if err := during(100*time.Millisecond, f); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, cause) {
			t.Errorf("%s error = %v, want DeadlineExceeded and the test cause", name, err)
		}
	}
	close(proceed)
	must.Do(t, <-upsertErr)
	now := must.Get(b.Table("t").At(t.Context(), tables.AtTime(time.Now())))(t)
	if got, err := ticksFrom(now.Scan(t.Context(), nil)); err != nil || len(got) != 1003 {
		t.Errorf("AtTime after the upsert read %d rows, error %v; want 1003 rows", len(got), err)
	}
}

// slowReader is a reader whose second batch waits for a message on proceed.
type slowReader struct {
	array.RecordReader
	batches int
	reached chan<- struct{}
	proceed <-chan struct{}
}

func (r *slowReader) Next() bool {
	if r.batches++; r.batches == 2 {
		r.reached <- struct{}{}
		<-r.proceed
	}
	return r.RecordReader.Next()
}

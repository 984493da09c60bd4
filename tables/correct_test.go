package tables

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables/filter"
)

func deleteWhere(t testing.TB, b *Bucket, name, where string) Rewritten {
	t.Helper()
	cond, err := filter.Parse(where)
	if err != nil {
		t.Fatal(err)
	}
	done, err := b.DeleteRows(t.Context(), name, cond)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// filesOf returns the paths of a table's data files.
func filesOf(t testing.TB, b *Bucket, name string) (paths []string) {
	t.Helper()
	table, err := b.Table(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	m, err := table.Manifest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for _, f := range m.Files {
		paths = append(paths, f.Path)
	}
	return paths
}

// direct is a store whose puts are files at once.
func direct(t testing.TB) *Bucket {
	return mustOpen(t, t.TempDir(), &Options{NoTail: true}).Bucket("b")
}

func TestDeleteRows(t *testing.T) {
	b := direct(t)
	for i := range int64(4) {
		mustPut(t, b, "t", Append, from(10*i, 10)...)
	}
	before := filesOf(t, b, "t")
	done := deleteWhere(t, b, "t", "n >= 8 and n < 25 or n = 100")
	if done.Deleted != 17 || done.Files != 3 || done.Version != 5 || done.Written != 0 {
		t.Errorf("deleted: %+v, want 17 rows of 3 files, version 5", done)
	}
	wantRows(t, b, "t", append(from(0, 8), from(25, 15)...)...)
	after := filesOf(t, b, "t")
	if len(after) != 3 || !slices.Contains(after, before[3]) {
		t.Errorf("files %q after %q: want the last one, and two written anew", after, before)
	}
	if done := deleteWhere(t, b, "t", "n > 1000 or s = 'row 9'"); done != (Rewritten{Version: 5}) {
		t.Errorf("with no such row: %+v", done)
	}
	if done := deleteWhere(t, b, "t", "n = 3 and s = 'row 4'"); done != (Rewritten{Version: 5}) { // within the bounds
		t.Errorf("with no such row: %+v", done)
	}
	if now := filesOf(t, b, "t"); !slices.Equal(now, after) {
		t.Errorf("files %q after %q, and no row was deleted", now, after)
	}
	if done := deleteWhere(t, b, "t", "n >= 0"); done.Deleted != 23 {
		t.Errorf("all deleted: %+v", done)
	}
	wantRows(t, b, "t")
	mustPut(t, b, "t", Append, 1)
	wantRows(t, b, "t", 1)
}

// TestDeleteRowsInTail deletes rows that are in the tail, and no later ones.
func TestDeleteRowsInTail(t *testing.T) {
	b := mustOpen(t, t.TempDir(), nil).Bucket("")
	mustPut(t, b, "t", Append, 1, 2, 3)
	mustPut(t, b, "t", Append, 4)
	if done := deleteWhere(t, b, "t", "n = 2 or n = 4"); done.Deleted != 2 {
		t.Errorf("deleted: %+v", done)
	}
	mustPut(t, b, "t", Append, 4)
	wantRows(t, b, "t", 1, 3, 4)
}

// TestDeleteRowsDropsUnread deletes whole files though they cannot be read.
func TestDeleteRowsDropsUnread(t *testing.T) {
	b := direct(t)
	for i := range int64(3) {
		mustPut(t, b, "t", Append, from(10*i, 10)...)
	}
	var reads atomic.Int64
	other, err := open(t.Context(), b.s.dir, &Options{NoTail: true}, hooks{fs: countingFS{b.s.hooks.fs, &reads}})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if done := deleteWhere(t, other.Bucket("b"), "t", "n < 20"); done.Deleted != 20 || done.Files != 2 {
		t.Errorf("deleted: %+v", done)
	}
	if n := reads.Load(); n > 0 {
		t.Errorf("%d bytes of data files were read, and their bounds say all", n)
	}
	deleteWhere(t, other.Bucket("b"), "t", "n < 22") // what is not read at all proves nothing
	if reads.Load() == 0 {
		t.Error("reads are not counted")
	}
}

// TestDeleteRowsUnknown keeps rows for which the condition is null, whatever the
// bounds say.
func TestDeleteRowsUnknown(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "i", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
		{Name: "f", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		{Name: "d", Type: arrow.BinaryTypes.String, Nullable: true},
	}, nil)
	b := direct(t)
	nan := math.NaN()
	ptr := func(f float64) *float64 { return &f }
	values := []*float64{ptr(1), ptr(2), nil, &nan}
	for trial, where := range []string{"f > 0", "f < 10", "not f > 10", "i = 1", "i = 1 and f > 0", "i = 1 or f > 0", "d is null", "d is not null", "f <> 1", "i in (1, 2)", "not (i in (1))", "not (f > 0 and i = 2)"} {
		name := fmt.Sprint("t", trial)
		var all []string
		stays := map[string]bool{}
		cond, err := filter.Parse(where)
		if err != nil {
			t.Fatal(err)
		}
		// A file for each value, so that bounds decide, and one with all.
		for _, of := range [][]*float64{values[:1], values[1:2], values[2:3], values[3:], values[:2], {values[0], nil}, {values[0], &nan}, values} {
			rb := array.NewRecordBuilder(memory.DefaultAllocator, schema)
			for _, v := range of {
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
			if _, err := b.Put(t.Context(), name, oneBatch(batch), Append, nil); err != nil {
				t.Fatal(err)
			}
			mask, err := cond.Mask(t.Context(), batch)
			if err != nil {
				t.Fatal(err)
			}
			for i, goes := range truths(mask) {
				row := fmt.Sprint(len(all), " ", batch.Column(1).ValueStr(i))
				all = append(all, row)
				stays[row] = !goes
			}
		}
		var want []string
		for _, row := range all {
			if stays[row] {
				_, value, _ := strings.Cut(row, " ")
				want = append(want, value)
			}
		}
		done := deleteWhere(t, b, name, where)
		got := textsOf(t, b, name, "f")
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) || int(done.Deleted) != len(all)-len(want) {
			t.Errorf("%s: left %q, want %q; %+v", where, got, want, done)
		}
	}
}

func textsOf(t testing.TB, b *Bucket, name, column string) (all []string) {
	t.Helper()
	table, err := b.Table(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	r, err := table.Scan(t.Context(), &ScanOptions{Columns: []string{column}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	for r.Next() {
		for i := range int(r.RecordBatch().NumRows()) {
			all = append(all, r.RecordBatch().Column(0).ValueStr(i))
		}
	}
	if r.Err() != nil {
		t.Fatal(r.Err())
	}
	return all
}

// ticks is a schema with a time, a key and a value.
func ticks(unit arrow.TimeUnit, zone string) *arrow.Schema {
	return arrow.NewSchema([]arrow.Field{
		{Name: "at", Type: &arrow.TimestampType{Unit: unit, TimeZone: zone}},
		{Name: "sym", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	}, nil)
}

var day0 = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

// ticksAt returns a row for each time, in hours from day0 on, with one number.
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
	return oneBatch(b.NewRecordBatch())
}

func hours(from, to int) (all []int) {
	for h := from; h < to; h++ {
		all = append(all, h)
	}
	return all
}

func hour(h int) time.Time { return day0.Add(time.Duration(h) * time.Hour) }

// numbersByHour returns "hour:n" of a table's rows, sorted by the hour.
func numbersByHour(t testing.TB, b *Bucket, name string) []string {
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
	var all []string
	for r.Next() {
		at := r.RecordBatch().Column(0).(*array.Timestamp)
		to := at.DataType().(*arrow.TimestampType)
		for i := range at.Len() {
			h := at.Value(i).ToTime(to.Unit).Sub(day0) / time.Hour
			all = append(all, fmt.Sprintf("%04d:%s", h, r.RecordBatch().Column(2).ValueStr(i)))
		}
	}
	if r.Err() != nil {
		t.Fatal(r.Err())
	}
	slices.Sort(all)
	return all
}

func wantHours(t testing.TB, b *Bucket, name string, want map[int]int64) {
	t.Helper()
	var all []string
	for h, n := range want {
		all = append(all, fmt.Sprintf("%04d:%d", h, n))
	}
	slices.Sort(all)
	if got := numbersByHour(t, b, name); !slices.Equal(got, all) {
		t.Fatalf("rows %q, want %q", got, all)
	}
}

func TestReplaceRange(t *testing.T) {
	for _, unit := range []arrow.TimeUnit{arrow.Second, arrow.Microsecond, arrow.Nanosecond} {
		t.Run(unit.String(), func(t *testing.T) {
			ctx := t.Context()
			b := mustOpen(t, t.TempDir(), nil).Bucket("")
			s := ticks(unit, "UTC")
			want := map[int]int64{}
			for _, part := range [][2]int{{0, 10}, {10, 20}, {20, 30}} {
				if _, err := b.Put(ctx, "t", ticksAt(s, 1, hours(part[0], part[1])...), Append, nil); err != nil {
					t.Fatal(err)
				}
				if _, err := b.s.Fold(ctx, nil); err != nil {
					t.Fatal(err)
				}
				for h := part[0]; h < part[1]; h++ {
					want[h] = 1
				}
			}
			before := filesOf(t, b, "t")
			done, err := b.ReplaceRange(ctx, "t", hour(8), hour(13), ticksAt(s, 2, 12, 8, 9), nil)
			if err != nil || done.Deleted != 5 || done.Written != 3 || done.Files != 2 {
				t.Fatalf("%+v, %v", done, err)
			}
			for h := 8; h < 13; h++ {
				delete(want, h)
			}
			want[8], want[9], want[12] = 2, 2, 2
			wantHours(t, b, "t", want)
			if after := filesOf(t, b, "t"); !slices.Contains(after, before[2]) {
				t.Errorf("files %q after %q: the last one was written anew", after, before)
			}
			for _, outside := range []int{7, 13} { // the end is not in it
				_, err := b.ReplaceRange(ctx, "t", hour(8), hour(13), ticksAt(s, 3, 9, outside), nil)
				if err == nil || !strings.Contains(err.Error(), "row 2") {
					t.Errorf("a row at %d: %v", outside, err)
				}
			}
			wantHours(t, b, "t", want)
			if done, err := b.ReplaceRange(ctx, "t", hour(28), time.Time{}, ticksAt(s, 4, 28, 99), nil); err != nil || done.Deleted != 2 {
				t.Fatalf("%+v, %v", done, err)
			}
			delete(want, 29)
			want[28], want[99] = 4, 4
			wantHours(t, b, "t", want)
			for _, r := range [][2]time.Time{{}, {hour(2), hour(2)}, {hour(3), hour(2)}} {
				if _, err := b.ReplaceRange(ctx, "t", r[0], r[1], ticksAt(s, 3), nil); err == nil {
					t.Errorf("a range of %v was taken", r)
				}
			}
		})
	}
}

func TestUpsert(t *testing.T) {
	ctx := t.Context()
	b := mustOpen(t, t.TempDir(), nil).Bucket("")
	for i := range int64(3) {
		mustPut(t, b, "t", Append, from(10*i, 10)...)
		if _, err := b.s.Fold(ctx, nil); err != nil {
			t.Fatal(err)
		}
	}
	mustPut(t, b, "t", Append, 5, 100) // 5 twice, of which the tail has one
	before := filesOf(t, b, "t")
	done, err := b.Upsert(ctx, "t", rowsOf(5, 15, 200), &UpsertOptions{Keys: []string{"n"}})
	if err != nil || done.Deleted != 3 || done.Written != 3 {
		t.Fatalf("%+v, %v", done, err)
	}
	want := append(from(0, 30), 100, 200)
	wantRows(t, b, "t", want...)
	if after := filesOf(t, b, "t"); !slices.Contains(after, before[2]) {
		t.Errorf("files %q after %q: one without the keys was written anew", after, before)
	}
	if _, err := b.Upsert(ctx, "t", rowsOf(1, 2, 1), &UpsertOptions{Keys: []string{"n", "s"}}); err == nil || !strings.Contains(err.Error(), "rows 1 and 3") {
		t.Errorf("a key twice: %v", err)
	}
	if _, err := b.Upsert(ctx, "t", rowsOf(1), nil); err == nil {
		t.Error("an upsert without a key was taken")
	}
	var fit *SchemaError
	if _, err := b.Upsert(ctx, "t", rowsOf(1), &UpsertOptions{Keys: []string{"x"}}); !errors.As(err, &fit) {
		t.Errorf("a key that is no column: %v", err)
	}
	null := array.NewRecordBuilder(memory.DefaultAllocator, numbers)
	null.Field(0).AppendNull()
	null.Field(1).AppendNull()
	if _, err := b.Upsert(ctx, "t", oneBatch(null.NewRecordBatch()), &UpsertOptions{Keys: []string{"n"}}); !errors.As(err, &fit) {
		t.Errorf("a null as key: %v", err)
	}
	wantRows(t, b, "t", want...)
	ruled := &PutOptions{Settings: &Settings{Time: "at", Keys: []string{"sym"}, OnDuplicate: KeepLast}}
	if _, err := b.Put(ctx, "ruled", ticksAt(ticks(arrow.Second, ""), 1, 1, 2), Append, ruled); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Upsert(ctx, "ruled", ticksAt(ticks(arrow.Second, ""), 1, 2), &UpsertOptions{Keys: []string{"n"}}); !errors.As(err, &fit) {
		t.Errorf("keys that would leave duplicates: %v", err)
	}
	small := mustOpen(t, t.TempDir(), &Options{Memory: 1 << 20}).Bucket("")
	mustPut(t, small, "t", Append, 1)
	if _, err := small.Upsert(ctx, "t", rowsOf(from(0, 10000)...), &UpsertOptions{Keys: []string{"n"}}); err == nil || !strings.Contains(err.Error(), "several upserts") {
		t.Errorf("keys that take too much: %v", err)
	}
	wantRows(t, small, "t", 1)
}

// TestUpsertKeys puts keys of all types that can be any.
func TestUpsertKeys(t *testing.T) {
	for _, typ := range []arrow.DataType{
		arrow.FixedWidthTypes.Boolean, arrow.PrimitiveTypes.Int8, arrow.PrimitiveTypes.Uint32, arrow.PrimitiveTypes.Uint64, arrow.PrimitiveTypes.Int64,
		arrow.BinaryTypes.String, arrow.BinaryTypes.LargeString, arrow.BinaryTypes.Binary, &arrow.FixedSizeBinaryType{ByteWidth: 3},
		arrow.FixedWidthTypes.Date32, arrow.FixedWidthTypes.Timestamp_ms, arrow.FixedWidthTypes.Timestamp_ns, arrow.FixedWidthTypes.Time64us,
		&arrow.Decimal128Type{Precision: 10, Scale: 2}, arrow.FixedWidthTypes.Duration_ms, &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String},
	} {
		t.Run(typ.String(), func(t *testing.T) {
			schema := arrow.NewSchema([]arrow.Field{{Name: "k", Type: typ, Nullable: true}, {Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true}}, nil)
			rows := func(n int64, keys ...string) array.RecordReader {
				b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
				for _, k := range keys {
					if err := b.Field(0).AppendValueFromString(k); err != nil {
						t.Fatal(err)
					}
					b.Field(1).(*array.Int64Builder).Append(n)
				}
				return oneBatch(b.NewRecordBatch())
			}
			keys := []string{"1", "2", "3"}
			switch typ.ID() {
			case arrow.BOOL:
				keys = []string{"true", "false"}
			case arrow.BINARY:
				keys = []string{"AA==", "AAA=", "/w=="}
			case arrow.FIXED_SIZE_BINARY:
				keys = []string{"AAAA", "AAAB", "////"}
			case arrow.DATE32:
				keys = []string{"1960-01-01", "2000-01-01", "2024-02-29"}
			case arrow.TIMESTAMP:
				keys = []string{"1960-01-01 00:00:00Z", "2000-01-01 00:00:00.001Z", "2024-02-29 01:00:00Z"}
			case arrow.TIME64:
				keys = []string{"00:00:00", "01:00:00.000001", "23:00:00"}
			case arrow.DECIMAL128:
				keys = []string{"-1.00", "2.50", "3.25"}
			case arrow.DURATION:
				keys = []string{"1ms", "2ms", "3ms"}
			}
			b := direct(t)
			for _, k := range keys {
				if _, err := b.Put(t.Context(), "t", rows(1, k), Append, nil); err != nil {
					t.Skip(err)
				}
			}
			done, err := b.Upsert(t.Context(), "t", rows(2, keys[0], keys[len(keys)-1]), &UpsertOptions{Keys: []string{"k"}})
			if err != nil || done.Deleted != 2 || done.Written != 2 {
				t.Fatalf("%+v, %v", done, err)
			}
			got := textsOf(t, b, "t", "n")
			slices.Sort(got)
			if want := append(slices.Repeat([]string{"1"}, len(keys)-2), "2", "2"); !slices.Equal(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

// TestRewriteBesideCommits has another process commit between the reading of files
// and the commit of what is made of them.
func TestRewriteBesideCommits(t *testing.T) {
	ctx := context.Background()
	del := func(b *Bucket) error {
		cond, _ := filter.Parse("n = 2 or n = 12")
		_, err := b.DeleteRows(ctx, "t", cond)
		return err
	}
	upsert := func(b *Bucket) error {
		_, err := b.Upsert(ctx, "t", rowsOf(2, 12), &UpsertOptions{Keys: []string{"n"}})
		return err
	}
	for _, c := range []struct {
		name         string
		ours, theirs func(*Bucket) error
		want         []int64
	}{
		{"an append stays", del, func(b *Bucket) error { _, err := b.Put(ctx, "t", rowsOf(2, 30), Append, nil); return err }, []int64{1, 2, 3, 11, 13, 30}},
		{"rows that others deleted do not come back", del, func(b *Bucket) error {
			cond, _ := filter.Parse("n = 1 or n = 2 or n = 13")
			_, err := b.DeleteRows(ctx, "t", cond)
			return err
		}, []int64{3, 11}},
		{"a replaced table", del, func(b *Bucket) error { _, err := b.Put(ctx, "t", rowsOf(2, 7), Replace, nil); return err }, []int64{7}},
		{"a compacted table", del, func(b *Bucket) error { _, err := b.s.Compact(ctx, nil); return err }, []int64{1, 3, 11, 13}},
		{"two upserts of the same key", upsert, func(b *Bucket) error {
			_, err := b.Upsert(ctx, "t", rowsOf(12, 40), &UpsertOptions{Keys: []string{"n"}})
			return err
		}, []int64{1, 2, 3, 11, 12, 13, 40}},
		{"an append of an upsert's key", upsert, func(b *Bucket) error { _, err := b.Put(ctx, "t", rowsOf(12), Append, nil); return err }, []int64{1, 2, 3, 11, 12, 13}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			other := mustOpen(t, dir, &Options{NoTail: true})
			mustPut(t, other.Bucket(""), "t", Append, 1, 2, 3)
			mustPut(t, other.Bucket(""), "t", Append, 11, 12, 13)
			h := hooks{fs: other.hooks.fs}
			once := true
			h.staged = func() {
				if once {
					once = false
					if err := c.theirs(other.Bucket("")); err != nil {
						t.Error(err)
					}
				}
			}
			s, err := open(ctx, dir, &Options{NoTail: true}, h)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if err := c.ours(s.Bucket("")); err != nil {
				t.Fatal(err)
			}
			wantRows(t, other.Bucket(""), "t", c.want...)
			before := len(parquetFiles(t, dir))
			if _, err := s.Expire(ctx, &MaintainOptions{Grace: -1, Keep: 100}); err != nil {
				t.Fatal(err)
			}
			if after := len(parquetFiles(t, dir)); after != before {
				t.Errorf("%d data files were left of attempts", before-after)
			}
		})
	}
	t.Run("again and again", func(t *testing.T) {
		dir := t.TempDir()
		other := mustOpen(t, dir, &Options{NoTail: true})
		mustPut(t, other.Bucket(""), "t", Append, 1, 2, 3)
		attempts := 0
		s, err := open(ctx, dir, &Options{NoTail: true}, hooks{fs: other.hooks.fs, staged: func() {
			attempts++
			mustPut(t, other.Bucket(""), "t", Replace, 1, 2, 3)
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := del(s.Bucket("")); !errors.Is(err, ErrConflict) || attempts != mostRewrites {
			t.Errorf("after %d attempts: %v", attempts, err)
		}
		wantRows(t, other.Bucket(""), "t", 1, 2, 3)
	})
}

func parquetFiles(t testing.TB, dir string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "data", "*", "data", "*.parquet"))
	if err != nil || len(all) == 0 {
		t.Fatal(all, err)
	}
	return all
}

// TestRewriteModel makes random changes beside a model of the table.
func TestRewriteModel(t *testing.T) {
	ctx := t.Context()
	random := rand.New(rand.NewPCG(1, 2))
	b := mustOpen(t, t.TempDir(), nil).Bucket("")
	s := ticks(arrow.Millisecond, "")
	model := map[int]int64{}
	mustDo := func(done Rewritten, err error) Rewritten {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return done
	}
	if _, err := b.Put(ctx, "t", ticksAt(s, 0), Append, nil); err != nil {
		t.Fatal(err)
	}
	fresh := func(from, to, most int) (hours []int) {
		for range random.IntN(most + 1) {
			if h := from + random.IntN(to-from); !slices.Contains(hours, h) {
				hours = append(hours, h)
			}
		}
		return hours
	}
	for n := range int64(150) {
		var done Rewritten
		var gone, put int
		lose := func(goes func(h int, n int64) bool) {
			for h, was := range model {
				if goes(h, was) {
					delete(model, h)
					gone++
				}
			}
		}
		set := func(hours []int) {
			for _, h := range hours {
				model[h] = n
			}
			put = len(hours)
		}
		switch random.IntN(6) {
		case 0:
			hours := fresh(0, 500, 30)
			done = mustDo(b.Upsert(ctx, "t", ticksAt(s, n, hours...), &UpsertOptions{Keys: []string{"at", "sym"}}))
			lose(func(h int, _ int64) bool { return slices.Contains(hours, h) })
			set(hours)
		case 1:
			from := random.IntN(500)
			to := from + 1 + random.IntN(40)
			hours := fresh(from, to, 10)
			done = mustDo(b.ReplaceRange(ctx, "t", hour(from), hour(to), ticksAt(s, n, hours...), nil))
			lose(func(h int, _ int64) bool { return h >= from && h < to })
			set(hours)
		case 2:
			before, from := max(0, n-int64(random.IntN(20))), random.IntN(500)
			done = deleteWhere(t, b, "t", fmt.Sprintf("n < %d and at >= '%s'", before, timeText(hour(from))))
			lose(func(h int, was int64) bool { return was < before && h >= from })
		case 3:
			hours := slices.DeleteFunc(fresh(0, 500, 60), func(h int) bool { _, there := model[h]; return there })
			if _, err := b.Put(ctx, "t", ticksAt(s, n, hours...), Append, nil); err != nil {
				t.Fatal(err)
			}
			set(hours)
			put = 0
		case 4:
			if _, err := b.s.Fold(ctx, nil); err != nil {
				t.Fatal(err)
			}
		case 5:
			if _, err := b.s.Compact(ctx, nil); err != nil {
				t.Fatal(err)
			}
		}
		if int(done.Deleted) != gone || int(done.Written) != put {
			t.Fatalf("step %d: %+v, want %d deleted, %d written", n, done, gone, put)
		}
		wantHours(t, b, "t", model)
	}
}

package tables_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// wantTicks checks that a table contains the given rows in order.
func wantTicks(t testing.TB, s *tables.Store, name string, want []tick) {
	t.Helper()
	got, err := ticksFrom(s.Bucket("b").Table(name).Scan(t.Context(), nil))
	if err != nil {
		t.Fatal(err)
	}
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Fatalf("%s: %d rows, want %d; row %d differs: got %v, want %v", name, len(got), len(want), i,
				got[min(i, len(got)):min(i+3, len(got))], want[min(i, len(want)):min(i+3, len(want))])
		}
	}
}

// TestArrivalWithinPut checks that rows with equal times keep their order within one put. The rows fill
// more than ten files, so file numbers have two digits, and some rows are not in time order.
func TestArrivalWithinPut(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	for name, time := range map[string]string{"ordered": "ts", "plain": ""} {
		s, err := tables.OpenHooked(t.Context(), t.TempDir(), &tables.Options{Memory: 8 << 20, FoldAge: -1, NoTail: true}, tables.Hooks{FS: vfs.OS{}, FileBytes: 10_000})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close() //nolint:errcheck // nothing is lost
		o := &tables.PutOptions{Settings: &tables.Settings{Time: time}}
		var rows []tick
		for i := range int64(120_000) {
			rows = append(rows, tick{1 + i/45_000, fmt.Sprintf("%x%x%x%x%x%x%x%x", rand.Uint64(), rand.Uint64(), rand.Uint64(), rand.Uint64(), rand.Uint64(), rand.Uint64(), rand.Uint64(), rand.Uint64()), i, 0})
		}
		for i := range int64(10_000) {
			rows = append(rows, tick{i % 4, "late", 120_000 + i, 0})
		}
		tabletest.PutRows(t, s.Bucket("b"), name, ticksOf(rows, 1000), tables.PutAppend, o)
		table := s.Bucket("b").Table(name)
		if i, err := table.Info(t.Context()); err != nil || i.Files < 12 {
			t.Fatalf("the put wrote %d files, want at least 12; error: %v", i.Files, err)
		}
		if time != "" {
			slices.SortStableFunc(rows, func(a, b tick) int { return int(a.ts - b.ts) })
		}
		wantTicks(t, s, name, rows)
		if time != "" {
			tabletest.Compact(t, s)
			wantTicks(t, s, name, rows)
		}
	}
}

// TestArrivalAcrossCompaction checks that compaction keeps the order of rows with equal times if the last
// time in a small file equals the first time in a later, large file.
func TestArrivalAcrossCompaction(t *testing.T) {
	s, err := tables.OpenHooked(t.Context(), t.TempDir(), &tables.Options{FoldAge: -1, NoTail: true}, tables.Hooks{FS: vfs.OS{}, FileBytes: 40_000})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // nothing is lost
	o := &tables.PutOptions{Settings: &tables.Settings{Time: "ts"}}
	large := make([]tick, 40_000)
	for i := range large {
		large[i] = tick{20 + int64(i), fmt.Sprintf("%x%x%x%x", rand.Uint64(), rand.Uint64(), rand.Uint64(), rand.Uint64()), int64(i), 0}
	}
	var all []tick
	for _, rows := range [][]tick{{{1, "a", 1, 0}}, {{2, "a", 2, 0}, {20, "first", 3, 0}}, large} {
		tabletest.PutRows(t, s.Bucket("b"), "t", ticksOf(rows, 100_000), tables.PutAppend, o)
		all = append(all, rows...)
	}
	wantTicks(t, s, "t", all)
	r, err := s.Compact(t.Context(), nil)
	if err != nil || r.FilesBefore < 2 {
		t.Fatalf("Compact = %+v, %v; want FilesBefore at least 2", r, err)
	}
	t.Log(r)
	wantTicks(t, s, "t", all)
}

// TestReplaceVersionKeepsDuplicateRule checks that no duplicates appear if a put replaces an earlier version
// (PutOptions.Over) with rows whose keys later puts have used. The put must fail.
func TestReplaceVersionKeepsDuplicateRule(t *testing.T) {
	for _, rule := range []tables.OnDuplicate{tables.KeepFirst, tables.KeepLast, tables.RefuseDuplicate} {
		s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1, NoTail: true})
		b := s.Bucket("b")
		o := &tables.PutOptions{Settings: &tables.Settings{Time: "ts", OnDuplicate: rule}}
		v, err := b.Table("t").Put(t.Context(), ticksOf([]tick{{1, "a", 1, 0}}, 1), tables.PutAppend, o)
		if err != nil {
			t.Fatal(err)
		}
		tabletest.PutRows(t, b, "t", ticksOf([]tick{{2, "a", 2, 0}}, 1), tables.PutAppend, nil)
		_, err = b.Table("t").Put(t.Context(), ticksOf([]tick{{2, "a", 3, 0}, {3, "a", 3, 0}}, 2), tables.PutReplace, &tables.PutOptions{Over: &v})
		if !errors.Is(err, tables.ErrConflict) && (rule != tables.RefuseDuplicate || !errors.As(err, new(*tables.DuplicateError))) {
			t.Errorf("%s: Put with Over: error = %v, want ErrConflict, or a DuplicateError for RefuseDuplicate", rule, err)
		}
		rows, err := ticksFrom(s.Bucket("b").Table("t").Scan(t.Context(), nil))
		if err != nil {
			t.Fatal(err)
		}
		for i := 1; i < len(rows); i++ {
			if rows[i].ts == rows[i-1].ts {
				t.Errorf("%s: two rows have the same key: %v", rule, rows)
			}
		}
	}
}

func TestSeveralPutsInTransaction(t *testing.T) {
	for rule, want := range map[tables.OnDuplicate]string{tables.KeepAll: "[{1 a 0} {1 a 1} {1 a 2} {1 a 3}]", tables.KeepFirst: "[{1 a 0}]", tables.KeepLast: "[{1 a 3}]", tables.RefuseDuplicate: "[{1 a 0}]"} {
		for _, created := range []bool{false, true} {
			s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
			o := &tables.PutOptions{Settings: &tables.Settings{Time: "ts", OnDuplicate: rule}}
			if !created {
				tabletest.PutRows(t, s.Bucket("b"), "t", ticksOf([]tick{{1, "a", 0, 0}}, 1), tables.PutAppend, o)
			}
			err := s.Update(t.Context(), func(tx *tables.Txn) error {
				for v := range int64(4) {
					if v == 0 && !created {
						continue
					}
					if err := tx.Put("b", "t", ticksOf([]tick{{1, "a", v, 0}}, 1), tables.PutAppend, o); err != nil {
						return err
					}
				}
				return nil
			})
			if rule == tables.RefuseDuplicate {
				if !errors.As(err, new(*tables.DuplicateError)) {
					t.Errorf("created in the transaction: %v: Update error = %v, want a DuplicateError", created, err)
				}
				if created {
					continue
				}
			} else if err != nil {
				t.Errorf("%s, created in the transaction: %v: Update: %v", rule, created, err)
			}
			if got, err := ticksFrom(s.Bucket("b").Table("t").Scan(t.Context(), nil)); err != nil || fmt.Sprint(got) != want {
				t.Errorf("%s, created in the transaction: %v: got rows %v, want %s; error: %v", rule, created, got, want, err)
			}
		}
	}
}

// TestExtremeTimes checks that KeepLast works for the earliest and latest times that a column can hold, and that it
// recognizes keys that are equal despite different bits (0 and -0, or two NaNs).
func TestExtremeTimes(t *testing.T) {
	for _, unit := range []arrow.TimeUnit{arrow.Second, arrow.Millisecond, arrow.Microsecond, arrow.Nanosecond} {
		latest := int64(1<<63 - 1)
		switch unit { // Iceberg stores seconds and milliseconds as microseconds
		case arrow.Second:
			latest = latest / 1_000_000
		case arrow.Millisecond:
			latest = latest / 1_000
		}
		schema := arrow.NewSchema([]arrow.Field{
			{Name: "t", Type: &arrow.TimestampType{Unit: unit}, Nullable: true},
			{Name: "f", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
			{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		}, nil)
		zero := 0.0
		for _, noTail := range []bool{false, true} {
			s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1, NoTail: noTail})
			put := func(n int64) {
				t.Helper()
				b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
				defer b.Release()
				for _, timestamp := range []int64{latest, -latest, 0} {
					for _, f := range []float64{zero / zero * float64(n), zero * float64(1-2*(n%2))} {
						b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(timestamp))
						b.Field(1).(*array.Float64Builder).Append(f)
						b.Field(2).(*array.Int64Builder).Append(n)
					}
				}
				if _, err := s.Bucket("b").Table("t").Put(t.Context(), tabletest.OneBatch(b.NewRecordBatch()), tables.PutAppend, &tables.PutOptions{Settings: &tables.Settings{Time: "t", Keys: []string{"f"}, OnDuplicate: tables.KeepLast}}); err != nil {
					t.Fatalf("%v: Put: %v", unit, err)
				}
			}
			for n := range int64(4) {
				put(n)
				table := s.Bucket("b").Table("t")
				for rows, o := range map[int]*tables.ScanOptions{6: nil, 2: {Last: 2}, 1: {Limit: 1}} {
					got, err := tabletest.ReadAll(t.Context(), table, o)
					if err != nil || len(got) != rows || slices.ContainsFunc(got, func(v int64) bool { return v != n }) {
						t.Errorf("unit %v, NoTail %v: got %v, want %d times %d; error: %v", unit, noTail, got, rows, n, err)
					}
				}
				if n == 1 {
					tabletest.Fold(t, s)
				}
			}
		}
	}
}

// TestMergeManyOverlappingFiles checks that a scan of many overlapping files yields the rows in order, with few goroutines.
func TestMergeManyOverlappingFiles(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	s, err := openWith(t, &tables.Options{Memory: 4 << 20, FoldAge: -1, NoTail: true}, vfs.OS{})
	if err != nil {
		t.Fatal(err)
	}
	var want []tick
	for i := range int64(60) {
		rows := []tick{{0, "a", i, 0}, {100 + i, "a", i, 0}}
		tabletest.PutRows(t, s.Bucket("b"), "t", ticksOf(rows, 2), tables.PutAppend, &tables.PutOptions{Settings: &tables.Settings{Time: "ts"}})
		want = append(want, rows...)
	}
	slices.SortStableFunc(want, func(a, b tick) int { return int(a.ts - b.ts) })
	wantTicks(t, s, "t", want)
	table := s.Bucket("b").Table("t")
	before := runtime.NumGoroutine()
	r, err := table.Scan(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	if !r.Next() {
		t.Fatalf("got no rows; error: %v", r.Err())
	}
	if started := runtime.NumGoroutine() - before; started > 30 {
		t.Errorf("the scan started %d goroutines, want at most 30", started)
	}
	if remaining, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(remaining) > 0 {
		t.Errorf("temporary directory contains %v, want it empty; error: %v", remaining, err)
	}
}

func openWith(t testing.TB, o *tables.Options, fs vfs.FS) (*tables.Store, error) {
	s, err := tables.OpenHooked(t.Context(), t.TempDir(), o, tables.Hooks{FS: fs, FileBytes: 10_000})
	if err == nil {
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return s, err
}

// fullDisk is a file system without room for data files.
type fullDisk struct{ vfs.FS }

func (d fullDisk) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := d.FS.OpenFile(name, flag, perm)
	if err != nil || !strings.HasSuffix(name, ".parquet") {
		return f, err
	}
	return fullFile{f}, nil
}

type fullFile struct{ vfs.File }

func (fullFile) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// TestPutToFullDisk checks that the error of each put to a full disk wraps ENOSPC.
func TestPutToFullDisk(t *testing.T) {
	rows := make([]tick, 60_000)
	for i := range rows {
		rows[i] = tick{int64(i), fmt.Sprintf("%x%x%x%x", rand.Uint64(), rand.Uint64(), rand.Uint64(), rand.Uint64()), int64(i), 0}
	}
	for i, time := range []string{"", "ts", ""} {
		rows := rows
		if i == 2 {
			rows = rows[:10] // they are written only when the file is closed
		}
		s, err := openWith(t, &tables.Options{FoldAge: -1, NoTail: true}, fullDisk{vfs.OS{}})
		if err != nil {
			t.Fatal(err)
		}
		for range 4 {
			_, err := s.Bucket("b").Table("t").Put(t.Context(), ticksOf(rows, 1000), tables.PutAppend, &tables.PutOptions{Settings: &tables.Settings{Time: time}})
			if !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("time column %q: Put error = %v, want ENOSPC", time, err)
			}
		}
	}
}

// TestNullTimesInAnotherTail checks that no rows are lost if a table gets a time column while another Store's tail
// (rows not yet in data files) contains acknowledged rows without a time.
func TestNullTimesInAnotherTail(t *testing.T) {
	dir := t.TempDir()
	a := tabletest.Open(t, dir, &tables.Options{NoTail: true, FoldAge: -1})
	b := tabletest.Open(t, dir, &tables.Options{Tail: &tabletest.MemTail{Values: map[string][]byte{}, Around: func() {}}, FoldAge: -1})
	put := func(s *tables.Store, rows string) error {
		batch, _, err := array.RecordFromJSON(memory.DefaultAllocator, tickSchema, strings.NewReader(rows))
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Bucket("b").Table("t").Put(t.Context(), tabletest.OneBatch(batch), tables.PutAppend, nil)
		return err
	}
	if err := put(a, `[{"ts":"2024-01-02 00:00:00Z","k":"a","v":1}]`); err != nil {
		t.Fatal(err)
	}
	if err := put(b, `[{"ts":null,"k":"a","v":2},{"ts":"2024-01-01 00:00:00Z","k":"a","v":3}]`); err != nil {
		t.Fatal(err)
	}
	if err := a.Bucket("b").Table("t").SetSettings(t.Context(), tables.Settings{Time: "ts", Partition: tables.PartitionDay, OnDuplicate: tables.KeepLast}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		got, err := ticksFrom(b.Bucket("b").Table("t").Scan(t.Context(), nil))
		if err != nil || len(got) != 3 {
			t.Errorf("scan of store b returned rows %v, error %v; want 3 rows", got, err)
		}
		if _, err := b.Fold(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := ticksFrom(a.Bucket("b").Table("t").Scan(t.Context(), nil)); err != nil || len(got) != 3 {
		t.Errorf("scan of store a returned rows %v, error %v; want 3 rows", got, err)
	}
}

// TestCorrectionKeepsArrival checks that a correction keeps the order of rows with equal times from several puts, even
// if it rewrites the oldest file, and that file's time range includes the times of the later files.
func TestCorrectionKeepsArrival(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
	b := s.Bucket("b")
	o := &tables.PutOptions{Settings: &tables.Settings{Time: "ts"}}
	for _, rows := range [][]tick{{{5, "a", 1, 0}, {9, "last", 4, 0}}, {{5, "b", 2, 0}}, {{5, "c", 3, 0}}} {
		tabletest.PutRows(t, b, "t", ticksOf(rows, 10), tables.PutAppend, o)
	}
	if _, err := b.Table("t").DeleteRows(t.Context(), filterOf(t, "v = 4")); err != nil {
		t.Fatal(err)
	}
	wantTicks(t, s, "t", []tick{{5, "a", 1, 0}, {5, "b", 2, 0}, {5, "c", 3, 0}})
}

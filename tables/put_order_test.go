package tables_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// wantTicks checks that a table contains the given rows in order.
func wantTicks(t testing.TB, s *tables.Store, name string, want []tick) {
	t.Helper()
	got := must.Get(ticksFrom(s.Bucket("b").Table(name).Scan(t.Context(), nil)))(t)
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
		s := openHooked(t, t.TempDir(), &tables.Options{Memory: 8 << 20, FoldAge: -1, NoTail: true}, tables.Hooks{FileBytes: 10_000})
		o := &tables.PutOptions{Settings: &tables.Settings{Time: time}}
		var rows []tick
		for i := range int64(120_000) {
			rows = append(rows, tick{1 + i/45_000, fmt.Sprintf("%x%x%x%x%x%x%x%x", rand.Uint64(), rand.Uint64(), rand.Uint64(), rand.Uint64(), rand.Uint64(), rand.Uint64(), rand.Uint64(), rand.Uint64()), i, 0})
		}
		for i := range int64(10_000) {
			rows = append(rows, tick{i % 4, "late", 120_000 + i, 0})
		}
		tabletest.PutRows(t, s.Bucket("b"), name, ticksOf(rows, 1000), tables.PutAppend, o)
		if i, err := s.Bucket("b").Table(name).Info(t.Context()); err != nil || i.Files < 12 {
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
	s := openHooked(t, t.TempDir(), &tables.Options{FoldAge: -1, NoTail: true}, tables.Hooks{FileBytes: 40_000})
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
		must.Do(t, err)
		tabletest.PutRows(t, b, "t", ticksOf([]tick{{2, "a", 2, 0}}, 1), tables.PutAppend, nil)
		_, err = b.Table("t").Put(t.Context(), ticksOf([]tick{{2, "a", 3, 0}, {3, "a", 3, 0}}, 2), tables.PutReplace, &tables.PutOptions{Over: &v})
		if !errors.Is(err, tables.ErrConflict) && (rule != tables.RefuseDuplicate || !errors.As(err, new(*tables.DuplicateError))) {
			t.Errorf("%s: Put with Over: error = %v, want ErrConflict, or a DuplicateError for RefuseDuplicate", rule, err)
		}
		rows := must.Get(ticksFrom(s.Bucket("b").Table("t").Scan(t.Context(), nil)))(t)
		for i := 1; i < len(rows); i++ {
			if rows[i].ts == rows[i-1].ts {
				t.Errorf("%s: two rows have the same key: %v", rule, rows)
			}
		}
	}
}

// TestMergeManyOverlappingFiles checks that a scan of many overlapping files yields the rows in order, with few
// goroutines.
func TestMergeManyOverlappingFiles(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	s := openHooked(t, t.TempDir(), &tables.Options{Memory: 4 << 20, FoldAge: -1, NoTail: true}, tables.Hooks{FileBytes: 10_000})
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
	r := must.Get(table.Scan(t.Context(), nil))(t)
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

// countingFS counts the bytes read from data files.
type countingFS struct {
	vfs.FS
	bytesRead *atomic.Int64
}

func (c countingFS) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := c.FS.OpenFile(name, flag, perm)
	if err != nil || !strings.HasSuffix(name, ".parquet") {
		return f, err
	}
	return countingFile{f, c.bytesRead}, nil
}

type countingFile struct {
	vfs.File
	bytesRead *atomic.Int64
}

func (c countingFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.File.ReadAt(p, off)
	c.bytesRead.Add(int64(n))
	return n, err
}

var _ io.ReaderAt = countingFile{}

// TestBytesReadByScans limits how many bytes scans of a range, or of the first or last rows, read
// from tables with many files.
func TestBytesReadByScans(t *testing.T) {
	var bytesRead atomic.Int64
	s := openHooked(t, t.TempDir(), &tables.Options{FoldAge: -1, NoTail: true}, tables.Hooks{FS: countingFS{vfs.OS{}, &bytesRead}})
	const files, rowsPerFile = 20, 10_000
	for name, settings := range map[string]*tables.Settings{"series": {Time: "ts", OnDuplicate: tables.KeepLast}, "unordered": nil} {
		var lastTime int64
		for _, i := range rand.New(rand.NewPCG(1, 1)).Perm(files) {
			rows := make([]tick, rowsPerFile)
			for j := range rows {
				lastTime = int64(i*rowsPerFile + j)
				rows[j] = tick{lastTime, fmt.Sprint(rand.Int64()), int64(j), 0}
			}
			tabletest.PutRows(t, s.Bucket("b"), name, ticksOf(rows, rowsPerFile), tables.PutAppend, &tables.PutOptions{Settings: settings})
		}
		if settings != nil {
			lastTime = files*rowsPerFile - 1
		}
		table := s.Bucket("b").Table(name)
		info := must.Get(table.Info(t.Context()))(t)
		fileBytes := info.Bytes / files
		secondHalf := must.Get(filter.Parse(fmt.Sprintf("v >= %d", rowsPerFile/2)))(t)
		for scanName, c := range map[string]struct {
			scan  func() (array.RecordReader, error)
			rows  int
			files int64
		}{
			"all":  {func() (array.RecordReader, error) { return table.Scan(t.Context(), nil) }, files * rowsPerFile, files},
			"head": {func() (array.RecordReader, error) { return table.Scan(t.Context(), &tables.ScanOptions{Limit: 10}) }, 10, 1},
			"tail": {func() (array.RecordReader, error) { return table.Scan(t.Context(), &tables.ScanOptions{Last: 10}) }, 10, 1},
			"last": {func() (array.RecordReader, error) { return table.Scan(t.Context(), &tables.ScanOptions{Last: 1}) }, 1, 1},
			"last with a filter": {func() (array.RecordReader, error) {
				return table.Scan(t.Context(), &tables.ScanOptions{Last: 10, Filter: secondHalf})
			}, 10, 1},
			"range": {func() (array.RecordReader, error) {
				return table.Scan(t.Context(), &tables.ScanOptions{From: time.Unix(3*rowsPerFile, 0), To: time.Unix(5*rowsPerFile, 0)})
			}, 2 * rowsPerFile, 2},
		} {
			bytesRead.Store(0)
			rows, err := ticksFrom(c.scan())
			if err != nil || len(rows) != c.rows {
				t.Fatalf("%s, %s: got %d rows, want %d; error: %v", name, scanName, len(rows), c.rows, err)
			}
			if lastRead := rows[len(rows)-1].ts; lastRead != lastTime && c.files == 1 && scanName != "head" {
				t.Errorf("%s, %s: the last row has time %d, want %d", name, scanName, lastRead, lastTime)
			}
			minBytes, maxBytes := c.files*fileBytes*6/10, c.files*fileBytes*14/10
			if settings == nil && (scanName == "tail" || scanName == "last") { // these scans read only some pages of a file
				minBytes, maxBytes = 1, fileBytes*6/10
			}
			if got := bytesRead.Load(); got < minBytes || got > maxBytes {
				t.Errorf("%s, %s: read %d bytes, want %d to %d; a file has %d bytes", name, scanName, got, minBytes, maxBytes, fileBytes)
			}
		}
	}
}

// TestRowGroups checks that a read of the first or last rows of one large file skips the other row groups.
func TestRowGroups(t *testing.T) {
	var bytesRead atomic.Int64
	s := openHooked(t, t.TempDir(), &tables.Options{FoldAge: -1, NoTail: true}, tables.Hooks{FS: countingFS{vfs.OS{}, &bytesRead}})
	const n = 1_200_000
	rows := make([]tick, n)
	for i := range rows {
		rows[i] = tick{int64(i), strings.Repeat(fmt.Sprintf("%x", rand.Uint64()), 2), int64(i), 0}
	}
	for name, settings := range map[string]*tables.Settings{"series": {Time: "ts"}, "unordered": nil} {
		tabletest.PutRows(t, s.Bucket("b"), name, ticksOf(rows, 100_000), tables.PutAppend, &tables.PutOptions{Settings: settings})
		table := s.Bucket("b").Table(name)
		info := must.Get(table.Info(t.Context()))(t)
		for scanName, c := range map[string]struct {
			o    *tables.ScanOptions
			want []tick
		}{
			"tail": {&tables.ScanOptions{Last: 5}, rows[n-5:]}, "head": {&tables.ScanOptions{Limit: 5}, rows[:5]},
		} {
			bytesRead.Store(0)
			got, err := ticksFrom(table.Scan(t.Context(), c.o))
			if err != nil || !slices.Equal(got, c.want) {
				t.Fatalf("%s, %s: got rows %v, want %v; error: %v", name, scanName, got, c.want, err)
			}
			t.Logf("%s, %s: read %d of %d bytes in %d files", name, scanName, bytesRead.Load(), info.Bytes, info.Files)
			if bytesRead.Load() > info.Bytes*9/10 { // the file has two row groups
				t.Errorf("%s, %s: read %d of %d bytes, want at most nine tenths", name, scanName, bytesRead.Load(), info.Bytes)
			}
		}
	}
}

// TestLargeUnsortedPut checks that a put can sort rows that need many times the available memory.
func TestLargeUnsortedPut(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	s := tabletest.Open(t, t.TempDir(), &tables.Options{Memory: 1 << 20, FoldAge: -1})
	rnd := rand.New(rand.NewPCG(7, 7))
	rows := make([]tick, 200_000)
	for i := range rows {
		rows[i] = tick{int64(rnd.IntN(100_000)), "k", int64(i), 0}
	}
	for _, rule := range []tables.OnDuplicate{tables.KeepAll, tables.KeepFirst, tables.KeepLast, tables.RefuseDuplicate} {
		settings := tables.Settings{Time: "ts", OnDuplicate: rule}
		name := string(rule)
		_, err := s.Bucket("b").Table(name).Put(t.Context(), ticksOf(rows, 1000), tables.PutAppend, &tables.PutOptions{Settings: &settings})
		if rule == tables.RefuseDuplicate {
			var duplicates *tables.DuplicateError
			if !errors.As(err, &duplicates) || len(duplicates.Rows) != 10 || duplicates.Count < 100_000 {
				t.Errorf("Put error = %v, want a DuplicateError with 10 of at least 100,000 rows", err)
			}
			twoRows := ticksOf([]tick{{1, "k", 1, 0}, {1, "k", 2, 0}}, 2) // fit in one file
			_, err := s.Bucket("b").Table(name).Put(t.Context(), twoRows, tables.PutAppend, &tables.PutOptions{Settings: &settings})
			if !errors.As(err, &duplicates) || duplicates.Count != 1 {
				t.Errorf("Put of two rows: error = %v, want a DuplicateError with one row", err)
			}
			continue
		}
		must.Do(t, err)
		want := map[int64]int64{}
		for _, r := range rows {
			if _, exists := want[r.ts]; !exists || rule != tables.KeepFirst {
				want[r.ts] = r.v
			}
		}
		got, err := ticksFrom(s.Bucket("b").Table(name).Scan(t.Context(), nil))
		if err != nil || !slices.IsSortedFunc(got, func(a, b tick) int { return int(a.ts - b.ts) }) {
			t.Fatalf("%s: the rows are not in order; error: %v", rule, err)
		}
		if rule == tables.KeepAll {
			if len(got) != len(rows) {
				t.Errorf("%s: got %d rows, want %d", rule, len(got), len(rows))
			}
			continue
		}
		if len(got) != len(want) {
			t.Errorf("%s: got %d rows, want %d", rule, len(got), len(want))
		}
		for _, r := range got {
			if want[r.ts] != r.v {
				t.Fatalf("%s: got row %v, want value %d", rule, r, want[r.ts])
			}
		}
	}
}

// TestFoldOfDuplicates checks that rows that are all duplicates are folded only once, although
// this fold adds no rows to data files.
func TestFoldOfDuplicates(t *testing.T) {
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	b := s.Bucket("b")
	put := func(r array.RecordReader, o *tables.PutOptions) {
		t.Helper()
		tabletest.PutRows(t, b, "t", r, tables.PutAppend, o)
	}
	put(ticksOf([]tick{{1, "a", 1, 0}}, 1), &tables.PutOptions{Settings: &tables.Settings{Time: "ts", OnDuplicate: tables.KeepFirst}})
	fold := func(rows int64) {
		t.Helper()
		if r, err := s.Fold(t.Context(), nil); err != nil || r.Rows != rows {
			t.Fatalf("Fold = %+v, %v; want %d rows", r, err, rows)
		}
	}
	fold(1)
	put(ticksOf([]tick{{1, "a", 2, 0}}, 1), nil)
	fold(1)
	fold(0)
	wantTicks(t, s, "t", []tick{{1, "a", 1, 0}})
	put(ticksOf([]tick{{2, "a", 3, 0}}, 1), nil)
	fold(1)
	wantTicks(t, s, "t", []tick{{1, "a", 1, 0}, {2, "a", 3, 0}})
}

package tables_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

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
	s, err := tables.OpenHooked(t.Context(), t.TempDir(), &tables.Options{FoldAge: -1, NoTail: true}, tables.Hooks{FS: countingFS{vfs.OS{}, &bytesRead}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // nothing is lost
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
		info, err := table.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		fileBytes := info.Bytes / files
		secondHalf, err := filter.Parse(fmt.Sprintf("v >= %d", rowsPerFile/2))
		if err != nil {
			t.Fatal(err)
		}
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
	s, err := tables.OpenHooked(t.Context(), t.TempDir(), &tables.Options{FoldAge: -1, NoTail: true}, tables.Hooks{FS: countingFS{vfs.OS{}, &bytesRead}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // nothing is lost
	const n = 1_200_000
	rows := make([]tick, n)
	for i := range rows {
		rows[i] = tick{int64(i), strings.Repeat(fmt.Sprintf("%x", rand.Uint64()), 2), int64(i), 0}
	}
	for name, settings := range map[string]*tables.Settings{"series": {Time: "ts"}, "unordered": nil} {
		tabletest.PutRows(t, s.Bucket("b"), name, ticksOf(rows, 100_000), tables.PutAppend, &tables.PutOptions{Settings: settings})
		table := s.Bucket("b").Table(name)
		info, err := table.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
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
		if err != nil {
			t.Fatal(err)
		}
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

// TestRejectsNulls checks that puts of rows without a time or a key are rejected.
func TestRejectsNulls(t *testing.T) {
	for _, noTail := range []bool{false, true} {
		s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: noTail, FoldAge: -1})
		b := s.Bucket("b")
		o := &tables.PutOptions{Settings: &tables.Settings{Time: "ts", Keys: []string{"k"}}}
		put := func(rows string) error {
			batch, _, err := array.RecordFromJSON(memory.DefaultAllocator, tickSchema, strings.NewReader(rows))
			if err != nil {
				t.Fatal(err)
			}
			_, err = b.Table("t").Put(t.Context(), tabletest.OneBatch(batch), tables.PutAppend, o)
			return err
		}
		bad := map[string]string{
			"ts": `[{"ts":"2024-01-01 00:00:00Z","k":"a","v":1},{"ts":null,"k":"a","v":1}]`,
			"k":  `[{"ts":"2024-01-01 00:00:00Z","k":null,"v":1}]`,
		}
		for range 2 { // in the first round, the table does not exist yet
			for column, rows := range bad {
				var schema *tables.SchemaError
				if err := put(rows); !errors.As(err, &schema) || schema.Column != column {
					t.Errorf("put of a null in column %s: error = %v, want a SchemaError", column, err)
				}
			}
			if err := put(`[{"ts":"2024-01-01 00:00:00Z","k":"a","v":1}]`); err != nil {
				t.Fatal(err)
			}
		}
		got, err := ticksFrom(s.Bucket("b").Table("t").Scan(t.Context(), nil))
		if err != nil || len(got) != 2 {
			t.Errorf("got rows %v, want 2; error: %v", got, err)
		}
	}
}

// TestTimeTypes checks order, ranges and duplicates in tables with time columns of every allowed type.
func TestTimeTypes(t *testing.T) {
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	types := []arrow.DataType{arrow.FixedWidthTypes.Date32}
	for _, zone := range []string{"", "UTC", "Europe/Berlin"} {
		for _, unit := range []arrow.TimeUnit{arrow.Second, arrow.Millisecond, arrow.Microsecond, arrow.Nanosecond} {
			types = append(types, &arrow.TimestampType{Unit: unit, TimeZone: zone})
		}
	}
	for i, typ := range types {
		schema := arrow.NewSchema([]arrow.Field{{Name: "t", Type: typ, Nullable: true}, {Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true}}, nil)
		name := fmt.Sprint(i)
		put := func(rows string) {
			t.Helper()
			batch, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema, strings.NewReader(rows))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Bucket("b").Table(name).Put(t.Context(), tabletest.OneBatch(batch), tables.PutAppend, &tables.PutOptions{Settings: &tables.Settings{Time: "t", OnDuplicate: tables.KeepLast}}); err != nil {
				t.Fatalf("%v: Put: %v", typ, err)
			}
		}
		z := ""
		if ts, ok := typ.(*arrow.TimestampType); ok && ts.TimeZone != "" {
			z = " 00:00:00Z"
		}
		put(`[{"t":"2024-01-03` + z + `","n":3},{"t":"1960-01-01` + z + `","n":1}]`)
		if _, err := s.Fold(t.Context(), nil); err != nil {
			t.Fatalf("%v: Fold: %v", typ, err)
		}
		put(`[{"t":"2024-01-03` + z + `","n":4},{"t":"2024-01-02` + z + `","n":2}]`)
		table := s.Bucket("b").Table(name)
		for range 2 {
			for want, o := range map[string]*tables.ScanOptions{
				"[1 2 4]": nil, "[2 4]": {From: time.Date(2024, 1, 2, 0, 0, 0, 0, time.UTC)}, "[4]": {Last: 1, Columns: []string{"n"}},
			} {
				if got, err := tabletest.ReadAll(t.Context(), table, o); err != nil || fmt.Sprint(got) != want {
					t.Errorf("time column of type %v: Scan(%+v) = %v, want %s; error: %v", typ, o, got, want, err)
				}
			}
			if _, err := s.Fold(t.Context(), nil); err != nil {
				t.Fatalf("%v: Fold: %v", typ, err)
			}
		}
	}
}

// TestTwoWriters checks that each rule for duplicates holds if two Stores, which simulate two processes, put rows
// with the same times.
func TestTwoWriters(t *testing.T) {
	const puts = 16
	for _, rule := range []tables.OnDuplicate{tables.KeepFirst, tables.KeepLast, tables.RefuseDuplicate} {
		dir := t.TempDir()
		stores := []*tables.Store{tabletest.Open(t, dir, &tables.Options{NoTail: true}), tabletest.Open(t, dir, &tables.Options{Tail: &tabletest.MemTail{Values: map[string][]byte{}, Around: func() {}}, FoldAge: time.Millisecond})}
		o := &tables.PutOptions{Settings: &tables.Settings{Time: "ts", OnDuplicate: rule}}
		tabletest.PutRows(t, stores[0].Bucket("b"), "t", ticksOf(nil, 1), tables.PutAppend, o)
		var writers sync.WaitGroup
		var successes atomic.Int64
		for n, s := range stores {
			writers.Go(func() {
				for i := range int64(puts) {
					rows := []tick{{i % 10, "k", int64(n)*1000 + i, 0}, {1000 + int64(n)*100 + i, "k", i, 0}}
					_, err := s.Bucket("b").Table("t").Put(t.Context(), ticksOf(rows, 10), tables.PutAppend, o)
					switch {
					case err == nil:
						successes.Add(1)
					case rule != tables.RefuseDuplicate || !errors.As(err, new(*tables.DuplicateError)):
						t.Errorf("%s: Put: %v", rule, err)
					}
				}
			})
		}
		writers.Wait()
		for _, s := range stores {
			tabletest.Fold(t, s)
		}
		got, err := ticksFrom(stores[0].Bucket("b").Table("t").Scan(t.Context(), nil))
		want := 10 + 2*puts
		if rule == tables.RefuseDuplicate {
			want = int(2 * successes.Load())
		}
		if err != nil || len(got) != want {
			t.Errorf("%s: got %d rows, want %d; error: %v", rule, len(got), want, err)
		}
		for i := 1; i < len(got); i++ {
			if got[i].ts <= got[i-1].ts {
				t.Errorf("%s: row %v comes after row %v, want increasing times", rule, got[i], got[i-1])
			}
		}
	}
}

// TestReleaseReaderEarly checks that readers of ordered tables that are released before their end leave no goroutines.
func TestReleaseReaderEarly(t *testing.T) {
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1, NoTail: true})
	for i := range int64(5) {
		rows := []tick{{i, "a", i, 0}, {i + 100, "a", i, 0}}
		tabletest.PutRows(t, s.Bucket("b"), "t", ticksOf(rows, 1), tables.PutAppend, &tables.PutOptions{Settings: &tables.Settings{Time: "ts"}})
	}
	table := s.Bucket("b").Table("t")
	before := runtime.NumGoroutine()
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		r, err := table.Scan(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Next()
		cancel()
		r.Release()
	}
	for range 100 {
		if runtime.NumGoroutine() <= before+2 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d goroutines are running, want at most %d", runtime.NumGoroutine(), before+2)
}

package tables_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

func TestScanOptions(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	b := s.Bucket("")
	day := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	sc := arrow.NewSchema([]arrow.Field{
		{Name: "s", Type: &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}, Nullable: true},
		{Name: "at", Type: &arrow.TimestampType{Unit: arrow.Nanosecond, TimeZone: "Europe/Berlin"}},
		{Name: "n", Type: arrow.PrimitiveTypes.Uint32, Nullable: true},
	}, nil)
	for d := range 10 {
		rb := array.NewRecordBuilder(memory.DefaultAllocator, sc)
		for h := range 24 {
			must.Do(t, rb.Field(0).(*array.BinaryDictionaryBuilder).AppendString(fmt.Sprint(h%2)))
			rb.Field(1).(*array.TimestampBuilder).AppendTime(day.AddDate(0, 0, d).Add(time.Duration(h) * time.Hour))
			rb.Field(2).(*array.Uint32Builder).Append(uint32(d*24 + h))
		}
		tabletest.PutRows(t, b, "a", tabletest.OneBatch(rb.NewRecordBatch()), tables.PutAppend, nil)
		if d%4 == 3 {
			tabletest.Fold(t, s)
		}
	}
	where := must.Get(filter.Parse(`s = '1' and n >= 100`))(t)
	table := b.Table("a")
	must.Get(s.Compact(t.Context(), nil))(t) // nanoseconds require version 3 of Iceberg's format
	for _, c := range []struct {
		o    tables.ScanOptions
		rows int64
	}{
		{tables.ScanOptions{}, 240},
		{tables.ScanOptions{Limit: 7}, 7},
		{tables.ScanOptions{Filter: where}, 70},
		{tables.ScanOptions{Filter: where, Limit: 60, Columns: []string{"at"}}, 60},
		{tables.ScanOptions{From: day.AddDate(0, 0, 3), To: day.AddDate(0, 0, 9)}, 144},
		{tables.ScanOptions{From: day.AddDate(0, 0, 3), TimeColumn: "at", Filter: where, Columns: []string{"n", "s"}}, 70},
		{tables.ScanOptions{To: day}, 0},
	} {
		r, err := table.Scan(t.Context(), &c.o)
		if err != nil {
			t.Fatalf("Scan(%v): %v", c.o, err)
		}
		if rows := must.Get(tabletest.CountRows(r))(t); rows != c.rows {
			t.Errorf("Scan(%+v) returned %d rows, want %d", c.o, rows, c.rows)
		}
		if c.o.Columns != nil && !slices.Equal(schema.Names(r.Schema()), c.o.Columns) {
			t.Errorf("Scan(%+v): schema is %v, want columns %q", c.o, r.Schema(), c.o.Columns)
		}
		if c.o.Columns == nil && (!arrow.TypeEqual(r.Schema().Field(1).Type, sc.Field(1).Type) || !arrow.TypeEqual(r.Schema().Field(2).Type, sc.Field(2).Type)) {
			t.Errorf("Scan(%+v): schema is %v, want the types of %v", c.o, r.Schema(), sc)
		}
	}
	for _, o := range []tables.ScanOptions{
		{Columns: []string{"n", "s", "n"}}, {Columns: []string{"nope"}}, {From: day, TimeColumn: "n"},
	} {
		want := "n"
		if len(o.Columns) == 1 {
			want = "nope"
		}
		var se *tables.SchemaError
		if _, err := table.Scan(t.Context(), &o); !errors.As(err, &se) || se.Column != want {
			t.Errorf("Scan(%+v): error = %v, want a SchemaError for column %s", o, err, want)
		}
	}
}

func TestListAndTime(t *testing.T) {
	t.Parallel()
	b := tabletest.Open(t, t.TempDir(), nil).Bucket("")
	for i, name := range []string{"a1", "a2", "b1", "a/3"} {
		tabletest.PutRows(t, b, name, tabletest.Rows(1), tables.PutError, &tables.PutOptions{Metadata: tables.Metadata{"i": fmt.Sprint(i % 2)}})
	}
	list := func(f *tables.Filter) (all []string) {
		for info, err := range b.Tables(t.Context(), f) {
			must.Do(t, err)
			all = append(all, info.Name)
		}
		return all
	}
	if got := list(&tables.Filter{Pattern: "a*"}); !slices.Equal(got, []string{"a/3", "a1", "a2"}) {
		t.Errorf(`tables that match a*: %+v, want ["a/3" "a1" "a2"]`, got)
	}
	if got := list(&tables.Filter{Pattern: "?[12]", Metadata: tables.Metadata{"i": "0"}}); !slices.Equal(got, []string{"a1", "b1"}) {
		t.Errorf(`tables that match ?[12] with i = 0: %+v, want ["a1" "b1"]`, got)
	}
	before := time.Now()
	time.Sleep(2 * time.Millisecond)
	tabletest.Put(t, b, "a1", tables.PutReplace, 2)
	tabletest.WantRowsAt(t, b, "a1", tables.AtTime(before), 1)
	if _, err := b.Table("a1").At(t.Context(), tables.AtTime(before.AddDate(-1, 0, 0))); !errors.Is(err, tables.ErrNotFound) {
		t.Errorf("Table before the first version: error = %v, want ErrNotFound", err)
	}
	must.Fail(t, b.Delete(t.Context(), "a1", "nope"), tables.ErrNotFound, "Delete of a missing table")
	tabletest.WantRows(t, b, "a1", 2)
	must.Do(t, b.Delete(t.Context(), "a1", "a2"))
	if got := list(nil); !slices.Equal(got, []string{"a/3", "b1"}) {
		t.Errorf(`tables after the deletes: %+v, want ["a/3" "b1"]`, got)
	}
}

func TestChunks(t *testing.T) {
	t.Parallel()
	b := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true}).Bucket("")
	for i := range int64(5) {
		tabletest.Put(t, b, "a", tables.PutAppend, tabletest.Sequence(10*i, 10)...)
	}
	table := b.Table("a")
	for rows, want := range map[int64]string{1: "", 7: "[7 7 7 7 7 7 7 1]", 10: "[10 10 10 10 10]", 25: "[25 25]", 49: "[49 1]", 1000: "[50]"} {
		r := must.Get(table.Scan(t.Context(), &tables.ScanOptions{ChunkRows: rows}))(t)
		var sizes, got []int64
		for r.Next() {
			sizes = append(sizes, r.RecordBatch().NumRows())
			got = append(got, r.RecordBatch().Column(0).(*array.Int64).Int64Values()...)
		}
		r.Release()
		if r.Err() != nil || !slices.Equal(got, tabletest.Sequence(0, 50)) || want != "" && fmt.Sprint(sizes) != want {
			t.Errorf("ChunkRows %d: got chunks of %v rows, want %s; rows %v; error %v", rows, sizes, want, got, r.Err())
		}
	}
	if _, err := table.Scan(t.Context(), &tables.ScanOptions{ChunkRows: -1}); err == nil {
		t.Error("Scan with ChunkRows -1 succeeded, want an error")
	}
}

// TestSourceFilesOfScan limits the number of source files whose code runs when a scan is opened, and during a whole
// scan, so that a reader of the code needs to follow scans through only a few files.
func TestSourceFilesOfScan(t *testing.T) {
	if os.Getenv("PARTD_SCANNED") == "" {
		t.Skip("set PARTD_SCANNED=1 to run this test, which builds a program with coverage counters")
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "scanned")
	run := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Env = append(os.Environ(), "GOCOVERDIR="+t.TempDir())
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", cmd, err, out)
		}
		return string(out)
	}
	run("go", "build", "-cover", "-covermode=atomic", "-coverpkg=github.com/go-partd/partd/tables/...", "-o", program, "./testdata/scanned")
	for _, c := range []struct {
		name     string
		args     []string
		maxFiles int
	}{{"opened", []string{"opened"}, 13}, {"read", nil, 20}} {
		coverDir := t.TempDir()
		run(program, append([]string{coverDir}, c.args...)...)
		list := filepath.Join(coverDir, "list")
		run("go", "tool", "covdata", "textfmt", "-i="+coverDir, "-o="+list)
		text := must.Get(os.ReadFile(list))(t)
		files := map[string]bool{}
		for line := range strings.Lines(string(text)) {
			file, _, _ := strings.Cut(line, ":")
			if !strings.HasSuffix(line, " 0\n") && strings.HasSuffix(file, ".go") && !strings.Contains(file, "/testdata/") {
				files[file] = true
			}
		}
		if len(files) > c.maxFiles || len(files) < 5 {
			t.Errorf("%s: a scan executes code in %d files, want 5 to %d: %v", c.name, len(files), c.maxFiles, files)
		}
	}
}

// TestRecycle checks that scans with and without Recycle return the same rows, from files and the tail, with and
// without a filter and an order. With Recycle, retained batches keep their rows; without it, all batches do.
func TestRecycle(t *testing.T) {
	for _, time := range []string{"", "t"} {
		t.Run(time, func(t *testing.T) { testRecycle(t, &tables.Settings{Time: time}) })
	}
}

func testRecycle(t *testing.T, settings *tables.Settings) {
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	b := s.Bucket("")
	put := func(first, count int64) {
		tabletest.PutRows(t, b, "t", dated(first, count), tables.PutAppend, &tables.PutOptions{Settings: settings})
	}
	const rows = 400_000
	for i := range int64(4) {
		put(i*rows/4, rows/4)
		tabletest.Fold(t, s)
	}
	put(rows, 10)
	table := b.Table("t")
	where := filter.Or(filter.Lt("n", int64(rows/3)), filter.Eq("s", fmt.Sprint("row ", rows-1)), filter.Ge("n", int64(rows)))
	for _, c := range []struct {
		o    tables.ScanOptions
		want []int64
	}{
		{tables.ScanOptions{}, tabletest.Sequence(0, rows+10)},
		{tables.ScanOptions{Columns: []string{"n"}}, tabletest.Sequence(0, rows+10)},
		{tables.ScanOptions{Filter: where}, slices.Concat(tabletest.Sequence(0, rows/3), []int64{rows - 1}, tabletest.Sequence(rows, 10))},
		{tables.ScanOptions{Last: 12}, tabletest.Sequence(rows-2, 12)},
		{tables.ScanOptions{Limit: rows + 3}, tabletest.Sequence(0, rows+3)},
		{tables.ScanOptions{Last: 12, Filter: where}, slices.Concat([]int64{rows/3 - 1, rows - 1}, tabletest.Sequence(rows, 10))},
	} {
		for _, c.o.Recycle = range []bool{true, false} {
			got, err := tabletest.ReadAll(t.Context(), table, &c.o)
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("Scan(%+v) returned %d rows, want %d; error: %v", c.o, len(got), len(c.want), err)
			}
			r := must.Get(table.Scan(t.Context(), &c.o))(t)
			var values [][]int64
			var retained []arrow.RecordBatch
			for r.Next() {
				if c.o.Recycle {
					r.RecordBatch().Retain()
					retained = append(retained, r.RecordBatch())
				}
				values = append(values, r.RecordBatch().Column(r.RecordBatch().Schema().FieldIndices("n")[0]).(*array.Int64).Values())
			}
			if got := slices.Concat(values...); r.Err() != nil || !slices.Equal(got, c.want) {
				t.Errorf("Scan(%+v): after the scan, the batches have %d rows, want the same %d rows; error: %v", c.o, len(got), len(c.want), r.Err())
			}
			for _, b := range retained {
				b.Release()
			}
			r.Release()
		}
	}
	allocatedBytes := func(o *tables.ScanOptions) uint64 {
		return procs.Allocated(func() {
			for range 10 {
				if n := must.Get(tabletest.CountRows(must.Get(table.Scan(t.Context(), o))(t)))(t); n != rows+10 {
					t.Fatalf("scan returned %d rows, want %d", n, rows+10)
				}
			}
		})
	}
	o := tables.ScanOptions{Columns: []string{"n"}}
	bytesWithout := allocatedBytes(&o)
	o.Recycle = true
	if bytesWith := allocatedBytes(&o); !procs.RaceEnabled && bytesWith > bytesWithout/2 { // under the race detector, sync.Pool drops values at random
		t.Errorf("scans with Recycle allocated %d bytes, want at most half of the %d bytes without it", bytesWith, bytesWithout)
	}
}

// dated returns count rows, numbered from first. The date of row n is n days after 1970-01-01.
func dated(first, count int64) array.RecordReader {
	r := tabletest.Rows(tabletest.Sequence(first, count)...)
	defer r.Release()
	r.Next()
	dates := array.NewDate32Builder(memory.DefaultAllocator)
	defer dates.Release()
	for _, n := range tabletest.Sequence(first, count) {
		dates.Append(arrow.Date32(n))
	}
	all := append([]arrow.Array{dates.NewArray()}, r.RecordBatch().Columns()...)
	fields := append([]arrow.Field{{Name: "t", Type: arrow.FixedWidthTypes.Date32, Nullable: true}}, tabletest.Numbers.Fields()...)
	return tabletest.OneBatch(array.NewRecordBatch(arrow.NewSchema(fields, nil), all, count))
}

// TestOrder checks that rows are read in the order of their puts, whether they are in files or the tail.
func TestOrder(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldBytes: 2000, FoldAge: -1})
	b := s.Bucket("")
	for i := range int64(30) {
		if i%7 == 3 {
			tabletest.Put(t, b, "a", tables.PutAppend, tabletest.Sequence(i*100, 100)...) // too many for the tail: written directly to a file
		} else {
			tabletest.Put(t, b, "a", tables.PutAppend, i*100)
		}
		switch i {
		case 5, 15, 16, 25:
			tabletest.Fold(t, s)
		case 20:
			if r := must.Get(s.Compact(t.Context(), nil))(t); r.FilesAfter != 1 || r.FilesBefore < 5 {
				t.Fatalf("Compact = %+v; want FilesAfter 1 and FilesBefore at least 5", r)
			}
		}
		table := b.Table("a")
		if got, err := tabletest.ReadAll(t.Context(), table, nil); err != nil || !slices.IsSorted(got) {
			t.Fatalf("after put %d, the scan returned rows %v, error %v; want sorted rows", i, got, err)
		}
	}
}

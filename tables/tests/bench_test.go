package tables_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// BenchmarkPutMany puts a million trades, like the benchmark in directory bench.
func BenchmarkPutMany(b *testing.B) {
	columns := tabletest.ParseColumns(b, "at timestamp[us]; sym utf8; price float64; size int64")
	rb := array.NewRecordBuilder(memory.DefaultAllocator, columns)
	random := rand.New(rand.NewPCG(1, 0))
	for i := range 1_000_000 {
		rb.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(1_700_000_000_000_000 + int64(i)*1000))
		rb.Field(1).(*array.StringBuilder).Append(fmt.Sprint("S", random.IntN(100)))
		rb.Field(2).(*array.Float64Builder).Append(100 * random.Float64())
		rb.Field(3).(*array.Int64Builder).Append(random.Int64N(1000))
	}
	batch := rb.NewRecordBatch()
	s := tabletest.Open(b, b.TempDir(), nil)
	before := tabletest.CPU()
	for b.Loop() {
		must.Get(s.Bucket("").Table("t").Put(b.Context(), tabletest.OneBatch(batch), tables.PutReplace, nil))(b)
	}
	b.ReportMetric(float64((tabletest.CPU()-before).Microseconds())/1000/float64(b.N), "cpu-ms/op")
	t := s.Bucket("").Table("t")
	info := must.Get(t.Info(b.Context()))(b)
	b.ReportMetric(float64(info.Bytes)/1e6, "MB")
}

// BenchmarkRead reads a million rows from one file and from ten files.
func BenchmarkRead(b *testing.B) {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "at", Type: &arrow.TimestampType{Unit: arrow.Microsecond}},
		{Name: "sym", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "price", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		{Name: "size", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "note", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "id", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	}, nil)
	const rows = 1_000_000
	for _, files := range []int{1, 10} {
		s := tabletest.Open(b, b.TempDir(), &tables.Options{FoldAge: -1})
		random := rand.New(rand.NewPCG(1, 1))
		for f := range files {
			rb := array.NewRecordBuilder(memory.DefaultAllocator, schema)
			for i := range rows / files {
				rb.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(1e15 + int64(f*rows/files+i)*1e6))
				rb.Field(1).(*array.StringBuilder).Append(fmt.Sprint("SYM", random.IntN(500)))
				rb.Field(2).(*array.Float64Builder).Append(random.NormFloat64())
				rb.Field(3).(*array.Int64Builder).Append(random.Int64N(1000))
				rb.Field(4).(*array.StringBuilder).Append(fmt.Sprintf("note %x", random.Uint32()))
				rb.Field(5).(*array.Int64Builder).Append(int64(f*rows/files+i) * 7_777_777_777 % 1_000_003)
			}
			must.Get(s.Bucket("").Table("t").Put(b.Context(), tabletest.OneBatch(rb.NewRecordBatch()), tables.PutAppend, nil))(b)
			must.Get(s.Fold(b.Context(), nil))(b)
		}
		table := s.Bucket("").Table("t")
		for _, c := range []struct {
			name, where string
			columns     []string
		}{
			{"all", "", nil},
			{"two", "", []string{"at", "price"}},
			{"sym", "sym = 'SYM7'", nil},
			{"half", "price > 0", nil},
			{"none", "price > 100", nil},
			{"one", "size = 5 and sym = 'SYM3'", []string{"price"}},
			{"range", "at >= '2001-09-15' and at < '2001-09-16'", nil},
			{"percent", "at >= '2001-09-15' and at < '2001-09-15T02:46:40'", []string{"at", "price"}},
			{"text", "note = 'note ea5e'", nil},
			{"integer", "id = 700000", nil},
		} {
			where := tabletest.ParseFilter(b, c.where)
			b.Run(fmt.Sprint(c.name, "/", files), func(b *testing.B) {
				b.ReportAllocs()
				before := tabletest.CPU()
				defer func() {
					b.ReportMetric(float64((tabletest.CPU()-before).Microseconds())/1000/float64(b.N), "cpu-ms/op")
				}()
				for b.Loop() {
					r := must.Get(table.Scan(b.Context(), &tables.ScanOptions{Filter: where, Columns: c.columns}))(b)
					b.ReportMetric(float64(must.Get(tabletest.CountRows(r))(b)), "rows")
				}
			})
		}
	}
}

// TestAllocations limits the allocations of scanning a file and of appending a row to slightly more than the measured
// counts. The Parquet reader makes most of a scan's 530 allocations, and the IPC writer makes 19 of an append's 38.
func TestAllocations(t *testing.T) {
	if procs.RaceEnabled {
		t.Skip("the race detector allocates memory too")
	}
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	b := s.Bucket("")
	tabletest.Put(t, b, "t", tables.PutAppend, tabletest.Sequence(0, 1000)...)
	tabletest.Fold(t, s)
	if n := testing.AllocsPerRun(100, func() {
		if rows := must.Get(tabletest.CountRows(must.Get(b.Table("t").Scan(t.Context(), nil))(t)))(t); rows != 1000 {
			t.Fatalf("read %d rows, want 1000", rows)
		}
	}); n > 600 {
		t.Errorf("scanning 1,000 rows made %.0f allocations, want at most 600", n)
	}
	tabletest.Put(t, b, "a", tables.PutAppend, 1)
	r := tabletest.Rows(1)
	r.Next()
	if n := testing.AllocsPerRun(500, func() {
		tabletest.PutRows(t, b, "a", tabletest.OneBatch(r.RecordBatch()), tables.PutAppend, nil)
	}); n > 39 {
		t.Errorf("appending a row made %.0f allocations, want at most 39", n)
	}
}

// TestManyTables opens, lists, finds and snapshots PARTD_TABLES tables, a multiple of 100. It logs how long each
// operation takes.
func TestManyTables(t *testing.T) {
	n := tabletest.Rounds(t, "PARTD_TABLES", 100)
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1, Memory: 1 << 30})
	b := s.Bucket("b")
	for i := range n {
		must.Get(b.Table(fmt.Sprintf("table %05d", i)).Put(t.Context(), tabletest.Rows(1), tables.PutAppend, &tables.PutOptions{Metadata: tables.Metadata{"i": i, "group": i % 100}}))(t)
	}
	logTime := func(label string, f func()) {
		t.Helper()
		start := time.Now()
		f()
		t.Logf("%s: %v", label, time.Since(start).Round(10*time.Microsecond))
	}
	logTime("snapshot that folds a row of each table", func() { tabletest.Snapshot(t, b, "") })
	for range 3 {
		logTime("snapshot", func() { tabletest.Snapshot(t, b, "") })
	}
	must.Do(t, s.Close())
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	logTime("open", func() { s = tabletest.Open(t, s.Dir(), &tables.Options{FoldAge: -1}) })
	b = s.Bucket("b")
	count := func(f *tables.Filter) (n int) {
		for _, err := range b.Tables(t.Context(), f) {
			must.Do(t, err)
			n++
		}
		return n
	}
	wantCount := func(got, n int) {
		t.Helper()
		if got != n {
			t.Errorf("found %d tables, want %d", got, n)
		}
	}
	for range 3 {
		logTime("find one table", func() { wantCount(count(&tables.Filter{Metadata: tables.Metadata{"i": n / 2}}), 1) })
		logTime("find 1% of the tables", func() { wantCount(count(&tables.Filter{Metadata: tables.Metadata{"group": 7}}), n/100) })
	}
	logTime("list", func() { wantCount(count(nil), n) })
	all, err := b.Snapshots(t.Context())
	if err != nil || len(all) != 4 || all[0].Tables != n {
		t.Fatalf("Snapshots = %+v, %v; want 4 snapshots of %d tables", all, err, n)
	}
	logTime("list a snapshot", func() { wantCount(count(&tables.Filter{Snapshot: all[0].Name}), n) })
	tabletest.Put(t, b, "table 00007", tables.PutAppend, 2)
	must.Do(t, b.Delete(t.Context(), "table 00009"))
	logTime("restore, with two tables changed", func() { must.Do(t, b.Restore(t.Context(), all[0].Name)) })
	tabletest.WantRows(t, b, "table 00007", 1)
	tabletest.WantRows(t, b, "table 00009", 1)
	wantCount(count(nil), n)
	logTime("delete the snapshots", func() { must.Do(t, b.DeleteSnapshots(t.Context())) })
	runtime.GC()
	runtime.ReadMemStats(&after)
	t.Logf("memory held: %d KiB", (int64(after.HeapAlloc)-int64(before.HeapAlloc))>>10)
}

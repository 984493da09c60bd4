package tables_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	iceio "github.com/apache/iceberg-go/io"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestMemory appends to many tables from many goroutines, with less memory for the tail (rows not yet in data
// files) than the rows need. Scans then read the rows from the tail's store on disk.
func TestMemory(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1, Memory: 1 << 20})
	b := s.Bucket("")
	tableCount, rowsPerTable := tabletest.Rounds(t, "PARTD_TABLES", 20), int64(100)
	var g sync.WaitGroup
	for w := range 10 {
		g.Go(func() {
			for i := w; i < tableCount; i += 10 {
				for n := range rowsPerTable {
					if !must.Check(t, must.Err(b.Table(fmt.Sprint(i)).Put(t.Context(), tabletest.Rows(n), tables.PutAppend, nil))) {
						return
					}
				}
			}
		})
	}
	g.Wait()
	if used := s.Tail().UsedMemory(); used > 1<<18 {
		t.Errorf("the tail's rows use %d bytes of memory, want at most %d", used, 1<<18)
	}
	for i := range tableCount {
		tabletest.WantRows(t, b, fmt.Sprint(i), tabletest.Sequence(0, rowsPerTable)...)
	}
	if r, err := s.Fold(t.Context(), nil); err != nil || r.Tables != tableCount || r.Rows != int64(tableCount)*rowsPerTable {
		t.Fatalf("Fold = %+v, %v; want %d tables and %d rows", r, err, tableCount, int64(tableCount)*rowsPerTable)
	}
	if used := s.Tail().UsedMemory(); used != 0 {
		t.Errorf("after the fold, the tail's rows use %d bytes of memory, want 0", used)
	}
	for i := range tableCount {
		tabletest.WantRows(t, b, fmt.Sprint(i), tabletest.Sequence(0, rowsPerTable)...)
	}
}

// TestAgeAfterReopen checks that rows that are in the tail when the store is opened are folded after FoldAge.
func TestAgeAfterReopen(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	tabletest.Put(t, s.Bucket(""), "a", tables.PutAppend, 1)
	tabletest.Put(t, s.Bucket(""), "a", tables.PutAppend, 2)
	must.Do(t, s.Close())
	s = tabletest.Open(t, s.Dir(), &tables.Options{FoldAge: 20 * time.Millisecond})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		l, err := s.Catalog().Get(t.Context(), tables.DefaultNamespace, "a")
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("Get = %+v, %v; want a folded table within a minute", l, err)
		}
		if l.Rows == 2 {
			break
		}
	}
	tabletest.WantRows(t, s.Bucket(""), "a", 1, 2)
}

// TestScanPlan checks the plan of a table with files and a tail. After another program has added delete
// files, the plan must have NeedsScan set.
func TestScanPlan(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	b := s.Bucket("x")
	tabletest.Put(t, b, "a", tables.PutAppend, 1, 2, 3)
	tabletest.Fold(t, s)
	tabletest.Put(t, b, "a", tables.PutAppend, 4)
	plan := func(files int, tail int64, scanned bool) *tables.ScanPlan {
		t.Helper()
		m := must.Get(b.Table("a").ScanPlan(t.Context()))(t)
		t.Cleanup(m.Close)
		rows := int64(0)
		for _, r := range m.Tail {
			rows += r.NumRows()
		}
		if len(m.Files) != files || rows != tail || m.NeedsScan != scanned {
			t.Fatalf("ScanPlan has %d files, %d rows in the tail and NeedsScan %v: %+v; want %d, %d, %v", len(m.Files), rows, m.NeedsScan, m.Files, files, tail, scanned)
		}
		return m
	}
	first, repeated := plan(1, 1, false), plan(1, 1, false)
	if first.TailMark != repeated.TailMark || first.TailMark == "" || first.Files[0].Rows != 3 {
		t.Errorf("two plans have TailMark %q and %q, want equal marks; files %+v, want one file with 3 rows", first.TailMark, repeated.TailMark, first.Files)
	}
	tabletest.Put(t, b, "a", tables.PutAppend, 5)
	if m := plan(1, 2, false); m.TailMark == first.TailMark {
		t.Errorf("after a put, TailMark is still %q", m.TailMark)
	}

	// The files of open plans are pinned, so that Expire does not remove them.
	if pins, since := s.Commits().Pinned(); !since.Before(time.Now()) || pins != 3 {
		t.Errorf("got %d pins, want 3", pins)
	}
	first.Close()
	first.Close()
	if pins, _ := s.Commits().Pinned(); pins != 2 {
		t.Errorf("after one of three plans was closed, got %d pins, want 2", pins)
	}

	l := libraryCatalog{s.Catalog()}
	base := must.Get(l.LoadTable(t.Context(), table.Identifier{"x", "a"}))(t)
	tx := base.NewTransaction()
	must.Do(t, tx.SetProperties(iceberg.Properties{table.WriteDeleteModeKey: table.WriteModeMergeOnRead}))
	must.Do(t, tx.Delete(t.Context(), iceberg.EqualTo(iceberg.Reference("n"), int64(2)), nil))
	must.Get(tx.Commit(context.Background()))(t)
	m := plan(1, 2, true)
	for maxBytes, want := range map[int64]string{7: "[]", 8: "[[2]]"} { // the second row is deleted
		if got, err := m.DeletedRows(t.Context(), maxBytes); err != nil || fmt.Sprint(got) != want || !m.OnlyDeletes || !m.Files[0].HasDeletes {
			t.Errorf("DeletedRows(%d) = %v, error %v, OnlyDeletes %v, HasDeletes %v; want %s, nil, true, true", maxBytes, got, err, m.OnlyDeletes, m.Files[0].HasDeletes, want)
		}
	}
	r := must.Get(m.Rows(t.Context()))(t)
	defer r.Release()
	var got []int64
	for r.Next() {
		got = append(got, r.RecordBatch().Column(0).(*array.Int64).Int64Values()...)
	}
	if r.Err() != nil || !slices.Equal(got, []int64{1, 3, 4, 5}) {
		t.Errorf("Rows = %v, error %v; want [1 3 4 5]", got, r.Err())
	}
}

// libraryCatalog adapts a catalog to Iceberg's library, for transactions like those of other programs.
type libraryCatalog struct{ *icecat.Catalog }

func (l libraryCatalog) LoadTable(ctx context.Context, id table.Identifier) (*table.Table, error) {
	t, err := l.Load(ctx, id[0], id[1])
	if err != nil {
		return nil, err
	}
	return table.New(id, t.Metadata(), t.MetadataLocation(), func(context.Context) (iceio.IO, error) { return l.NewIO(), nil }, l), nil
}

func (l libraryCatalog) CommitTable(ctx context.Context, id table.Identifier, reqs []table.Requirement, ups []table.Update) (table.Metadata, string, error) {
	base, err := l.LoadTable(ctx, id)
	if err != nil {
		return nil, "", err
	}
	for _, r := range reqs {
		if err := r.Validate(base.Metadata()); err != nil {
			return nil, "", fmt.Errorf("%w: %w", icecat.ErrConflict, err)
		}
	}
	meta, err := table.UpdateTableMetadata(base.Metadata(), ups, base.MetadataLocation())
	if err != nil {
		return nil, "", err
	}
	ch := &icecat.Change{Namespace: id[0], Name: id[1], Base: base, New: meta, IOs: []*icecat.FileIO{l.NewIO()}}
	if err := l.Commit(ctx, nil, ch); err != nil {
		return nil, "", err
	}
	return meta, ch.Result.MetadataLocation(), nil
}

// TestCachedTail checks that the deduplicated rows of the tail (rows not yet in data files) are cached until the
// tail changes. Range scans must return the right rows from the cache under every rule for duplicates, with and
// without a filter.
func TestCachedTail(t *testing.T) {
	const n = 12_000
	for _, rule := range []tables.OnDuplicate{tables.KeepAll, tables.KeepFirst, tables.KeepLast} {
		s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
		b := s.Bucket("b")
		random := rand.New(rand.NewPCG(1, 1))
		value := int64(0)
		put := func(rows int) {
			t.Helper()
			all := make([]tick, rows)
			for i := range all {
				value++
				all[i] = tick{random.Int64N(n), "a", value % 100, 0}
			}
			tabletest.PutRows(t, b, "t", ticksOf(all, rows), tables.PutAppend, &tables.PutOptions{Settings: &tables.Settings{Time: "ts", OnDuplicate: rule}})
		}
		put(n)
		tabletest.Fold(t, s)
		put(n)
		table := b.Table("t")
		isCached := func() bool {
			v, release, err := table.PinnedView(t.Context())
			must.Do(t, err)
			defer release()
			return v.Tail().Deduped
		}
		if isCached() || !isCached() {
			t.Errorf("%s: the deduplicated tail is not cached", rule)
		}
		if put(1); isCached() || !isCached() {
			t.Errorf("%s: the cache was not replaced after a put", rule)
		}
		allRows := must.Get(ticksFrom(table.Scan(t.Context(), nil)))(t)
		where := must.Get(filter.Parse("v > 90"))(t)
		for i := range 30 {
			start := random.Int64N(n)
			end := start + random.Int64N(n/3)
			o := &tables.ScanOptions{From: time.Unix(start, 0), To: time.Unix(end, 0)}
			if i%2 == 0 {
				o.Filter = where
			}
			got, err := ticksFrom(table.Scan(t.Context(), o))
			want := slices.DeleteFunc(slices.Clone(allRows), func(k tick) bool { return k.ts < start || k.ts >= end || o.Filter != nil && k.v <= 90 })
			if err != nil || !slices.Equal(got, want) {
				t.Fatalf("%s: scan from %d to %d returned %d rows, want %d; error: %v", rule, start, end, len(got), len(want), err)
			}
		}
		tabletest.Fold(t, s)
		folded, err := ticksFrom(table.Scan(t.Context(), nil))
		if used := s.Tail().UsedMemory(); err != nil || used != 0 || !slices.Equal(folded, allRows) {
			t.Errorf("%s: after the fold, the tail uses %d bytes of memory, want 0 bytes and unchanged rows; error: %v", rule, used, err)
		}
	}
}

// TestScanInt96 checks that times in INT96, in a file that another program added to a table, have the types of the
// table, that conditions find them, and that compaction keeps them.
func TestScanInt96(t *testing.T) {
	noEnd, day1 := time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC), time.Unix(0, 1000).UTC()
	for _, c := range []struct {
		last  time.Time
		unit  arrow.TimeUnit
		where string
		want  string // the rows that where finds, or a part of the error
	}{
		{noEnd, arrow.Microsecond, "t > '9999-01-01'", `{"l":[{"x":"9999-12-31T00:00:00"}],"t":"9999-12-31T00:00:00"}`},
		{day1.Add(1), arrow.Nanosecond, "t > '1970-01-01 00:00:00.000001'", `{"l":[{"x":"1970-01-01T00:00:00.000001001"}],"t":"1970-01-01T00:00:00.000001001"}`},
		{day1.Add(1), arrow.Microsecond, "t is not null", `column "t": row 2: the INT96 time 1970-01-01 00:00:00.000001001 has digits that are too small`},
		{noEnd, arrow.Nanosecond, "t is not null", `column "t": row 2: the INT96 time 9999-12-31 00:00:00 is outside the range of timestamp[ns]`},
	} {
		s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
		b := s.Bucket("")
		x := tabletest.Nullable("x", &arrow.TimestampType{Unit: c.unit})
		putJSON(t, b, "t", `[{"t":null,"l":null}]`, tabletest.Nullable("t", x.Type), tabletest.Nullable("l", arrow.ListOf(arrow.StructOf(x))))
		path, content := filepath.Join(filepath.Dir(tabletest.FilesOf(t, b, "t")[0]), "int96.parquet"), tabletest.Int96File(t, day1, c.last)
		must.Do(t, os.WriteFile(path, content, 0o666))
		foreignCommit(t, s, "t", func(tx *table.Transaction) error {
			file, err := iceberg.NewDataFileBuilder(*iceberg.UnpartitionedSpec, iceberg.EntryContentData, "file://"+path, iceberg.ParquetFile, nil, nil, nil, 2, int64(len(content)))
			if err != nil {
				return err
			}
			return tx.AddDataFiles(t.Context(), []iceberg.DataFile{file.FirstRowID(1).Build()}, nil)
		})
		if !strings.HasPrefix(c.want, "{") {
			r, err := b.Table("t").Scan(t.Context(), tabletest.Where(t, c.where))
			if err == nil {
				for r.Next() {
				}
				err = r.Err()
				r.Release()
			}
			must.Fail(t, err, c.want, "scan of %v as %s", c.last, x.Type)
			continue
		}
		wantEqual(t, "the scan", scanJSON(t, b, "t", tabletest.Where(t, c.where)), c.want)
		tabletest.Compact(t, s)
		wantEqual(t, "after the compaction", scanJSON(t, b, "t", tabletest.Where(t, c.where)), c.want)
	}
}

// TestLongValues checks that a condition finds the rows of a file whose greatest string is too long for the statistics
// in the file's footer, and that the manifest has no wrong upper bound.
func TestLongValues(t *testing.T) {
	b := tabletest.BucketWithoutTail(t)
	long := strings.Repeat("k", 1<<13)
	texts := array.NewStringBuilder(memory.DefaultAllocator)
	texts.AppendValues([]string{long, "7", ""}, nil)
	columns := arrow.NewSchema([]arrow.Field{tabletest.Nullable("s", arrow.BinaryTypes.String)}, nil)
	tabletest.PutRows(t, b, "t", tabletest.OneBatch(array.NewRecordBatch(columns, []arrow.Array{texts.NewArray()}, 3)), tables.PutAppend, nil)
	v := must.Get(b.Table("t").View(t.Context(), false))(t)
	tasks, err := v.Table().Scan().PlanFiles(t.Context())
	if err != nil || len(tasks) != 1 {
		t.Fatalf("PlanFiles returned %d files, %v; want one", len(tasks), err)
	}
	if upper := tasks[0].File.UpperBoundValues(); upper[1] != nil && string(upper[1]) < long {
		t.Errorf("the manifest has the upper bound %q, but the file has a greater value", upper[1])
	}
	for _, text := range []string{long, "7", ""} {
		result, err := b.Table("t").DeleteRows(t.Context(), tabletest.ParseFilter(t, "s = '"+text+"'"))
		if err != nil || result.Deleted != 1 {
			t.Errorf("deleting the row with s = %.10q: %+v, %v; want Deleted 1", text, result, err)
		}
	}
}

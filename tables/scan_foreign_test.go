package tables_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	icebergtable "github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestForeignSeries checks that pyiceberg reads a corrected, partitioned table, and that rows it appends are read in order.
func TestForeignSeries(t *testing.T) {
	python, err := procs.StartPython(procs.Python(t, "pyiceberg"), "pyarrow", "pyiceberg.catalog")
	if err != nil {
		t.Fatal(err)
	}
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	b := s.Bucket("b")
	o := &tables.PutOptions{Settings: &tables.Settings{Time: "ts", Keys: []string{"k"}, OnDuplicate: tables.KeepLast, Partition: tables.PartitionDay}}
	const day = 24 * 60 * 60
	put := func(rows ...tick) {
		t.Helper()
		tabletest.PutRows(t, b, "t", ticksOf(rows, 10), tables.PutAppend, o)
	}
	put(tick{2 * day, "a", 1, 0}, tick{0, "b", 2, 0}, tick{day, "a", 3, 0}, tick{0, "a", 4, 0})
	tabletest.Fold(t, s)
	put(tick{day, "a", 5, 0}) // replaces the row with v = 3
	if _, err := b.Table("t").DeleteRows(t.Context(), filterOf(t, "v = 4")); err != nil {
		t.Fatal(err)
	}
	const script = `
import sys, datetime, pyarrow as pa
from pyiceberg.catalog import load_catalog
t = load_catalog("partd", type="sql", uri=f"sqlite:///{sys.argv[1]}/catalog.db", warehouse=f"file://{sys.argv[1]}").load_table("b.t")
print(sorted(r["v"] for r in t.scan().to_arrow().to_pylist()), len(list(t.scan().plan_files())), sorted(r["v"] for r in t.scan("v = 3 or v = 4 or v = 5").to_arrow().to_pylist()))
if sys.argv[2] == "append":
    at = [datetime.datetime.fromtimestamp(day * 86400, datetime.timezone.utc) for day in (4, 1, 3)]
    t.append(pa.table({"v": pa.array([6, 7, 8], pa.int64()), "ts": pa.array(at, pa.timestamp("us", "UTC")), "k": ["z", "z", "z"]}))
`
	pyiceberg := func(want, action string) {
		t.Helper()
		out, err := python.Run(script, s.Dir(), action)
		if err != nil || strings.TrimSpace(out) != want {
			t.Errorf("pyiceberg printed\n%s\nwant\n%s\nerror: %v", out, want, err)
		}
	}
	pyiceberg("[1, 2, 5] 3 [5]", "append")
	want := []tick{{0, "b", 2, 0}, {day, "a", 5, 0}, {day, "z", 7, 0}, {2 * day, "a", 1, 0}, {3 * day, "z", 8, 0}, {4 * day, "z", 6, 0}}
	wantTicks(t, s, "t", want)
	put(tick{3 * day, "z", 9, 0}, tick{3 * day, "a", 10, 0}) // replaces a row of a foreign file
	want = append(want[:4], tick{3 * day, "a", 10, 0}, tick{3 * day, "z", 9, 0}, tick{4 * day, "z", 6, 0})
	check := func() {
		t.Helper()
		wantTicks(t, s, "t", want)
		for text, o := range map[string]*tables.ScanOptions{
			"[]":                          {Filter: filterOf(t, "v = 8")},
			"[{259200 z 9}]":              {Filter: filterOf(t, "k = 'z'"), From: time.Unix(3*day, 0), To: time.Unix(4*day, 0)},
			"[{259200 z 9} {345600 z 6}]": {Last: 2},
			"[{0 b 2} {86400 a 5}]":       {Limit: 2, ChunkRows: 1},
			"[{259200 a 10} {259200 z 9} {345600 z 6}]": {From: time.Unix(3*day, 0)},
		} {
			table := b.Table("t")
			if got, err := ticksFrom(table.Scan(t.Context(), o)); err != nil || fmt.Sprint(got) != text {
				t.Errorf("Scan(%+v) = %v, want %s; error: %v", o, got, text, err)
			}
		}
	}
	check()
	tabletest.Fold(t, s)
	check()
	tabletest.Compact(t, s)
	check()
	pyiceberg("[1, 2, 5, 6, 7, 9, 10] 5 [5]", "read")
}

func filterOf(t testing.TB, text string) *filter.Expr {
	t.Helper()
	cond, err := filter.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return cond
}

// TestPartsWithNullTimes checks that the parts of a table with an order have all of its rows, even those without a time. Another
// engine makes such rows when it rolls a table back to rows of former columns.
func TestPartsWithNullTimes(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	b := s.Bucket("b")
	tabletest.Put(t, b, "t", tables.PutAppend, 1, 2)
	tabletest.Fold(t, s)
	engine := tabletest.NewEngine(t, s, "b", "t")
	loaded, err := engine.LoadTable(t.Context(), nil)
	tabletest.Succeed(t, err)
	o := &tables.PutOptions{Settings: &tables.Settings{Time: "ts", Keys: []string{"k"}}}
	tabletest.PutRows(t, b, "t", ticksOf([]tick{{0, "a", 1, 0}}, 10), tables.PutReplace, o)
	engine.Commit(func(tx *icebergtable.Transaction) error {
		return tx.RollbackToSnapshot(loaded.CurrentSnapshot().SnapshotID)
	})
	for i := range int64(3) {
		tabletest.PutRows(t, b, "t", ticksOf([]tick{{1000 * i, "a", i, 0}}, 10), tables.PutAppend, nil)
		tabletest.Fold(t, s)
	}
	table := b.Table("t")
	read := func(o *tables.ScanOptions) string {
		r, err := table.Scan(t.Context(), o)
		tabletest.Succeed(t, err)
		_, rows, _ := strings.Cut(tabletest.ReaderText(t, r)+" | ", " | ")
		return rows
	}
	count, err := table.Parts(t.Context())
	tabletest.Succeed(t, err)
	parts := ""
	for part := range count {
		parts += read(&tables.ScanOptions{Part: int64(part + 1)})
	}
	if whole := read(nil); parts != whole || strings.Count(whole, "|") != 5 || count < 2 {
		t.Errorf("%d parts have the rows\n%s\nwant\n%s", count, parts, whole)
	}
}

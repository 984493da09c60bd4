package tables_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// parquetNumbers returns column n of a Parquet file, and how many row groups the file has.
func parquetNumbers(t *testing.T, path string) (ns []int64, groups int) {
	t.Helper()
	f := must.Get(file.OpenParquetFile(path, false))(t)
	defer f.Close() //nolint:errcheck // it was only read
	r := must.Get(pqarrow.NewFileReader(f, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator))(t)
	all := must.Get(r.ReadTable(t.Context()))(t)
	defer all.Release()
	for _, chunk := range all.Column(all.Schema().FieldIndices("n")[0]).Data().Chunks() {
		ns = append(ns, chunk.(*array.Int64).Int64Values()...)
	}
	return ns, f.NumRowGroups()
}

// TestExport checks that exported files contain exactly the selected rows, including rows in the tail or of an old
// version.
func TestExport(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	b := s.Bucket("")
	tabletest.Put(t, b, "t", tables.PutAppend, tabletest.Sequence(0, 100)...)
	tabletest.Fold(t, s)
	current := b.Table("t")
	info := must.Get(current.Info(ctx))(t)
	for n := range int64(50) {
		tabletest.Put(t, b, "t", tables.PutAppend, 100+n)
	}
	old := must.Get(b.Table("t").At(ctx, tables.AtVersion(info.Version)))(t)
	where := must.Get(filter.Parse("n >= 95"))(t)
	for name, c := range map[string]struct {
		t    *tables.Table
		scan *tables.ScanOptions
		want []int64
	}{
		"all":                {current, nil, tabletest.Sequence(0, 150)},
		"old version":        {old, nil, tabletest.Sequence(0, 100)},
		"filter":             {current, &tables.ScanOptions{Columns: []string{"n"}, Filter: where, Limit: 20}, tabletest.Sequence(95, 20)},
		"filter and limit 1": {current, &tables.ScanOptions{Filter: where, Limit: 1, Part: 0, Columns: []string{"n"}}, tabletest.Sequence(95, 1)},
	} {
		path := filepath.Join(dir, name+".parquet")
		rows, err := tables.Export(ctx, c.t, path, &tables.ExportOptions{Scan: c.scan})
		if err != nil || rows != int64(len(c.want)) {
			t.Fatalf("%v: Export = %+v rows, error %v; want %v rows", name, rows, err, int64(len(c.want)))
		}
		got, groups := parquetNumbers(t, path)
		if slices.Sort(got); !slices.Equal(got, c.want) || groups != 1 {
			t.Errorf("%s: exported %d row groups with rows %v, want 1 with %v", name, groups, got, c.want)
		}
	}
	allPath := filepath.Join(dir, "all.parquet")
	must.Fail(t, must.Err(tables.Export(ctx, old, allPath, nil)), tables.ErrExists, "Export to an existing file")
	must.Get(tables.Export(ctx, old, allPath, &tables.ExportOptions{Replace: true}))(t)
	if got, _ := parquetNumbers(t, allPath); len(got) != 100 {
		t.Errorf("the replaced file contains rows %+v; want 100 rows", got)
	}

	partsDir := filepath.Join(dir, "parts")
	if rows, err := tables.Export(ctx, current, partsDir, &tables.ExportOptions{FileRows: 40}); err != nil || rows != 150 {
		t.Fatalf("Export to several files = %+v rows, error %v; want 150 rows", rows, err)
	}
	var all []int64
	for n, want := range []int{40, 40, 40, 30} {
		got, _ := parquetNumbers(t, filepath.Join(partsDir, fmt.Sprintf("part-%05d.parquet", n)))
		if all = append(all, got...); len(got) != want {
			t.Errorf("part %d has %d rows, want %d", n, len(got), want)
		}
	}
	if slices.Sort(all); !slices.Equal(all, tabletest.Sequence(0, 150)) {
		t.Errorf("the parts contain rows %v, want 0 to 149", all)
	}
	if _, err := tables.Export(ctx, current, partsDir, &tables.ExportOptions{FileRows: 40}); !errors.Is(err, tables.ErrExists) {
		t.Errorf("Export to an existing directory: error = %v, want ErrExists", err)
	}
	for _, o := range []*tables.ExportOptions{{FileRows: -1}, {FileRows: 1, Replace: true}} {
		if _, err := tables.Export(ctx, current, filepath.Join(dir, "bad"), o); !errors.As(err, new(*tables.ArgumentError)) {
			t.Errorf("Export with options %+v: error = %v, want an ArgumentError", o, err)
		}
	}
}

// TestExportFails checks that a failed export leaves no file.
func TestExportFails(t *testing.T) {
	dir := t.TempDir()
	s := tabletest.Open(t, t.TempDir(), nil)
	tabletest.Put(t, s.Bucket(""), "t", tables.PutAppend, tabletest.Sequence(0, 1000)...)
	table := s.Bucket("").Table("t")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, o := range map[string]*tables.ExportOptions{"file": nil, "parts": {FileRows: 10}} {
		if _, err := tables.Export(ctx, table, filepath.Join(dir, name), o); !errors.Is(err, context.Canceled) {
			t.Errorf("%v: Export with a canceled context: error = %v, want context.Canceled", name, err)
		}
		if _, err := tables.Export(t.Context(), table, filepath.Join(dir, "missing", name), o); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%v: Export to a missing directory: error = %v, want os.ErrNotExist", name, err)
		}
		if _, err := tables.Export(t.Context(), table, filepath.Join(dir, name), &tables.ExportOptions{Scan: &tables.ScanOptions{Columns: []string{"no"}}}); !errors.As(err, new(*tables.SchemaError)) {
			t.Errorf("%v: Export of a missing column: error = %v, want a SchemaError", name, err)
		}
	}
	if remaining, err := os.ReadDir(dir); err != nil || len(remaining) > 0 {
		t.Errorf("after failed exports, the directory contains %v, want it empty; error: %v", remaining, err)
	}
}

// TestParts checks that the parts of a table together contain each row once: in ordered and unordered tables, with
// files that do and do not overlap, and with rows that are not in a file yet (the tail).
func TestParts(t *testing.T) {
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	b := s.Bucket("b")
	put := func(name string, days ...int) {
		t.Helper()
		var rows []string
		for _, day := range days {
			rows = append(rows, fmt.Sprintf(`{"t":"2024-01-%02d 00:00:00","n":%d}`, day, day))
		}
		o := &tables.PutOptions{}
		if name == "ordered" {
			o.Settings = &tables.Settings{Time: "t"}
		}
		must.Get(b.Table(name).Put(t.Context(), tabletest.JSONRows(t, "t timestamp[us]; n int64", strings.Join(rows, ",")), tables.PutAppend, o))(t)
	}
	for _, name := range []string{"ordered", "plain", "empty"} {
		put(name)
		if name != "empty" {
			for _, days := range [][]int{{1, 2, 9}, {3, 4}, {4, 10, 11}} {
				put(name, days...)
				tabletest.Fold(t, s)
			}
			put(name, 2, 12) // these stay in the tail
		}
		table := b.Table(name)
		n, err := table.Parts(t.Context())
		if want := map[string]int{"ordered": 3, "plain": 3, "empty": 1}[name]; err != nil || n != want {
			t.Errorf("%s: Parts = %d, want %d; error: %v", name, n, want, err)
		}
		for _, o := range []tables.ScanOptions{{}, {Columns: []string{"n"}}, {Filter: tabletest.ParseFilter(t, "n > 2")}} {
			want := must.Get(tabletest.ReadAll(t.Context(), table, &o))(t)
			var got []int64
			for o.Part = 1; o.Part <= int64(n); o.Part++ {
				got = append(got, must.Get(tabletest.ReadAll(t.Context(), table, &o))(t)...)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s, columns %v: the parts have rows %v, want the table's rows %v", name, o.Columns, got, want)
			}
		}
		for _, o := range []*tables.ScanOptions{{Part: int64(n) + 1}, {Part: -1}, {Part: 1, Last: 1}, {Part: 1, From: time.Unix(1, 0)}} {
			if got, err := tabletest.ReadAll(t.Context(), table, o); err == nil {
				t.Errorf("%s: Scan(%+v) = %v, want an error", name, o, got)
			}
		}
	}
}

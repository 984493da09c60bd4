package tables_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/storetest"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestParts checks that the parts of a table together contain each row once: in ordered and unordered tables, with
// files that do and do not overlap, and with rows that are not in a file yet (the tail).
func TestParts(t *testing.T) {
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	b := s.Bucket("b")
	fold := func() {
		t.Helper()
		tabletest.Fold(t, s)
	}
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
				fold()
			}
			put(name, 2, 12) // these stay in the tail
		}
		table := b.Table(name)
		n, err := table.Parts(t.Context())
		if want := map[string]int{"ordered": 3, "plain": 3, "empty": 1}[name]; err != nil || n != want {
			t.Errorf("%s: Parts = %d, want %d; error: %v", name, n, want, err)
		}
		where := must.Get(filter.Parse("n > 2"))(t)
		for _, o := range []tables.ScanOptions{{}, {Columns: []string{"n"}}, {Filter: where}} {
			want := must.Get(tabletest.ReadAll(t.Context(), table, &o))(t)
			var got []int64
			for o.Part = 1; o.Part <= int64(n); o.Part++ {
				part, err := tabletest.ReadAll(t.Context(), table, &o)
				if err != nil {
					t.Errorf("%s, part %d: readAll: %v", name, o.Part, err)
				}
				got = append(got, part...)
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

// TestZeroValues checks that zero values, and the nil results of failed calls, return
// errors from every method, and never panic.
func TestZeroValues(t *testing.T) {
	ctx := t.Context()
	storetest.CheckZero(t, map[string]any{
		"Store": new(tables.Store), "Bucket": new(tables.Bucket), "Table": new(tables.Table), "Txn": new(tables.Txn), "Lock": new(tables.Lock),
		"Store(nil)": (*tables.Store)(nil), "Store.Bucket": new(tables.Store).Bucket("a"), "Store(nil).Bucket": (*tables.Store)(nil).Bucket("a"),
		"Bucket(nil)": (*tables.Bucket)(nil), "Table(nil)": (*tables.Table)(nil), "Lock(nil)": (*tables.Lock)(nil),
	}, "Close", "Unlock")
	type row struct{ N int64 }
	if _, err := tables.Append(ctx, nil, []row{{1}}); !errors.Is(err, tables.ErrClosed) {
		t.Errorf("Append to a nil Table: error = %v, want ErrClosed", err)
	}
	var e *tables.OpError
	if _, err := (*tables.Bucket)(nil).Table("x").Schema(ctx); !errors.As(err, &e) || e.Table != "x" {
		t.Errorf("Schema of a table of a nil Bucket: error = %v, want one about the table x", err)
	}
	if _, err := tables.Export(ctx, nil, t.TempDir()+"/t", nil); !errors.Is(err, tables.ErrClosed) {
		t.Errorf("Export of a nil Table: error = %v, want ErrClosed", err)
	}
	for _, err := range tables.Rows[row](ctx, nil, nil) {
		if !errors.Is(err, tables.ErrClosed) {
			t.Errorf("Rows of a nil Table: error = %v, want ErrClosed", err)
		}
	}
	for _, err := range tables.RowsOf[row](nil) {
		if err == nil {
			t.Error("RowsOf(nil) yielded a row without an error")
		}
	}
	for _, err := range tables.BatchesOf(nil) {
		if err == nil {
			t.Error("BatchesOf(nil) yielded a batch without an error")
		}
	}
	(*tables.ScanPlan)(nil).Close() // callers can defer Close before they check the error
	if _, err := new(tables.Store).Bucket("a").Table("t").Info(ctx); !errors.Is(err, tables.ErrClosed) {
		t.Errorf("Table of a zero Store: error = %v, want ErrClosed", err)
	}
}

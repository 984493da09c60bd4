package tables_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// oneNull returns a row with k = 1, and a column v of the null type.
func oneNull() array.RecordReader {
	columns := arrow.NewSchema([]arrow.Field{{Name: "k", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, {Name: "v", Type: arrow.Null, Nullable: true}}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, columns)
	defer b.Release()
	b.Field(0).(*array.Int64Builder).Append(1)
	b.Field(1).AppendNull()
	return tabletest.OneBatch(b.NewRecordBatch())
}

// wantUpsert upserts rows by key k, and expects an error that contains want, or success if want is empty.
func wantUpsert(t *testing.T, b *tables.Bucket, columns, rows, want string) {
	t.Helper()
	var missing []string
	_, err := b.Table("t").Upsert(t.Context(), tabletest.JSONRows(t, columns, rows), &tables.UpsertOptions{Keys: []string{"k"}, MissingColumns: &missing})
	if want == "" && err != nil || want != "" && (!errors.As(err, new(*tables.SchemaError)) || !strings.Contains(err.Error(), want)) {
		t.Fatalf("Upsert error = %v, want %q", err, want)
	}
}

// wantSorted compares table t's columns and sorted rows with want. It sorts the rows because, without a time
// column, an upsert writes the new rows before the remaining rows of a rewritten file.
func wantSorted(t *testing.T, b *tables.Bucket, want string) {
	t.Helper()
	parts := strings.Split(tabletest.TableText(t, b, "t", nil), " | ")
	slices.Sort(parts[1:])
	if got := strings.Join(parts, " | "); got != want {
		t.Fatalf("table t is\n%s\nwant\n%s", got, want)
	}
}

// openWithHook opens a store that calls beforeCommit after it has prepared a commit.
func openWithHook(t *testing.T, o *tables.Options, beforeCommit func()) *tables.Store {
	t.Helper()
	s, err := tables.OpenHooked(t.Context(), t.TempDir(), o, tables.Hooks{FS: vfs.OS{}, OnPrepared: beforeCommit})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestUpsertWidens checks that an upsert widens or adds columns in the same commit, or fails and changes nothing.
func TestUpsertWidens(t *testing.T) {
	const k = "k int64; v "
	for _, c := range []struct{ columns, rows, put, row, want string }{
		{k + "int16", `{"k":1,"v":1},{"k":2,"v":2}`, k + "int32", `{"k":2,"v":70000}`, k + "int32 | 1,1 | 2,70000"},
		{k + "int32", `{"k":1,"v":1},{"k":2,"v":2}`, k + "int64", `{"k":2,"v":5000000000}`, k + "int64 | 1,1 | 2,5000000000"},
		{k + "float32", `{"k":1,"v":0.5},{"k":2,"v":2}`, k + "float64", `{"k":2,"v":1e300}`, k + "float64 | 1,0.5 | 2,1e+300"},
		{k + "decimal(9, 2)", `{"k":1,"v":"1.25"},{"k":2,"v":"2.5"}`, k + "decimal(18, 2)", `{"k":2,"v":"9999999999.5"}`, k + "decimal(18, 2) | 1,1.25 | 2,9999999999.5"},
		{k + "int64", `{"k":1,"v":1},{"k":2,"v":2}`, k + "float64", `{"k":2,"v":2.5}`, k + "float64 | 1,1 | 2,2.5"},
		{k + "int64", `{"k":1,"v":1},{"k":2,"v":2}`, k + "float64", `{"k":3,"v":2.5}`, k + "float64 | 1,1 | 2,2 | 3,2.5"},
		{k + "int64", `{"k":1,"v":1},{"k":2,"v":2}`, k + "int64; w utf8", `{"k":2,"v":3,"w":"x"}`, k + "int64; w utf8 | 1,1,(null) | 2,3,x"},
		{"k int32; v int64", `{"k":1,"v":1},{"k":2,"v":2}`, k + "int64", `{"k":2,"v":3},{"k":5000000000,"v":4}`, k + "int64 | 1,1 | 2,3 | 5000000000,4"},
		{"k int32; v int64", `{"k":1,"v":1},{"k":2,"v":2}`, k + "float64; w bool", `{"k":2,"v":0.5,"w":true}`, k + "float64; w bool | 1,1,(null) | 2,0.5,true"},

		{k + "int64", `{"k":1,"v":1}`, k + "utf8", `{"k":1,"v":"x"}`, `column "v": it has type utf8, and the table has int64; the table's evolution is compatible`},
		{k + "int64", `{"k":1,"v":1}`, k + "bool", `{"k":1,"v":true}`, `column "v": it has type bool, and the table has int64`},
		{k + "int64", `{"k":1,"v":9007199254740993}`, k + "float64", `{"k":1,"v":0.5}`, `column "v"`},
		{k + "int64", `{"k":1,"v":1}`, "k float64; v int64", `{"k":1,"v":2}`, `column "k": a column of type float64 cannot be a key for Upsert`},
	} {
		for _, mode := range []string{"tail", "folded", "commits"} {
			t.Run(c.columns+"/"+c.put+"/"+mode, func(t *testing.T) {
				commits := 0
				s := openWithHook(t, &tables.Options{NoTail: mode == "commits", FoldAge: -1}, func() { commits++ })
				b := s.Bucket("b")
				tabletest.PutRows(t, b, "t", tabletest.JSONRows(t, c.columns, c.rows), tables.PutAppend, &tables.PutOptions{Settings: &tables.Settings{Evolution: tables.Compatible}})
				if mode == "folded" {
					tabletest.Fold(t, s)
				}
				before := tabletest.TableText(t, b, "t", nil)
				commits = 0
				if strings.HasPrefix(c.want, "column") {
					wantUpsert(t, b, c.put, c.row, c.want)
					tabletest.WantText(t, b, "t", before)
					return
				}
				wantUpsert(t, b, c.put, c.row, "")
				wantSorted(t, b, c.want)
				if mode == "folded" || mode == "commits" {
					tabletest.WantText(t, b, "t", before, tables.AtVersion(1))
				}
				if commits != 1 {
					t.Errorf("the upsert made %d commits, want 1", commits)
				}
				tabletest.Compact(t, s)
				wantSorted(t, b, c.want)
			})
		}
	}
}

// TestUpsertDuringChanges changes the table while an upsert that widens it commits: no
// row of either change may be lost or duplicated.
func TestUpsertDuringChanges(t *testing.T) {
	const oldColumns, wide, rows = "k int64; v int32", "k int64; v float64", `{"k":1,"v":1},{"k":2,"v":2}`
	put := func(columns, rows string) func(*tables.Bucket) error {
		return func(b *tables.Bucket) error {
			_, err := b.Table("t").Put(t.Context(), tabletest.JSONRows(t, columns, rows), tables.PutAppend, nil)
			return err
		}
	}
	evolve := func(c tables.ColumnChange) func(*tables.Bucket) error {
		return func(b *tables.Bucket) error { return b.Table("t").Evolve(t.Context(), c) }
	}
	for name, c := range map[string]struct {
		change func(*tables.Bucket) error
		inTail bool   // whether change uses the same store, with a tail, rather than another store
		want   string // the resulting rows, or part of the error
	}{
		"append":                     {put(oldColumns, `{"k":3,"v":3}`), false, wide + " | 1,1 | 2,0.5 | 3,3"},
		"append of the upserted key": {put(oldColumns, `{"k":2,"v":3}`), false, wide + " | 1,1 | 2,0.5"},
		"append that widens":         {put("k int64; v int64", `{"k":3,"v":5000000000}`), false, wide + " | 1,1 | 2,0.5 | 3,5e+09"},
		"same widening":              {evolve(tables.ColumnChange{Op: "widen", Column: "v", Type: "float64"}), false, wide + " | 1,1 | 2,0.5"},
		"widening to int64":          {evolve(tables.ColumnChange{Op: "widen", Column: "v", Type: "int64"}), false, wide + " | 1,1 | 2,0.5"},
		"new column":                 {evolve(tables.ColumnChange{Op: "add", Column: "w", Type: "utf8"}), false, wide + "; w utf8 | 1,1,(null) | 2,0.5,(null)"},
		"dropped column":             {evolve(tables.ColumnChange{Op: "drop", Column: "v"}), false, wide + " | 1,(null) | 2,0.5"},
		"made strict":                {func(b *tables.Bucket) error { return b.Table("t").SetEvolution(t.Context(), tables.Strict) }, false, `column "v": it has type float64`},
		"append to the tail":         {put(oldColumns, `{"k":2,"v":3}`), true, wide + " | 1,1 | 2,0.5 | 2,3"},
		"append of a value that float64 cannot represent": {put("k int64; v int64", `{"k":3,"v":9007199254740993}`), false, `column "v"`},
		"deleted table": {func(b *tables.Bucket) error { return b.Delete(t.Context(), "t") }, false, "does not exist"},
	} {
		t.Run(name, func(t *testing.T) {
			var store *tables.Store
			armed := false
			store = openWithHook(t, &tables.Options{NoTail: !c.inTail, FoldAge: -1}, func() {
				if !armed {
					return
				}
				armed = false
				s := store
				if !c.inTail {
					s = tabletest.Open(t, store.Dir(), &tables.Options{NoTail: true})
				}
				if err := c.change(s.Bucket("b")); err != nil {
					t.Error(err)
				}
			})
			b := store.Bucket("b")
			tabletest.PutRows(t, b, "t", tabletest.JSONRows(t, oldColumns, rows), tables.PutAppend, &tables.PutOptions{Settings: &tables.Settings{Evolution: tables.Flexible}})
			armed = true
			_, err := b.Table("t").Upsert(t.Context(), tabletest.JSONRows(t, wide, `{"k":2,"v":0.5}`), &tables.UpsertOptions{Keys: []string{"k"}})
			if armed {
				t.Fatal("the concurrent change was not made")
			}
			if !strings.HasPrefix(c.want, "k ") {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("Upsert error = %v, want %q", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			wantSorted(t, b, c.want)
			tabletest.Fold(t, store)
			wantSorted(t, b, c.want)
		})
	}
}

// TestUpsertUnderEvolutions checks that an upsert widens a column only if the table's evolution setting allows it.
func TestUpsertUnderEvolutions(t *testing.T) {
	for e, want := range map[tables.Evolution]string{"": `column "v": it has type int64`, tables.Strict: `column "v": it has type int64`, tables.AddOnly: `column "v": it has type int64`, tables.Compatible: "", tables.Flexible: ""} {
		b := tabletest.BucketWithoutTail(t)
		if _, err := b.Table("t").Put(t.Context(), tabletest.JSONRows(t, "k int64; v int32", `{"k":1,"v":1}`), tables.PutAppend, &tables.PutOptions{Settings: &tables.Settings{Evolution: e}}); err != nil {
			t.Fatal(err)
		}
		wantUpsert(t, b, "k int64; v int64", `{"k":1,"v":5000000000}`, want)
	}
	b := tabletest.BucketWithoutTail(t)
	tabletest.Put(t, b, "t", tables.PutAppend, 1)
	if _, err := b.Table("t").Upsert(t.Context(), tabletest.Rows(1), &tables.UpsertOptions{Keys: []string{"new"}}); !errors.As(err, new(*tables.SchemaError)) {
		t.Errorf("Upsert with a missing key column: error = %v, want a SchemaError", err)
	}
}

// TestNullTypeReplaced checks that a put, an upsert or Evolve can give a column of the null type another type. Each type
// and evolution is tested with one of the three.
func TestNullTypeReplaced(t *testing.T) {
	for i, typ := range []string{"bool", "int8", "int64", "uint64", "float16", "float64", "utf8", "binary", "date32", "timestamp[ns, tz=UTC]", "decimal(38, 2)", "duration[ns]"} {
		value := map[string]string{"bool": "true", "utf8": `"x"`, "binary": `"AA=="`, "date32": `"2026-01-31"`, "timestamp[ns, tz=UTC]": `"2026-01-31T00:00:00Z"`, "decimal(38, 2)": `"1.25"`}[typ]
		if value == "" {
			value = "1"
		}
		columns, row := "k int64; v "+typ, fmt.Sprintf(`{"k":2,"v":%s}`, value)
		typed := tabletest.BucketWithoutTail(t)
		tabletest.PutRows(t, typed, "t", tabletest.JSONRows(t, columns, row), tables.PutAppend, nil)
		_, wantRow, _ := strings.Cut(tabletest.TableText(t, typed, "t", nil), " | ")
		for j, e := range []tables.Evolution{"", tables.Compatible, tables.Flexible, tables.Strict, tables.AddOnly} {
			if j < 3 && i%3 != j || j >= 3 && i%2 != j%2 { // an evolution treats all types alike
				continue
			}
			mode := []string{"put", "upsert", "evolve"}[(i/3+j)%3]
			t.Run(fmt.Sprintf("%s/%s/%s", typ, e, mode), func(t *testing.T) {
				s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
				b := s.Bucket("b")
				tabletest.PutRows(t, b, "t", oneNull(), tables.PutAppend, &tables.PutOptions{Settings: &tables.Settings{Evolution: e}})
				tabletest.WantText(t, b, "t", "k int64; v null | 1,(null)")
				put := func() (err error) {
					if mode == "upsert" {
						_, err = b.Table("t").Upsert(t.Context(), tabletest.JSONRows(t, columns, row), &tables.UpsertOptions{Keys: []string{"k"}})
					} else {
						_, err = b.Table("t").Put(t.Context(), tabletest.JSONRows(t, columns, row), tables.PutAppend, nil)
					}
					return err
				}
				var err error
				if mode == "evolve" {
					err = b.Table("t").Evolve(t.Context(), tables.ColumnChange{Op: "widen", Column: "v", Type: tables.ColumnType(typ)})
				}
				if err == nil {
					err = put()
				}
				if e == tables.Strict || e == tables.AddOnly {
					if !errors.As(err, new(*tables.SchemaError)) || !strings.Contains(err.Error(), `column "v"`) {
						t.Fatalf("put or Evolve error = %v, want a SchemaError about column v", err)
					}
					tabletest.WantText(t, b, "t", "k int64; v null | 1,(null)")
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				want := columns + " | 1,(null) | " + wantRow
				tabletest.WantText(t, b, "t", want)
				if _, err := b.Table("t").Put(t.Context(), oneNull(), tables.PutAppend, nil); err != nil && e != tables.Compatible {
					t.Fatal(err) // the column still accepts nulls
				}
				tabletest.Fold(t, s)
				tabletest.WantText(t, b, "t", want+" | 1,(null)")
				tabletest.Compact(t, s)
				tabletest.WantText(t, b, "t", want+" | 1,(null)")
			})
		}
	}
}

// TestDropAndAdd drops a column and adds another of the same name in one change. The dropped
// values must not reappear, even if the table has no other column.
func TestDropAndAdd(t *testing.T) {
	drop, add := tables.ColumnChange{Op: "drop", Column: "v"}, tables.ColumnChange{Op: "add", Column: "v", Type: "utf8"}
	for _, c := range []struct {
		columns, rows string
		changes       []tables.ColumnChange
		want          string
	}{
		{"v int64; k int64", `{"v":1,"k":1},{"v":2,"k":2}`, []tables.ColumnChange{drop, add}, "k int64; v utf8 | 1,(null) | 2,(null)"},
		{"v int64", `{"v":1},{"v":2}`, []tables.ColumnChange{drop, add}, "v utf8 | (null) | (null)"},
		{"v utf8", `{"v":"x"}`, []tables.ColumnChange{drop, add}, "v utf8 | (null)"},
		{"v int64; k int64", `{"v":1,"k":1}`, []tables.ColumnChange{{Op: "widen", Column: "k", Type: "float64"}, drop, add}, "k float64; v utf8 | 1,(null)"},
		{"v int64", `{"v":1}`, []tables.ColumnChange{drop, {Op: "add", Column: "w", Type: "int8"}, {Op: "rename", Column: "w", To: "v"}}, "v int8 | (null)"},
		{"v int64", `{"v":1}`, []tables.ColumnChange{drop}, ""},
	} {
		for _, hasTail := range []bool{false, true} {
			s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: !hasTail, FoldAge: -1})
			b := s.Bucket("b")
			tabletest.PutRows(t, b, "t", tabletest.JSONRows(t, c.columns, c.rows), tables.PutAppend, nil)
			err := b.Table("t").Evolve(t.Context(), c.changes...)
			if c.want == "" {
				if !errors.As(err, new(*tables.SchemaError)) || !strings.Contains(err.Error(), "only column") {
					t.Errorf("Evolve error = %v, want a SchemaError about the only column", err)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			tabletest.WantText(t, b, "t", c.want)
			tabletest.Compact(t, s)
			tabletest.WantText(t, b, "t", c.want)
		}
	}
}

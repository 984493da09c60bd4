package tables_test

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/state/series"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// wantInOrder checks that a table has the given number of files, all marked as sorted in the order of its settings.
func wantInOrder(t *testing.T, b *tables.Bucket, name string, files int) {
	t.Helper()
	n := must.Get(b.Check(name))(t)
	current := must.Get(b.Store().Catalog().Load(t.Context(), n.Namespace, n.Name))(t)
	o := must.Get(series.ForTable(current, 0))(t)
	all, err := datafile.Files(t.Context(), current)
	if err != nil || len(all) != files {
		t.Errorf("table %q has %d files, want %d; error: %v", name, len(all), files, err)
	}
	for _, f := range all {
		if !o.InOrder(f) {
			t.Errorf("file %s is not marked as sorted", f.FilePath())
		}
	}
}

// TestEvolveSeries checks changes of columns that the table's settings name as the time column or a key.
func TestEvolveSeries(t *testing.T) {
	const columns, rows = "at timestamp[us]; k int32; v int32", `{"at":"2026-01-03 00:00:00","k":1,"v":1},{"at":"2026-01-01 00:00:00","k":2,"v":2},{"at":"2026-01-01 00:00:00","k":1,"v":3}`
	ctx := t.Context()
	b := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1}).Bucket("b")
	put := func(columns, rows string, o *tables.PutOptions) {
		t.Helper()
		tabletest.PutRows(t, b, "t", tabletest.JSONRows(t, columns, rows), tables.PutAppend, o)
	}
	evolve := func(c tables.ColumnChange) {
		t.Helper()
		must.Do(t, b.Table("t").Evolve(ctx, c))
	}
	put(columns, rows, &tables.PutOptions{Settings: &tables.Settings{Time: "at", Keys: []string{"k"}, OnDuplicate: tables.KeepLast, Partition: tables.PartitionDay}})
	evolve(tables.ColumnChange{Op: "widen", Column: "k", Type: "int64"}) // the tail's rows are folded first
	wantInOrder(t, b, "t", 2)
	put("at timestamp[us]; k int64; v int32", `{"at":"2026-01-01 00:00:00","k":2,"v":4}`, nil)
	evolve(tables.ColumnChange{Op: "rename", Column: "at", To: "when"})
	evolve(tables.ColumnChange{Op: "rename", Column: "k", To: "key"})
	tabletest.WantText(t, b, "t", "when timestamp[us]; key int64; v int32 | 2026-01-01T00:00:00,1,3 | 2026-01-01T00:00:00,2,4 | 2026-01-03T00:00:00,1,1")
	wantInOrder(t, b, "t", 3)
	put("when timestamp[us]; key int64; v int32", `{"when":"2026-01-03 00:00:00","key":1,"v":5}`, nil)
	evolve(tables.ColumnChange{Op: "widen", Column: "key", Type: "float64"}) // rewrites all files
	tabletest.WantText(t, b, "t", "when timestamp[us]; key float64; v int32 | 2026-01-01T00:00:00,1,3 | 2026-01-01T00:00:00,2,4 | 2026-01-03T00:00:00,1,5")
	for column, setting := range map[string]string{"when": "time", "key": "keys"} {
		err := b.Table("t").Evolve(ctx, tables.ColumnChange{Op: "drop", Column: column})
		if !errors.As(err, new(*tables.SchemaError)) || !strings.Contains(err.Error(), "setting "+setting) {
			t.Errorf("Evolve that drops column %s: error = %v, want a SchemaError about the setting %s", column, err, setting)
		}
	}
	table := b.Table("t")
	if got, err := table.Settings(ctx); err != nil || got.Time != "when" || !slices.Equal(got.Keys, []string{"key"}) || got.OnDuplicate != tables.KeepLast {
		t.Errorf("Settings = %+v, %v; want time when, key key and KeepLast", got, err)
	}
	// The new schema lacks a column that the settings name.
	if _, err := b.Table("t").Put(ctx, tabletest.JSONRows(t, columns, rows), tables.PutReplace, nil); !errors.As(err, new(*tables.ArgumentError)) || !strings.Contains(err.Error(), `settings: column "when"`) {
		t.Errorf(`Put error = %v, want an ArgumentError with the text settings: column "when"`, err)
	}
	// A migration gives all rows one time: among rows with equal keys, the last is kept.
	put("when timestamp[us]; key float64; v int32", `{"when":"2026-01-02 00:00:00","key":1,"v":6}`, nil)
	must.Get(b.Table("t").Migrate(ctx, 1, func(b arrow.RecordBatch) (arrow.RecordBatch, error) {
		at := array.NewBuilder(memory.DefaultAllocator, b.Column(0).DataType()).(*array.TimestampBuilder)
		for range b.NumRows() {
			at.Append(0)
		}
		return array.NewRecordBatch(b.Schema(), []arrow.Array{at.NewArray(), b.Column(1), b.Column(2)}, b.NumRows()), nil
	}))(t)
	tabletest.WantText(t, b, "t", "when timestamp[us]; key float64; v int32 | 1970-01-01T00:00:00,1,6 | 1970-01-01T00:00:00,2,4")
	wantInOrder(t, b, "t", 2) // the row from the tail has a separate file
	if _, err := b.Table("t").Migrate(ctx, 2, func(b arrow.RecordBatch) (arrow.RecordBatch, error) {
		return array.NewRecordBatch(schema.Select(b.Schema(), []string{"v"}), []arrow.Array{b.Column(2)}, b.NumRows()), nil
	}); !errors.As(err, new(*tables.ArgumentError)) || !strings.Contains(err.Error(), `settings: column "when"`) {
		t.Errorf(`Migrate error = %v, want an ArgumentError with the text settings: column "when"`, err)
	}
}

// TestSeveralChangesInUpdate checks that one Update can replace a table, change its settings and put rows into it.
func TestSeveralChangesInUpdate(t *testing.T) {
	ctx := t.Context()
	b := tabletest.Open(t, t.TempDir(), nil).Bucket("b")
	const old, columns = "at timestamp[us]; k int32", "k int32; at timestamp[us]; v int32"
	ordered := &tables.PutOptions{Settings: &tables.Settings{Time: "at", OnDuplicate: tables.KeepLast}}
	tabletest.PutRows(t, b, "t", tabletest.JSONRows(t, old, `{"at":"2026-01-01 00:00:00","k":1}`), tables.PutAppend, nil)
	err := b.Store().Update(ctx, func(x *tables.Txn) error {
		return errors.Join(
			x.Put("b", "t", tabletest.JSONRows(t, columns, `{"at":"2026-01-02 00:00:00","k":2}`), tables.PutReplace, ordered),
			x.Put("b", "t", tabletest.JSONRows(t, columns, `{"at":"2026-01-02 00:00:00","k":3},{"at":"2026-01-01 00:00:00","k":4}`), tables.PutAppend, nil),
			x.SetSettings("b", "t", tables.Settings{Time: "at", Keys: []string{"k"}}),
			x.Put("b", "t", tabletest.JSONRows(t, columns, `{"at":"2026-01-02 00:00:00","k":1}`), tables.PutAppend, nil))
	})
	must.Do(t, err)
	tabletest.WantText(t, b, "t", "k int32; at timestamp[us]; v int32 | 4,2026-01-01T00:00:00,(null) | 1,2026-01-02T00:00:00,(null) | 3,2026-01-02T00:00:00,(null)")
	must.Do(t, b.Table("t").EditRules(ctx, tables.RuleEdit{Add: []tables.Rule{{Name: "once", Kind: "unique", Columns: []string{"k"}, InTable: true}}}))
	oneRow := func() array.RecordReader { return tabletest.JSONRows(t, columns, `{"at":"2026-01-05 00:00:00","k":9}`) }
	err = b.Store().Update(ctx, func(x *tables.Txn) error {
		return errors.Join(x.Put("b", "t", oneRow(), tables.PutAppend, nil), x.Put("b", "t", oneRow(), tables.PutAppend, nil))
	})
	must.Fail(t, err, "combine this Update's puts", "Update")
}

// TestReplacedRowsStayAway replaces or deletes a table whose rows are in the tail, and then adds a column in the same
// Update. The replaced rows must not come back.
func TestReplacedRowsStayAway(t *testing.T) {
	for _, c := range []struct{ columns, rows string }{{"a int32", `{"a":1}`}, {"a int32; b int32", `{"a":1,"b":2}`}} {
		for _, deletes := range []bool{false, true} {
			s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
			for range 2 { // the first put creates the table, and the second goes to the tail
				tabletest.PutRows(t, s.Bucket("b"), "t", tabletest.JSONRows(t, c.columns, c.rows), tables.PutAppend, nil)
			}
			must.Do(t, s.Update(t.Context(), func(x *tables.Txn) (err error) {
				if deletes {
					err = x.Delete("b", "t")
				}
				return errors.Join(err,
					x.Put("b", "t", tabletest.JSONRows(t, "a int32", `{"a":9}`), tables.PutReplace, nil),
					x.Evolve("b", "t", tables.ColumnChange{Op: tables.AddColumn, Column: "c", Type: "int32"}))
			}))
			const want = "a int32; c int32 | 9,(null)"
			tabletest.WantText(t, s.Bucket("b"), "t", want)
			must.Do(t, s.Close())
			tabletest.WantText(t, tabletest.Open(t, s.Dir(), nil).Bucket("b"), "t", want)
		}
	}
}

// TestCorrectWithRules checks that corrections (ReplaceRange and Upsert) obey the table's rules and its evolution
// setting.
func TestCorrectWithRules(t *testing.T) {
	const columns = "at timestamp[us]; k int32"
	ctx := t.Context()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	b := s.Bucket("b")
	must.Get(b.Table("t").Put(ctx, tabletest.JSONRows(t, columns, `{"at":"2026-01-01 00:00:00","k":1},{"at":"2026-01-02 00:00:00","k":2},{"at":"2026-01-03 00:00:00","k":3}`),
		tables.PutAppend, &tables.PutOptions{Settings: &tables.Settings{Time: "at", Evolution: tables.Compatible}}))(t)
	must.Do(t, b.Table("t").EditRules(ctx, tables.RuleEdit{Add: []tables.Rule{{Name: "once", Kind: "unique", Columns: []string{"k"}, InTable: true}, {Name: "few", Kind: "range", Column: "k", Max: "9"}}}))
	must.Do(t, b.EditRules(ctx, tables.RuleEdit{Add: []tables.Rule{{Name: "some", Kind: "range", Column: "k", Min: "0"}}}))
	day := func(n int) time.Time { return time.Date(2026, 1, n, 0, 0, 0, 0, time.UTC) }
	replace := func(columns, rows string) error {
		return must.Err(b.Table("t").ReplaceRange(ctx, day(1), day(3), tabletest.JSONRows(t, columns, rows), nil))
	}
	upsert := func(columns, rows string) error {
		return must.Err(b.Table("t").Upsert(ctx, tabletest.JSONRows(t, columns, rows), nil))
	}
	for name, put := range map[string]func(string, string) error{"range": replace, "upsert": upsert} {
		for _, c := range []struct{ columns, rows, want string }{ // the cases about columns do not apply to an upsert, which may add and widen columns
			{columns, `{"at":"2026-01-01 00:00:00","k":10}`, `rule "few": 1 rows violate it: row 1 (k=10)`},
			{columns, `{"at":"2026-01-01 00:00:00","k":-1}`, `rule "some"`},
			{columns, `{"at":"2026-01-01 00:00:00","k":3}`, `rule "once": 1 rows violate it: row 1 (k=3)`},
			{"at timestamp[us]", `{"at":"2026-01-01 00:00:00"}`, `column "k": it is missing`},
			{"at timestamp[us]; k int64", `{"at":"2026-01-01 00:00:00","k":4}`, `column "k": this operation cannot widen columns`},
			{columns + "; new utf8", `{"at":"2026-01-01 00:00:00","k":4}`, `column "new": this operation cannot add columns`},
		} {
			if name == "upsert" && strings.Contains(c.want, "this operation cannot") {
				continue
			}
			must.Fail(t, put(c.columns, c.rows), c.want, "%s of %s", name, c.rows)
		}
	}
	const want = "at timestamp[us]; k int32 | 2026-01-01T00:00:00,1 | 2026-01-02T00:00:00,2 | 2026-01-03T00:00:00,3"
	tabletest.WantText(t, b, "t", want)
	// Rules ignore rows that the correction replaces.
	must.Do(t, errors.Join(replace(columns, `{"at":"2026-01-01 00:00:00","k":2},{"at":"2026-01-02 00:00:00","k":1}`),
		upsert("at timestamp[us]; k int8", `{"at":"2026-01-02 00:00:00","k":5},{"at":"2026-01-01 00:00:00","k":1}`)))
	tabletest.WantText(t, b, "t", "at timestamp[us]; k int32 | 2026-01-01T00:00:00,1 | 2026-01-02T00:00:00,5 | 2026-01-03T00:00:00,3")
	// Rules consider rows that another Store puts before the commit.
	dir := s.Dir()
	otherBucket := tabletest.Open(t, dir, &tables.Options{NoTail: true}).Bucket("b")
	pending := true
	s.HooksInUse().OnPrepared = func() {
		if pending {
			pending = false
			must.Check(t, must.Err(otherBucket.Table("t").Put(ctx, tabletest.JSONRows(t, columns, `{"at":"2026-01-09 00:00:00","k":7}`), tables.PutAppend, nil)))
		}
	}
	if err := upsert(columns, `{"at":"2026-01-02 00:00:00","k":7}`); !errors.As(err, new(*tables.RuleError)) {
		t.Errorf("Upsert of a key that another Store put: error = %v, want a RuleError", err)
	}
}

// TestRestoreSettings checks that a restore includes a table's settings, rules, columns and the order of its rows.
func TestRestoreSettings(t *testing.T) {
	const columns = "at timestamp[us]; k int32"
	ctx := t.Context()
	b := tabletest.Open(t, t.TempDir(), nil).Bucket("b")
	must.Get(b.Table("t").Put(ctx, tabletest.JSONRows(t, columns, `{"at":"2026-01-02 00:00:00","k":1},{"at":"2026-01-01 00:00:00","k":2}`),
		tables.PutAppend, &tables.PutOptions{Settings: &tables.Settings{Time: "at", OnDuplicate: tables.KeepLast, Evolution: tables.AddOnly}}))(t)
	must.Do(t, b.Table("t").EditRules(ctx, tables.RuleEdit{Add: []tables.Rule{{Name: "few", Kind: "range", Column: "k", Max: "9"}}}))
	tabletest.Snapshot(t, b, "one")
	table := b.Table("t")
	want := must.Get(table.Settings(ctx))(t)
	for _, change := range []func() error{
		func() error {
			_, err := b.Table("t").Put(ctx, tabletest.Rows(1), tables.PutReplace, &tables.PutOptions{Settings: &tables.Settings{}})
			return errors.Join(err, b.Table("t").EditRules(ctx, tables.RuleEdit{Remove: []string{"few"}}))
		},
		func() error { return b.Delete(ctx, "t") },
	} {
		must.Do(t, errors.Join(change(), b.Restore(ctx, "one", "t")))
		if got, err := table.Settings(ctx); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("Settings = %+v, want %+v; error: %v", got, want, err)
		}
		if rules, err := b.Table("t").Rules(ctx); err != nil || len(rules) != 1 {
			t.Errorf("Rules = %+v, %v; want one rule", rules, err)
		}
		wantInOrder(t, b, "t", 1)
		tabletest.WantText(t, b, "t", "at timestamp[us]; k int32 | 2026-01-01T00:00:00,2 | 2026-01-02T00:00:00,1")
		if _, err := b.Table("t").Put(ctx, tabletest.JSONRows(t, columns, `{"at":"2026-01-02 00:00:00","k":10}`), tables.PutAppend, nil); !errors.As(err, new(*tables.RuleError)) {
			t.Errorf("Put error = %v, want a RuleError", err)
		}
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

// TestUpsertDuringChanges changes the table while an upsert that widens it commits: no
// row of either change may be lost or duplicated.
func TestUpsertDuringChanges(t *testing.T) {
	const oldColumns, wide, rows = "k int64; v int32", "k int64; v float64", `{"k":1,"v":1},{"k":2,"v":2}`
	put := func(columns, rows string) func(*tables.Bucket) error {
		return func(b *tables.Bucket) error {
			return must.Err(b.Table("t").Put(t.Context(), tabletest.JSONRows(t, columns, rows), tables.PutAppend, nil))
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
			store = openHooked(t, t.TempDir(), &tables.Options{NoTail: !c.inTail, FoldAge: -1}, tables.Hooks{OnPrepared: func() {
				if !armed {
					return
				}
				armed = false
				s := store
				if !c.inTail {
					s = tabletest.Open(t, store.Dir(), &tables.Options{NoTail: true})
				}
				must.Do(t, c.change(s.Bucket("b")))
			}})
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
			must.Do(t, err)
			wantSorted(t, b, c.want)
			tabletest.Fold(t, store)
			wantSorted(t, b, c.want)
		})
	}
}

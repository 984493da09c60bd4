package tables_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

const ruleColumns = "at timestamp[us]; n int16; s utf8; x float64"

// TestRules checks that each kind of put rejects rows that violate a rule, for each kind of rule.
func TestRules(t *testing.T) {
	const good = `{"at":"2026-01-31 00:00:00","n":1,"s":"AB","x":1},{"at":"2026-01-31 00:00:01","n":2,"s":"CD","x":2}`
	const extraRow = `{"at":"2026-02-01 00:00:00","n":3,"s":"EF","x":3},`
	for i, c := range []struct {
		rule      tables.Rule
		put, rows string
		want      string
	}{
		{tables.Rule{Kind: "not_null", Column: "n"}, ruleColumns, extraRow + `{"at":"2026-01-31 00:00:00","n":null,"s":"A","x":1}`, `1 rows violate it: row 2 (n=null)`},
		{tables.Rule{Kind: "not_null", Column: "x"}, "n int16", `{"n":9}`, `the rows have no column "x"`},
		{tables.Rule{Kind: "exists", Column: "x"}, "n int16", `{"n":9}`, `the rows have no column "x"`},
		{tables.Rule{Kind: "type", Column: "n", Type: "int16"}, "n int8", `{"n":9}`, `column "n" has type int8, but the rule requires int16`},
		{tables.Rule{Kind: "range", Column: "n", Min: "0", Max: "100"}, ruleColumns, extraRow + `{"n":-1},{"n":101},{"n":null},{"n":100}`, `2 rows violate it: row 2 (n=-1), row 3 (n=101)`},
		{tables.Rule{Kind: "range", Column: "at", Min: "2026-01-01"}, ruleColumns, extraRow + `{"at":"2025-12-31 23:59:59"}`, `1 rows violate it: row 2 (at=2025-12-31T23:59:59)`},
		{tables.Rule{Kind: "range", Column: "s", Max: "M'"}, ruleColumns, `{"s":"Z"}`, `1 rows violate it: row 1 (s=Z)`},
		{tables.Rule{Kind: "unique", Columns: []string{"n", "s"}}, ruleColumns, extraRow + `{"n":1,"s":"AB"},{"n":5,"s":"x"},{"n":5,"s":"y"},{"n":3,"s":"EF"},{"n":null,"s":"EF"},{"n":null,"s":"EF"}`, `1 rows violate it: row 5 (n=3, s=EF)`},
		{tables.Rule{Kind: "unique", Columns: []string{"n"}, InTable: true}, ruleColumns, extraRow + `{"n":7},{"n":2},{"n":7}`, `2 rows violate it: row 3 (n=2), row 4 (n=7)`},
		{tables.Rule{Kind: "unique", Columns: []string{"at"}, InTable: true}, ruleColumns, extraRow + `{"at":"2026-01-31 00:00:01"}`, `1 rows violate it: row 2 (at=2026-01-31T00:00:01)`},
		{tables.Rule{Kind: "unique", Columns: []string{"s"}, InTable: true}, ruleColumns, `{"s":"AB"}`, `1 rows violate it: row 1 (s=AB)`},
		{tables.Rule{Kind: "sorted", Column: "at"}, ruleColumns, extraRow + `{"at":"2026-01-31 00:00:00"},{"at":"2026-01-31 00:00:00"},{"at":null}`, `2 rows violate it: row 2 (at=2026-01-31T00:00:00), row 4 (at=null)`},
		{tables.Rule{Kind: "regexp", Column: "s", Pattern: "^[A-Z]{2}$"}, ruleColumns, extraRow + `{"s":"abc"},{"s":null}`, `1 rows violate it: row 2 (s=abc)`},
		{tables.Rule{Kind: "expression", Where: "x >= n and s != 'no'"}, ruleColumns, extraRow + `{"n":5,"x":4},{"s":"no"},{"n":5}`, `2 rows violate it: row 2 (x=4, n=5, s=null), row 3 (x=null, n=null, s=no)`},
	} {
		for j, mode := range []string{"tail", "commit", "create", "replace", "update", "bucket", "reopened"} {
			// Each rule takes every second mode, because a mode treats all kinds alike, except rules about the table.
			if c.rule.InTable && mode != "replace" && mode != "create" || !c.rule.InTable && (i+j)%2 == 0 {
				t.Run(c.rule.Kind+" "+c.put+"/"+mode, func(t *testing.T) { checkRule(t, c.rule, good, c.put, c.rows, c.want, mode) })
			}
		}
	}
}

func checkRule(t *testing.T, rule tables.Rule, good, columns, rows, want, mode string) {
	ctx, dir := t.Context(), t.TempDir()
	o := &tables.Options{FoldAge: -1, NoTail: mode == "commit"}
	s := tabletest.Open(t, dir, o)
	b := s.Bucket("b")
	rule.Name = "the rule"
	ofBucket := mode == "bucket" || mode == "create" // a bucket's rules also apply to tables created later
	editRules := func(e tables.RuleEdit) error {
		if ofBucket {
			return b.EditRules(ctx, e)
		}
		return b.Table("t").EditRules(ctx, e)
	}
	add := tables.RuleEdit{Add: []tables.Rule{rule}}
	if ofBucket {
		must.Do(t, editRules(add))
	}
	tabletest.PutRows(t, b, "t", tabletest.JSONRows(t, ruleColumns, good), tables.PutAppend, nil)
	if !ofBucket {
		must.Do(t, editRules(add))
	}
	if mode == "reopened" {
		must.Do(t, s.Close())
		s = tabletest.Open(t, dir, o)
		b = s.Bucket("b")
	}
	before := tabletest.TableText(t, b, "t", nil)
	put := func() (err error) {
		r := tabletest.JSONRows(t, columns, rows)
		switch mode {
		case "create":
			_, err = b.Table("new").Put(ctx, r, tables.PutError, nil)
		case "replace":
			_, err = b.Table("t").Put(ctx, r, tables.PutReplace, nil)
		case "update":
			err = s.Update(ctx, func(t *tables.Txn) error { return t.Put("b", "t", r, tables.PutAppend, nil) })
		default:
			_, err = b.Table("t").Put(ctx, r, tables.PutAppend, nil)
		}
		return err
	}
	var violated *tables.RuleError
	if err := put(); !errors.As(err, &violated) || !strings.Contains(err.Error(), `rule "the rule": `+want) {
		t.Fatalf("put of rows that violate the rule: error = %v, want %s", err, want)
	}
	tabletest.WantText(t, b, "t", before)
	must.Fail(t, must.Err(b.Table("new").Info(ctx)), tables.ErrNotFound, "after the rejected put, Table")
	if _, err := b.Table("t").Put(ctx, tabletest.JSONRows(t, ruleColumns, `{"at":"2026-03-01 00:00:00","n":50,"s":"GH","x":100}`), tables.PutAppend, nil); err != nil {
		t.Errorf("put of a row that satisfies the rule: %v", err)
	}
	must.Do(t, editRules(tables.RuleEdit{Disable: []string{"the rule"}}))
	if err := put(); err != nil {
		t.Errorf("put with the rule disabled: %v", err)
	}
	must.Do(t, editRules(tables.RuleEdit{Remove: []string{"the rule"}}))
	readRules := b.Table("t").Rules
	if ofBucket {
		readRules = b.Rules
	}
	if rules, err := readRules(ctx); len(rules) > 0 || err != nil {
		t.Errorf("Rules = %+v, %v; want none", rules, err)
	}
}

// TestRulesOfAStream puts batches with more rows than fit into the tail: all rows are checked
// before any is committed, and the error lists the first ten bad rows per rule.
func TestRulesOfAStream(t *testing.T) {
	b := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1, FoldBytes: 1 << 10}).Bucket("")
	tabletest.Put(t, b, "t", tables.PutAppend, -1)
	err := b.Table("t").EditRules(t.Context(), tables.RuleEdit{Add: []tables.Rule{
		{Name: "few", Kind: "range", Column: "n", Max: "999"}, {Name: "once", Kind: "unique", Columns: []string{"s"}}, {Name: "sorted", Kind: "sorted", Column: "n"},
	}})
	must.Do(t, err)
	stream := func(parts ...[]int64) array.RecordReader {
		var all []arrow.RecordBatch
		for _, ns := range parts {
			r := tabletest.Rows(ns...)
			r.Next()
			all = append(all, r.RecordBatch())
		}
		return must.Get(array.NewRecordReader(tabletest.Numbers, all))(t)
	}
	_, err = b.Table("t").Put(t.Context(), stream(tabletest.Sequence(0, 500), tabletest.Sequence(499, 600), tabletest.Sequence(1100, 50)), tables.PutAppend, nil)
	var violated *tables.RuleError
	if !errors.As(err, &violated) || len(violated.Violations) != 2 {
		t.Fatalf("Put error = %v, want violations of two rules", err)
	}
	few, unique := violated.Violations[0], violated.Violations[1]
	if few.Count != 99+50 || len(few.Rows) != 10 || few.Rows[0] != (tables.BadRow{Row: 1002, Values: "n=1000"}) || unique.Count != 1 || unique.Rows[0] != (tables.BadRow{Row: 501, Values: "s=row 499"}) {
		t.Errorf("violations are %+v, want 149 rows of rule few and one of rule once", violated)
	}
	tabletest.WantRows(t, b, "t", -1)
	tabletest.PutRows(t, b, "t", stream(tabletest.Sequence(0, 500), tabletest.Sequence(500, 500)), tables.PutAppend, nil)
	_, err = b.Table("t").Put(t.Context(), stream(tabletest.Sequence(5, 1), tabletest.Sequence(4, 1)), tables.PutAppend, nil) // the two rows are in separate batches
	if !errors.As(err, &violated) || violated.Violations[0].Rows[0] != (tables.BadRow{Row: 2, Values: "n=4"}) {
		t.Errorf("Put error = %v, want a violation in row 2", err)
	}
}

func TestRuleSets(t *testing.T) {
	b := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1}).Bucket("b")
	must.Do(t, b.EditRules(t.Context(), tables.RuleEdit{Sets: []string{"time_series"}}))
	columns := "time timestamp[us]; Open float64; High float64; Low float64; Close float64; Volume int64"
	row := `{"time":"2026-01-0%d 00:00:00","Open":%d,"High":%d,"Low":%d,"Close":%d,"Volume":%d}`
	put := func(day, o, h, l, c, v int) error {
		return must.Err(b.Table("t").Put(t.Context(), tabletest.JSONRows(t, columns, fmt.Sprintf(row, day, o, h, l, c, v)), tables.PutAppend, nil))
	}
	must.Do(t, put(1, 2, 3, 1, 2, 10))
	must.Do(t, b.Table("t").EditRules(t.Context(), tables.RuleEdit{Sets: []string{"prices"}}))
	for want, err := range map[string]error{
		"": put(2, 2, 3, 1, 2, 10), `"high is highest"`: put(3, 4, 3, 1, 2, 10), `"low is lowest"`: put(3, 2, 3, 3, 2, 10),
		`"open is not negative"`: put(3, -2, 3, -5, 2, 10), `"volume is not negative"`: put(3, 2, 3, 1, 2, -1),
	} {
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("put: error = %v, want %s", err, want)
		}
	}
	_, err := b.Table("other").Put(t.Context(), tabletest.JSONRows(t, "n int16", `{"n":1}`), tables.PutAppend, nil)
	must.Fail(t, err, `"time exists"`, "put to a new table")
	for _, e := range []tables.RuleEdit{
		{Sets: []string{"weather"}},
		{Remove: []string{"nope"}},
		{Add: []tables.Rule{{Name: "a", Kind: "odd"}}},
		{Add: []tables.Rule{{Kind: "exists", Column: "a"}}},
		{Add: []tables.Rule{{Name: "a", Kind: "regexp", Column: "a", Pattern: "("}}},
		{Add: []tables.Rule{{Name: "a", Kind: "expression", Where: "nope > 1 and"}}},
		{Add: []tables.Rule{{Name: "a", Kind: "range", Column: "Open", Min: "soon"}}},
		{Add: []tables.Rule{{Name: "a", Kind: "unique"}}},
		{Add: []tables.Rule{{Name: "a", Kind: "type", Column: "a", Type: "int65"}}},
	} {
		if err := b.Table("t").EditRules(t.Context(), e); err == nil {
			t.Errorf("EditRules(%+v) succeeded, want an error", e)
		}
	}
	if err := b.Table("none").EditRules(t.Context(), tables.RuleEdit{}); !errors.Is(err, tables.ErrNotFound) {
		t.Errorf("EditRules of a missing table: error = %v, want ErrNotFound", err)
	}
	err = b.Table("t").Evolve(t.Context(), tables.ColumnChange{Op: "rename", Column: "Open", To: "open"})
	must.Fail(t, err, "the rule", "Evolve that renames a column with a rule")
}

// TestUniqueOfTwoStores puts the same key into a table concurrently from two Stores: only one put must succeed.
func TestUniqueOfTwoStores(t *testing.T) {
	dir := t.TempDir()
	withTail, withoutTail := tabletest.Open(t, dir, &tables.Options{FoldAge: -1}), tabletest.Open(t, dir, &tables.Options{NoTail: true})
	tabletest.Put(t, withTail.Bucket(""), "t", tables.PutAppend, 0)
	must.Do(t, withoutTail.Bucket("").Table("t").EditRules(t.Context(), tables.RuleEdit{Add: []tables.Rule{{Name: "once", Kind: "unique", Columns: []string{"n"}, InTable: true}}}))
	for n := int64(1); n < 10; n++ {
		errs := make(chan error)
		for _, s := range []*tables.Store{withTail, withoutTail} {
			go func() {
				errs <- must.Err(s.Bucket("").Table("t").Put(t.Context(), tabletest.Rows(n), tables.PutAppend, nil))
			}()
		}
		a, b := <-errs, <-errs
		if (a == nil) == (b == nil) || !errors.As(errors.Join(a, b), new(*tables.RuleError)) {
			t.Fatalf("concurrent puts of the same key: errors %v and %v, want one RuleError", a, b)
		}
	}
	if _, err := withTail.Bucket("").Table("t").Put(t.Context(), tabletest.Rows(0), tables.PutAppend, nil); !errors.As(err, new(*tables.RuleError)) {
		t.Errorf("put of a key that was in the tail before the rule: error = %v, want a RuleError", err)
	}
	tabletest.WantRows(t, withTail.Bucket(""), "t", tabletest.Sequence(0, 10)...)
}

// TestUniqueWhileWidening checks that a rule about all rows of a table, including rows not yet in
// data files, is also applied to puts and upserts that widen or add a column.
func TestUniqueWhileWidening(t *testing.T) {
	const oldColumns = "k int64; v int64; n int64"
	for _, columns := range []string{oldColumns + "; w utf8", "k int64; v float64; n int64", "k int64; v int64; n float64"} {
		for _, mode := range []string{"put", "upsert"} {
			for _, hasTail := range []bool{false, true} {
				t.Run(columns+"/"+mode, func(t *testing.T) {
					b := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: !hasTail, FoldAge: -1}).Bucket("b")
					first := tabletest.JSONRows(t, oldColumns, `{"k":1,"v":5,"n":1},{"k":2,"v":7,"n":1}`)
					tabletest.PutRows(t, b, "t", first, tables.PutAppend, &tables.PutOptions{Settings: &tables.Settings{Evolution: tables.Flexible}})
					rule := tables.RuleEdit{Add: []tables.Rule{{Name: "u", Kind: "unique", Columns: []string{"v"}, InTable: true}}}
					must.Do(t, b.EditRules(t.Context(), rule)) // unlike a table's rule, a bucket's rule leaves the rows in the tail
					put := func(row string) (err error) {
						if mode == "upsert" {
							_, err = b.Table("t").Upsert(t.Context(), tabletest.JSONRows(t, columns, row), &tables.UpsertOptions{Keys: []string{"k"}})
						} else {
							_, err = b.Table("t").Put(t.Context(), tabletest.JSONRows(t, columns, row), tables.PutAppend, nil)
						}
						return err
					}
					if err := put(`{"k":3,"v":7,"n":1}`); !errors.As(err, new(*tables.RuleError)) {
						t.Errorf("%s of a repeated value: error = %v, want a RuleError", mode, err)
					}
					must.Do(t, put(`{"k":3,"v":8,"n":1}`))
					if got := tabletest.TableText(t, b, "t", nil); strings.Count(got, " | ") != 3 || !strings.HasPrefix(got, columns) {
						t.Errorf("table is %s, want columns %s and 3 rows", got, columns)
					}
				})
			}
		}
	}
}

// TestUniqueWithUncheckedTail widens a column and puts a row in one Update, while the tail has a row that a rule about
// all rows has not checked. The Update must fail with ErrConflict.
func TestUniqueWithUncheckedTail(t *testing.T) {
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	b := s.Bucket("b")
	tabletest.PutRows(t, b, "t", tabletest.JSONRows(t, "v int32", `{"v":7}`), tables.PutAppend, nil)
	must.Do(t, b.EditRules(t.Context(), tables.RuleEdit{Add: []tables.Rule{{Name: "u", Kind: "unique", Columns: []string{"v"}, InTable: true}}}))
	err := s.Update(t.Context(), func(x *tables.Txn) error {
		if err := x.Evolve("b", "t", tables.ColumnChange{Op: "widen", Column: "v", Type: "int64"}); err != nil {
			return err
		}
		return x.Put("b", "t", tabletest.JSONRows(t, "v int64", `{"v":7}`), tables.PutAppend, nil)
	})
	must.Fail(t, err, tables.ErrConflict, "Update")
	tabletest.WantText(t, b, "t", "v int32 | 7")
}

// TestNullTypeReplacedWithAnotherTail checks that no row is lost if typed values are put into a table whose only
// column has the null type, while another Store's tail has rows of the table.
func TestNullTypeReplacedWithAnotherTail(t *testing.T) {
	null := func() array.RecordReader {
		b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{{Name: "v", Type: arrow.Null, Nullable: true}}, nil))
		defer b.Release()
		b.Field(0).AppendNull()
		return tabletest.OneBatch(b.NewRecordBatch())
	}
	dir := t.TempDir()
	s, otherBucket := tabletest.Open(t, dir, &tables.Options{FoldAge: -1}), tabletest.Open(t, dir, &tables.Options{NoTail: true}).Bucket("b")
	b := s.Bucket("b")
	for range 2 {
		tabletest.PutRows(t, b, "t", null(), tables.PutAppend, nil)
	}
	tabletest.PutRows(t, otherBucket, "t", tabletest.JSONRows(t, "v utf8", `{"v":"x"}`), tables.PutAppend, nil)
	const want = "v utf8 | x | (null) | (null)"
	tabletest.WantText(t, b, "t", want)
	tabletest.Fold(t, s)
	tabletest.WantText(t, b, "t", want)
}

package tables_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestEvolutionOfPuts checks which puts with other columns each kind of evolution allows, and the table after the put.
// The put's rows go to the tail (rows not yet in data files) or directly to data files.
func TestEvolutionOfPuts(t *testing.T) {
	const table = "a int16; b float32; c utf8"
	const row = `{"a":1,"b":0.5,"c":"x"}`
	for _, c := range []struct {
		put, row string
		want     map[tables.Evolution]string // the table after the put, or part of the error
	}{
		{table, `{"a":2,"b":1.5,"c":"y"}`, map[tables.Evolution]string{
			"": table + " | 1,0.5,x | 2,1.5,y", tables.Strict: table + " | 1,0.5,x | 2,1.5,y",
		}},
		{table + "; d date32", `{"a":2,"b":1.5,"c":"y","d":"2026-01-31"}`, map[tables.Evolution]string{
			"": `column "d": it has type date32, but the table has no such column`, tables.Strict: `column "d"`,
			tables.AddOnly:    table + "; d date32 | 1,0.5,x,(null) | 2,1.5,y,2026-01-31",
			tables.Compatible: table + "; d date32 | 1,0.5,x,(null) | 2,1.5,y,2026-01-31",
			tables.Flexible:   table + "; d date32 | 1,0.5,x,(null) | 2,1.5,y,2026-01-31",
		}},
		{"a int16; c utf8", `{"a":2,"c":"y"}`, map[tables.Evolution]string{
			"": table + " | 1,0.5,x | 2,(null),y", tables.Flexible: table + " | 1,0.5,x | 2,(null),y",
			tables.Strict: `column "b": it is missing, but the table has it, as float32; the table's evolution is strict`, tables.AddOnly: `column "b"`, tables.Compatible: `column "b": it is missing`,
		}},
		{"a int32; b float32; c utf8", `{"a":100000,"b":1.5,"c":"y"}`, map[tables.Evolution]string{
			"": `column "a": the column contains a value that the table's type cannot represent`, tables.Strict: `column "a": it has type int32, and the table has int16; the table's evolution is strict`, tables.AddOnly: `column "a"`,
			tables.Compatible: "a int32; b float32; c utf8 | 1,0.5,x | 100000,1.5,y",
		}},
		{"a int8; b float32; c utf8", `{"a":2,"b":1.5,"c":"y"}`, map[tables.Evolution]string{
			"": table + " | 1,0.5,x | 2,1.5,y", tables.Strict: `column "a": it has type int8`, tables.Compatible: table + " | 1,0.5,x | 2,1.5,y",
		}},
		{"a int64; b float64; c utf8", `{"a":5000000000,"b":1e300,"c":"y"}`, map[tables.Evolution]string{
			"": `column "a": it has type int64, and the table has int16`, tables.Compatible: "a int64; b float64; c utf8 | 1,0.5,x | 5000000000,1e+300,y",
		}},
		{"a float64; b float32; c utf8", `{"a":2.5,"b":1.5,"c":"y"}`, map[tables.Evolution]string{
			"": `column "a": it has type float64, and the table has int16`, tables.AddOnly: `column "a"`, tables.Flexible: "a float64; b float32; c utf8 | 1,0.5,x | 2.5,1.5,y",
		}},
		{"a utf8; b float32; c utf8", `{"a":"2","b":1.5,"c":"y"}`, map[tables.Evolution]string{
			tables.Flexible: `column "a": it has type utf8, and the table has int16; the table's evolution is flexible: convert the column to int16`, tables.Compatible: `column "a"`,
		}},
	} {
		for e, want := range c.want {
			modes := []string{"tail", "commits", "folded"}
			rand.Shuffle(3, func(i, j int) { modes[i], modes[j] = modes[j], modes[i] })
			for _, mode := range modes[:tabletest.Rounds(t, "PARTD_EVOLVE_MODES", 1)] {
				t.Run(fmt.Sprintf("%s/%s/%s", c.put, e, mode), func(t *testing.T) {
					s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: mode == "commits", FoldAge: -1})
					b := s.Bucket("b")
					tabletest.PutRows(t, b, "t", tabletest.JSONRows(t, table, row), tables.PutAppend, &tables.PutOptions{Settings: &tables.Settings{Evolution: e}})
					if mode == "folded" {
						tabletest.Fold(t, s)
					}
					_, err := b.Table("t").Put(t.Context(), tabletest.JSONRows(t, c.put, c.row), tables.PutAppend, nil)
					if !strings.HasPrefix(want, "column") {
						must.Do(t, err)
						tabletest.WantText(t, b, "t", want)
						tabletest.Fold(t, s)
						tabletest.WantText(t, b, "t", want)
						tabletest.Compact(t, s)
						tabletest.WantText(t, b, "t", want)
						if mode != "tail" {
							tabletest.WantText(t, b, "t", table+" | 1,0.5,x", tables.AtVersion(1))
						}
						return
					}
					if !errors.As(err, new(*tables.SchemaError)) || !strings.Contains(err.Error(), want) {
						t.Fatalf("Put error = %v, want a SchemaError with the text %s", err, want)
					}
					tabletest.WantText(t, b, "t", table+" | 1,0.5,x")
				})
			}
		}
	}
}

func TestEvolve(t *testing.T) {
	b := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1}).Bucket("b")
	put := func(columns, row string) {
		t.Helper()
		tabletest.PutRows(t, b, "t", tabletest.JSONRows(t, columns, row), tables.PutAppend, nil)
	}
	evolve := func(changes ...tables.ColumnChange) {
		t.Helper()
		must.Do(t, b.Table("t").Evolve(t.Context(), changes...))
	}
	put("a int16; b utf8; c int64", `{"a":1,"b":"x","c":3}`)
	evolve(tables.ColumnChange{Op: "rename", Column: "b", To: "text"}, tables.ColumnChange{Op: "drop", Column: "c"}, tables.ColumnChange{Op: "add", Column: "d", Type: "timestamp[ns, tz=UTC]"}, tables.ColumnChange{Op: "widen", Column: "a", Type: "int32"})
	tabletest.WantText(t, b, "t", "a int32; text utf8; d timestamp[ns, tz=UTC] | 1,x,(null)")
	put("a int32; text utf8", `{"a":70000,"text":"y"}`)
	evolve(tables.ColumnChange{Op: "add", Column: "c", Type: "int64"}) // the dropped values do not come back
	tabletest.WantText(t, b, "t", "a int32; text utf8; d timestamp[ns, tz=UTC]; c int64 | 1,x,(null),(null) | 70000,y,(null),(null)")
	put("a int32; c int64", `{"a":3,"c":7}`)
	evolve(tables.ColumnChange{Op: "widen", Column: "a", Type: "int64"})
	evolve(tables.ColumnChange{Op: "widen", Column: "a", Type: "float64"}, tables.ColumnChange{Op: "drop", Column: "d"}, tables.ColumnChange{Op: "rename", Column: "text", To: "b"})
	want := "a float64; b utf8; c int64 | 1,x,(null) | 70000,y,(null) | 3,(null),7"
	tabletest.WantText(t, b, "t", want)
	for where, want := range map[string]string{
		"c is null": " | 1,x,(null) | 70000,y,(null)", "c > 5": " | 3,(null),7", "c < 5": "", "a > 2.5 and b = 'y'": " | 70000,y,(null)", "b = 'x'": " | 1,x,(null)", "not c = 0": " | 3,(null),7",
	} {
		if got := tabletest.TableText(t, b, "t", tabletest.Where(t, where)); got != "a float64; b utf8; c int64"+want {
			t.Errorf("scan with the condition %s: got %s, want%s", where, got, want)
		}
	}
	tabletest.WantText(t, b, "t", "a int16; b utf8; c int64 | 1,x,3", tables.AtVersion(1))
	tabletest.WantText(t, b, "t", "a int32; text utf8; d timestamp[ns, tz=UTC] | 1,x,(null)", tables.AtVersion(2))
	tabletest.WantText(t, b, "t", "a int32; text utf8; d timestamp[ns, tz=UTC] | 1,x,(null) | 70000,y,(null)", tables.AtVersion(3))
	tabletest.WantText(t, b, "t", "a int32; text utf8; d timestamp[ns, tz=UTC]; c int64 | 1,x,(null),(null) | 70000,y,(null),(null) | 3,(null),(null),7", tables.AtVersion(5))

	put("a float64", `{"a":0.5}`)
	for _, c := range []struct {
		change tables.ColumnChange
		want   string
	}{
		{tables.ColumnChange{Op: "shrink", Column: "a"}, `unknown column change "shrink"`},
		{tables.ColumnChange{Op: "widen", Column: "a", Type: "int64"}, `column "a": cannot widen type float64 to int64`},
		{tables.ColumnChange{Op: "widen", Column: "a", Type: "int65"}, `unknown type "int65"`},
		{tables.ColumnChange{Op: "drop", Column: "nope"}, `column "nope"`},
		{tables.ColumnChange{Op: "add", Column: "a", Type: "int8"}, `column "a"`},
		{tables.ColumnChange{Op: "rename", Column: "a", To: "b"}, `cannot rename the column to "b"`},
	} {
		must.Fail(t, b.Table("t").Evolve(t.Context(), c.change), c.want, "Evolve(%+v)", c.change)
	}
	for e, ops := range map[tables.Evolution]string{tables.Strict: "", tables.AddOnly: "add", tables.Compatible: "add widen", tables.Flexible: "add widen rename drop"} {
		must.Do(t, b.Table("t").SetSettings(t.Context(), tables.Settings{Evolution: e}))
		for _, op := range []string{"add", "widen", "rename", "drop"} {
			change := tables.ColumnChange{Op: tables.ColumnOp(op), Column: "a", Type: "int16"}
			if op == "add" {
				change.Column = "added"
			}
			err := b.Table("t").Evolve(t.Context(), change, tables.ColumnChange{Op: "drop", Column: "nope"}) // the second change fails, so Evolve makes neither
			if allowed := !strings.Contains(err.Error(), "does not allow the change \""+op); allowed != strings.Contains(ops, op) {
				t.Errorf("Evolve with %s under evolution %s: error %v, want the change to be allowed: %v", op, e, err, strings.Contains(ops, op))
			}
		}
	}
	if err := b.Table("t").SetSettings(t.Context(), tables.Settings{Evolution: "lax"}); err == nil {
		t.Error(`SetSettings with evolution "lax" succeeded, want an error`)
	}
}

// TestWidenInexact checks that widening to float64 fails, and changes nothing, if float64 cannot represent a value
// exactly. The value of a replaced row does not prevent widening, because no reader sees it.
func TestWidenInexact(t *testing.T) {
	for _, hasTail := range []bool{false, true} {
		b := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1, NoTail: !hasTail}).Bucket("")
		put := func(value string, o *tables.PutOptions) {
			rows := tabletest.JSONRows(t, "t timestamp[us]; a int64", `{"t":"2026-01-01T00:00:00","a":`+value+`}`)
			tabletest.PutRows(t, b, "t", rows, tables.PutAppend, o)
		}
		put("9007199254740993", &tables.PutOptions{Settings: &tables.Settings{Time: "t", OnDuplicate: tables.KeepLast}})
		widen := tables.ColumnChange{Op: "widen", Column: "a", Type: "float64"}
		if err := b.Table("t").Evolve(t.Context(), widen); err == nil || !strings.Contains(err.Error(), `column "a"`) {
			t.Fatalf(`Evolve error = %v, want an error with the text column "a"`, err)
		}
		tabletest.WantText(t, b, "t", "t timestamp[us]; a int64 | 2026-01-01T00:00:00,9007199254740993")
		put("2", nil)
		must.Do(t, b.Table("t").Evolve(t.Context(), widen))
		tabletest.WantText(t, b, "t", "t timestamp[us]; a float64 | 2026-01-01T00:00:00,2")
	}
}

// oneNull returns a row with k = 1, and a column v of the null type.
func oneNull() array.RecordReader {
	columns := arrow.NewSchema([]arrow.Field{{Name: "k", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, {Name: "v", Type: arrow.Null, Nullable: true}}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, columns)
	defer b.Release()
	b.Field(0).(*array.Int64Builder).Append(1)
	b.Field(1).AppendNull()
	return tabletest.OneBatch(b.NewRecordBatch())
}

// TestNullTypeReplaced checks that a put, an upsert or Evolve can give a column of the null type another type. Each
// type and evolution is tested with one of the three.
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
				var err error
				if mode == "evolve" {
					err = b.Table("t").Evolve(t.Context(), tables.ColumnChange{Op: "widen", Column: "v", Type: tables.ColumnType(typ)})
				}
				if mode == "upsert" {
					_, err = b.Table("t").Upsert(t.Context(), tabletest.JSONRows(t, columns, row), &tables.UpsertOptions{Keys: []string{"k"}})
				} else if err == nil {
					_, err = b.Table("t").Put(t.Context(), tabletest.JSONRows(t, columns, row), tables.PutAppend, nil)
				}
				if e == tables.Strict || e == tables.AddOnly {
					if !errors.As(err, new(*tables.SchemaError)) || !strings.Contains(err.Error(), `column "v"`) {
						t.Fatalf("put or Evolve error = %v, want a SchemaError about column v", err)
					}
					tabletest.WantText(t, b, "t", "k int64; v null | 1,(null)")
					return
				}
				must.Do(t, err)
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
			must.Do(t, err)
			tabletest.WantText(t, b, "t", c.want)
			tabletest.Compact(t, s)
			tabletest.WantText(t, b, "t", c.want)
		}
	}
}

// TestDateBecomesTimestamp checks a table whose dates another program turned into timestamps, which Iceberg allows. The
// bounds of older files are numbers of days. Filters find the rows of these files, and later puts replace them.
func TestDateBecomesTimestamp(t *testing.T) {
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	b := s.Bucket("b")
	ordered := &tables.PutOptions{Settings: &tables.Settings{Time: "at", OnDuplicate: tables.KeepLast}}
	tabletest.PutRows(t, b, "t", tabletest.JSONRows(t, "at date32; v int64", `{"at":"2020-01-01","v":1},{"at":"2020-01-05","v":2}`), tables.PutAppend, ordered)
	tabletest.Fold(t, s)
	columns := iceberg.NewSchema(1, iceberg.NestedField{ID: 1, Name: "at", Type: iceberg.TimestampType{}}, iceberg.NestedField{ID: 2, Name: "v", Type: iceberg.Int64Type{}})
	tabletest.NewEngine(t, s, "b", "t").Update(table.NewAddSchemaUpdate(columns), table.NewSetCurrentSchemaUpdate(-1))
	if got := tabletest.TableText(t, b, "t", tabletest.Where(t, "at > '2020-01-01'", "v")); got != "v int64 | 2" {
		t.Errorf("a filter by the timestamp finds %s, want the row 2", got)
	}
	tabletest.PutRows(t, b, "t", tabletest.JSONRows(t, "at timestamp[us]; v int64", `{"at":"2020-01-05","v":3}`), tables.PutAppend, nil)
	tabletest.Fold(t, s)
	if got := tabletest.TableText(t, b, "t", &tables.ScanOptions{Columns: []string{"v"}}); got != "v int64 | 1 | 3" {
		t.Errorf("after a put with the time of another row, the table has %s, want that row replaced", got)
	}
}

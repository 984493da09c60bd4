//go:build cgo

package duck_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestRandomSelections runs statements that can need no DuckDB. Each must return the same schema and rows, in the same
// order unless the table has keys, as DuckDB, which must run statements with an unusual comment.
// PARTD_TABLES_RANDOM_SEED sets the seed, and PARTD_TABLES_RANDOM_STATEMENTS divided by 180 is the number of rounds.
// Without the latter, fewer statements follow each change of the table, and none runs in a process.
func TestRandomSelections(t *testing.T) {
	rounds, statements := 1, 3
	if n := procs.Number(t, "PARTD_TABLES_RANDOM_STATEMENTS", 0); n > 0 {
		rounds, statements = n/180, 8
	}
	seed := randomSeed(t)
	kinds := execKinds()
	delete(kinds, "remote") // reads files as all others
	delete(kinds, "ruled")  // reads files as plain
	if statements < 8 {
		delete(kinds, "in processes")
	}
	kinds["keep first"] = execKind{configure: withSettings(tables.Settings{Time: "ts", Keys: []string{"id"}, OnDuplicate: tables.KeepFirst})}
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		t.Run(kind, func(t *testing.T) {
			r := &randomStatements{Rand: rand.New(rand.NewPCG(seed, 0))} //nolint:gosec // a test's
			hasKeys := kind == "deduplicated" || kind == "keep first"
			kind := kinds[kind]
			if kind.open == nil {
				kind.open = func(t *testing.T) *tables.Store { return newStore(t, nil) }
			}
			s, p := kind.open(t), newPlainDuckDB(t)
			r.newTable()
			both(t, s, p, "CREATE OR REPLACE TABLE t ("+r.columns()+")")
			if kind.configure != nil {
				kind.configure(t, s, s.Bucket("b").Table("t"))
			}
			for range rounds {
				both(t, s, p, r.statement())
				foldOrCompact(t, s, r)
				for range 4 {
					if kind.between != nil { // it changes nothing in three of four calls
						kind.between(t, s, p, r)
					}
				}
				both(t, s, p, r.statement())
				wantSameSelections(t, s, r, statements, hasKeys)
			}
			exec := func(sql string) func() {
				return func() {
					must.Get(s.Exec(t.Context(), sql, &tables.ExecOptions{Bucket: "b"}))(t)
				}
			}
			other := tabletest.NewEngine(t, s, "b", "t")
			keys := arrow.NewSchema([]arrow.Field{nullable("id", arrow.PrimitiveTypes.Int64), nullable("ts", &arrow.TimestampType{Unit: arrow.Microsecond})}, nil)
			sameKeys := jsonBatch(t, keys, `{"id":-5,"ts":"2026-01-01 00:00:00"}`) // as a row inserted below
			for _, change := range []func(){
				func() { fold(t, s) },
				func() { other.Delete(iceberg.LessThan(iceberg.Reference("id"), int32(3))) }, // rewrites files, or writes delete files
				exec("ALTER TABLE t ADD COLUMN added INTEGER"), exec("ALTER TABLE t RENAME k TO K2"), exec("INSERT INTO t (id, added, ts) VALUES (-5, 7, '2026-01-01')"), exec("ALTER TABLE t ALTER id TYPE BIGINT"),
				exec("INSERT INTO t (id, ts) SELECT id, ts FROM t"), // duplicate keys
				func() { fold(t, s) },
				func() { put(t, s, "b", "t", sameKeys) },
				exec(`ALTER TABLE t ADD COLUMN nested STRUCT("a b" INTEGER)`), // NeedsScan
				func() {
					other.MergeOnRead(3)
					other.Commit(func(tx *table.Transaction) error {
						return tx.UpdateSchema(true, false).AddColumn([]string{"with_default"}, iceberg.PrimitiveTypes.Int32, "", false, iceberg.NewLiteral(int32(7))).Commit()
					})
				},
			} {
				change()
				wantSameSelections(t, s, r, statements, hasKeys)
			}
		})
	}
}

// TestSelectionsAfterChange runs and describes statements again after their table has changed, or with other literals.
func TestSelectionsAfterChange(t *testing.T) {
	s := newStore(t, nil)
	put(t, s, "b", "t", numbers(0, 2))
	o := &tables.QueryOptions{Bucket: "b"}
	for range 2 {
		expect(t, s, "SELECT * FROM t", o, "0|s0", "1|s1")
		expect(t, s, "SELECT s FROM t WHERE k = 1", o, "s1")
	}
	for _, sql := range []string{"ALTER TABLE t ADD COLUMN x INTEGER", "INSERT INTO t VALUES (2, 'a', 5)", "ALTER TABLE t RENAME s TO y"} {
		must.Get(s.Exec(t.Context(), sql, &tables.ExecOptions{Bucket: "b"}))(t)
	}
	expect(t, s, "SELECT * FROM t", o, "0|s0|(null)", "1|s1|(null)", "2|a|5")
	if got, err := rows(t, s, "SELECT s FROM t WHERE k = 2", o); err == nil {
		t.Errorf("a statement with a renamed column returns %q, want an error", got)
	}
	for _, literal := range []string{"5", "'abc' /**/", "'5'", "'abc'"} {
		for range 2 {
			d, err := s.Describe(t.Context(), "SELECT y FROM t WHERE k = "+literal, o)
			if err != nil || d.Result.String() != "schema:\n  fields: 1\n    - y: type=utf8, nullable" {
				t.Errorf("describing a comparison with %s returns %v, error %v", literal, d, err)
			}
		}
	}
}

// TestSelectionsOfOtherTypes checks statements on columns whose types are others in SQL.
func TestSelectionsOfOtherTypes(t *testing.T) {
	s := newStore(t, nil)
	columns := arrow.NewSchema([]arrow.Field{
		nullable("n", &arrow.TimestampType{Unit: arrow.Nanosecond, TimeZone: "UTC"}), nullable("f", &arrow.FixedSizeBinaryType{ByteWidth: 2}),
		nullable("z", &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "Europe/Berlin"}), nullable("ms", &arrow.TimestampType{Unit: arrow.Millisecond}),
		nullable("u", arrow.PrimitiveTypes.Uint64), nullable("i", arrow.PrimitiveTypes.Int8), nullable("h", arrow.FixedWidthTypes.Float16), nullable("d", arrow.FixedWidthTypes.Date64),
		nullable("nothing", arrow.Null), nullable("w", arrow.FixedWidthTypes.Time64ns), nullable("l", arrow.BinaryTypes.LargeString),
	}, nil)
	put(t, s, "b", "t", jsonBatch(t, columns, `{"n":1000000001,"f":"YWI=","z":1000001,"ms":1001,"u":18446744073709551615,"i":-128,"h":1.5,"d":"2026-11-26","w":1001,"l":"x"}`))
	for range 2 {
		for _, f := range columns.Fields() {
			for _, nanoseconds := range []bool{false, true} {
				o := &tables.QueryOptions{Bucket: "b", Nanoseconds: nanoseconds}
				for range 2 {
					if got, want := resultText(t, s, "SELECT "+f.Name+" FROM t", o), resultText(t, s, "SELECT "+f.Name+" FROM t WHERE true", o); got != want || want == "failed" {
						t.Errorf("column %s is %s, with DuckDB %s", f.Name, got, want)
					}
				}
			}
		}
		fold(t, s)
	}
}

// TestSelectionsAsWritten runs statements with unusual names and literals. Each must have the same result as with
// DuckDB.
func TestSelectionsAsWritten(t *testing.T) {
	s := newStore(t, nil)
	columns := arrow.NewSchema([]arrow.Field{
		nullable("id", arrow.PrimitiveTypes.Int64), nullable("s", arrow.BinaryTypes.String), nullable("t", arrow.PrimitiveTypes.Int32), nullable("count", arrow.PrimitiveTypes.Int32),
		nullable("Ä", arrow.BinaryTypes.String), nullable("it's", arrow.PrimitiveTypes.Int8), nullable("st", arrow.StructOf(nullable("id", arrow.PrimitiveTypes.Int32))), nullable("5", arrow.PrimitiveTypes.Int32),
	}, nil)
	put(t, s, "b", "t", jsonBatch(t, columns, `{"id":1,"s":"a","t":7,"count":8,"Ä":"x","it's":1,"st":{"id":5},"5":1},{"id":9223372036854775807,"s":"5","t":1},{"id":5,"s":"","t":1},{"s":"x"},{"id":1000,"s":"it's"},{"id":-1,"s":"\\"}`))
	fold(t, s)
	put(t, s, "b", "t", jsonBatch(t, columns, `{"id":5,"s":"a\nb"},{"id":8,"s":"ä"}`))
	put(t, s, "b", "st", jsonBatch(t, columns, `{"id":5,"s":"z","st":{"id":77}}`))
	for _, sql := range []string{
		"SELECT id AS s FROM t WHERE s = 'a'", "SELECT id AS s, s AS id FROM t WHERE id = 5", "SELECT id AS x FROM t WHERE x = 5", "SELECT t FROM t WHERE t = 1", "SELECT T.T FROM t", "SELECT st.id FROM t",
		"SELECT st.id FROM st WHERE st.id = 5", "SELECT u.id FROM t u WHERE U.id = 5", "SELECT t.id FROM t u", "SELECT count FROM t", "SELECT count() FROM t", "SELECT count(*) count FROM t",
		`SELECT "Ä" FROM t`, "SELECT ä FROM t", `SELECT "it's" FROM t WHERE "it's" = 1 AND s = 'a'`, `SELECT "5" FROM t WHERE "5" = 1`, "SELECT file_row_number FROM t", "SELECT id AS a, s AS a FROM t",
		"SELECT id FROM t WHERE id = 007", "SELECT id FROM t WHERE id = 1_000", "SELECT id FROM t WHERE id = 0x5", "SELECT id FROM t WHERE id = 5.", "SELECT id FROM t WHERE id = +5", "SELECT id FROM t WHERE id = - 1",
		"SELECT id FROM t WHERE id = 9223372036854775807", "SELECT id FROM t WHERE (id) = ((5))", "SELECT id FROM t WHERE id = 'x'", "SELECT id FROM t WHERE s = VARCHAR 'a'", "SELECT id FROM t WHERE s = N'a'",
		"SELECT id FROM t WHERE s = x'61'", `SELECT id FROM t WHERE s = E'\\'`, `SELECT id FROM t WHERE s = '\'`, "SELECT id FROM t WHERE s = $$a$$", "SELECT id FROM t WHERE s = ''\n'a'", "SELECT id FROM t WHERE s = 'a\nb'",
		"SELECT id FROM t WHERE s =\u00a0'\u00a0'", "SELECT id FROM t WHERE 'ä' = s AND id = 8;", "SELECT id AS 'a' FROM t WHERE s = $$a$$", "SELECT id AS 'x' FROM t WHERE s = $$x$$", "SELECT id FROM 't' WHERE id = 5",
		"SELECT id FROM t WHERE id = 5 AND (t = 1 AND s = '')", "SELECT id FROM t WHERE id=5AND t=1", "FROM t SELECT id WHERE id = 5", "SELECT id FROM u: t WHERE u.id = 5", "EXPLAIN SELECT id FROM t WHERE id = 5",
	} {
		want := resultText(t, s, sql, &tables.QueryOptions{Bucket: "b", Memory: 1 << 30})
		for range 2 {
			if got := resultText(t, s, sql, &tables.QueryOptions{Bucket: "b"}); got != want {
				t.Errorf("%s\nreturns %s\nwith DuckDB: %s", sql, got, want)
			}
		}
	}
}

// TestSelectionsAtOnce runs statements that differ only in literals at once, while their table gets more columns. Each
// must return its own row.
func TestSelectionsAtOnce(t *testing.T) {
	s := newStore(t, nil)
	put(t, s, "b", "t", numbers(0, 100))
	fold(t, s)
	var running sync.WaitGroup
	for i := range 4 {
		running.Go(func() {
			for k := i; k < 100; k += 4 {
				sql := fmt.Sprintf("SELECT k FROM b.t WHERE k = %d", k)
				if _, err := s.Describe(t.Context(), sql, nil); err != nil {
					t.Error(err)
				}
				if got, err := rows(t, s, sql, &tables.QueryOptions{Recycle: k%2 == 0}); err != nil || !slices.Equal(got, []string{fmt.Sprint(k)}) {
					t.Errorf("%s = %q, error %v", sql, got, err)
				}
			}
		})
	}
	for i := range 4 {
		must.Do(t, s.Bucket("b").Table("t").Evolve(t.Context(), tables.ColumnChange{Op: "add", Column: fmt.Sprint("added", i), Type: "int32"}))
	}
	running.Wait()
}

// needsDuckDB is a comment after which a statement is no Selection, as TestSelectionsNeedNoDatabase checks.
const needsDuckDB = " /* ' */"

// wantSameSelections compares the results of n random statements on the table t, without and with DuckDB.
func wantSameSelections(t *testing.T, s *tables.Store, r *randomStatements, n int, hasKeys bool) {
	t.Helper()
	versions := must.Get(s.Bucket("b").Table("t").Versions(t.Context()))(t)
	for range n {
		sql, parameters := r.selection()
		o := &tables.QueryOptions{Bucket: "b", Parameters: parameters, Recycle: r.IntN(2) == 0}
		if len(versions) > 0 {
			if r.IntN(3) == 0 {
				o.At = tables.AtVersion(versions[r.IntN(len(versions))].Version)
			}
			o.Before = tables.AtVersion(versions[r.IntN(len(versions))].Version)
		}
		want := resultText(t, s, sql+needsDuckDB, o)
		if r.IntN(2) == 0 {
			_, _ = s.Describe(t.Context(), sql, o)
		}
		for range 2 {
			got := resultText(t, s, sql, o)
			if hasKeys { // DuckDB finds the replaced rows by a join, which does not keep the order of files
				got, want = sortedLines(got), sortedLines(want)
			}
			if got != want {
				t.Errorf("%s with %v\nreturns %.2000s\nwith DuckDB: %.2000s", sql, parameters, got, want)
			}
		}
	}
}

func sortedLines(text string) string {
	return strings.Join(slices.Sorted(strings.SplitSeq(text, "\n")), "\n")
}

// resultText returns the schema and the rows of a statement as text, or the text "failed".
func resultText(t *testing.T, s *tables.Store, sql string, o *tables.QueryOptions) string {
	t.Helper()
	r, err := s.Query(t.Context(), sql, o)
	if err != nil {
		return "failed"
	}
	defer r.Release()
	text := r.Schema().String()
	for r.Next() {
		b := r.RecordBatch()
		if !b.Schema().Equal(r.Schema()) {
			t.Errorf("%s: a batch has the schema %v, want %v", sql, b.Schema(), r.Schema())
		}
		for row := range int(b.NumRows()) {
			text += "\n"
			for _, c := range b.Columns() {
				text += fmt.Sprintf("%q %t|", c.ValueStr(row), c.IsNull(row))
			}
		}
	}
	if r.Err() != nil {
		return "failed"
	}
	return text
}

// selection returns a random statement on the table t and its parameters, which can be nil.
func (r *randomStatements) selection() (string, arrow.RecordBatch) {
	columns := []string{"id", "k", "ts", "ID", "added", "K2", "with_default", "t.id", "rowid"}
	for i := range r.types {
		columns = append(columns, fmt.Sprint("v", i), fmt.Sprint("t.v", i))
	}
	list := r.one("*", "*", "count(*)", "count(*) AS n", "")
	for i := 0; list == "" || i < r.IntN(3) && list[0] != '*' && list[0] != 'c'; i++ {
		if list != "" {
			list += ", "
		}
		list += r.one(columns...) + r.one("", "", " AS a", ` AS "Ä b"`)
	}
	sql := "SELECT " + list + " FROM " + r.one("t", "b.t", `partd."b"."t"`, "T", "before.b.t", "changes.b.t")
	var parameters []arrow.Array
	for i := range r.IntN(3) {
		sql += []string{" WHERE ", " AND "}[min(i, 1)]
		column := r.one(columns...)
		switch r.IntN(8) {
		case 0:
			sql += fmt.Sprintf("%s = %d", r.one("id", "t.id"), r.IntN(20))
		case 1:
			sql += fmt.Sprintf("%d = k", r.IntN(4))
		case 2:
			sql += column + " = " + r.one("7", "-5", "255", "300", "3000000000", "99999999999999999999", "007", "1.0", "NULL", "'7'", "'a'", "''", "'it''s'", "E'a'", "'WHERE'", "'ä'", "true")
		case 3:
			sql += column + " = " + r.one("'a'", "7", "'WHERE'")
		case 4:
			sql += "id " + r.one("= 5 + 1", "<> 3", "= k", "IN (1, 2)")
		default:
			sql += r.one("id", "k", column) + " = ?"
			parameters = append(parameters, r.parameter())
		}
	}
	if parameters == nil {
		return sql, nil
	}
	fields := make([]arrow.Field, len(parameters))
	for i, p := range parameters {
		fields[i] = arrow.Field{Name: fmt.Sprint("p", i), Type: p.DataType(), Nullable: true}
	}
	return sql, array.NewRecordBatch(arrow.NewSchema(fields, nil), parameters, 1)
}

func (r *randomStatements) parameter() arrow.Array {
	types := []arrow.DataType{
		arrow.PrimitiveTypes.Int8, arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Uint64,
		arrow.PrimitiveTypes.Float64, arrow.BinaryTypes.String, arrow.BinaryTypes.LargeString,
	}
	typ := types[r.IntN(len(types))]
	b := array.NewBuilder(memory.DefaultAllocator, typ)
	defer b.Release()
	value := r.one("0", "1", "2", "3", "7")
	switch {
	case r.IntN(8) == 0:
		b.AppendNull()
		return b.NewArray()
	case typ.ID() == arrow.INT64 && r.IntN(4) == 0:
		value = r.one("3000000000", "-9223372036854775808")
	case typ.ID() == arrow.UINT64 && r.IntN(4) == 0:
		value = "18446744073709551615"
	case !arrow.IsInteger(typ.ID()) && typ.ID() != arrow.FLOAT64:
		value = r.one("", "a", "WHERE", "7", "\xff", "a\x00b")
	}
	if err := b.AppendValueFromString(value); err != nil {
		panic(err)
	}
	return b.NewArray()
}

//go:build cgo

package duck_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

var deletedColumns = arrow.NewSchema([]arrow.Field{
	{Name: "k", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, {Name: "s", Type: arrow.BinaryTypes.String, Nullable: true}, {Name: "x", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
}, nil)

// randomRows returns rows with repeated values, nulls, NaN and -0.
func randomRows(r *rand.Rand, n int) arrow.RecordBatch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, deletedColumns)
	defer b.Release()
	floats := []float64{0, math.Copysign(0, -1), math.NaN(), 1.5, math.Inf(1)}
	for range n {
		b.Field(0).(*array.Int64Builder).Append(r.Int64N(1000))
		if r.IntN(10) == 0 {
			b.Field(1).AppendNull()
		} else {
			b.Field(1).(*array.StringBuilder).Append(fmt.Sprint("s", r.IntN(20)))
		}
		b.Field(2).(*array.Float64Builder).Append(floats[r.IntN(len(floats))])
	}
	return b.NewRecordBatch()
}

func withColumns(b arrow.RecordBatch, names ...string) arrow.RecordBatch {
	var fields []arrow.Field
	var columns []arrow.Array
	for i, f := range b.Schema().Fields() {
		if slices.Contains(names, f.Name) {
			fields, columns = append(fields, f), append(columns, b.Column(i))
		}
	}
	return array.NewRecordBatch(arrow.NewSchema(fields, nil), columns, b.NumRows())
}

// fold moves the tail's rows into a file.
func fold(t testing.TB, s *tables.Store) {
	t.Helper()
	must.Get(s.Fold(t.Context(), nil))(t)
}

// wantAsScanned checks that SQL reads the rows of a table that Scan returns. It puts these rows into another table, and
// compares the results of statements on both tables.
func wantAsScanned(t *testing.T, s *tables.Store, name string, o *tables.QueryOptions, version ...tables.At) {
	t.Helper()
	opened := must.Get(s.Bucket("b").Table(name).At(t.Context(), version...))(t)
	r := must.Get(opened.Scan(t.Context(), nil))(t)
	defer r.Release()
	must.Get(s.Bucket("copies").Table("t").Put(t.Context(), r, tables.PutReplace, nil))(t)
	for _, sql := range []string{
		"SELECT * FROM %s ORDER BY ALL", "SELECT count(*) FROM %s", "SELECT count(*), sum(k) FROM %s WHERE k > 300 AND k < 700",
		"SELECT k FROM %s WHERE s = 's7' ORDER BY k", "SELECT s, count(*), max(x) FROM %s GROUP BY s ORDER BY ALL",
		"SELECT k, s FROM %s ORDER BY k DESC, s LIMIT 5", "SELECT count(*) FROM %s AS a JOIN %[1]s AS b ON a.k = b.k WHERE a.s IS NULL",
		"SELECT count(*) FROM %s WHERE isnan(x) OR x = 0",
	} {
		want := must.Get(rows(t, s, fmt.Sprintf(sql, "copies.t"), nil))(t)
		got, err := rows(t, s, fmt.Sprintf(sql, "b."+name), o)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s of %s: got %d rows, error %v; want %d rows as in the copy\ngot  %.500s\nwant %.500s", sql, name, len(got), err, len(want), got, want)
		}
	}
}

// readsFiles reports whether SQL reads a table's files without a copy of all rows.
func readsFiles(t *testing.T, s *tables.Store, name string, o *tables.QueryOptions) bool {
	t.Helper()
	plan := must.Get(rows(t, s, "EXPLAIN SELECT * FROM b."+name, o))(t)
	return strings.Contains(fmt.Sprint(plan), "partd_keep")
}

// TestDeletes reads random tables after other programs deleted rows with position deletes, deletion vectors and
// equality deletes. It reads the current version and earlier ones, with a tail, and after columns changed.
func TestDeletes(t *testing.T) {
	r := rand.New(rand.NewPCG(randomSeed(t), 1)) //nolint:gosec // a test's
	s := newStore(t, nil)
	for round := range 2 {
		name := fmt.Sprint("t", round)
		f := tabletest.NewEngine(t, s, "b", name)
		for i := range 3 {
			put(t, s, "b", name, randomRows(r, 1000*(1-min(i, 1))+1+r.IntN(3000))) // each range below has rows of the first 1,000
			fold(t, s)
		}
		f.MergeOnRead(2 + round%2)
		for step := range 4 {
			switch kind := (step + round) % 4; kind {
			case 0, 1:
				from := r.Int64N(900)
				f.Delete(iceberg.NewAnd(iceberg.GreaterThanEqual(iceberg.Reference("k"), from), iceberg.LessThan(iceberg.Reference("k"), from+50+r.Int64N(150))))
			case 2:
				f.DeleteEqual(withColumns(randomRows(r, 1), "s"), 2)
			case 3:
				f.DeleteEqual(withColumns(randomRows(r, 300), "k", "s"), 1, 2)
			}
			if !readsFiles(t, s, name, nil) {
				t.Errorf("SQL copies all rows of %s, want it to read the files", name)
			}
			wantAsScanned(t, s, name, nil)
			put(t, s, "b", name, randomRows(r, 100)) // these rows stay in the tail
			wantAsScanned(t, s, name, nil)
			if step%2 == 0 {
				fold(t, s)
			}
		}
		changes := []tables.ColumnChange{{Op: "rename", Column: "s", To: "old"}, {Op: "add", Column: "s", Type: "utf8"}}
		must.Do(t, s.Bucket("b").Table(name).Evolve(t.Context(), changes...))
		wantAsScanned(t, s, name, nil)
		versions := must.Get(s.Bucket("b").Table(name).Versions(t.Context()))(t)
		for _, v := range versions[len(versions)-3:] {
			wantAsScanned(t, s, name, &tables.QueryOptions{At: tables.AtVersion(v.Version)}, tables.AtVersion(v.Version))
		}
	}
}

// TestDeletesNeedCopy checks that SQL reads a copy of a table with deleted rows if one of its columns hides
// read_parquet's row numbers, or if the bitmaps of deleted rows need too much memory.
func TestDeletesNeedCopy(t *testing.T) {
	s := newStore(t, nil)
	b := jsonBatch(t, arrow.NewSchema([]arrow.Field{{Name: "k", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, {Name: "File_Row_Number", Type: arrow.PrimitiveTypes.Int64, Nullable: true}}, nil),
		`{"k":1,"File_Row_Number":7}{"k":2,"File_Row_Number":0}{"k":3,"File_Row_Number":1}`)
	put(t, s, "b", "t", b)
	fold(t, s)
	f := tabletest.NewEngine(t, s, "b", "t")
	f.MergeOnRead(2)
	f.Delete(iceberg.EqualTo(iceberg.Reference("k"), int64(2)))
	if readsFiles(t, s, "t", nil) {
		t.Error("SQL reads the files of a table with the column File_Row_Number, want a copy")
	}
	expect(t, s, "SELECT k, file_row_number FROM b.t ORDER BY k", nil, "1|7", "3|1")

	const n = 1_000_000
	put(t, s, "b", "large", numbers(0, n))
	fold(t, s)
	f = tabletest.NewEngine(t, s, "b", "large")
	f.MergeOnRead(2)
	f.Delete(iceberg.GreaterThan(iceberg.Reference("k"), int64(9)))
	for memory, want := range map[int64]bool{n/8*4 - 100: false, n/8*4 + 100: true} {
		o := &tables.QueryOptions{Memory: memory}
		if got := readsFiles(t, s, "large", o); got != want {
			t.Errorf("with a bitmap of %d bytes and %d bytes of memory, SQL reads the files: %v, want %v", n/8, memory, got, want)
		}
	}
	expect(t, s, "SELECT sum(k) FROM b.large", nil, "45")
	expect(t, s, "SELECT sum(k) FROM b.large", &tables.QueryOptions{Memory: n/8*4 - 100}, "45")
}

// addPositions adds a position delete file that deletes row positions[i] of the data file paths[i]. It does not check
// them.
func addPositions(t *testing.T, f tabletest.Engine, paths []string, positions []int64) {
	t.Helper()
	id := func(id string) arrow.Metadata { return arrow.NewMetadata([]string{"PARQUET:field_id"}, []string{id}) }
	columns := arrow.NewSchema([]arrow.Field{{Name: "file_path", Type: arrow.BinaryTypes.String, Metadata: id("2147483546")}, {Name: "pos", Type: arrow.PrimitiveTypes.Int64, Metadata: id("2147483545")}}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, columns)
	defer b.Release()
	b.Field(0).(*array.StringBuilder).AppendValues(paths, nil)
	b.Field(1).(*array.Int64Builder).AppendValues(positions, nil)
	var file bytes.Buffer
	w, err := pqarrow.NewFileWriter(columns, &file, nil, pqarrow.DefaultWriterProps())
	if err == nil {
		err = errors.Join(w.Write(b.NewRecordBatch()), w.Close())
	}
	must.Do(t, err)
	f.Commit(func(tx *table.Transaction) error {
		loaded, err := f.LoadTable(t.Context(), nil)
		if err != nil {
			return err
		}
		path := loaded.Location() + "/data/deletes.parquet"
		if err := os.WriteFile(strings.TrimPrefix(path, "file://"), file.Bytes(), 0o600); err != nil {
			return err
		}
		d, err := iceberg.NewDataFileBuilder(*iceberg.UnpartitionedSpec, iceberg.EntryContentPosDeletes, path, iceberg.ParquetFile, nil, nil, nil, int64(len(paths)), int64(file.Len()))
		if err != nil {
			return err
		}
		return tx.NewRowDelta(nil).AddDeletes(d.Build()).Commit(t.Context())
	})
}

// TestHostilePositions reads a table with a position delete file that contains the same position twice, positions
// outside of the file, and positions in files of another table and of the system. Only the valid position counts.
func TestHostilePositions(t *testing.T) {
	s := newStore(t, nil)
	paths := map[string]string{}
	for _, name := range []string{"t", "other"} {
		put(t, s, "b", name, numbers(0, 10))
		fold(t, s)
		f := tabletest.NewEngine(t, s, "b", name)
		f.MergeOnRead(2)
		tasks := f.Files()
		if len(tasks) != 1 {
			t.Fatalf("got %d files, want 1", len(tasks))
		}
		paths[name] = tasks[0].File.FilePath()
	}
	own := paths["t"]
	addPositions(t, tabletest.NewEngine(t, s, "b", "t"),
		[]string{own, own, own, own, own, own, paths["other"], "/etc/passwd"},
		[]int64{3, 3, 10, 1 << 40, -1, math.MaxInt64, 5, 0})
	expect(t, s, "SELECT count(*), sum(k) FROM b.t", nil, "9|42")
	expect(t, s, "SELECT count(*), sum(k) FROM b.other", nil, "10|45")
	if !readsFiles(t, s, "t", nil) {
		t.Error("SQL copies all rows, want it to read the files")
	}
	// A statement can call the view's function directly. No argument may make it read outside of the bitmaps.
	for arguments, want := range map[string]string{"0, 3": "false", "0, 4": "true", "0, 1099511627776": "true", "0, -1": "true", "1, 3": "true", "18446744073709551615, 3": "true", "NULL, 3": "(null)"} {
		expect(t, s, "SELECT DISTINCT partd_keep_0_1("+arguments+") FROM b.t", nil, want)
	}
}

// timedRows returns rows of randomRows, each with a random full hour of the given days of November 2026. firstDay
// counts from 0.
func timedRows(r *rand.Rand, n, firstDay, days int) arrow.RecordBatch {
	values := randomRows(r, n)
	type_ := &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}
	b := array.NewTimestampBuilder(memory.DefaultAllocator, type_)
	defer b.Release()
	for range n {
		const hour, november = 3600_000_000, 1793491200_000_000
		b.Append(arrow.Timestamp(november + hour*(24*int64(firstDay)+r.Int64N(24*int64(days)))))
	}
	fields := append([]arrow.Field{{Name: "ts", Type: type_}}, values.Schema().Fields()...)
	return array.NewRecordBatch(arrow.NewSchema(fields, nil), append([]arrow.Array{b.NewArray()}, values.Columns()...), int64(n))
}

// TestOrderedDeletes reads tables with an order, some of them partitioned, after other programs deleted rows. Rows in
// the tail duplicate rows in files.
func TestOrderedDeletes(t *testing.T) {
	r := rand.New(rand.NewPCG(randomSeed(t), 2)) //nolint:gosec // a test's
	s := newStore(t, nil)
	for i, rule := range []tables.OnDuplicate{tables.KeepAll, tables.KeepFirst, tables.KeepLast, tables.KeepLast} {
		name := fmt.Sprint("t", i)
		settings := &tables.Settings{Time: "ts", Keys: []string{"k"}, OnDuplicate: rule}
		if i != 2 {
			settings.Partition = tables.PartitionDay
		}
		put := func(b arrow.RecordBatch) {
			t.Helper()
			putWith(t, s, "b", name, &tables.PutOptions{Settings: settings}, b)
		}
		for day := range 3 {
			put(timedRows(r, 2000, 2*day, 2))
			fold(t, s)
		}
		f := tabletest.NewEngine(t, s, "b", name)
		f.MergeOnRead(2 + i%2)
		for range 2 {
			from := r.Int64N(800)
			f.Delete(iceberg.NewAnd(iceberg.GreaterThanEqual(iceberg.Reference("k"), from), iceberg.LessThan(iceberg.Reference("k"), from+200)))
			wantAsScanned(t, s, name, nil)
			put(timedRows(r, 500, 1, 2)) // these rows stay in the tail
			wantAsScanned(t, s, name, nil)
			if !readsFiles(t, s, name, nil) {
				t.Errorf("SQL copies all rows of %s with rule %s, want it to read the files", name, rule)
			}
			fold(t, s)
			wantAsScanned(t, s, name, nil)
		}
	}
}

// TestDeletesBefore compares states of a table with different deleted rows in one statement, in reused databases, and
// in separate processes.
func TestDeletesBefore(t *testing.T) {
	for _, processes := range []bool{false, true} {
		s := newStore(t, &duck.Options{Processes: processes})
		put(t, s, "b", "t", numbers(0, 1000))
		fold(t, s)
		f := tabletest.NewEngine(t, s, "b", "t")
		f.MergeOnRead(3)
		var states []tables.At // state i lacks rows 0 to i
		for i := range int64(3) {
			f.Delete(iceberg.EqualTo(iceberg.Reference("k"), i))
			versions := must.Get(s.Bucket("b").Table("t").Versions(t.Context()))(t)
			states = append(states, tables.AtVersion(versions[len(versions)-1].Version))
		}
		snapshot(t, s, "b", "snapshot")
		f.Delete(iceberg.EqualTo(iceberg.Reference("k"), int64(3)))
		for range 2 {
			for i, state := range states {
				expect(t, s, "SELECT min(k), count(*) FROM b.t", &tables.QueryOptions{At: state}, fmt.Sprintf("%d|%d", i+1, 999-i))
				expect(t, s, `SELECT k FROM before.b.t EXCEPT ALL SELECT k FROM b.t ORDER BY k`, &tables.QueryOptions{Before: state},
					[]string{"1", "2", "3"}[i:]...)
			}
			expect(t, s, "SELECT min(k), count(*) FROM b.t", nil, "4|996")
			expect(t, s, "SELECT min(k), count(*) FROM b.t", &tables.QueryOptions{At: tables.AtSnapshot("snapshot")}, "3|997")
		}
	}
}

// TestDeletesInRowGroups deletes every third row of a file with several row groups. It checks that a condition that
// skips row groups does not change the row numbers.
func TestDeletesInRowGroups(t *testing.T) {
	const n = 400_000
	s := newStore(t, nil)
	put(t, s, "b", "t", numbers(0, n))
	fold(t, s)
	f := tabletest.NewEngine(t, s, "b", "t")
	f.MergeOnRead(2)
	tasks := f.Files()
	if len(tasks) != 1 {
		t.Fatalf("got %d files, want 1", len(tasks))
	}
	var paths []string
	var positions []int64
	for row := int64(0); row < n; row += 3 {
		paths, positions = append(paths, tasks[0].File.FilePath()), append(positions, row)
	}
	addPositions(t, f, paths, positions)
	for from := int64(0); from < n; from += 57_000 {
		want := []string{}
		for k := from; len(want) < 4; k++ {
			if k%3 != 0 {
				want = append(want, fmt.Sprint(k))
			}
		}
		expect(t, s, fmt.Sprintf("SELECT k FROM b.t WHERE k >= %d ORDER BY k LIMIT 4", from), nil, want...)
		expect(t, s, fmt.Sprintf("SELECT count(*), count(*) FILTER (k %% 3 = 0) FROM b.t WHERE k >= %d AND k < %d", from, from+300), nil, "200|0")
	}
	expect(t, s, "SELECT count(*), count(*) FILTER (k % 3 = 0) FROM b.t", nil, fmt.Sprintf("%d|0", n-(n+2)/3))
}

// TestDeletesOfTables reads several tables in one statement. All bitmaps of deleted rows together can take at most a
// quarter of the statement's memory, so the rows of the last tables are copied.
func TestDeletesOfTables(t *testing.T) {
	const n, count = 1_000_000, 4
	s := newStore(t, nil)
	var parts []string
	for i := range count {
		name := fmt.Sprint("t", i)
		put(t, s, "b", name, numbers(0, n))
		fold(t, s)
		f := tabletest.NewEngine(t, s, "b", name)
		f.MergeOnRead(2)
		f.Delete(iceberg.GreaterThan(iceberg.Reference("k"), int64(9)))
		parts = append(parts, "SELECT k FROM b."+name)
	}
	// The bitmap of one table takes a quarter of the memory.
	o := &tables.QueryOptions{Memory: n/8*4 + 1000}
	expect(t, s, "SELECT sum(k), count(*) FROM ("+strings.Join(parts, " UNION ALL ")+")", o, fmt.Sprint(45*count, "|", 10*count))
}

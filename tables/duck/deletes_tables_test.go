//go:build cgo

package duck_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

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
			versions, err := s.Bucket("b").Table("t").Versions(t.Context())
			if err != nil {
				t.Fatal(err)
			}
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

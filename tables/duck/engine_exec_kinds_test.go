//go:build cgo

package duck_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"

	"github.com/apache/iceberg-go"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/objstore"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
	_ "github.com/go-partd/partd/tables/postgres" // registers catalogs at postgres://…
)

// execKind is a kind of table on which TestRandomExec runs statements.
type execKind struct {
	open      func(t *testing.T) *tables.Store // nil means newStore
	configure func(t *testing.T, s *tables.Store, table *tables.Table)

	// between, if not nil, runs between two statements. It can change the table, and then makes the same change in
	// plain DuckDB. It returns a description of the change.
	between func(t *testing.T, s *tables.Store, p *plainDuckDB, r *randomStatements) string
}

func withSettings(settings tables.Settings) func(*testing.T, *tables.Store, *tables.Table) {
	return func(t *testing.T, _ *tables.Store, table *tables.Table) {
		t.Helper()
		must.Do(t, table.SetSettings(t.Context(), settings))
	}
}

func execKinds() map[string]execKind {
	kinds := map[string]execKind{
		"plain":        {},
		"ordered":      {configure: withSettings(tables.Settings{Time: "ts"})},
		"partitioned":  {configure: withSettings(tables.Settings{Time: "ts", Keys: []string{"id"}, Partition: tables.PartitionDay})},
		"deduplicated": {configure: withSettings(tables.Settings{Time: "ts", Keys: []string{"id"}, OnDuplicate: tables.KeepLast})},
		"ruled": {configure: func(t *testing.T, _ *tables.Store, table *tables.Table) {
			must.Do(t, table.EditRules(t.Context(), tables.RuleEdit{Add: []tables.Rule{{Name: "unique", Kind: "unique", Columns: []string{"id"}, InTable: true}}}))
		}},
		"remote": {open: remoteExecStore},
		"with deletion vectors": {
			configure: func(t *testing.T, s *tables.Store, _ *tables.Table) {
				tabletest.NewEngine(t, s, "b", "t").MergeOnRead(3)
			},
			between: deleteAsIceberg,
		},
		"ordered with delete files": {
			configure: func(t *testing.T, s *tables.Store, table *tables.Table) {
				withSettings(tables.Settings{Time: "ts"})(t, s, table)
				tabletest.NewEngine(t, s, "b", "t").MergeOnRead(2)
			},
			between: deleteAsIceberg,
		},
	}
	if runtime.GOOS == "linux" {
		kinds["in processes"] = execKind{open: func(t *testing.T) *tables.Store { return newStore(t, &duck.Options{Processes: true}) }}
	}
	return kinds
}

// foldOrCompact folds or compacts the tables at random. Therefore, most statements find several files, and often rows
// in the tail.
func foldOrCompact(t *testing.T, s *tables.Store, r *randomStatements) {
	t.Helper()
	switch r.IntN(6) {
	case 0, 1:
		fold(t, s)
	case 2:
		must.Get(s.Compact(t.Context(), nil))(t)
	}
}

// deleteAsIceberg sometimes deletes rows as another program would: it leaves them in their files, and marks them as
// deleted.
func deleteAsIceberg(t *testing.T, s *tables.Store, p *plainDuckDB, r *randomStatements) string {
	t.Helper()
	if r.IntN(4) > 0 {
		return "nothing"
	}
	fold(t, s)
	first := r.Int32N(int32(r.next + 1))
	id := iceberg.Reference("id") // not k: iceberg-go misses rows of files with nulls in the column
	tabletest.NewEngine(t, s, "b", "t").Delete(iceberg.NewAnd(iceberg.GreaterThanEqual(id, first), iceberg.LessThan(id, first+4)))
	where := fmt.Sprintf("id BETWEEN %d AND %d", first, first+3)
	must.Get(p.exec("DELETE FROM t WHERE " + where))(t)
	return "another program's deletion of " + where
}

// remoteExecStore returns a store in a bucket in memory, with a catalog in PostgreSQL. Its cache is too small for any
// file.
func remoteExecStore(t *testing.T) *tables.Store {
	catalog := procs.StartPostgres(t)
	bucket := new(objstore.Memory)
	return openStore(t, "s3://memory/house", nil, tables.Options{
		FoldAge: -1, Catalog: catalog.URL(), TailDir: t.TempDir(), CacheDir: t.TempDir(), CacheSize: 1,
		OpenBucket: func(context.Context, string) (objstore.Bucket, error) { return bucket, nil },
	})
}

// TestExecIDsOnPostgres repeats statements with IDs on a store in a bucket with a catalog in PostgreSQL. Some IDs
// contain characters that have a meaning in SQL patterns or paths.
func TestExecIDsOnPostgres(t *testing.T) {
	s := remoteExecStore(t)
	for i, id := range []string{"a", "a%", "a_", "ä'\\", "a#1", "a:1", "a/2"} {
		for j, sql := range []string{
			fmt.Sprintf("CREATE TABLE t%d AS SELECT i AS k FROM range(10) r(i)", i), fmt.Sprintf("INSERT INTO t%d SELECT k + 100 FROM t%[1]d WHERE k < 7", i),
			fmt.Sprintf("UPDATE t%d SET k = k + 1000 WHERE k < 3", i), fmt.Sprintf("DELETE FROM t%d WHERE k >= 1000", i), fmt.Sprintf("TRUNCATE t%d", i),
		} {
			o := &tables.ExecOptions{Bucket: "b", ID: fmt.Sprint(id, j)}
			first, err := s.Exec(t.Context(), sql, o)
			if want := []int64{10, 7, 3, 3, 14}[j]; err != nil || first.Rows != want {
				t.Fatalf("%s = %d rows, error %v; want %d", sql, first.Rows, err, want)
			}
			again, err := s.Exec(t.Context(), sql, o)
			if err != nil || again != first {
				t.Errorf("%s again with the ID %q = %+v, error %v; want %+v", sql, o.ID, again, err, first)
			}
		}
	}
}

package tables_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/go-partd/partd/encode"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/objstore"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
	"github.com/go-partd/partd/tables/pull"
	"github.com/go-partd/partd/tables/stage"
)

// writeVersion is set by packaging/versions only.
var writeVersion = flag.String("write-version", "", "write tables into this directory, instead of reading those in testdata/versions")

type trade struct {
	Time  time.Time
	Sym   string
	Price float64
}

// trades returns a trade on day n of 2026.
func trades(n int) []trade {
	return []trade{{time.Date(2026, 1, n, 0, 0, 0, 0, time.UTC), "BRK.B", float64(n)}}
}

func putTrades(t *testing.T, table *tables.Table, n int) {
	t.Helper()
	rows := must.Get(tables.Records(trades(n)))(t)
	defer rows.Release()
	must.Get(table.Put(t.Context(), rows, tables.PutAppend, nil))(t)
}

func readTrades(t *testing.T, table *tables.Table, want ...int) {
	t.Helper()
	var got []int
	for row, err := range tables.Rows[trade](t.Context(), table, nil) {
		must.Do(t, err)
		if row.Sym != "BRK.B" || row.Time.Day() != int(row.Price) {
			t.Errorf("%s has the row %v", table.Name(), row)
		}
		got = append(got, int(row.Price))
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("%s has trades on the days %v, want %v", table.Name(), got, want)
	}
}

func openTables(t *testing.T, dir string) *tables.Store {
	t.Helper()
	return must.Get(tables.Open(t.Context(), dir, &tables.Options{FoldAge: -1}))(t)
}

// startNode returns a node in dir with a new registry, so that the node must register its tables again.
func startNode(t *testing.T, dir string) *pull.Node {
	t.Helper()
	registry := must.Get(server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true}))(t)
	registry.Start()
	t.Cleanup(func() { registry.Shutdown(); registry.WaitForShutdown() })
	if !registry.ReadyForConnections(time.Minute) {
		t.Fatal("the registry did not start")
	}
	return must.Get(pull.Open(t.Context(), dir, &pull.Options{Registry: registry.ClientURL(), Listen: "127.0.0.1:0"}))(t)
}

func saveTrades(t *testing.T, n *pull.Node, day int) {
	t.Helper()
	err := pull.ErrConflict
	for errors.Is(err, pull.ErrConflict) { // while the node registers an older version of the table again
		rows := must.Get(tables.Records(trades(day)))(t)
		_, err = n.Save(t.Context(), "trades", rows)
		rows.Release()
	}
	must.Do(t, err)
}

func loadTrades(t *testing.T, n *pull.Node, want int64) {
	t.Helper()
	rows := must.Get(n.Load(t.Context(), "trades", time.Time{}, time.Time{}))(t)
	if got := must.Get(tabletest.CountRows(rows))(t); got != want {
		t.Errorf("the node has %d rows, want %d", got, want)
	}
}

// writeIceberg writes a table of trades on the days 1 to 3, which another program partitioned by months. That program
// has deleted day 2, with position deletes in Iceberg's format version 2, and with deletion vectors in version 3.
func writeIceberg(t *testing.T, s *tables.Store, version int) {
	t.Helper()
	columns := iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "Time", Type: iceberg.PrimitiveTypes.TimestampTz, Required: true},
		iceberg.NestedField{ID: 2, Name: "Sym", Type: iceberg.PrimitiveTypes.String, Required: true}, iceberg.NestedField{ID: 3, Name: "Price", Type: iceberg.PrimitiveTypes.Float64, Required: true})
	months := iceberg.NewPartitionSpec(iceberg.PartitionField{SourceIDs: []int{1}, FieldID: 1000, Name: "month", Transform: iceberg.MonthTransform{}})
	name := fmt.Sprint("v", version)
	createPartitioned(t, s, name, columns, &months)
	for day := range 3 {
		putTrades(t, s.Bucket("b").Table(name), day+1)
	}
	tabletest.Fold(t, s)
	engine := tabletest.NewEngine(t, s, "b", name)
	engine.MergeOnRead(version)
	engine.Delete(iceberg.EqualTo(iceberg.Reference("Price"), 2.0))
}

func openBackups(t *testing.T, dir string) objstore.Bucket {
	t.Helper()
	return must.Get(objstore.OpenDirectory(dir))(t)
}

// runStage returns the stored words, or those that it stores.
func runStage(t *testing.T, dir string, words ...string) []string {
	t.Helper()
	results := must.Get(stage.Open(dir, nil))(t)
	run := func(context.Context, *stage.Inputs) ([]string, error) { return words, nil }
	got, err := stage.Define("words", run, stage.Spec[[]string]{Version: "1", Cache: true, Codec: encode.JSON[[]string](), CodecName: "json"}).Run(t.Context(), results)
	must.Do(t, errors.Join(err, results.Close()))
	return got
}

// TestReleasedVersions opens, reads and changes what each released version wrote: tables with rows in files and in the
// tail, tables that another program partitioned and deleted rows from, a backup of them, the results of stages, and a
// node of package pull with its backup. With --write-version, it writes them instead.
func TestReleasedVersions(t *testing.T) {
	if *writeVersion != "" {
		writeTables(t, filepath.Join(*writeVersion, "tables"))
		return
	}
	versions, err := filepath.Glob("../../testdata/versions/v*")
	if err != nil || len(versions) == 0 {
		t.Fatalf("testdata/versions has the versions %q, error %v, want at least one", versions, err)
	}
	for _, version := range versions {
		t.Run(filepath.Base(version), func(t *testing.T) {
			dir := t.TempDir()
			must.Do(t, os.CopyFS(dir, os.DirFS(filepath.Join(version, "tables"))))
			for n := 3; n <= 4; n++ { // the second time, after today's program has changed them
				s := openTables(t, filepath.Join(dir, "store"))
				b := s.Bucket("b")
				putTrades(t, b.Table("trades"), n)
				readTrades(t, b.Table("trades"), []int{1, 2, 3, 4}[:n]...)
				before := must.Get(b.Table("trades").At(t.Context(), tables.AtSnapshot("before")))(t)
				readTrades(t, before, 1)
				info, err := b.Table("trades").Info(t.Context())
				if err != nil || info.Metadata["exchange"] != "nyse" {
					t.Errorf("the table has the metadata %v, error %v", info.Metadata, err)
				}
				must.Get(s.Fold(t.Context(), nil))(t)
				if result, err := s.Verify(t.Context(), nil); err != nil {
					t.Errorf("Verify returned %+v, %v", result, err)
				}
				deletes := openTables(t, filepath.Join(dir, "iceberg"))
				for _, name := range []string{"v2", "v3"} {
					putTrades(t, deletes.Bucket("b").Table(name), n+1)
					readTrades(t, deletes.Bucket("b").Table(name), []int{1, 3, 4, 5}[:n]...)
				}
				_, foldErr := deletes.Fold(t.Context(), nil)
				_, verifyErr := deletes.Verify(t.Context(), nil)
				must.Do(t, errors.Join(foldErr, verifyErr, deletes.Close(), s.Close()))

				node := startNode(t, filepath.Join(dir, "pull"))
				saveTrades(t, node, n-1)
				loadTrades(t, node, int64(n-1))
				must.Do(t, node.Close())
			}
			backup, restored := openTables(t, filepath.Join(dir, "backup")), openTables(t, t.TempDir())
			must.Get(restored.RestoreFrom(t.Context(), backup, "monday"))(t)
			readTrades(t, restored.Bucket("b").Table("trades"), 1, 2)
			node := startNode(t, t.TempDir())
			must.Get(node.Restore(t.Context(), openBackups(t, filepath.Join(dir, "pull-backup")), "monday"))(t)
			loadTrades(t, node, 1)
			must.Do(t, errors.Join(backup.Close(), restored.Close(), node.Close()))
			if got := runStage(t, filepath.Join(dir, "stage"), "computed again"); !slices.Equal(got, []string{"kept"}) {
				t.Errorf("the stage returned %q, want the kept result", got)
			}
		})
	}
}

func writeTables(t *testing.T, dir string) {
	t.Helper()
	s, backup := openTables(t, filepath.Join(dir, "store")), openTables(t, filepath.Join(dir, "backup"))
	b := s.Bucket("b")
	putTrades(t, b.Table("trades"), 1)
	_, foldErr := s.Fold(t.Context(), nil)
	_, snapshotErr := b.Snapshot(t.Context(), "before")
	metadataErr := b.Table("trades").ChangeMetadata(t.Context(), tables.MetadataChange{Set: tables.Metadata{"exchange": "nyse"}, Replace: true})
	putTrades(t, b.Table("trades"), 2) // stays in the tail
	_, backupErr := s.Backup(t.Context(), backup, "monday")
	deletes := openTables(t, filepath.Join(dir, "iceberg"))
	writeIceberg(t, deletes, 2)
	writeIceberg(t, deletes, 3)
	node := startNode(t, filepath.Join(dir, "pull"))
	saveTrades(t, node, 1)
	_, nodeErr := node.Backup(t.Context(), openBackups(t, filepath.Join(dir, "pull-backup")), "monday", false)
	runStage(t, filepath.Join(dir, "stage"), "kept")
	must.Do(t, errors.Join(foldErr, snapshotErr, metadataErr, backupErr, nodeErr, s.Close(), deletes.Close(), backup.Close(), node.Close()))
}

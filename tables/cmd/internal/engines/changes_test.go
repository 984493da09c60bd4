package engines

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
)

var changedColumns = []column{{"k", "long"}, {"v", "double"}}

// changedRows returns a reader of count rows with consecutive keys, starting with first, and the value v.
func changedRows(t testing.TB, first, count int, v float64) array.RecordReader {
	t.Helper()
	schema := arrow.NewSchema([]arrow.Field{{Name: "k", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, {Name: "v", Type: arrow.PrimitiveTypes.Float64, Nullable: true}}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	for k := first; k < first+count; k++ {
		b.Field(0).(*array.Int64Builder).Append(int64(k))
		b.Field(1).(*array.Float64Builder).Append(v)
	}
	return must.Get(array.NewRecordReader(schema, []arrow.RecordBatch{b.NewRecordBatch()}))(t)
}

// netChanges returns the changes of a table since a version as sorted lines of the form "kind k v".
func (o *flightClient) netChanges(table string, since tables.Version) (lines []string) {
	o.t.Helper()
	bucket, name := splitName(table)
	rows := must.Get(readRecords(o.c.Changes(o.t.Context(), bucket, name, nil, tables.AtVersion(since), nil)))(o.t)
	for _, r := range rows {
		lines = append(lines, fmt.Sprint(r["_change"], " ", r["k"], " ", r["v"]))
	}
	slices.Sort(lines)
	return lines
}

// changedTable makes random changes to a table through Flight, and returns equivalent statements for another program.
type changedTable struct {
	flight   *flightClient
	table    string
	rand     *rand.Rand
	versions []tables.Version
}

// step makes a random change, and returns equivalent statements for a table named t.
func (c *changedTable) step(t *testing.T) (statements []string) {
	t.Helper()
	ctx := t.Context()
	bucket, name := splitName(c.table)
	first, count, v := c.rand.IntN(50), 1+c.rand.IntN(10), c.rand.IntN(3)
	inserts := fmt.Sprintf("INSERT INTO t SELECT CAST(range AS BIGINT), CAST(%d AS DOUBLE) FROM range(%d, %d)", v, first, first+count)
	deletes := fmt.Sprintf("DELETE FROM t WHERE k BETWEEN %d AND %d", first, first+count-1)
	var err error
	switch op := c.rand.IntN(4); {
	case op == 0 || len(c.versions) == 0:
		_, err = c.flight.c.Put(ctx, bucket, name, changedRows(t, first, count, float64(v)), tables.PutAppend, nil)
		statements = []string{inserts}
	case op == 1:
		_, err = c.flight.c.Upsert(ctx, bucket, name, changedRows(t, first, count, float64(v)), &tables.UpsertOptions{Keys: []string{"k"}})
		statements = []string{deletes, inserts}
	case op == 2:
		_, err = c.flight.c.DeleteRows(ctx, bucket, name, filter.Between("k", int64(first), int64(first+count-1)))
		statements = []string{deletes}
	default:
		_, err = c.flight.c.Compact(ctx, nil)
	}
	if err == nil {
		_, err = c.flight.c.Fold(ctx, nil)
	}
	must.Do(t, err)
	info, _, err := c.flight.c.Describe(ctx, bucket, name, nil)
	must.Do(t, err)
	c.versions = append(c.versions, info.Version)
	return statements
}

// TestChangesAgainstDuckLake compares Changes with the net result of DuckLake's table_changes.
func TestChangesAgainstDuckLake(t *testing.T) {
	t.Parallel()
	python := procs.Python(t, "ducklake")
	c := &changedTable{flight: serve(t).flightClient(t), table: "changes.lake", rand: rand.New(rand.NewPCG(1, 0))}
	statements := []string{"CREATE TABLE t (k BIGINT, v DOUBLE)"}
	for range 20 {
		next := c.step(t)
		statements = append(statements, strings.Join(append([]string{"BEGIN"}, append(next, "COMMIT")...), "; "))
	}
	cmd := exec.Command(python, filepath.Join("testdata", "ducklake.py"), t.TempDir())
	cmd.Stdin = strings.NewReader(strings.Join(statements, "\n"))
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("DuckLake: %v\n%s", err, stderrOf(err))
	}
	var want [][][]any
	must.Do(t, json.Unmarshal(out, &want))
	for i, version := range append([]tables.Version{0}, c.versions...) {
		var lines []string
		for _, row := range want[i] {
			lines = append(lines, fmt.Sprint(row[0], " ", row[1], " ", row[2]))
		}
		slices.Sort(lines)
		if d := firstDifference(c.flight.netChanges(c.table, version), lines); d != "" {
			t.Errorf("changes since version %d: %s", version, d)
		}
	}
}

func stderrOf(err error) string {
	if e, ok := err.(*exec.ExitError); ok { //nolint:errorlint // Output returns it unwrapped
		return string(e.Stderr)
	}
	return ""
}

// testChanges compares Changes with the net changes of Spark's create_changelog_view, which supports only copy-on-write
// tables.
func (s *server) testChanges(t *testing.T, spark *engine) {
	x := &sparkTable{server: s, t: t, name: "changes.spark", flight: s.flightClient(t), engines: map[string]*engine{"spark": spark}, columns: changedColumns}
	c := &changedTable{flight: x.flight, table: x.name, rand: rand.New(rand.NewPCG(2, 0))}
	for range 8 {
		c.step(t)
	}
	x.spark("UPDATE $t SET v = v + 1 WHERE k % 3 = 0")
	c.step(t)
	snapshots := x.spark("SELECT snapshot_id FROM $t.snapshots ORDER BY committed_at, snapshot_id")
	versions, err := x.flight.c.Versions(t.Context(), "changes", "spark")
	if err != nil || len(versions) != len(snapshots) {
		t.Fatalf("got %d versions and %d snapshots, error %v; want as many", len(versions), len(snapshots), err)
	}
	for i := range versions[:len(versions)-1] {
		x.spark(fmt.Sprintf("CALL partd.system.create_changelog_view(table => 'changes.spark', changelog_view => 'changed%d', options => map('start-snapshot-id', '%v', 'end-snapshot-id', '%v'), net_changes => true)",
			i, snapshots[i]["snapshot_id"], snapshots[len(snapshots)-1]["snapshot_id"]))
		var want []string
		for _, r := range x.spark(fmt.Sprintf("SELECT lower(_change_type) AS kind, k, v FROM changed%d", i)) {
			want = append(want, fmt.Sprint(r["kind"], " ", r["k"], " ", must.Get(r["v"].(json.Number).Float64())(t)))
		}
		slices.Sort(want)
		if d := firstDifference(x.flight.netChanges(x.name, versions[i].Version), want); d != "" {
			t.Errorf("changes since version %d: %s", versions[i].Version, d)
		}
	}
}

// TestChangesKilledConsumer kills a consumer of changes at random times while the table changes. In the end, the
// consumer's copy must equal the table. PARTD_KILLS is the number of kills.
func TestChangesKilledConsumer(t *testing.T) {
	t.Parallel()
	file, env := python(t)
	s := serve(t)
	copyFile := filepath.Join(t.TempDir(), "copy.duckdb")
	c := &changedTable{flight: s.flightClient(t), table: "changes.source", rand: rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))}
	consumer := func(rounds int) *exec.Cmd {
		cmd := exec.Command(file, filepath.Join("testdata", "changes_consumer.py"), s.flight, copyFile, fmt.Sprint(rounds))
		cmd.Env = env
		return cmd
	}
	c.step(t)
	for kill := range intFromEnv("PARTD_KILLS", 3) {
		cmd := consumer(1 << 30)
		out := must.Get(cmd.StdoutPipe())(t)
		must.Do(t, cmd.Start())
		var applied atomic.Bool
		go func() {
			for lines := bufio.NewScanner(out); lines.Scan(); {
				applied.Store(true)
			}
		}()
		for deadline := time.Now().Add(2 * time.Minute); !applied.Load(); c.step(t) {
			if time.Now().After(deadline) {
				t.Fatal("the consumer applied no changes within two minutes")
			}
		}
		killAt := time.Now().Add(time.Duration(c.rand.IntN(1000)) * time.Millisecond)
		for time.Now().Before(killAt) {
			c.step(t)
		}
		if kill%3 == 2 { // the consumer's version expires
			must.Get(c.flight.c.Expire(t.Context(), &tables.MaintainOptions{Grace: -1}))(t)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	out, err := consumer(1).Output()
	if err != nil {
		t.Fatalf("the consumer failed: %v\n%s", err, stderrOf(err))
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	var got [][]any
	must.Do(t, json.Unmarshal([]byte(lines[len(lines)-1]), &got))
	rows := must.Get(c.flight.rows(c.table))(t)
	var copied []record
	for _, r := range got {
		copied = append(copied, record{"k": r[0], "v": r[1]})
	}
	if d := firstDifference(rowLines(copied), rowLines(rows)); d != "" {
		t.Errorf("the copy differs from the table: %s", d)
	}
}

package engines

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go/catalog/rest"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
)

var longSchema = arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true}}, nil)

// appendRow tries once to commit a row with iceberg-go.
func appendRow(ctx context.Context, c *rest.Catalog, name table.Identifier, value int64) error {
	t, err := c.LoadTable(ctx, name)
	if err != nil {
		return err
	}
	b := array.NewRecordBuilder(memory.DefaultAllocator, longSchema)
	defer b.Release()
	b.Field(0).(*array.Int64Builder).Append(value)
	rec := b.NewRecordBatch()
	defer rec.Release()
	r, err := array.NewRecordReader(longSchema, []arrow.RecordBatch{rec})
	if err != nil {
		return err
	}
	defer r.Release()
	_, err = t.Append(ctx, r, nil)
	return err
}

// valueCounts reads a table through Flight, and returns the number of rows for each value of n.
func (o *flightClient) valueCounts(table string) map[int64]int {
	o.t.Helper()
	rows := must.Get(o.rows(table))(o.t)
	all := map[int64]int{}
	for _, r := range rows {
		n, _ := r["n"].(int64)
		all[n]++
	}
	return all
}

func (o *flightClient) putRow(table string, value int64) error {
	return o.put(table, []column{{"n", "long"}}, []record{{"n": value}}, tables.PutAppend)
}

// TestConflicts commits to one table from many clients, in three ways and during folds, with constant
// conflicts. Afterwards, the table must contain each row exactly once.
func TestConflicts(t *testing.T) {
	t.Parallel()
	s := serve(t)
	o := s.flightClient(t)
	const name = "a.t"
	must.Do(t, o.putRow(name, 0))
	total := intFromEnv("PARTD_CONFLICTS", 80)
	var next, conflicts atomic.Int64
	nextValue := func() (int64, bool) {
		n := next.Add(1)
		return n, n <= int64(total)
	}
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			c := s.openCatalog(t)
			for n, more := nextValue(); more; n, more = nextValue() {
				for {
					err := appendRow(t.Context(), c, table.Identifier{"a", "t"}, n)
					if errors.Is(err, rest.ErrCommitFailed) {
						conflicts.Add(1)
						continue
					}
					if err != nil {
						t.Errorf("append row %d with iceberg-go: %v", n, err)
					}
					break
				}
			}
		})
	}
	wg.Go(func() {
		for n, more := nextValue(); more; n, more = nextValue() {
			must.Fail(t, o.putRow(name, n), nil, "putting row %d", n)
			_, err := o.c.Fold(t.Context(), nil)
			must.Check(t, err)
		}
	})
	e := s.engine(t, "pyiceberg")
	wg.Go(func() {
		for n, more := nextValue(); more; n, more = nextValue() {
			rows, err := e.tryRun("insert", "table", name, "column", "n", "value", n)
			if err != nil {
				t.Error(err)
				continue
			}
			tries, _ := rows[0]["tries"].(interface{ Int64() (int64, error) }).Int64()
			conflicts.Add(tries - 1)
		}
	})
	wg.Wait()
	if conflicts.Load() == 0 {
		t.Error("no commits conflicted")
	}
	t.Logf("%d commits, %d conflicts", total, conflicts.Load())
	got := o.valueCounts(name)
	for n := range int64(total + 1) {
		if got[n] != 1 {
			t.Errorf("row %d occurs %d times, want once", n, got[n])
		}
	}
	if len(got) != total+1 {
		t.Errorf("the table has %d different values, want %d", len(got), total+1)
	}
	if rows := e.mustRun("rows", "table", name); len(rows) != total+1 {
		t.Errorf("pyiceberg reads %d rows, want %d", len(rows), total+1)
	}
}

// TestKilledServer kills a server while clients commit. The server must neither lose nor duplicate an acknowledged
// row, whether the row came from a foreign commit or an unfinished fold.
func TestKilledServer(t *testing.T) {
	t.Parallel()
	s := serve(t)
	address := must.Get(url.Parse(s.url))(t)
	kills := intFromEnv("PARTD_KILLS", 3)
	const name = "a.t"
	must.Do(t, s.flightClient(t).putRow(name, 0))
	acknowledged := map[int64]bool{0: true}
	var next atomic.Int64
	var unknown []int64
	for range kills {
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		var mu sync.Mutex
		work := func(do func(n int64) error) {
			wg.Go(func() {
				for ctx.Err() == nil {
					n := next.Add(1)
					err := do(n)
					mu.Lock()
					if err == nil {
						acknowledged[n] = true
					} else {
						unknown = append(unknown, n)
					}
					mu.Unlock()
				}
			})
		}
		for range 3 {
			c := s.openCatalog(t)
			work(func(n int64) error { return appendRow(ctx, c, table.Identifier{"a", "t"}, n) })
		}
		o := s.flightClient(t)
		work(func(n int64) error { return o.putRow(name, n) })
		time.Sleep(time.Duration(100+rand.IntN(400)) * time.Millisecond)
		s.kill()
		stop()
		wg.Wait()
		s.start(address.Host, "--listen", "grpc://127.0.0.1:0")
		got := s.flightClient(t).valueCounts(name)
		for n := range acknowledged {
			if got[n] != 1 {
				t.Fatalf("acknowledged row %d occurs %d times, want once", n, got[n])
			}
		}
		for n, times := range got {
			if times != 1 || !acknowledged[n] && !slices.Contains(unknown, n) {
				t.Fatalf("row %d occurs %d times, want once, and only if it was committed", n, times)
			}
		}
		for _, n := range unknown { // a row that is visible now must not disappear later
			if got[n] == 1 {
				acknowledged[n] = true
			}
		}
		unknown = nil
	}
	loaded := must.Get(s.openCatalog(t).LoadTable(t.Context(), table.Identifier{"a", "t"}))(t)
	var foreign int
	for _, snapshot := range loaded.Metadata().Snapshots() {
		if snapshot.Summary != nil {
			foreign++
		}
	}
	t.Logf("%d kills, %d rows, %d snapshots", kills, len(acknowledged), foreign)
	if len(acknowledged) < 2*kills {
		t.Errorf("after %d kills, only %d rows were acknowledged, want at least two per kill", kills, len(acknowledged))
	}
	if a := s.send("GET", tablePath("a", "t")+"?snapshots=refs", nil); a.code != 200 {
		t.Errorf("load with snapshots=refs: got %d %s, want status 200", a.code, a.raw)
	}
	_, rows, err := loaded.Scan().ToArrowRecords(t.Context())
	must.Do(t, err)
	var sum int
	for rec, err := range rows {
		must.Do(t, err)
		sum += int(rec.NumRows())
	}
	if want := len(s.flightClient(t).valueCounts(name)); sum != want {
		t.Errorf("iceberg-go reads %d rows, want %d", sum, want)
	}
}

// dropAnswers returns a server whose requests go through a proxy. The proxy drops the first answer to each request that
// changes the catalog, after the server has applied it. dropped returns the number of such answers.
func (s *server) dropAnswers(t *testing.T) (through *server, dropped func() int) {
	t.Helper()
	var mu sync.Mutex
	seen := map[[sha256.Size]byte]bool{}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		again, err := http.NewRequestWithContext(r.Context(), r.Method, s.url+r.URL.RequestURI(), bytes.NewReader(body))
		if err != nil {
			panic(err)
		}
		again.Header = r.Header
		a, err := s.client.Do(again)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		defer a.Body.Close()
		if r.Method != "GET" && r.Method != "HEAD" && !strings.HasSuffix(r.URL.Path, "/metrics") {
			id := sha256.Sum256(fmt.Appendf(nil, "%s %s %s %s", r.Header.Get("Idempotency-Key"), r.Method, r.URL, body))
			mu.Lock()
			first := !seen[id]
			seen[id] = true
			mu.Unlock()
			if first {
				panic(http.ErrAbortHandler)
			}
		}
		for name, values := range a.Header {
			w.Header()[name] = values
		}
		w.WriteHeader(a.StatusCode)
		_, _ = io.Copy(w, a.Body)
	}))
	t.Cleanup(proxy.Close)
	p := *s
	p.url = proxy.URL
	return &p, func() int { mu.Lock(); defer mu.Unlock(); return len(seen) }
}

// TestSparkLostAnswers checks that no statement of Spark fails or takes effect twice if the first answer to each of its
// changes is lost. PARTD_ANSWERS sets the number of inserts.
func TestSparkLostAnswers(t *testing.T) {
	t.Parallel()
	s := serve(t)
	through, dropped := s.dropAnswers(t)
	spark := through.engine(t, "spark")
	run := func(format string, arguments ...any) {
		t.Helper()
		_, err := spark.tryRun("run", "statement", fmt.Sprintf(format, arguments...))
		must.Check(t, err)
	}
	run("CREATE NAMESPACE partd.ns")
	run("CREATE TABLE partd.ns.log (n BIGINT) USING iceberg")
	inserts := intFromEnv("PARTD_ANSWERS", 5)
	for i := range inserts {
		run("INSERT INTO partd.ns.log VALUES (%d)", i)
		if i%5 != 0 {
			continue
		}
		run("CREATE TABLE partd.ns.t USING iceberg AS SELECT 1 AS n")
		run("ALTER TABLE partd.ns.t SET TBLPROPERTIES ('k'='v')")
		run("ALTER TABLE partd.ns.t RENAME TO ns.r")
		run("DROP TABLE partd.ns.r PURGE")
		run("CREATE NAMESPACE partd.n")
		run("ALTER NAMESPACE partd.n SET PROPERTIES ('k'='v')")
		run("DROP NAMESPACE partd.n")
	}
	want := fmt.Sprintf(`[{"n":%d,"rows":%d}]`, inserts, inserts)
	if got := fmt.Sprint(rowLines(spark.mustRun("run", "statement", "SELECT count(*) AS rows, count(DISTINCT n) AS n FROM partd.ns.log"))); got != want {
		t.Errorf("the table has %s, want %s", got, want)
	}
	if got := fmt.Sprint(rowLines(spark.mustRun("names"))); got != `[{"namespace":"ns","tables":["log"]}]` {
		t.Errorf("the catalog has %s, want the table ns.log", got)
	}
	t.Logf("%d inserts, %d answers dropped", inserts, dropped())
}

// testPutVisible checks that the next query of every engine sees a row that was just put through Flight, and is not yet
// in a file. PARTD_ROUNDS is the number of queries of each engine.
func testPutVisible(t *testing.T, o *flightClient, engines map[string]*engine) {
	const name = "live.ticks"
	must.Do(t, o.putRow(name, 0))
	ctx, stop := context.WithCancel(t.Context())
	var writer sync.WaitGroup
	writer.Go(func() { // an endless stream
		for n := int64(-1); ctx.Err() == nil; n-- {
			if err := o.putRow(name, n); err != nil {
				t.Error(err)
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
	defer writer.Wait()
	defer stop()
	for n := range int64(intFromEnv("PARTD_ROUNDS", 2)) {
		for kind, e := range engines {
			must.Do(t, o.putRow(name, n))
			start := time.Now()
			rows, isVisible := e.mustRun("rows", "table", name), false
			for _, r := range rows {
				isVisible = isVisible || fmt.Sprint(r["n"]) == fmt.Sprint(n)
			}
			if !isVisible {
				t.Errorf("%s does not see row %d, which was just put, among %d rows", kind, n, len(rows))
			}
			t.Logf("%s: %s", kind, time.Since(start).Round(time.Millisecond))
		}
	}
}

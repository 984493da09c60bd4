package engines

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
)

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
		if _, err := spark.tryRun("run", "statement", fmt.Sprintf(format, arguments...)); err != nil {
			t.Error(err)
		}
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

package page

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/flightd"
	"github.com/go-partd/partd/tables/internal/faces/serving"
)

// endlessQuery is a statement that runs for hours, but returns its first row immediately.
const endlessQuery = "SELECT a.i, b.i AS j FROM range(1000000000) a(i), range(1000000) b(i)"

const queryID = "0123456789abcdef"

func queryBody(sql string) string { return fmt.Sprintf(`{"id": "%s", "sql": %q}`, queryID, sql) }

func TestQuery(t *testing.T) {
	s := serve(t, flightd.Options{})
	s.putQuery("B", "t", "SELECT i AS x FROM range(100000) t(i)")
	_, text := s.wantPost("/api/query", `{"id": "`+queryID+`", "sql": "SELECT * FROM t ORDER BY x", "bucket": "B", "limit": 70000}`, 200)
	if all := column(t, text, "x"); len(all) != 70_000 || all[69_999] != "69999" {
		t.Errorf("got %d rows, want 70000 in order", len(all))
	}
	a, text := s.post("/api/query", queryBody(`SELECT * FROM "B".t WHERE x < 0`))
	if s.expect(a, text, 200); len(column(t, text, "x")) != 0 || a.Header.Get("Content-Type") != "application/vnd.apache.arrow.stream" {
		t.Errorf("a query without results: got headers %v, want an Arrow stream without rows", a.Header)
	}
}

// TestFailedStream checks that a failed stream is incomplete, and that its error can be requested afterwards.
func TestFailedStream(t *testing.T) {
	s := serve(t, flightd.Options{})
	r := s.request(t.Context(), http.MethodPost, "/api/query", strings.NewReader(queryBody(
		"SELECT CASE WHEN i < 900000 THEN i ELSE error('this is why') END AS x FROM range(1000000) t(i)")))
	a := must.Get(http.DefaultClient.Do(r))(t)
	defer a.Body.Close()
	if text, err := io.ReadAll(a.Body); err == nil || a.StatusCode != 200 {
		t.Errorf("a failed stream looks complete: status %d, %d bytes", a.StatusCode, len(text))
	}
	s.wantGet("/api/query/"+queryID+"/error", 200, "this is why")
}

// waitIdle waits until the server runs no query.
func (s *testServer) waitIdle() {
	s.t.Helper()
	must.Eventually(s.t, time.Minute, "a query is still running", func() bool {
		return strings.Contains(metricsText(s.server.Metrics()), "partd_tables_queries_running 0")
	})
}

// TestCancel checks that a query ends if it is canceled, if its connection is closed, or if its client receives
// nothing for too long.
func TestCancel(t *testing.T) {
	s := serve(t, flightd.Options{IdleTimeout: 2 * time.Second})
	startQuery := func(ctx context.Context, sql string) *http.Response {
		a := must.Get(http.DefaultClient.Do(s.request(ctx, http.MethodPost, "/api/query", strings.NewReader(queryBody(sql)))))(t)
		t.Cleanup(func() { _ = a.Body.Close() })
		return a
	}
	a := startQuery(t.Context(), endlessQuery)
	start := time.Now()
	s.wantPost("/api/cancel", `{"id": "`+queryID+`"}`, 200, `{"cancelled":true}`)
	s.waitIdle()
	if elapsed := time.Since(start); os.Getenv("PARTD_TIMING") != "" && elapsed > 500*time.Millisecond {
		t.Errorf("canceling took %v, want at most 500ms", elapsed)
	}
	if _, err := io.Copy(io.Discard, a.Body); err == nil {
		t.Error("a canceled stream looks complete")
	}
	s.wantGet("/api/query/"+queryID+"/error", 200, "cancelled")
	s.wantPost("/api/cancel", `{"id": "`+queryID+`"}`, 200, `{"cancelled":false}`)

	ctx, stop := context.WithCancel(t.Context())
	startQuery(ctx, endlessQuery)
	stop()
	s.waitIdle()

	startQuery(t.Context(), endlessQuery) // the result is never read
	s.waitIdle()
	s.wantGet("/api/query/"+queryID+"/error", 200, "too long")

	done := make(chan struct{})
	go func() {
		defer close(done)
		s.wantPost("/api/query", queryBody("SELECT max(a.i + b.i) AS x FROM range(1000000000) a(i), range(1000000) b(i)"), 499, "cancelled")
	}()
	for {
		if _, text := s.post("/api/cancel", `{"id": "`+queryID+`"}`); strings.Contains(text, "true") {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	<-done
}

// TestSlowReader checks that a large result that is read slowly uses no more memory than a small one.
func TestSlowReader(t *testing.T) {
	const size = 256 << 20
	s := serve(t, flightd.Options{})
	debug.FreeOSMemory() // memory of other tests must not count
	sql := fmt.Sprintf("SELECT i, i + 1 AS j, i + 2 AS k, i + 3 AS l FROM range(%d) t(i)", size/32)
	a := must.Get(http.DefaultClient.Do(s.request(t.Context(), http.MethodPost, "/api/query", strings.NewReader(queryBody(sql)))))(t)
	defer a.Body.Close()
	before, _ := ownMemory(t)
	peak, read := int64(0), int64(0)
	for {
		n, err := io.CopyN(io.Discard, a.Body, size/64)
		read += n
		current, _ := ownMemory(t)
		peak = max(peak, current)
		if err == io.EOF {
			break
		}
		must.Do(t, err)
	}
	if read < size || peak-before > 160<<20 {
		t.Errorf("read %d MiB, and the process's memory grew by %d MiB, want at most 160", read>>20, (peak-before)>>20)
	}
	t.Logf("read %d MiB, the process's memory grew by %d MiB", read>>20, (peak-before)>>20)
}

// TestSharedLimits checks that queries share the server's slots, and wait for a free one.
func TestSharedLimits(t *testing.T) {
	s := serve(t, flightd.Options{Queries: 1, IdleTimeout: time.Hour})
	a := must.Get(http.DefaultClient.Do(s.request(t.Context(), http.MethodPost, "/api/query", strings.NewReader(queryBody(endlessQuery)))))(t)
	defer a.Body.Close()
	const otherID = "fedcba9876543210"
	waiting := make(chan string, 1)
	go func() {
		_, text := s.post("/api/query", strings.Replace(queryBody("SELECT 1 AS x"), queryID, otherID, 1))
		waiting <- text
	}()
	for !strings.Contains(metricsText(s.server.Metrics()), "partd_tables_queries_waiting 1") {
		time.Sleep(5 * time.Millisecond)
	}
	select {
	case text := <-waiting:
		t.Error("the second query ran while the first one used the only slot: ", text)
	default:
	}
	s.wantPost("/api/cancel", `{"id": "`+queryID+`"}`, 200, "true")
	if got := column(t, <-waiting, "x"); len(got) != 1 {
		t.Errorf("the second query returned %v, want one row", got)
	}
}

func metricsText(h http.Handler) string {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return w.Body.String()
}

// TestManyFailures checks that a client can get the error of its own stream after many other streams have failed.
func TestManyFailures(t *testing.T) {
	store := must.Get(tables.Open(t.Context(), t.TempDir(), nil))(t)
	defer store.Close()
	server := must.Get(serving.New(store, nil))(t)
	h := &handler{server: server}
	for i := range maxFailures + 1 {
		h.rememberFailure(strconv.Itoa(i), invalid("failure"))
	}
	if n := len(h.failures); n != maxFailures || h.failures[n-1].id != strconv.Itoa(maxFailures) || h.failures[0].id != "1" {
		t.Errorf("%d failures, from %s to %s, want the newest %d", n, h.failures[0].id, h.failures[n-1].id, maxFailures)
	}
}

// TestDescribeRights checks that a token for one bucket reveals nothing about other buckets through statements such
// as DESCRIBE.
func TestDescribeRights(t *testing.T) {
	s := serve(t, flightd.Options{Secret: secret})
	for _, bucket := range []string{"", "A", "B"} {
		s.putQuery(bucket, "t", "SELECT 1 AS x")
		s.putQuery(bucket, "hidden in "+bucket, "SELECT 'secret' AS \"secret of "+bucket+"\"")
	}
	b := s.withToken(flightd.Read, "B")
	for _, sql := range []string{"SHOW TABLES", "SHOW ALL TABLES"} {
		_, text := b.wantPost("/api/query", jsonOf(t, map[string]any{"id": queryID, "sql": sql, "bucket": "B"}), 200)
		if got := strings.Join(column(t, text, "name"), ","); got != "hidden in B,t" {
			t.Errorf("%s: got %s, want the tables of bucket B", sql, got)
		}
	}
	for _, sql := range []string{
		`DESCRIBE "A"."hidden in A"`, `SUMMARIZE "A"."hidden in A"`, `SHOW "A"."hidden in A"`, `EXPLAIN SELECT * FROM "A"."hidden in A"`, `FROM (DESCRIBE "A".t)`, `DESCRIBE SELECT * FROM "A".t`,
		`SELECT * FROM before."A".t`, `SELECT * FROM changes."A".t`, `EXPLAIN SELECT * FROM before."A".t`, `DESCRIBE "default".t`, `SUMMARIZE "A".nothing`, `EXPLAIN SELECT * FROM "A".nothing`,
	} {
		body := map[string]any{"id": queryID, "sql": sql, "bucket": "B", "before_version": 1}
		a, text := b.post("/api/query", jsonOf(t, body))
		if b.expect(a, text, 403); strings.Contains(text, "secret of") {
			t.Errorf("%s reveals columns of another bucket: %s", sql, text)
		}
		a, text = b.get("/api/profile?column=x&bucket=B&before_version=1&sql=" + url.QueryEscape(sql))
		if a.StatusCode != 403 || strings.Contains(text, "secret of") {
			t.Errorf("profile of %s: got %d %s, want status 403", sql, a.StatusCode, text)
		}
		b.wantGet("/api/download?format=csv&bucket=B&before_version=1&sql="+url.QueryEscape(sql), 403)
	}
	b.wantGet("/api/profile?column=x&bucket=A&sql=SELECT+1+AS+x", 403, "bucket")
	b.wantGet("/api/changes?format=csv&bucket=A&table=t", 403)
}

func TestChanges(t *testing.T) {
	s := serve(t, flightd.Options{})
	s.putQuery("B", "t", "SELECT unnest([1, 2, 3]) AS x")
	s.putQuery("B", "t", "SELECT unnest([2, 3, 4]) AS x")
	path := "/api/changes?bucket=B&table=t"
	a, text := s.wantGet(path+"&format=csv&since=1", 200, "x,_change", "4,insert", "1,delete")
	uuid := a.Header.Get("Partd-UUID")
	if a.Header.Get("Partd-Version") != "2" || uuid == "" || strings.Count(text, "\n") != 3 {
		t.Errorf("the changes are %s, with headers %v; want version 2, a UUID and two rows", text, a.Header)
	}
	s.wantGet(path+"&format=jsonl&version=1&uuid="+uuid, 200, `{"x":3,"_change":"insert"}`)
	s.wantGet(path+"&format=csv&since=1&keys=x", 200, "4,insert")
	for query, status := range map[string]int{
		"&format=csv&since=99": 404, "&format=csv&since=x": 400, "&format=csv&since=1&since_snapshot=s": 400, "&format=x": 400,
		"&format=csv&keys=y": 400, "&format=csv&uuid=x": 404,
	} {
		s.wantGet(path+query, status)
	}
}

func TestCompareVersions(t *testing.T) {
	s := serve(t, flightd.Options{})
	s.putQuery("B", "t", "SELECT unnest([1, 2, 3]) AS x")
	s.putQuery("B", "t", "SELECT unnest([2, 3, 4]) AS x")
	sql := `SELECT 'added' AS change, * FROM (FROM t EXCEPT ALL FROM before."B".t) UNION ALL SELECT 'removed', * FROM (FROM before."B".t EXCEPT ALL FROM t) ORDER BY ALL`
	body := map[string]any{"id": queryID, "sql": sql, "bucket": "B", "version": 2, "before_version": 1}
	_, text := s.wantPost("/api/query", jsonOf(t, body), 200)
	if got := strings.Join(append(column(t, text, "change"), column(t, text, "x")...), ","); got != "added,removed,4,1" {
		t.Errorf("got changes %s, want added 4, removed 1", got)
	}
	s.wantGet("/api/download?format=csv&bucket=B&version=2&before_version=1&sql="+url.QueryEscape(sql), 200, "added,4")
	body["before_snapshot"] = "none"
	s.wantPost("/api/query", jsonOf(t, body), 400, "cannot be combined")
}

func TestProfileOfStatement(t *testing.T) {
	s := serve(t, flightd.Options{})
	s.putQuery("B", "t", "SELECT i % 4 AS x, 'v' || i % 3 AS s FROM range(100) t(i)")
	sql := url.QueryEscape("SELECT x + 1 AS y, s FROM t -- of all")
	s.wantGet("/api/profile?bucket=B&column=y&filter=y+>+2&sql="+sql, 200, `"rows":50,"nulls":0,`, `"min":"3","max":"4"`, `"histogram":[`)
	s.wantGet("/api/profile?bucket=B&column=s&sql="+sql, 200, `"rows":100`, `{"value":"v0","count":34}`)
	for path, want := range map[string]string{"column=z": "no column", "column=s&table=t": "cannot be combined", "column=s&filter=nothing": "nothing"} {
		s.wantGet("/api/profile?bucket=B&"+path+"&sql="+sql, 400, want)
	}
}

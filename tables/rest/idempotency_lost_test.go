package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/flightd"
	_ "github.com/go-partd/partd/tables/postgres" // registers catalogs at postgres://…
)

func TestMain(m *testing.M) { procs.Roles{"catalog": catalogChild}.Main(m) }

// keyedClient sends requests with keys until they are answered, and checks that each one took effect once.
type keyedClient struct {
	*catalog
	// send sends a request as often as needed. It returns the status and the body of the answer.
	send   func(r *http.Request, body []byte) (int, []byte)
	cycles int
	logs   []string // names of the tables that received rows
}

func newKeyedClient(c *catalog) *keyedClient {
	c.send("POST", "namespaces", object{"namespace": []string{"ns"}}, 200)
	return &keyedClient{catalog: c}
}

// must sends a request with a new key, and checks the status.
func (k *keyedClient) must(method, path string, body any, code int) (answer map[string]any) {
	k.Helper()
	text := must.Get(json.Marshal(body))(k)
	r := k.request(method, path, nil)
	r.Header.Set(keyHeader, newKey())
	got, out := k.send(r, text)
	if got != code {
		k.Fatalf("cycle %d: %s %s: %d %.600s, want status %d", k.cycles, method, path, got, out, code)
	}
	if len(out) > 0 {
		must.Do(k, json.Unmarshal(out, &answer))
	}
	return answer
}

const requestsPerCycle = 9

// cycle sends one request of each kind, and returns the catalog to its state except for the rows of the logs.
func (k *keyedClient) cycle() {
	k.Helper()
	n := int64(k.cycles)
	if k.cycles%50 == 0 { // so that the metadata stays small
		for _, prefix := range []string{"a", "b"} {
			k.logs = append(k.logs, prefix+strconv.Itoa(k.cycles))
			k.must("POST", "namespaces/ns/tables", object{"name": k.logs[len(k.logs)-1], "schema": json.RawMessage(schemaN)}, 200)
		}
	}
	a, b := k.logs[len(k.logs)-2], k.logs[len(k.logs)-1]
	name := func(s string) object { return object{"namespace": []string{"ns"}, "name": s} }
	k.must("POST", "namespaces/ns/tables", object{"name": "t", "schema": json.RawMessage(schemaN)}, 200)
	k.must("POST", "namespaces/ns/tables/"+a, k.appendCommit(k.load("ns", a), 2*n), 200)
	k.must("POST", "tables/rename", object{"source": name("t"), "destination": name("r")}, 204)
	k.must("POST", "transactions/commit", object{"table-changes": []any{changeOf(a, k.appendCommit(k.load("ns", a), 2*n+1)), changeOf(b, k.appendCommit(k.load("ns", b), n))}}, 204)
	location := k.load("ns", "r").MetadataLocation()
	k.must("DELETE", "namespaces/ns/tables/r?purgeRequested=true", nil, 204)
	k.must("POST", "namespaces/ns/register", object{"name": "g", "metadata-location": location}, 200)
	drop(k.catalog, "g")
	k.must("POST", "namespaces", object{"namespace": []string{"n"}, "properties": object{"k": "v"}}, 200)
	if out := k.must("POST", "namespaces/n/properties", object{"updates": object{"j": "v"}, "removals": []string{"k"}}, 200); fmt.Sprint(out) != "map[missing:[] removed:[k] updated:[j]]" {
		k.Fatalf("cycle %d: the answer is %v, want that k was removed and j updated", k.cycles, out)
	}
	k.must("DELETE", "namespaces/n", nil, 204)
	k.cycles++
}

// check checks that all rows are there once, and that nothing else is in the catalog.
func (k *keyedClient) check() {
	k.Helper()
	var a, b []int64
	for i := 0; i < len(k.logs); i += 2 {
		a, b = append(a, k.rows("ns", k.logs[i])...), append(b, k.rows("ns", k.logs[i+1])...)
	}
	for i, rows := range [][]int64{a, b} {
		slices.Sort(rows)
		want := k.cycles * (2 - i)
		if len(rows) != want || want > 0 && (rows[0] != 0 || rows[want-1] != int64(want-1)) || len(slices.Compact(rows)) != want {
			k.Errorf("after %d cycles, %d rows with values from %v, want each of 0 to %d once", k.cycles, len(rows), rows[:min(3, len(rows))], want-1)
		}
	}
	names := must.Get(k.store.Bucket("ns").IcebergNames(k.Context(), "", 1000))(k)
	buckets := 0
	for _, err := range k.store.Buckets(k.Context()) {
		must.Do(k, err)
		buckets++
	}
	if len(names) != len(k.logs) || buckets != 1 {
		k.Errorf("the catalog has the tables %v and %d namespaces, want the tables %v and 1 namespace", names, buckets, k.logs)
	}
}

// resend sends a request to each of urls in turn, until one answers.
func resend(t testing.TB, r *http.Request, body []byte, urls func(attempt int) string) (int, []byte) {
	t.Helper()
	for attempt := range 100 {
		again := must.Get(http.NewRequestWithContext(t.Context(), r.Method, urls(attempt)+r.URL.RequestURI(), bytes.NewReader(body)))(t)
		again.Header = r.Header
		a, err := http.DefaultClient.Do(again)
		if err != nil {
			continue
		}
		out, err := io.ReadAll(a.Body)
		if err = errors.Join(err, a.Body.Close()); err == nil && a.StatusCode < 500 {
			return a.StatusCode, out
		}
	}
	t.Fatalf("%s %s: there was no answer in 100 attempts", r.Method, r.URL)
	return 0, nil
}

// TestLostAnswers checks that no request is lost or runs twice if a proxy drops its answers. PARTD_ANSWERS sets how
// many requests are sent.
func TestLostAnswers(t *testing.T) {
	c := serve(t, t.TempDir(), flightd.Options{}, Options{})
	k := newKeyedClient(c)
	var dropped atomic.Int64
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if !must.Check(t, err) {
			return
		}
		code, out := resend(t, r, body, func(int) string { return c.url })
		if rand.IntN(3) > 0 {
			dropped.Add(1)
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(code)
		_, _ = w.Write(out)
	}))
	defer proxy.Close()
	k.send = func(r *http.Request, body []byte) (int, []byte) {
		return resend(t, r, body, func(int) string { return proxy.URL })
	}
	for k.cycles*requestsPerCycle < procs.Number(t, "PARTD_ANSWERS", 200) {
		k.cycle()
	}
	k.check()
	if dropped.Load() < int64(k.cycles) {
		t.Errorf("the proxy dropped %d answers to %d requests, want more", dropped.Load(), k.cycles*requestsPerCycle)
	}
	t.Logf("%d requests, %d answers dropped", k.cycles*requestsPerCycle, dropped.Load())
}

// killWriter kills the process instead of sending an answer.
type killWriter struct{ http.ResponseWriter }

func (w killWriter) WriteHeader(int)             { procs.KillSelf() }
func (w killWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

const killHeader = "X-Kill" // "answer" kills the server before it answers; a duration kills it after this time

// catalogChild serves the catalog in a directory, its argument, until a request kills it.
func catalogChild(args []string) error {
	store, err := tables.Open(context.Background(), args[0], &tables.Options{NoTail: true})
	if err != nil {
		return err
	}
	server, err := flightd.New(store, nil)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println("http://" + l.Addr().String())
	h := Handler(server.Core, store, Options{})
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if d, err := time.ParseDuration(r.Header.Get(killHeader)); err == nil {
			time.AfterFunc(d, procs.KillSelf)
		} else if r.Header.Get(killHeader) != "" {
			w = killWriter{w}
		}
		h.ServeHTTP(w, r)
	}))
}

// TestKeyKill checks that no request is lost or runs twice if the server is killed before it answers. PARTD_KILLS sets
// how many servers are killed.
func TestKeyKill(t *testing.T) {
	dir := t.TempDir()
	store := must.Get(tables.Open(t.Context(), dir, &tables.Options{NoTail: true}))(t)
	defer store.Close()
	var child *procs.Process
	c := &catalog{t, dir, store, "", ""}
	start := func() {
		child = procs.Start(t, procs.Command("catalog", dir))
		var ok bool
		if c.url, ok = child.Line(); !ok {
			t.Fatalf("the server did not start: %s", child.Stderr())
		}
	}
	start()
	k := newKeyedClient(c)
	kills := 0
	k.send = func(r *http.Request, body []byte) (int, []byte) {
		return resend(t, r, body, func(attempt int) string {
			if attempt > 0 {
				child.WaitKilled(t)
				start()
				kills++
			}
			r.Header.Del(killHeader)
			if attempt == 0 && rand.IntN(2) == 0 {
				r.Header.Set(killHeader, []string{"answer", time.Duration(rand.IntN(int(20 * time.Millisecond))).String()}[rand.IntN(2)])
			}
			return c.url
		})
	}
	for n := procs.Kills(t, 20); kills < n; {
		k.cycle()
	}
	k.check()
	child.Kill()
	t.Logf("%d requests, %d servers killed", k.cycles*requestsPerCycle, kills)
}

// TestKeyTwoServers checks that a request that two servers with one PostgreSQL catalog receive at the same time runs
// once.
func TestKeyTwoServers(t *testing.T) {
	pg, dir := procs.StartPostgres(t), t.TempDir()
	open := func(readOnly bool) *tables.Store {
		return must.Get(tables.Open(t.Context(), dir, &tables.Options{Catalog: pg.URL(), NoTail: true, ReadOnly: readOnly}))(t)
	}
	must.Do(t, errors.Join(open(false).Close(), open(true).Close()))
	var servers []*catalog
	for range 2 {
		store := open(false)
		server := must.Get(flightd.New(store, nil))(t)
		h := httptest.NewServer(Handler(server.Core, store, Options{}))
		t.Cleanup(func() { h.Close(); _ = store.Close() })
		servers = append(servers, &catalog{t, dir, store, h.URL, ""})
	}
	k := newKeyedClient(servers[0])
	k.send = func(r *http.Request, body []byte) (code int, out []byte) {
		codes := make(chan int)
		for i, s := range append(servers, servers...) {
			go func() {
				code, text := resend(t, r, body, func(int) string { return s.url })
				if i == 0 {
					out = text
				}
				codes <- code
			}()
		}
		code = <-codes
		for range 3 {
			if other := <-codes; other != code {
				t.Errorf("%s %s: the servers answered %d and %d", r.Method, r.URL.Path, code, other)
			}
		}
		return code, out
	}
	for k.cycles*requestsPerCycle < procs.Number(t, "PARTD_ANSWERS", 90) {
		k.cycle()
	}
	k.check()
}

package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/flightd"
	partdiceberg "github.com/go-partd/partd/tables/iceberg"
	"github.com/go-partd/partd/tables/internal/faces/kinds"
	"github.com/go-partd/partd/tables/internal/state/foreign"
)

func newKey() string { return uuid.Must(uuid.NewV7()).String() }

// sendKey is like send, with an idempotency key.
func (c *catalog) sendKey(key, method, path string, body any, code int, texts ...string) map[string]any {
	c.Helper()
	var text []byte
	if body != nil {
		var err error
		text, err = json.Marshal(body)
		must.Do(c, err)
	}
	r := c.request(method, path, strings.NewReader(string(text)))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set(keyHeader, key)
	out, _ := c.do(r, code, texts...)
	return out
}

// keyedRequest is a request of TestKeyReplay. Its path and body are for the namespace ns, which has the tables t and u.
type keyedRequest struct {
	name, method, path string
	body               func(c *catalog) any
	code               int
	undo               func(c *catalog)               // undoes the request, or commits a later change
	check              func(c *catalog) (ok bool)     // reports whether the catalog is as undo left it
	same               func(a, b map[string]any) bool // compares two answers; nil means that they must be equal
}

func exists(c *catalog, name string) bool {
	_, err := partdiceberg.Load(c.Context(), c.store.Bucket("ns").Table(name), nil)
	return err == nil
}

func drop(c *catalog, name string) { must.Do(c, c.store.Bucket("ns").Delete(c.Context(), name)) }

func sameUUID(a, b map[string]any) bool {
	id := func(m map[string]any) any { return m["metadata"].(map[string]any)["table-uuid"] }
	return id(a) == id(b) && len(a) == len(b)
}

func changeOf(name string, commit object) object {
	return object{"identifier": object{"namespace": []string{"ns"}, "name": name}, "requirements": commit["requirements"], "updates": commit["updates"]}
}

func keyedRequests() []keyedRequest {
	always := func(b any) func(*catalog) any { return func(*catalog) any { return b } }
	schema := json.RawMessage(schemaN)
	return []keyedRequest{
		{
			name: "create namespace", method: "POST", path: "namespaces", code: 200, body: always(object{"namespace": []string{"new"}, "properties": object{"k": "v"}}),
			undo:  func(c *catalog) { must.Do(c, c.store.DeleteBucket(c.Context(), "new", false)) },
			check: func(c *catalog) bool { ok, err := c.store.Bucket("new").Exists(c.Context()); return !ok && err == nil },
		},
		{
			name: "properties", method: "POST", path: "namespaces/ns/properties", code: 200, body: always(object{"updates": object{"k": "v"}, "removals": []string{"old", "none"}}),
			undo: func(c *catalog) {
				must.Do(c, c.store.Bucket("ns").ChangeMetadata(c.Context(), tables.MetadataChange{Set: tables.Metadata{"k": "later"}, Replace: true}))
			},
			check: func(c *catalog) bool {
				m, err := c.store.Bucket("ns").Metadata(c.Context())
				return m["k"] == "later" && err == nil
			},
		},
		{
			name: "drop namespace", method: "DELETE", path: "namespaces/empty", code: 204,
			undo:  func(c *catalog) { must.Do(c, c.store.Bucket("empty").Create(c.Context(), nil)) },
			check: func(c *catalog) bool { ok, err := c.store.Bucket("empty").Exists(c.Context()); return ok && err == nil },
		},
		{
			name: "create table", method: "POST", path: "namespaces/ns/tables", code: 200, body: always(object{"name": "new", "schema": schema}),
			undo: func(c *catalog) { drop(c, "new") }, check: func(c *catalog) bool { return !exists(c, "new") },
		},
		{
			name: "stage table", method: "POST", path: "namespaces/ns/tables", code: 200, body: always(object{"name": "new", "schema": schema, "stage-create": true}),
			undo: func(c *catalog) { c.create("ns", "new") }, check: func(c *catalog) bool { return exists(c, "new") },
		},
		{name: "register table", method: "POST", path: "namespaces/ns/register", code: 200, body: func(c *catalog) any {
			location := c.load("ns", "u").MetadataLocation()
			drop(c, "u")
			return object{"name": "again", "metadata-location": location}
		}, undo: func(c *catalog) { drop(c, "again") }, check: func(c *catalog) bool { return !exists(c, "again") }},
		{
			name: "commit", method: "POST", path: "namespaces/ns/tables/t", code: 200, body: func(c *catalog) any { return c.appendCommit(c.load("ns", "t"), 1) },
			undo:  func(c *catalog) { c.send("POST", "namespaces/ns/tables/t", c.appendCommit(c.load("ns", "t"), 2), 200) },
			check: func(c *catalog) bool { return fmt.Sprint(c.rows("ns", "t")) == "[1 2]" }, same: sameUUID,
		},
		{
			name: "commit before a rename", method: "POST", path: "namespaces/ns/tables/t", code: 200, body: func(c *catalog) any { return c.appendCommit(c.load("ns", "t"), 1) },
			undo: func(c *catalog) {
				must.Do(c, c.store.Bucket("ns").Table("t").Rename(c.Context(), c.store.Bucket("ns"), "renamed"))
				c.create("ns", "t")
			},
			check: func(c *catalog) bool { return fmt.Sprint(c.rows("ns", "renamed"), c.rows("ns", "t")) == "[1] []" }, same: sameUUID,
		},
		{
			name: "commit before a drop", method: "POST", path: "namespaces/ns/tables/t", code: 200, body: func(c *catalog) any { return c.appendCommit(c.load("ns", "t"), 1) },
			undo: func(c *catalog) { drop(c, "t"); c.create("ns", "t") }, check: func(c *catalog) bool { return len(c.rows("ns", "t")) == 0 },
		},
		{
			name: "commit of nothing", method: "POST", path: "namespaces/ns/tables/t", code: 200, body: always(object{"requirements": []any{}, "updates": []any{}}),
			undo: func(*catalog) {}, check: func(*catalog) bool { return true },
		},
		{name: "commit to several", method: "POST", path: "transactions/commit", code: 204, body: func(c *catalog) any {
			return object{"table-changes": []any{changeOf("t", c.appendCommit(c.load("ns", "t"), 1)), changeOf("u", c.appendCommit(c.load("ns", "u"), 2))}}
		}, undo: func(c *catalog) { drop(c, "u") }, check: func(c *catalog) bool { return fmt.Sprint(c.rows("ns", "t")) == "[1]" && !exists(c, "u") }},
		{
			name: "rename", method: "POST", path: "tables/rename", code: 204, body: always(object{"source": object{"namespace": []string{"ns"}, "name": "t"}, "destination": object{"namespace": []string{"ns"}, "name": "renamed"}}),
			undo: func(c *catalog) {
				must.Do(c, c.store.Bucket("ns").Table("renamed").Rename(c.Context(), c.store.Bucket("ns"), "t"))
			}, check: func(c *catalog) bool { return exists(c, "t") && !exists(c, "renamed") },
		},
		{
			name: "drop table", method: "DELETE", path: "namespaces/ns/tables/t?purgeRequested=true", code: 204,
			undo: func(c *catalog) { c.create("ns", "t") }, check: func(c *catalog) bool { return exists(c, "t") },
		},
		{
			name: "failed create", method: "POST", path: "namespaces/ns/tables", code: 409, body: always(object{"name": "t", "schema": schema}),
			undo: func(c *catalog) { drop(c, "t") }, check: func(c *catalog) bool { return !exists(c, "t") },
		},
		{
			name: "failed commit", method: "POST", path: "namespaces/ns/tables/none", code: 404, body: always(object{"requirements": []any{}, "updates": []any{}}),
			undo: func(c *catalog) { c.create("ns", "none") }, check: func(c *catalog) bool { return exists(c, "none") },
		},
		{
			name: "invalid body", method: "POST", path: "namespaces/ns/tables", code: 400, body: always(object{"name": "t"}),
			undo: func(*catalog) {}, check: func(*catalog) bool { return true },
		},
		{
			name: "failed drop of a namespace", method: "DELETE", path: "namespaces/ns", code: 409,
			undo: func(c *catalog) { drop(c, "t"); drop(c, "u") }, check: func(c *catalog) bool { ok, err := c.store.Bucket("ns").Exists(c.Context()); return ok && err == nil },
		},
	}
}

// TestKeyReplay checks for each endpoint that a request with a known key is answered, but not run, also after a
// restart, and that the key cannot be used for another body, path or caller.
func TestKeyReplay(t *testing.T) {
	for _, q := range keyedRequests() {
		t.Run(strings.ReplaceAll(q.name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			token := func(name string) string {
				return must.Get(flightd.NewNamedToken(secret, name, flightd.Admin, time.Hour))(t)
			}
			open := func(t *testing.T) *catalog {
				c := serve(t, dir, flightd.Options{Secret: secret}, Options{})
				c.token = token("caller")
				return c
			}
			key := newKey()
			var first map[string]any
			var body any
			t.Run("first", func(t *testing.T) {
				c := open(t)
				c.send("POST", "namespaces", object{"namespace": []string{"ns"}, "properties": object{"old": "1"}}, 200)
				c.send("POST", "namespaces", object{"namespace": []string{"empty"}}, 200)
				c.create("ns", "t")
				c.create("ns", "u")
				if q.body != nil {
					body = q.body(c)
				}
				first = c.sendKey(key, q.method, q.path, body, q.code)
				q.undo(c)
			})
			if t.Failed() {
				return
			}
			c := open(t)
			again := c.sendKey(strings.ToUpper(key), q.method, q.path, body, q.code)
			if same := fmt.Sprint(again) == fmt.Sprint(first); !same && (q.same == nil || !q.same(first, again)) {
				t.Errorf("the second answer is %.600v, want %.600v", again, first)
			}
			if q.name == "commit" && totalRecords(again) != "2" {
				t.Errorf("the second answer has %s rows, want 2, of a later state", totalRecords(again))
			}
			c.sendKey(key, q.method, q.path, object{"another": "body"}, 422, "was used for another request")
			c.sendKey(key, "DELETE", "namespaces/ns/tables/another", nil, 422)
			c.sendKey(key, q.method, q.path+map[bool]string{true: "&", false: "?"}[strings.Contains(q.path, "?")]+"another=query", body, 422)
			c.token = token("another")
			c.sendKey(key, q.method, q.path, body, 422)
			if !q.check(c) {
				t.Error("a repeated request was run again")
			}
		})
	}
}

// TestKeyRules checks which keys are valid, where a key has no effect, and that the catalog announces keys.
func TestKeyRules(t *testing.T) {
	c := serve(t, t.TempDir(), flightd.Options{Secret: secret}, Options{}).withToken(flightd.Admin)
	c.send("POST", "namespaces", object{"namespace": []string{"ns"}}, 200)
	config, _ := c.send("GET", "config", nil, 200)
	if config["idempotency-key-lifetime"] != "PT24H" {
		t.Errorf("config has idempotency-key-lifetime %v, want PT24H", config["idempotency-key-lifetime"])
	}
	body := object{"name": "t", "schema": json.RawMessage(schemaN)}
	for _, key := range []string{"", "1", uuid.NewString(), "{" + newKey() + "}", "urn:uuid:" + newKey(), strings.ReplaceAll(newKey(), "-", "")} {
		c.sendKey(key, "POST", "namespaces/ns/tables", body, 400, "UUID of version 7")
	}
	key := newKey()
	c.withToken(flightd.Read).sendKey(key, "POST", "namespaces/ns/tables", body, 403)
	(&catalog{t, "", nil, c.url, "x"}).sendKey(key, "POST", "namespaces/ns/tables", body, 401)
	c.sendKey(key, "POST", "namespaces/ns/tables", body, 200) // errors 401 and 403 are not recorded
	c.sendKey(key, "GET", "namespaces/ns/tables/t", nil, 200)
	c.sendKey(key, "POST", "namespaces/ns/views", object{}, 406)
	c.sendKey("1", "POST", "namespaces/ns/tables/t/metrics", object{"report-type": "scan-report"}, 204)
	c.send("POST", "namespaces", object{"namespace": []string{"ns/tables/t"}}, 200)
	key = newKey()
	c.sendKey(key, "DELETE", "namespaces/ns%2Ftables%2Ft", nil, 204)
	c.sendKey(key, "DELETE", "namespaces/ns/tables/t", nil, 422) // another path, although both look alike without escapes
	for size, want := range map[int]bool{1: true, maxError: false} {
		key = newKey()
		c.sendKey(key, "POST", "namespaces/ns/tables/t", object{"requirements": []any{object{"type": strings.Repeat("x", size)}}, "updates": []any{}}, 400)
		if k, err := foreign.Granted[tables.Store, tables.Table]().Catalog(c.store).Key(c.Context(), key, ""); (k != nil) != want || err != nil {
			t.Errorf("an error with %d bytes of the request has the record %v, error %v", size, k, err)
		}
	}
	for code, want := range map[int]bool{200: false, 400: true, 401: false, 403: false, 404: true, 408: false, 409: true, 419: false, 422: true, 429: false, 500: false, 503: false} {
		if isFinal(code) != want {
			t.Errorf("isFinal(%d) is %v, want %v", code, !want, want)
		}
	}
}

// TestKeyOfMovedTable checks that a caller gets no answer, and no credentials, for a table that was moved to a bucket
// that the token does not cover.
func TestKeyOfMovedTable(t *testing.T) {
	lend := func(context.Context, string, bool) (map[string]string, error) {
		return map[string]string{"k": "v"}, nil
	}
	admin := serve(t, t.TempDir(), flightd.Options{Secret: secret}, Options{Lend: lend}).withToken(flightd.Admin)
	admin.send("POST", "namespaces", object{"namespace": []string{"ns"}}, 200)
	c := admin.withToken(flightd.Admin, "ns")
	for _, stage := range []bool{false, true} {
		key, body := newKey(), object{"name": "t", "schema": json.RawMessage(schemaN), "stage-create": stage}
		created := c.sendKey(key, "POST", "namespaces/ns/tables", body, 200)
		if stage {
			m := must.Get(table.ParseMetadataBytes(must.Get(json.Marshal(created["metadata"]))(t)))(t)
			must.Get(partdiceberg.Commit(t.Context(), c.store, partdiceberg.Change{Bucket: "ns", Table: "t", New: m}))(t)
		}
		must.Do(t, c.store.Bucket("ns").Table("t").Rename(t.Context(), c.store.Bucket("other"), fmt.Sprint(stage)))
		c.sendKey(key, "POST", "namespaces/ns/tables", body, 403, "does not cover bucket")
	}
}

// TestKeyConcurrently checks that only one of several simultaneous requests with the same key is run.
func TestKeyConcurrently(t *testing.T) {
	c := serveTables(t)
	for round := range 20 {
		key, body := newKey(), object{"name": fmt.Sprint(round), "schema": json.RawMessage(schemaN)}
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() { c.sendKey(key, "POST", "namespaces/ns/tables", body, 200) })
		}
		all.Wait()
	}
}

// TestKeyPatience checks that a request whose key is in use waits, and then tells the client to come back later.
func TestKeyPatience(t *testing.T) {
	s := turns{running: map[string]chan struct{}{}}
	end, err := s.begin(t.Context(), "key", time.Minute)
	must.Do(t, err)
	_, err = s.begin(t.Context(), "key", time.Millisecond)
	if p := kinds.Of(err); p.REST != http.StatusServiceUnavailable {
		t.Errorf("got %+v, want status 503", p)
	}
	time.AfterFunc(10*time.Millisecond, end)
	end = must.Get(s.begin(t.Context(), "key", time.Minute))(t)
	end()
	if len(s.running) > 0 {
		t.Errorf("%d keys are in use after the last request, want 0", len(s.running))
	}
}

// TestKeyWaitersTakeNoSlot checks that requests that wait for another one with the same key do not delay other users.
func TestKeyWaitersTakeNoSlot(t *testing.T) {
	block := make(chan struct{})
	lend := func(context.Context, string, bool) (map[string]string, error) { <-block; return nil, nil }
	c := serve(t, t.TempDir(), flightd.Options{Secret: secret, Puts: 8}, Options{Lend: lend}).withToken(flightd.Admin)
	c.send("POST", "namespaces", object{"namespace": []string{"ns"}}, 200)
	key, body := newKey(), `{"name":"t","schema":`+schemaN+`}`
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			r := c.request("POST", "namespaces/ns/tables", strings.NewReader(body))
			r.Header.Set(keyHeader, key)
			r.Header.Set("X-Iceberg-Access-Delegation", "vended-credentials")
			c.do(r, 200)
		})
	}
	time.Sleep(300 * time.Millisecond) // until all of them wait
	start := time.Now()
	c.withToken(flightd.Admin, "x").send("POST", "namespaces", object{"namespace": []string{"x"}}, 200)
	if d := time.Since(start); d > 3*time.Second {
		t.Errorf("another user waited for %v, want at most 3s", d)
	}
	close(block)
	all.Wait()
}

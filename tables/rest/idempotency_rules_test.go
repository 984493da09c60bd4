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
	"github.com/go-partd/partd/tables/internal/state/foreign"
)

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
			meta := must.Get(json.Marshal(created["metadata"]))(t)
			m := must.Get(table.ParseMetadataBytes(meta))(t)
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
	if p := problemOf(err); p.Code != http.StatusServiceUnavailable {
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

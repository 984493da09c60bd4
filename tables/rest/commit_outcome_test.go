package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/flightd"
	"github.com/go-partd/partd/tables/internal/faces/serving"
)

// TestUnknownOutcome checks that the response always reports an unknown outcome of a commit, because engines delete
// the commit's files after any other error.
func TestUnknownOutcome(t *testing.T) {
	c := serve(t, t.TempDir(), flightd.Options{}, Options{})
	server := must.Get(flightd.New(c.store, nil))(t)
	h := &handler{server: server.Core, store: c.store, opts: server.Options(), requests: server.NewRequests()}
	h.requests.All = serving.NewCallLimit(1, 1)
	for _, disconnected := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		w := httptest.NewRecorder()
		h.serve(w, httptest.NewRequestWithContext(ctx, "POST", "/", nil), endpoint{name: "commit", handle: func(*request) error {
			if disconnected {
				cancel()
			}
			return fmt.Errorf("the catalog: %w", partd.ErrUnknownOutcome)
		}})
		cancel()
		if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "CommitStateUnknownException") {
			t.Errorf("client disconnected %v: got %d %s, want status 500 and CommitStateUnknownException", disconnected, w.Code, w.Body)
		}
	}
}

// addColumn returns the updates of a commit that adds a column of strings.
func addColumn(name string) []any {
	return []any{
		object{"action": "add-schema", "schema": object{"type": "struct", "schema-id": 1, "fields": []any{
			object{"id": 1, "name": "n", "type": "long", "required": false}, object{"id": 2, "name": name, "type": "string", "required": false},
		}}}, object{"action": "set-current-schema", "schema-id": -1},
	}
}

// TestBranchKeepsTail checks that a commit with a new column and a snapshot on a branch is refused if the table has
// rows in the tail (not yet in data files), because those rows would be lost.
func TestBranchKeepsTail(t *testing.T) {
	c := serve(t, t.TempDir(), flightd.Options{}, Options{})
	c.put("ns", "t", nil, 1)
	c.send("GET", "namespaces/ns/tables/t", nil, 200)
	base := c.load("ns", "t")
	commit := c.appendCommit(base, 5)
	updates := append(addColumn("s"), commit["updates"].([]any)...)
	updates[len(updates)-1].(object)["ref-name"] = "audit"
	c.put("ns", "t", nil, 2)
	c.send("POST", "namespaces/ns/tables/t", object{"requirements": []any{}, "updates": updates}, 409, "CommitFailedException")
	c.wantRows("ns", "t", 1, 2)
}

// createCommit returns a commit that creates a table.
func (c *catalog) createCommit(id uuid.UUID, root string) object {
	return object{"requirements": []any{object{"type": "assert-create"}}, "updates": []any{
		object{"action": "assign-uuid", "uuid": id},
		object{"action": "upgrade-format-version", "format-version": 2},
		object{"action": "add-schema", "schema": object{"type": "struct", "schema-id": 0, "fields": []any{object{"id": 1, "name": "n", "type": "long", "required": false}}}, "last-column-id": 1},
		object{"action": "set-current-schema", "schema-id": -1},
		object{"action": "add-spec", "spec": object{"spec-id": 0, "fields": []any{}}},
		object{"action": "set-default-spec", "spec-id": -1},
		object{"action": "add-sort-order", "sort-order": object{"order-id": 0, "fields": []any{}}},
		object{"action": "set-default-sort-order", "sort-order-id": -1},
		object{"action": "set-location", "location": root + id.String()},
	}}
}

// TestDuplicateUUID checks that a second table with the same UUID is refused, even within one transaction.
func TestDuplicateUUID(t *testing.T) {
	c := serveTables(t, "first")
	firstLocation := c.load("ns", "first").Location()
	root := firstLocation[:strings.LastIndex(firstLocation, "/")+1]
	checkCount := func(want int) {
		t.Helper()
		a, _ := c.send("GET", "namespaces/ns/tables", nil, 200)
		if got := len(a["identifiers"].([]any)); got != want {
			t.Errorf("got %d tables, want %d: %v", got, want, a)
		}
	}
	c.send("POST", "namespaces/ns/tables/second", c.createCommit(uuid.New(), root), 200)
	checkCount(2)
	commit := c.createCommit(uuid.New(), root)
	changes := []any{}
	for _, name := range []string{"a", "b"} {
		changes = append(changes, object{"identifier": object{"namespace": []string{"ns"}, "name": name}, "requirements": commit["requirements"], "updates": commit["updates"]})
	}
	c.send("POST", "transactions/commit", object{"table-changes": changes}, 409, "AlreadyExistsException")
	checkCount(2)
}

// TestDuplicateUUIDConcurrently checks that only one of several concurrent commits creates a table with the same UUID.
func TestDuplicateUUIDConcurrently(t *testing.T) {
	c := serveTables(t, "first")
	firstLocation := c.load("ns", "first").Location()
	root := firstLocation[:strings.LastIndex(firstLocation, "/")+1]
	for round := range 10 {
		commit := c.createCommit(uuid.New(), root)
		done := make(chan int)
		for i := range 8 {
			go func() {
				done <- c.statusOf("POST", fmt.Sprintf("namespaces/ns/tables/r%d-%d", round, i), commit)
			}()
		}
		created := 0
		for range 8 {
			if code := <-done; code == 200 {
				created++
			} else if code != 409 {
				t.Errorf("got status %d, want 200 or 409", code)
			}
		}
		if created != 1 {
			t.Fatalf("created %d tables with the same UUID, want 1", created)
		}
	}
}

// TestClockAhead checks that a writer whose clock is ahead does not prevent others from committing.
func TestClockAhead(t *testing.T) {
	c := serve(t, t.TempDir(), flightd.Options{}, Options{})
	c.put("ns", "t", nil, 1)
	c.send("GET", "namespaces/ns/tables/t", nil, 200)
	commit := c.appendCommit(c.load("ns", "t"), 2)
	commit["updates"].([]any)[0].(object)["snapshot"].(*table.Snapshot).TimestampMs += time.Hour.Milliseconds()
	c.send("POST", "namespaces/ns/tables/t", commit, 400, "correct the writer's clock")
	c.put("ns", "t", nil, 3)
	c.send("GET", "namespaces/ns/tables/t", nil, 200)
	commit = c.appendCommit(c.load("ns", "t"), 4)
	commit["updates"].([]any)[0].(object)["snapshot"].(*table.Snapshot).TimestampMs += 50 * time.Second.Milliseconds()
	c.send("POST", "namespaces/ns/tables/t", commit, 200)
	c.put("ns", "t", nil, 5)
	c.wantTotal("ns/tables/t", "4")
}

// TestReplaceChangedTable checks that a client can replace a table that has changed since the client loaded it. The
// server must replace the outdated sequence number of the client's snapshot with the next one. It must refuse a
// snapshot that has no parent and is not a replacement, because other clients' rows would be lost.
func TestReplaceChangedTable(t *testing.T) {
	c := serveTables(t, "t")
	commit := c.appendCommit(c.load("ns", "t"), 9)
	commit["requirements"] = []any{}
	for i := range int64(3) {
		c.put("ns", "t", nil, i)
		c.send("GET", "namespaces/ns/tables/t", nil, 200)
	}
	c.send("POST", "namespaces/ns/tables/t", commit, 409, "sequence number")
	next := c.load("ns", "t").Metadata().LastSequenceNumber() + 1
	commit["updates"] = append([]any{object{"action": "remove-snapshot-ref", "ref-name": "main"}}, commit["updates"].([]any)...)
	c.send("POST", "namespaces/ns/tables/t", commit, 200)
	meta := c.load("ns", "t").Metadata()
	if meta.LastSequenceNumber() != next || meta.CurrentSnapshot().SequenceNumber != next {
		t.Errorf("got sequence numbers %d and %d, want %d", meta.LastSequenceNumber(), meta.CurrentSnapshot().SequenceNumber, next)
	}
	c.wantRows("ns", "t", 9)
	c.put("ns", "t", nil, 10)
	c.send("GET", "namespaces/ns/tables/t", nil, 200)
	c.wantRows("ns", "t", 9, 10)
	must.Get(c.store.Verify(t.Context(), nil))(t)
}

// TestDeeplyNested checks that a deeply nested body is refused before it is decoded, because at each level, the
// decoder reads all inner levels again.
func TestDeeplyNested(t *testing.T) {
	c := serve(t, t.TempDir(), flightd.Options{Secret: secret}, Options{})
	admin := c.withToken(flightd.Admin)
	admin.send("POST", "namespaces", object{"namespace": []string{"ns"}}, 200)
	table := func(levels, name int) string {
		deep := ""
		for i := range levels {
			deep += fmt.Sprintf(`{"type":"list","element-required":false,"element-id":%d,"element":`, i+2)
		}
		return `{"name":"u","schema":{"type":"struct","schema-id":0,"fields":[{"id":1,"name":"` + strings.Repeat("\\\\", name) + `","required":false,"type":` + deep + `"long"` + strings.Repeat("}", levels+1) + `]}}`
	}
	for _, body := range []string{
		strings.Replace(table(500, 1), `"long"`, `"`+strings.Repeat("x", 2<<20)+`"`, 1), table(5000, 1), strings.Repeat("[", 1<<20),
	} {
		admin.send("POST", "namespaces/ns/tables", body, 400, "nested too deeply")
		c.withToken(flightd.Read).send("POST", "namespaces/ns/tables", body, 403)
	}
	admin.send("POST", "namespaces/ns/tables", table(20, 1<<10), 200)
}

// TestInvalidJSON checks that invalid JSON always yields a 4xx status, never 5xx.
func TestInvalidJSON(t *testing.T) {
	c := serveTables(t, "t")
	check := func(path, body string) {
		t.Helper()
		if code := c.statusOf("POST", "namespaces/ns/tables"+path, body); code >= 500 || code < 200 {
			t.Errorf("POST to tables%s: got status %d, want 200 to 499, for %s", path, code, body)
		}
	}
	for _, action := range []string{"assign-uuid", "upgrade-format-version", "add-schema", "set-current-schema", "add-spec", "set-default-spec", "add-sort-order", "set-default-sort-order", "add-snapshot", "set-snapshot-ref", "remove-snapshots", "remove-snapshot-ref", "set-location", "set-properties", "remove-properties", "set-statistics", "remove-statistics", "set-partition-statistics", "remove-partition-statistics", "remove-partition-specs", "remove-schemas", "add-encryption-key", "remove-encryption-key"} {
		for _, fields := range []string{
			``, `,"schema":null,"snapshot":null,"spec":null,"sort-order":null,"statistics":null,"updates":null,"removals":null,"partition-statistics":null,"encryption-key":null`,
			`,"schema":{},"snapshot":{},"spec":{},"sort-order":{},"statistics":{},"partition-statistics":{},"ref-name":"main","encryption-key":{}`,
			`,"schema":{"type":"struct","schema-id":9223372036854775807,"fields":[null]},"spec":{"spec-id":5,"fields":[{"source-id":77,"field-id":1000,"name":"x","transform":"identity"}]},"sort-order":{"order-id":4,"fields":[{"source-id":77,"transform":"identity","direction":"asc","null-order":"nulls-first"}]},"schema-id":-9,"spec-id":-9,"sort-order-id":-9,"snapshot-ids":[1,2],"spec-ids":[0,1],"schema-ids":[0,1],"format-version":99`,
			`,"schema":{"type":"struct","schema-id":1,"fields":[{"id":1,"name":"a","type":"long","required":true},{"id":1,"name":"a","type":"long","required":true}]},"spec":{"spec-id":1,"fields":[{"source-id":1,"field-id":1000,"name":"x","transform":"bucket[0]"}]},"format-version":-1,"sort-order":{"order-id":1,"fields":[{"source-id":1,"transform":"void","direction":"x","null-order":""}]}`,
			`,"schema":{"type":"struct","schema-id":1,"fields":[{"id":1,"name":"n","type":{"type":"list"},"required":false},{"id":3,"name":"m","type":{"type":"map"},"required":false},{"id":4,"name":"s","type":{"type":"struct"},"required":false}]},"spec":{"spec-id":1,"fields":[{"source-id":1,"field-id":1000,"name":"x","transform":"truncate[-1]"}]},"snapshot":{"snapshot-id":1,"manifest-list":"x","summary":null}`,
		} {
			for _, name := range []string{"t", "new"} {
				requirement := ""
				if name == "new" {
					requirement = `{"type":"assert-create"}`
				}
				for _, firstUpdate := range []string{"", `{"action":"upgrade-format-version","format-version":2},`} {
					body := `{"requirements":[` + requirement + `],"updates":[` + firstUpdate + `{"action":"` + action + `"` + fields + `}]}`
					check("/"+name, body)
				}
			}
			if strings.Contains(fields, `"schema":`) {
				check("", `{"name":"x"`+strings.ReplaceAll(fields, `"spec"`, `"partition-spec"`)+`}`)
			}
		}
	}
	for _, kind := range []string{"assert-create", "assert-table-uuid", "assert-ref-snapshot-id", "assert-last-assigned-field-id", "assert-current-schema-id", "assert-last-assigned-partition-id", "assert-default-spec-id", "assert-default-sort-order-id"} {
		for _, fields := range []string{``, `,"ref":null,"snapshot-id":null,"uuid":null`, `,"ref":"main","snapshot-id":9223372036854775807`, `,"last-assigned-field-id":-5,"current-schema-id":77,"last-assigned-partition-id":8,"default-spec-id":9,"default-sort-order-id":10`} {
			for _, name := range []string{"t", "new"} {
				extra := ""
				if name == "new" {
					extra = `{"type":"assert-create"},`
				}
				body := `{"requirements":[` + extra + `{"type":"` + kind + `"` + fields + `}],"updates":[{"action":"set-properties","updates":{"a":"b"}}]}`
				check("/"+name, body)
			}
		}
	}
	for _, body := range []string{`{"requirements":[null],"updates":[null]}`, `{"requirements":null,"updates":null}`, `{"requirements":[],"updates":[null]}`, `{"requirements":[{}],"updates":[{}]}`} {
		check("/t", body)
	}
}

// statusOf sends a request, and returns the status of the response, or 0 if there is no response.
func (c *catalog) statusOf(method, path string, body any) int {
	text, ok := body.(string)
	if !ok {
		text = jsonOf(body)
	}
	r, err := http.NewRequestWithContext(c.Context(), method, c.url+"/v1/"+path, strings.NewReader(text))
	if err != nil {
		return 0
	}
	r.Header.Set("Content-Type", "application/json")
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0
	}
	defer a.Body.Close()
	return a.StatusCode
}

func jsonOf(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

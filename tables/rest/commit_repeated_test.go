package rest

import (
	"encoding/json"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/apache/iceberg-go/table"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestRepeatedCommit checks that a commit without a key is recognized by its snapshot.
func TestRepeatedCommit(t *testing.T) {
	c := serveTables(t, "t", "u")
	first := c.appendCommit(c.load("ns", "t"), 1)
	for range 2 {
		c.send("POST", "namespaces/ns/tables/t", first, 200)
	}
	c.send("POST", "namespaces/ns/tables/t", c.appendCommit(c.load("ns", "t"), 2), 200)
	if again, _ := c.send("POST", "namespaces/ns/tables/t", first, 200); totalRecords(again) != "2" {
		t.Errorf("the answer has %s rows, want 2, of the current state", totalRecords(again))
	}
	c.send("POST", "transactions/commit", object{"table-changes": []any{changeOf("t", first), changeOf("u", c.appendCommit(c.load("ns", "u"), 3))}}, 204)
	c.wantRows("ns", "t", 1, 2)
	c.wantRows("ns", "u", 3)
	other := c.appendCommit(c.load("ns", "t"), 4)
	text := must.Get(json.Marshal(other))(t)
	var changed map[string]any
	must.Do(t, json.Unmarshal(text, &changed))
	id := c.load("ns", "t").CurrentSnapshot().SnapshotID
	changed["updates"].([]any)[0].(map[string]any)["snapshot"].(map[string]any)["snapshot-id"] = id
	changed["updates"].([]any)[1].(map[string]any)["snapshot-id"] = id
	c.send("POST", "namespaces/ns/tables/t", changed, 409) // the same ID with another manifest list
	c.wantRows("ns", "t", 1, 2)
	var all sync.WaitGroup
	body := c.appendCommit(c.load("ns", "t"), 5)
	for range 4 {
		all.Go(func() {
			if a, _ := c.send("POST", "namespaces/ns/tables/t", body, 200); totalRecords(a) != "3" {
				t.Errorf("an answer has %s rows, want 3", totalRecords(a))
			}
		})
	}
	all.Wait()
	c.wantRows("ns", "t", 1, 2, 5)
}

// TestPartlyRepeatedCommit checks that a commit whose snapshot is in the table fails, unless all its updates are
// applied.
func TestPartlyRepeatedCommit(t *testing.T) {
	const path = "namespaces/ns/tables/t"
	send := func(c *catalog, text string, code int) { c.Helper(); c.send("POST", path, json.RawMessage(text), code) }
	with := func(text, update string) string { return strings.TrimSuffix(text, "]}") + "," + update + "]}" }
	toBranch := func(text string) string { return strings.Replace(text, `"ref-name":"main"`, `"ref-name":"b"`, 1) }
	prepare := func(t *testing.T) (*catalog, string) {
		c := serveTables(t, "t")
		text := must.Get(json.Marshal(c.appendCommit(c.load("ns", "t"), 1)))(t)
		return c, string(text)
	}
	t.Run("branch", func(t *testing.T) {
		c, text := prepare(t)
		send(c, strings.Replace(toBranch(text), `"ref":"main"`, `"ref":"b"`, 1), 200)
		send(c, text, 409)
		c.wantRows("ns", "t")
	})
	t.Run("property", func(t *testing.T) {
		c, text := prepare(t)
		send(c, with(text, `{"action":"set-properties","updates":{"k":"v"}}`), 200)
		for range 2 {
			send(c, with(text, `{"action":"set-properties","updates":{"k":"v"}}`), 200)
			send(c, with(text, `{"action":"set-properties","updates":{"k":"other"}}`), 409)
			c.send("POST", path, c.appendCommit(c.load("ns", "t"), 2), 200)
		}
		send(c, with(text, `{"action":"remove-properties","removals":["k"]}`), 409)
	})
	t.Run("rollback", func(t *testing.T) {
		c, text := prepare(t)
		send(c, text, 200)
		id := strconv.FormatInt(c.load("ns", "t").CurrentSnapshot().SnapshotID, 10)
		c.send("POST", path, c.appendCommit(c.load("ns", "t"), 2), 200)
		rollback := `{"action":"set-snapshot-ref","ref-name":"main","type":"branch","snapshot-id":` + id + `}`
		send(c, `{"requirements":[],"updates":[`+rollback+`]}`, 200)
		c.wantRows("ns", "t", 1)
		later := must.Get(json.Marshal(c.appendCommit(c.load("ns", "t"), 3)))(t)
		send(c, string(later), 200)
		send(c, with(string(later), rollback), 409)
		c.wantRows("ns", "t", 1, 3)
	})
}

// TestRepeatedCreation checks that a commit without a key that creates a table with rows is recognized.
func TestRepeatedCreation(t *testing.T) {
	c := serveTables(t)
	staged, _ := c.send("POST", "namespaces/ns/tables", object{"name": "t", "schema": json.RawMessage(schemaN), "stage-create": true, "properties": object{"k": "v"}}, 200)
	meta := must.Get(json.Marshal(staged["metadata"]))(t)
	m := must.Get(table.ParseMetadataBytes(meta))(t)
	create := c.createCommit(m.TableUUID(), strings.TrimSuffix(m.Location(), m.TableUUID().String()))
	updates := append(create["updates"].([]any), object{"action": "set-properties", "updates": object{"k": "v"}})
	create["updates"] = updates
	c.send("POST", "namespaces/ns/tables/t", create, 200)
	first := c.appendCommit(c.load("ns", "t"), 1)
	drop(c, "t")
	create["updates"] = append(updates, first["updates"].([]any)...)
	for range 2 {
		c.send("POST", "namespaces/ns/tables/t", create, 200)
		c.wantRows("ns", "t", 1)
	}
}

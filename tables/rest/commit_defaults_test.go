package rest

import (
	"fmt"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/flightd"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// addDefault returns the updates that add a column of type int or another type with default values.
func addDefault(typ, defaults string) string {
	return fmt.Sprintf(`{"requirements": [], "updates": [{"action": "add-schema", "last-column-id": 9, "schema": {"type": "struct", "fields": [
		{"id": 1, "name": "n", "required": false, "type": "long"}, {"id": 2, "name": "c", "required": false, "type": %s%s}]}},
		{"action": "set-current-schema", "schema-id": -1}]}`, typ, defaults)
}

// TestDefaultValues adds a column with default values to a table with rows in files and in the tail. Old rows must have
// the initial default, and later puts that lack the column the write default, on all paths.
func TestDefaultValues(t *testing.T) {
	c := serve(t, t.TempDir(), flightd.Options{}, Options{})
	c.send("POST", "namespaces", object{"namespace": []string{"ns"}}, 200)
	c.send("POST", "namespaces/ns/tables", `{"name": "t", "properties": {"format-version": "3"}, "schema": {"type": "struct", "schema-id": 0, "fields": [
		{"id": 1, "name": "n", "required": false, "type": "long"}]}}`, 200)
	b := c.store.Bucket("ns")
	c.put("ns", "t", nil, 1)
	must.Get(c.store.Fold(t.Context(), nil))(t)
	c.put("ns", "t", nil, 2)
	c.send("POST", "namespaces/ns/tables/t", addDefault(`"int"`, `, "initial-default": 7, "write-default": 8`), 200)
	c.put("ns", "t", nil, 3)
	tabletest.PutRows(t, b, "t", tabletest.JSONRows(t, "n int64; c int32", `{"n": 4, "c": null}, {"n": 5, "c": 50}`), tables.PutAppend, nil)
	want := "n int64; c int32 | 1,7 | 2,7 | 3,8 | 4,(null)"
	check := func(when, all string) {
		t.Helper()
		for where, want := range map[string]string{"": all, "c = 7": "n int64; c int32 | 1,7 | 2,7", "c = 8": "n int64; c int32 | 3,8", "c is null": "n int64; c int32 | 4,(null)"} {
			if got := tabletest.TableText(t, b, "t", &tables.ScanOptions{Filter: tabletest.ParseFilter(t, where)}); got != want {
				t.Errorf("%s, the rows where %q are %s, want %s", when, where, got, want)
			}
		}
	}
	check("after the puts", want+" | 5,50")
	must.Get(c.store.Fold(t.Context(), nil))(t)
	check("after a fold", want+" | 5,50")
	tabletest.DeleteRows(t, b, "t", "n = 5")
	must.Get(c.store.Compact(t.Context(), nil))(t)
	check("after a compaction", want)
}

// TestRefusedDefaults checks that a commit is refused if readers could not return its default values exactly.
func TestRefusedDefaults(t *testing.T) {
	c := serve(t, t.TempDir(), flightd.Options{}, Options{})
	c.send("POST", "namespaces", object{"namespace": []string{"ns"}}, 200)
	c.send("POST", "namespaces/ns/tables", `{"name": "t", "properties": {"format-version": "3"}, "schema": {"type": "struct", "schema-id": 0, "fields": [
		{"id": 1, "name": "n", "required": false, "type": "long"}]}}`, 200)
	for _, bad := range []string{
		addDefault(`"long"`, `, "initial-default": 9223372036854775807`), addDefault(`"long"`, `, "write-default": 9223372036854775807`),
		addDefault(`"date"`, `, "initial-default": "x"`),
		addDefault(`{"type": "struct", "fields": [{"id": 3, "name": "f", "required": false, "type": "int", "initial-default": 7}]}`, ``),
	} {
		c.send("POST", "namespaces/ns/tables/t", bad, 400, "default value")
	}
	c.send("POST", "namespaces/ns/tables/t", addDefault(`"decimal(38, 2)"`, `, "initial-default": "999999999999999999999999999999999999.99"`), 200)
	c.put("ns", "t", nil, 1)
}

//go:build cgo

package database

import (
	"encoding/json"
	"math/rand/v2"
	"testing"

	"github.com/go-partd/partd/tables/internal/sql/sqltext"
)

// TestSchemaAsJSON encodes column names as JSON, as package duck does, and checks that DuckDB decodes
// them unchanged.
func TestSchemaAsJSON(t *testing.T) {
	d := openDatabase(t, 64<<20)
	alphabet := []string{`"`, `'`, `\`, "{", "}", ":", "=", " ", "\n", "\t", "\x01", "<", "&", "NULL", "a", "é", "\u2028", "😀", "$", "n", "u"}
	random := rand.New(rand.NewPCG(7, 7))
	for range 2000 {
		name := ""
		for range random.IntN(8) {
			name += alphabet[random.IntN(len(alphabet))]
		}
		definition, err := json.Marshal(map[string]any{"name": name, "type": nil})
		if err != nil {
			t.Fatal(err)
		}
		sql := "SELECT (m[7].name = " + sqltext.Text(name) + ` AND m[7]."type" IS NULL)::VARCHAR FROM (SELECT ` +
			sqltext.Text(`{"7":`+string(definition)+"}") + `::JSON::MAP(INTEGER, STRUCT("name" VARCHAR, "type" VARCHAR)) AS m)`
		if got := firstValue(t, d, sql); got != "true" {
			t.Errorf("column name %q: got %s, want true", name, got)
		}
	}
}

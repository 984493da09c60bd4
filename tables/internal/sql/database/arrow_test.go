//go:build cgo

package database

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/internal/sql/sqltext"
)

// TestTypesWithoutArrow checks that describing or running a statement fails if DuckDB cannot convert a column's type
// to Arrow.
func TestTypesWithoutArrow(t *testing.T) {
	for _, value := range []string{"get_type(1)", "[get_type(1)]", "{a: get_type(1)}"} {
		d := openDatabase(t, 64<<20)
		j := &Job{Memory: 64 << 20, SQL: "SELECT 1 AS a, " + value + " AS b"}
		_, _, describeErr := d.Describe(j)
		_, startErr := d.Start(t.Context(), j)
		d.Finish()
		for _, err := range []error{describeErr, startErr} {
			if _, ok := err.(*sqltext.Error); !ok || !strings.Contains(err.Error(), `column "b": Not implemented error: Unsupported Arrow type TYPE: cast it`) {
				t.Errorf("%s: got error %v, want an error about column b and its type", value, err)
			}
		}
	}
	d := openDatabase(t, 64<<20)
	if _, _, err := d.Describe(&Job{Memory: 64 << 20, SQL: "SELECT ? AS a"}); err != nil {
		t.Error(err)
	}
}

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
		definition := must.Get(json.Marshal(map[string]any{"name": name, "type": nil}))(t)
		sql := "SELECT (m[7].name = " + sqltext.Text(name) + ` AND m[7]."type" IS NULL)::VARCHAR FROM (SELECT ` +
			sqltext.Text(`{"7":`+string(definition)+"}") + `::JSON::MAP(INTEGER, STRUCT("name" VARCHAR, "type" VARCHAR)) AS m)`
		if got := firstValue(t, d, sql); got != "true" {
			t.Errorf("column name %q: got %s, want true", name, got)
		}
	}
}

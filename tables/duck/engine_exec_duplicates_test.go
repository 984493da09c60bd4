//go:build cgo

package duck_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables"
)

// TestDuplicates checks that SQL reads no replaced rows, whether the rows are in files or in the tail, even
// if only the replaced row satisfies the query's condition.
func TestDuplicates(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "ts", Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}},
		{Name: "the key", Type: arrow.BinaryTypes.String},
		{Name: "v", Type: arrow.PrimitiveTypes.Int64},
	}, nil)
	for rule, want := range map[tables.OnDuplicate]string{
		tables.KeepAll: "1 2 3 4 5 6", tables.KeepFirst: "1 2 3 6", tables.KeepLast: "1 4 5 6",
	} {
		t.Run(string(rule), func(t *testing.T) {
			s := newStore(t, nil)
			o := &tables.PutOptions{Settings: &tables.Settings{Time: "ts", Keys: []string{"the key"}, OnDuplicate: rule}}
			put := func(rows ...string) { putWith(t, s, "", "t", o, jsonBatch(t, schema, strings.Join(rows, ","))) }
			row := func(day, key string, v int) string {
				return fmt.Sprintf(`{"ts":"2024-01-%s 00:00:00Z","the key":%q,"v":%d}`, day, key, v)
			}
			put(row("01", "a", 1), row("02", "a", 2))
			fold(t, s)
			put(row("03", "a", 3))
			fold(t, s)
			put(row("02", "a", 4), row("03", "a", 5), row("02", "b", 6))
			matching := map[tables.OnDuplicate]string{tables.KeepAll: "2 3 4 5", tables.KeepFirst: "2 3", tables.KeepLast: "4 5"}[rule]
			for range 2 { // in the tail, then folded
				expect(t, s, "SELECT v FROM t ORDER BY v", nil, strings.Fields(want)...)
				expect(t, s, "SELECT v FROM t WHERE v IN (2, 3, 4, 5) ORDER BY v", nil, strings.Fields(matching)...)
				fold(t, s)
			}
		})
	}
}

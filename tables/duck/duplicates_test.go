//go:build cgo

package duck_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

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
			put := func(rows string) {
				batch, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema, strings.NewReader(rows))
				if err != nil {
					t.Fatal(err)
				}
				r, err := array.NewRecordReader(schema, []arrow.RecordBatch{batch})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := s.Bucket("").Table("t").Put(t.Context(), r, tables.PutAppend, o); err != nil {
					t.Fatal(err)
				}
			}
			values := func(where string) (found string) {
				r, err := s.Query(t.Context(), "SELECT v FROM t "+where+" ORDER BY v", nil)
				if err != nil {
					t.Fatal(err)
				}
				defer r.Release()
				for r.Next() {
					for i := range int(r.RecordBatch().NumRows()) {
						found += fmt.Sprint(r.RecordBatch().Column(0).(*array.Int64).Value(i), " ")
					}
				}
				if r.Err() != nil {
					t.Fatal(r.Err())
				}
				return strings.TrimSpace(found)
			}
			row := func(day, key string, v int) string {
				return fmt.Sprintf(`{"ts":"2024-01-%s 00:00:00Z","the key":%q,"v":%d}`, day, key, v)
			}
			put("[" + row("01", "a", 1) + "," + row("02", "a", 2) + "]")
			if _, err := s.Fold(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			put("[" + row("03", "a", 3) + "]")
			if _, err := s.Fold(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			put("[" + row("02", "a", 4) + "," + row("03", "a", 5) + "," + row("02", "b", 6) + "]")
			matching := map[tables.OnDuplicate]string{tables.KeepAll: "2 3 4 5", tables.KeepFirst: "2 3", tables.KeepLast: "4 5"}[rule]
			for range 2 { // in the tail, then folded
				if got := values(""); got != want {
					t.Errorf("all rows: got %s, want %s", got, want)
				}
				if got := values("WHERE v IN (2, 3, 4, 5)"); got != matching {
					t.Errorf("rows with a condition: got %s, want %s", got, matching)
				}
				if _, err := s.Fold(t.Context(), nil); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

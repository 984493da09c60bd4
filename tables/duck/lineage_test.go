//go:build cgo

package duck_test

import (
	"testing"

	"github.com/apache/iceberg-go"
)

// TestRowIDsAreHidden checks that SQL does not see the columns in which a compaction stores the IDs of rows.
func TestRowIDsAreHidden(t *testing.T) {
	s := newStore(t, nil)
	createIceberg(t, s, "t", iceberg.NestedField{ID: 1, Name: "k", Type: iceberg.PrimitiveTypes.Int64}, iceberg.NestedField{ID: 2, Name: "s", Type: iceberg.PrimitiveTypes.String})
	for i := range int64(2) {
		put(t, s, "b", "t", numbers(i, i+1))
		if _, err := s.Fold(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := s.Compact(t.Context(), nil); err != nil || r.FilesBefore != 2 {
		t.Fatalf("Compact = %+v, %v; want two files merged", r, err)
	}
	put(t, s, "b", "t", numbers(2, 3)) // this file lacks the two columns
	if _, err := s.Fold(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	expect(t, s, "SELECT * FROM b.t ORDER BY k", nil, "0|s0", "1|s1", "2|s2")
}

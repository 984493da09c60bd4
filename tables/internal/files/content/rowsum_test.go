package content

import (
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestRowSum checks that equal rows have the same sum in any order, and that different rows have different sums.
func TestRowSum(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "a", Type: arrow.BinaryTypes.String, Nullable: true}, {Name: "b", Type: arrow.BinaryTypes.String, Nullable: true}}, nil)
	sum := func(rows string) *RowSum {
		batch, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema, strings.NewReader(rows))
		must.Do(t, err)
		s := &RowSum{}
		s.Add(batch.NewSlice(0, 1))
		s.Add(batch.NewSlice(1, batch.NumRows()))
		return s
	}
	want := sum(`[{"a":"x","b":"y"},{"a":"z","b":null}]`)
	if got := sum(`[{"a":"z","b":null},{"a":"x","b":"y"}]`); !got.Equals(want) {
		t.Error("the sum depends on the order of the rows:", got, want)
	}
	for _, different := range []string{
		`[{"a":"y","b":"x"},{"a":"z","b":null}]`, `[{"a":"x","b":null},{"a":"z","b":"y"}]`, `[{"a":"xy","b":""},{"a":"z","b":null}]`,
		`[{"a":"x","b":"y"},{"a":"z","b":""}]`, `[{"a":"x","b":"y"},{"a":"x","b":"y"}]`, `[{"a":"x","b":"y"},{"a":"z","b":null},{}]`,
	} {
		if got := sum(different); got.Equals(want) {
			t.Errorf("the different rows %s have the same sum", different)
		}
	}
}

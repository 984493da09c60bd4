package bulk_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/bulk"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestSplitNestedDictionaries splits and sorts batches whose nested columns have different dictionaries. There are so
// many keys that rows go to temporary data. A second run appends to the files of the first.
func TestSplitNestedDictionaries(t *testing.T) {
	const keys = 300
	words := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int16, ValueType: arrow.BinaryTypes.String}
	for _, c := range []struct {
		t    arrow.DataType
		json string // a value with one word
	}{
		{arrow.StructOf(arrow.Field{Name: "x", Type: words, Nullable: true}), `{"x":%s}`},
		{arrow.ListOf(words), `[%s,%[1]s]`},
		{arrow.ListOf(arrow.StructOf(arrow.Field{Name: "x", Type: words, Nullable: true})), `[{"x":%s},{"x":null}]`},
		{arrow.MapOf(arrow.BinaryTypes.String, words), `[{"key":"a","value":%s}]`},
	} {
		columns := arrow.NewSchema([]arrow.Field{{Name: "k", Type: arrow.PrimitiveTypes.Int64}, {Name: "v", Type: c.t, Nullable: true}}, nil)
		var batches []arrow.RecordBatch
		for first := range 4 {
			var rows strings.Builder
			for k := range keys {
				value := fmt.Sprintf(c.json, fmt.Sprintf(`"word %d"`, 1000*first+k))
				if k%10 == 9 {
					value = "null"
				}
				fmt.Fprintf(&rows, `%c{"k":%d,"v":%s}`, "[,"[min(k, 1)], k, value)
			}
			batches = append(batches, tabletest.ParseRows(t, columns, rows.String()+"]"))
		}
		reader := func() array.RecordReader { return must.Get(array.NewRecordReader(columns, batches))(t) }
		want, _ := read(t, reader(), nil)
		want = append(want, want...)
		slices.Sort(want)
		sorted, err := bulk.Sort(t.Context(), reader(), &bulk.SortOptions{By: []string{"k"}})
		if got, schema := read(t, sorted, err); len(got) != 4*keys || !slices.IsSorted(got[:4]) || !sameTypes(schema, columns) {
			t.Errorf("%s: Sort returns %d rows with %v, want %d with %v", c.t, len(got), schema, 4*keys, columns)
		}
		for _, format := range []string{"arrow", "parquet", "jsonl"} {
			dir := filepath.Join(t.TempDir(), "out")
			for run := range 2 {
				result, err := bulk.Split(t.Context(), reader(), &bulk.SplitOptions{By: []string{"k"}, Dir: dir, Format: format, Append: run > 0})
				if err != nil || result.Rows != 4*keys {
					t.Fatalf("%s as %s, run %d: Split = %+v, %v, want %d rows", c.t, format, run, result, err, 4*keys)
				}
			}
			if format == "jsonl" {
				continue
			}
			f, err := bulk.Open(t.Context(), dir)
			got, schema := read(t, f, err)
			slices.Sort(got)
			if !slices.Equal(got, want) || format == "arrow" && !sameTypes(schema, columns) {
				t.Errorf("%s as %s: %d rows with %v, want %d with %v", c.t, format, len(got), schema, len(want), columns)
			}
		}
	}
}

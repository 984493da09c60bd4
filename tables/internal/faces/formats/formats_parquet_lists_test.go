package formats

import (
	"bytes"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/schema"
)

// leaf is the content of a Parquet leaf column: its values, and their definition and repetition
// levels.
type leaf struct {
	values   []int32
	def, rep []int16
}

// TestLegacyLists checks that lists and maps are read in every form that the backward-compatibility rules
// of Parquet's LogicalTypes.md describe.
func TestLegacyLists(t *testing.T) {
	const required, optional, repeated = 0, 1, 2
	number := func(name string, r parquet.Repetition) schema.Node { return schema.NewInt32Node(name, r, -1) }
	group := func(name string, r parquet.Repetition, logicalType schema.LogicalType, fields ...schema.Node) schema.Node {
		if logicalType == nil {
			return schema.MustGroup(schema.NewGroupNode(name, r, fields, -1))
		}
		return schema.MustGroup(schema.NewGroupNodeLogical(name, r, fields, logicalType, -1))
	}
	list, mapType := schema.NewListLogicalType(), schema.MapLogicalType{}
	oldMap := func(fields ...schema.Node) schema.Node {
		return schema.MustGroup(schema.NewGroupNodeConverted("v", optional, fields, schema.ConvertedTypes.MapKeyValue, -1))
	}
	lists := leaf{[]int32{1, 2, 3, 4}, []int16{3, 3, 3, 3, 0, 1, 2}, []int16{0, 2, 1, 2, 0, 0, 0}} // [[1,2],[3,4]], null, [] and [[]]
	flat := leaf{[]int32{1, 2}, []int16{2, 2, 0, 1}, []int16{0, 1, 0, 0}}                          // [1,2], null and []
	pairs := leaf{[]int32{1, 2, 3}, []int16{3, 3, 3, 0}, []int16{0, 2, 1, 0}}
	for name, c := range map[string]struct {
		node   schema.Node
		leaves []leaf
		want   string
	}{
		"three levels":        {group("v", optional, list, group("list", repeated, nil, number("element", required))), []leaf{flat}, `[1,2] null []`},
		"repeated values":     {group("v", optional, list, number("element", repeated)), []leaf{flat}, `[1,2] null []`},
		"list of structs":     {group("v", optional, list, group("element", repeated, nil, number("a", required), number("b", required))), []leaf{flat, flat}, `[{"a":1,"b":1},{"a":2,"b":2}] null []`},
		"group named array":   {group("v", optional, list, group("array", repeated, nil, number("a", required))), []leaf{flat}, `[{"a":1},{"a":2}] null []`},
		"group named v_tuple": {group("v", optional, list, group("v_tuple", repeated, nil, number("a", required))), []leaf{flat}, `[{"a":1},{"a":2}] null []`},
		"lists in two levels": {group("v", optional, list, group("array", repeated, list, number("array", repeated))), []leaf{lists}, `[[1,2],[3,4]] null [] [[]]`},
		"lists named bag":     {group("v", optional, list, group("bag", repeated, list, number("item", repeated))), []leaf{lists}, `[[1,2],[3,4]] null [] [[]]`},
		"mixed levels":        {group("v", optional, list, group("array", repeated, list, group("list", repeated, nil, number("element", required)))), []leaf{lists}, `[[1,2],[3,4]] null [] [[]]`},
		"list in a struct":    {group("v", optional, list, group("bag", repeated, nil, number("a", repeated))), []leaf{lists}, `[{"a":[1,2]},{"a":[3,4]}] null [] [{"a":[]}]`},
		"list of maps": {
			group("v", optional, list, group("array", repeated, mapType, group("key_value", repeated, nil, number("key", required), number("value", required)))),
			[]leaf{pairs, pairs},
			`[[{"key":1,"value":1},{"key":2,"value":2}],[{"key":3,"value":3}]] null`,
		},
		"nested lists in a struct": {
			group("v", optional, nil, group("a", required, list, group("array", repeated, list, number("array", repeated)))),
			[]leaf{{lists.values, []int16{3, 3, 3, 3, 0, 1}, []int16{0, 2, 1, 2, 0, 0}}},
			`{"a":[[1,2],[3,4]]} null {"a":[]}`,
		},
		"in a map": {
			group("v", required, mapType, group("key_value", repeated, nil, number("key", required), group("value", required, list, group("array", repeated, list, number("array", repeated))))),
			[]leaf{{[]int32{7}, []int16{1}, []int16{0}}, {lists.values, []int16{3, 3, 3, 3}, []int16{0, 3, 2, 3}}},
			`[{"key":7,"value":[[1,2],[3,4]]}]`,
		},
		"MAP_KEY_VALUE": {oldMap(group("map", repeated, nil, number("k", required), number("w", required))), []leaf{flat, flat}, `[{"key":1,"value":1},{"key":2,"value":2}] null []`},
	} {
		t.Run(name, func(t *testing.T) {
			var written bytes.Buffer
			w := file.NewParquetWriter(&written, group("root", required, nil, c.node).(*schema.GroupNode))
			rows, err := w.AppendRowGroupChecked()
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range c.leaves {
				column, err := rows.NextColumn()
				if err != nil {
					t.Fatal(err)
				}
				if _, err := column.(*file.Int32ColumnChunkWriter).WriteBatch(l.values, l.def, l.rep); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			got, err := content(t, fileOf(t, "x.parquet", written.String()))
			_, got, _ = strings.Cut(got, "\n")
			got = strings.NewReplacer(`{"v":`, "", "}\n", " ").Replace(got)
			if err != nil || strings.TrimSpace(got) != c.want {
				t.Errorf("read %s, %v, want %s", got, err, c.want)
			}
		})
	}
}

package schema

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestInherit checks which fields keep their IDs if a put replaces a table's columns. Each test case has the old and the
// new columns, and the IDs that new fields must have. New IDs are above 100.
func TestInherit(t *testing.T) {
	field := func(name string, dt arrow.DataType) arrow.Field {
		return arrow.Field{Name: name, Type: dt, Nullable: true}
	}
	required := func(name string, dt arrow.DataType) arrow.Field { return arrow.Field{Name: name, Type: dt} }
	id, i32, i64, text := field("id", arrow.PrimitiveTypes.Int64), arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int64, arrow.BinaryTypes.String
	decimal := func(precision, scale int32) arrow.DataType {
		return &arrow.Decimal128Type{Precision: precision, Scale: scale}
	}
	list := func(f arrow.Field) arrow.DataType { return arrow.ListOfField(f) }
	for name, c := range map[string]struct {
		old, replacement []arrow.Field
		want             string
	}{
		"equal":                     {[]arrow.Field{id, field("v", text)}, []arrow.Field{id, field("v", text)}, "id=1 v=2"},
		"another order":             {[]arrow.Field{id, field("v", text)}, []arrow.Field{field("v", text), id}, "id=1 v=2"},
		"one more":                  {[]arrow.Field{id}, []arrow.Field{id, field("v", text)}, "id=1 v=new"},
		"one fewer":                 {[]arrow.Field{id, field("v", text)}, []arrow.Field{field("v", text)}, "v=2"},
		"renamed":                   {[]arrow.Field{id, field("v", text)}, []arrow.Field{id, field("w", text)}, "id=1 w=new"},
		"another type":              {[]arrow.Field{id, field("v", text)}, []arrow.Field{id, field("v", i64)}, "id=1 v=new"},
		"text to bytes":             {[]arrow.Field{field("v", text)}, []arrow.Field{field("v", arrow.BinaryTypes.Binary)}, "v=new"},
		"a larger integer":          {[]arrow.Field{field("v", i32)}, []arrow.Field{field("v", i64)}, "v=1"},
		"a smaller integer":         {[]arrow.Field{field("v", i64)}, []arrow.Field{field("v", i32)}, "v=new"},
		"an integer to a float":     {[]arrow.Field{field("v", i64)}, []arrow.Field{field("v", arrow.PrimitiveTypes.Float64)}, "v=new"},
		"a larger float":            {[]arrow.Field{field("v", arrow.PrimitiveTypes.Float32)}, []arrow.Field{field("v", arrow.PrimitiveTypes.Float64)}, "v=1"},
		"more digits":               {[]arrow.Field{field("v", decimal(5, 2))}, []arrow.Field{field("v", decimal(9, 2))}, "v=1"},
		"another scale":             {[]arrow.Field{field("v", decimal(5, 2))}, []arrow.Field{field("v", decimal(9, 3))}, "v=new"},
		"types that share a stored": {[]arrow.Field{field("v", arrow.PrimitiveTypes.Uint8)}, []arrow.Field{field("v", arrow.PrimitiveTypes.Int16)}, "v=1"},
		"becomes required":          {[]arrow.Field{field("v", i64)}, []arrow.Field{required("v", i64)}, "v=new"},
		"becomes optional":          {[]arrow.Field{required("v", i64)}, []arrow.Field{field("v", i64)}, "v=1"},
		"stays required":            {[]arrow.Field{required("v", i64)}, []arrow.Field{required("v", i64)}, "v=1"},
		"fields of a struct": {
			[]arrow.Field{field("s", arrow.StructOf(field("a", i32), field("b", text))), id},
			[]arrow.Field{field("s", arrow.StructOf(field("c", i64), field("a", i64), field("b", i64))), id},
			"id=4 s=1 s.a=2 s.b=new s.c=new",
		},
		"a struct without common fields": {[]arrow.Field{field("s", arrow.StructOf(field("a", i32)))}, []arrow.Field{field("s", arrow.StructOf(field("b", i32)))}, "s=new s.b=new"},
		"a struct to an integer":         {[]arrow.Field{field("s", arrow.StructOf(field("a", i32)))}, []arrow.Field{field("s", i32)}, "s=new"},
		"an integer to a struct":         {[]arrow.Field{field("s", i32)}, []arrow.Field{field("s", arrow.StructOf(field("a", i32)))}, "s=new s.a=new"},
		"larger elements":                {[]arrow.Field{field("l", list(field("e", i32)))}, []arrow.Field{field("l", list(field("x", i64)))}, "l=1 l.element=2"},
		"other elements":                 {[]arrow.Field{field("l", list(field("e", i32)))}, []arrow.Field{field("l", list(field("e", text)))}, "l=new l.element=new"},
		"elements become required":       {[]arrow.Field{field("l", list(field("e", i32)))}, []arrow.Field{field("l", list(required("e", i32)))}, "l=new l.element=new"},
		"larger values of a map":         {[]arrow.Field{field("m", arrow.MapOf(text, i32))}, []arrow.Field{field("m", arrow.MapOf(text, i64))}, "m=1 m.key=2 m.value=3"},
		"larger keys of a map":           {[]arrow.Field{field("m", arrow.MapOf(i32, i32))}, []arrow.Field{field("m", arrow.MapOf(i64, i32))}, "m=new m.key=new m.value=new"},
		"a struct in a list": {
			[]arrow.Field{field("l", list(field("e", arrow.StructOf(field("a", i32), field("b", i32)))))},
			[]arrow.Field{field("l", list(field("e", arrow.StructOf(field("b", i32)))))},
			"l=1 l.element=2 l.element.b=4",
		},
	} {
		t.Run(name, func(t *testing.T) {
			old := must.Get(NewShape(arrow.NewSchema(c.old, nil), nil, 0))(t).Schema
			shape := must.Get(NewShape(arrow.NewSchema(c.replacement, nil), old, 100))(t)
			names := must.Get(iceberg.IndexNameByID(shape.Schema))(t)
			var got []string
			for _, id := range slices.Sorted(maps.Keys(names)) {
				number := fmt.Sprint(id)
				if id > 100 {
					number = "new"
				}
				got = append(got, names[id]+"="+number)
			}
			want := strings.Fields(c.want)
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("got the IDs %q, want %q", got, want)
			}
			stored := must.Get(Stored(arrow.NewSchema(c.replacement, nil)))(t)
			for i, f := range shape.Stored.Fields() {
				if f.Nullable != stored.Field(i).Nullable || !Alike(f.Type, stored.Field(i).Type) {
					t.Errorf("got the stored column %v, want %v", f, stored.Field(i))
				}
			}
		})
	}
}

// TestInheritDefaults checks that a field that keeps its ID keeps its defaults and documentation, and that a shape has
// only required columns as identifiers.
func TestInheritDefaults(t *testing.T) {
	old := iceberg.NewSchemaWithIdentifiers(0, []int{1, 2, 3},
		iceberg.NestedField{ID: 1, Name: "a", Type: iceberg.PrimitiveTypes.Int32, Required: true, Doc: "first", InitialDefault: int32(7), WriteDefault: int32(8)},
		iceberg.NestedField{ID: 2, Name: "b", Type: iceberg.PrimitiveTypes.Int32, Required: true},
		iceberg.NestedField{ID: 3, Name: "c", Type: iceberg.PrimitiveTypes.String, Required: true})
	columns := []arrow.Field{{Name: "a", Type: arrow.PrimitiveTypes.Int64}, {Name: "b", Type: arrow.PrimitiveTypes.Int32, Nullable: true}}
	got := must.Get(NewShape(arrow.NewSchema(columns, nil), old, 3))(t).Schema
	want := iceberg.NewSchemaWithIdentifiers(0, []int{1},
		iceberg.NestedField{ID: 1, Name: "a", Type: iceberg.PrimitiveTypes.Int64, Required: true, Doc: "first", InitialDefault: int32(7), WriteDefault: int32(8)},
		iceberg.NestedField{ID: 2, Name: "b", Type: iceberg.PrimitiveTypes.Int32})
	if !got.Equals(want) {
		t.Errorf("got %v with identifiers %v, want %v with identifiers %v", got, got.IdentifierFieldIDs, want, want.IdentifierFieldIDs)
	}
}

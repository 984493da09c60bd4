package take_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/extensions"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables/internal/rows/take"
)

func arrayOf(t *testing.T, typ arrow.DataType, json string) arrow.Array {
	t.Helper()
	a, _, err := array.FromJSON(memory.DefaultAllocator, typ, strings.NewReader(json))
	if err != nil {
		t.Fatalf("decode JSON as %s: %v", typ, err)
	}
	return a
}

var numbers, texts = `[null,1,null,3,4,5,null,7,8,9,0]`, `["",null,"a","bb",null,"a text of more than twelve bytes","ä","x","y","","z"]`

// sampleArrays returns an array of every type, with eleven values each.
func sampleArrays(t *testing.T) map[string]arrow.Array {
	all := map[string]arrow.Array{"null": array.NewNull(11)}
	for _, typ := range []arrow.DataType{
		arrow.PrimitiveTypes.Int8, arrow.PrimitiveTypes.Uint8, arrow.PrimitiveTypes.Int16, arrow.PrimitiveTypes.Uint16, arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Uint32,
		arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Uint64, arrow.FixedWidthTypes.Float16, arrow.PrimitiveTypes.Float32, arrow.PrimitiveTypes.Float64,
		arrow.FixedWidthTypes.Date32, arrow.FixedWidthTypes.Date64, arrow.FixedWidthTypes.Time32s, arrow.FixedWidthTypes.Time64ns,
		arrow.FixedWidthTypes.Timestamp_us, arrow.FixedWidthTypes.Duration_ns,
		&arrow.Decimal32Type{Precision: 7, Scale: 2}, &arrow.Decimal64Type{Precision: 9}, &arrow.Decimal128Type{Precision: 38}, &arrow.Decimal256Type{Precision: 50, Scale: 3},
	} {
		json := numbers
		if arrow.IsDecimal(typ.ID()) {
			json = `[null,"1",null,"3","4","5",null,"7","8","9","0"]`
		}
		all[typ.String()] = arrayOf(t, typ, json)
	}
	for _, typ := range []arrow.DataType{arrow.BinaryTypes.String, arrow.BinaryTypes.LargeString, arrow.BinaryTypes.StringView} {
		all[typ.String()] = arrayOf(t, typ, texts)
	}
	encoded := `["AA==",null,"YWI=","","AAAA",null,"YWI=","YSB0ZXh0IG9mIG1vcmUgdGhhbiB0d2VsdmU=","","AA==","YQ=="]`
	for _, typ := range []arrow.DataType{arrow.BinaryTypes.Binary, arrow.BinaryTypes.LargeBinary, arrow.BinaryTypes.BinaryView} {
		all[typ.String()] = arrayOf(t, typ, encoded)
	}
	all["fixed bytes"] = arrayOf(t, &arrow.FixedSizeBinaryType{ByteWidth: 2}, `["YWI=",null,"YWE=","YWM=","YWQ=",null,"YWU=","YWY=","YWc=","YWg=","YWk="]`)
	bools := `[null,true,false,true,null,false,true,true,false,null,true]`
	all["bool"] = arrayOf(t, arrow.FixedWidthTypes.Boolean, bools)
	lists := `[[1],null,[],[2,null,3],[4],null,[null],[5,6],[],[7],[8,9]]`
	all["list"], all["large list"] = arrayOf(t, arrow.ListOf(arrow.PrimitiveTypes.Int16), lists), arrayOf(t, arrow.LargeListOf(arrow.PrimitiveTypes.Int16), lists)
	all["list of bools"] = arrayOf(t, arrow.ListOf(arrow.FixedWidthTypes.Boolean), `[[true],null,[],[null,false],[true],null,[null],[true,true],[],[false],[true]]`)
	all["list of views"] = arrayOf(t, arrow.ListOf(arrow.BinaryTypes.StringView), `[["a"],null,[],[null,"bb"],["a text of more than twelve bytes"],null,[null],["x","y"],[],[""],["z"]]`)
	for _, inner := range []arrow.DataType{arrow.PrimitiveTypes.Int16, arrow.PrimitiveTypes.Float64} {
		all["pairs of "+inner.String()] = arrayOf(t, arrow.FixedSizeListOf(2, inner), `[[1,2],null,[3,null],[4,5],[6,7],null,[8,9],[0,1],[2,3],[null,null],[4,5]]`)
	}
	all["map"] = arrayOf(t, arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int8), `[[{"key":"a","value":1}],null,[],[{"key":"b","value":null},{"key":"c","value":2}],[],null,[],[{"key":"d","value":3}],[],[],[{"key":"e","value":4}]]`)
	all["struct"] = arrayOf(t, arrow.StructOf(arrow.Field{Name: "a", Type: arrow.FixedWidthTypes.Boolean, Nullable: true}, arrow.Field{Name: "b", Type: arrow.ListOf(arrow.BinaryTypes.String), Nullable: true}),
		`[{"a":true,"b":["x"]},null,{"a":null,"b":[]},{"a":false,"b":null},{"a":true,"b":["y",null]},null,{"a":true,"b":["z"]},{"a":false,"b":[]},{"a":null,"b":null},{"a":true,"b":[""]},{"a":false,"b":["w"]}]`)
	dictionaryType := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}
	all["dictionary"] = array.NewDictionaryArray(dictionaryType, arrayOf(t, arrow.PrimitiveTypes.Int8, `[0,null,1,2,0,null,1,2,0,1,2]`), arrayOf(t, arrow.BinaryTypes.String, `["a",null,"c"]`))
	all["extension"] = array.NewExtensionArrayWithStorage(extensions.NewUUIDType(), arrayOf(t, &arrow.FixedSizeBinaryType{ByteWidth: 16},
		`["AAAAAAAAAAAAAAAAAAAAAA==",null,"AAAAAAAAAAAAAAAAAAAAAQ==","AAAAAAAAAAAAAAAAAAAAAg==","AAAAAAAAAAAAAAAAAAAAAw==",null,"AAAAAAAAAAAAAAAAAAAABA==","AAAAAAAAAAAAAAAAAAAABQ==","AAAAAAAAAAAAAAAAAAAABg==","AAAAAAAAAAAAAAAAAAAABw==","AAAAAAAAAAAAAAAAAAAACA=="]`))
	ends := arrayOf(t, arrow.PrimitiveTypes.Int32, `[3,4,11]`)
	all["runs"] = array.NewRunEndEncodedArray(ends, arrayOf(t, arrow.PrimitiveTypes.Int64, `[1,null,3]`), 11, 0)
	return all
}

// TestRows selects random rows from arrays of every type, whole and sliced, and compares them value by value.
func TestRows(t *testing.T) {
	for name, full := range sampleArrays(t) {
		for range 200 {
			start := rand.Int64N(11)
			a := array.NewSlice(full, start, start+1+rand.Int64N(11-start))
			indices := make([]int, rand.IntN(20))
			for i := range indices {
				if indices[i] = rand.IntN(a.Len()); rand.IntN(8) == 0 {
					indices[i] = -1
				}
			}
			out, err := take.Rows(a, indices)
			if err != nil {
				t.Fatalf("Rows of %s: %v", name, err)
			}
			if !arrow.TypeEqual(out.DataType(), a.DataType()) || out.Len() != len(indices) {
				t.Fatalf("%s: %d rows of type %s, want %d of %s", name, out.Len(), out.DataType(), len(indices), a.DataType())
			}
			if err := array.ValidateFull(out); err != nil && name != "null" && name != "runs" {
				t.Fatalf("Rows of %s returned an invalid array: %v", name, err)
			}
			for i, p := range indices {
				want := array.NullValueStr
				if p >= 0 {
					want = a.ValueStr(p)
				}
				if got := out.ValueStr(i); got != want || name != "runs" && name != "null" && out.IsNull(i) != (p < 0 || a.IsNull(p)) {
					t.Fatalf("%s: row %d of %v is %s, want %s: %v of %v", name, i, indices, got, want, out, a)
				}
			}
		}
	}
}

// TestRuns selects random runs from several slices of arrays of every type, with and without nulls.
func TestRuns(t *testing.T) {
	for name, full := range sampleArrays(t) {
		if name == "runs" {
			continue // no such column is sorted
		}
		schema := arrow.NewSchema([]arrow.Field{{Name: "c", Type: full.DataType(), Nullable: true}}, nil)
		for range 200 {
			var batches []arrow.RecordBatch
			var runs []take.Run
			var want []arrow.Array
			for batch := range 1 + rand.IntN(3) {
				start := rand.Int64N(11)
				a := array.NewSlice(full, start, start+1+rand.Int64N(11-start))
				batches = append(batches, array.NewRecordBatch(schema, []arrow.Array{a}, int64(a.Len())))
				for range 1 + rand.IntN(4) {
					from := rand.IntN(a.Len())
					runs = append(runs, take.Run{Batch: batch, From: from, To: from + 1 + rand.IntN(a.Len()-from)})
				}
			}
			rand.Shuffle(len(runs), func(i, j int) { runs[i], runs[j] = runs[j], runs[i] })
			rows := 0
			for _, r := range runs {
				want = append(want, array.NewSlice(batches[r.Batch].Column(0), int64(r.From), int64(r.To)))
				rows += r.To - r.From
			}
			got, err := take.Runs(batches, runs, rows)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			i := 0
			for _, part := range want {
				for row := range part.Len() {
					if got.Column(0).IsNull(i) != part.IsNull(row) || got.Column(0).ValueStr(i) != part.ValueStr(row) {
						t.Fatalf("%s: runs %v: row %d is %s, want %s", name, runs, i, got.Column(0).ValueStr(i), part.ValueStr(row))
					}
					i++
				}
			}
		}
	}
}

// TestEncode checks that equal values get the same code, also in a later array, that nulls get none, and that Encode ends
// before the first value that may not be added.
func TestEncode(t *testing.T) {
	d := take.Dictionary{Codes: map[string]int32{}}
	for _, c := range []struct{ json, want string }{
		{`["b",null,"a","b"]`, "[0 (null) 1 0], new rows [0 2]"},
		{`["a","c",null]`, "[1 2 (null)], new rows [1]"},
		{`["a","d","a"]`, "[1], new rows []"},
		{`[]`, "[], new rows []"},
	} {
		a := arrayOf(t, arrow.BinaryTypes.String, c.json).(*array.String)
		key := func(row int) ([]byte, error) { return []byte(a.Value(row)), nil }
		codes, rows, err := d.Encode(a, key, func(code int, _ []byte) bool { return code < 3 })
		if got := fmt.Sprintf("%v, new rows %v", codes, rows); err != nil || got != c.want {
			t.Errorf("Encode(%s) = %s, %v, want %s", c.json, got, err, c.want)
		}
	}
}

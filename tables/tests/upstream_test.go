package tables_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/array/arreflect"
	"github.com/apache/arrow-go/v18/arrow/compute"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/apache/iceberg-go"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestUpstream runs the statements of the reports about arrow-go and iceberg-go in docs/dev/upstream.md. A part fails as
// soon as its fault is repaired, because the work-around that the page names can then go.
func TestUpstream(t *testing.T) {
	texts := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: arrow.BinaryTypes.String}
	required := arrow.ListOfField(arrow.Field{Name: "element", Type: arrow.PrimitiveTypes.Int64})
	for _, c := range []struct {
		name string
		run  func(t *testing.T) string
		want string // the wrong result
	}{
		{"filter", func(t *testing.T) string {
			values, mask := arrayOf(t, arrow.FixedWidthTypes.Boolean, `[true,false,false,null]`), arrayOf(t, arrow.FixedWidthTypes.Boolean, `[true,false,true,true]`)
			filtered, err := compute.FilterArray(t.Context(), values, mask, *compute.DefaultFilterOptions())
			return fmt.Sprint(filtered, err)
		}, "[(null) (null) (null)] <nil>"},
		{"required", func(t *testing.T) string {
			lists, err := throughParquet(t, arrayOf(t, required, `[[1,null],[2]]`))
			return fmt.Sprint(lists.(*array.List).ListValues(), err)
		}, "[1 0] <nil>"},
		{"hidden", func(t *testing.T) string {
			lists := arrayOf(t, arrow.ListOf(arrow.PrimitiveTypes.Int64), `[[1],[2],[3]]`).Data()
			isValid := memory.NewBufferBytes([]byte{0b101})
			data := array.NewData(lists.DataType(), 3, []*memory.Buffer{isValid, lists.Buffers()[1]}, lists.Children(), 1, 0)
			return fmt.Sprint(throughParquet(t, array.NewListData(data)))
		}, "<nil> lists with non-zero length null components are not supported"},
		{"duration", func(t *testing.T) string {
			return fmt.Sprint(throughParquet(t, arrayOf(t, arrow.FixedWidthTypes.Duration_us, `[1]`)))
		}, "<nil> not implemented: support for DURATION"},
		{"dictionary", func(t *testing.T) string {
			return fmt.Sprint(throughParquet(t, arrayOf(t, arrow.ListOf(texts), `[[]]`)))
		}, "<nil> unknown error type: runtime error: invalid memory address or nil pointer dereference"},
		{"named", func(*testing.T) string {
			type price float64
			_, err := arreflect.FromSlice([]struct{ Price price }{{1}}, memory.DefaultAllocator)
			return fmt.Sprint(err)
		}, `struct field "Price": unsupported Go type for Arrow inference tables_test.price: arreflect: unsupported type`},
		{"null", func(t *testing.T) string {
			column := arrow.Field{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true}
			rows, err := arreflect.ToSlice[struct {
				N int64 `arrow:"n"`
			}](arrayOf(t, arrow.StructOf(column), `[{"n":null}]`))
			return fmt.Sprint(rows, err)
		}, "[{0}] <nil>"},
		{"default", func(t *testing.T) string {
			var f iceberg.NestedField
			must.Do(t, json.Unmarshal([]byte(`{"id":1,"name":"n","type":"long","required":false,"initial-default":9007199254740993}`), &f))
			return fmt.Sprintf("%T %.0f", f.InitialDefault, f.InitialDefault)
		}, "float64 9007199254740992"},
		{"bounds", func(t *testing.T) string {
			s := iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "v", Type: iceberg.PrimitiveTypes.String})
			spec := iceberg.NewPartitionSpec(iceberg.PartitionField{SourceIDs: []int{1}, FieldID: 1000, Name: "v", Transform: iceberg.IdentityTransform{}})
			builder := must.Get(iceberg.NewDataFileBuilder(spec, iceberg.EntryContentData, "f", iceberg.ParquetFile, map[int]any{1000: ""}, nil, nil, 1, 1))(t)
			entry := iceberg.NewManifestEntry(iceberg.EntryStatusADDED, new(int64(1)), nil, nil, builder.Build())
			var content, list bytes.Buffer
			manifest := must.Get(iceberg.WriteManifest("m", &content, 2, spec, s, 1, []iceberg.ManifestEntry{entry}))(t)
			must.Do(t, iceberg.WriteManifestList(2, &list, 1, nil, new(int64(1)), 0, []iceberg.ManifestFile{manifest}))
			read := must.Get(iceberg.ReadManifestList(&list))(t)
			return fmt.Sprint(read[0].Partitions()[0].LowerBound)
		}, "<nil>"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.run(t); got != c.want {
				t.Errorf("got %s instead of the wrong result %s: if the fault is repaired, remove what docs/dev/upstream.md says", got, c.want)
			}
		})
	}
}

func arrayOf(t *testing.T, typ arrow.DataType, text string) arrow.Array {
	a, _, err := array.FromJSON(memory.DefaultAllocator, typ, strings.NewReader(text))
	must.Do(t, err)
	return a
}

// throughParquet writes an array to a Parquet file, and reads it.
func throughParquet(t *testing.T, a arrow.Array) (arrow.Array, error) {
	columns := arrow.NewSchema([]arrow.Field{{Name: "v", Type: a.DataType(), Nullable: true}}, nil)
	var out bytes.Buffer
	w, err := pqarrow.NewFileWriter(columns, &out, parquet.NewWriterProperties(), pqarrow.DefaultWriterProps())
	if err == nil {
		err = w.Write(array.NewRecordBatch(columns, []arrow.Array{a}, int64(a.Len())))
	}
	if err != nil {
		return nil, err
	}
	must.Do(t, w.Close())
	f := must.Get(file.NewParquetReader(bytes.NewReader(out.Bytes())))(t)
	r := must.Get(pqarrow.NewFileReader(f, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator))(t)
	rows := must.Get(r.ReadTable(t.Context()))(t)
	return rows.Column(0).Data().Chunk(0), nil
}

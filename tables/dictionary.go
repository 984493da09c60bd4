package tables

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables/internal/arrowsafe"
	"github.com/go-partd/partd/tables/internal/datafile"
	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/sorted"
	"github.com/go-partd/partd/tables/internal/take"
)

// maxDictionary is the maximum encoded size of a dictionary in a table's schema. A column with a larger
// dictionary is read as plain values.
const maxDictionary = 64 << 10

// withDictionaries records the dictionaries of the first batch in the schema of a put. Readers get their values
// in the same order, even values that no row contains.
func withDictionaries(put *arrow.Schema, rows datafile.Rows) *arrow.Schema {
	src, ok := rows.(*datafile.Source)
	if !ok || len(src.Batches) == 0 && !src.IsWhole() {
		return put
	}
	fields := slices.Clone(put.Fields())
	for i, f := range fields {
		t, ok := f.Type.(*arrow.DictionaryType)
		if !ok {
			continue
		}
		values := array.MakeArrayOfNull(memory.DefaultAllocator, t.ValueType, 0)
		if len(src.Batches) > 0 {
			d, ok := src.Batches[0].Column(i).(*array.Dictionary)
			if !ok {
				continue
			}
			values = d.Dictionary()
		}
		valueSchema := arrow.NewSchema([]arrow.Field{{Name: "v", Type: values.DataType(), Nullable: true}}, nil)
		batch := array.NewRecordBatch(valueSchema, []arrow.Array{values}, int64(values.Len()))
		var b bytes.Buffer
		w := ipc.NewWriter(&b, ipc.WithSchema(valueSchema))
		err := w.Write(batch)
		batch.Release()
		if err == nil && w.Close() == nil && b.Len() <= maxDictionary {
			m := fields[i].Metadata.ToMap()
			m[schema.DictionaryKey] = base64.StdEncoding.EncodeToString(b.Bytes())
			fields[i].Metadata = arrow.MetadataFrom(m)
		}
	}
	metadata := put.Metadata()
	return arrow.NewSchema(fields, &metadata)
}

// maxDistinct limits the number of values of a dictionary in memory.
const maxDistinct = 1 << 22

// dictionary contains the values of a column seen so far.
type dictionary struct {
	typ    *arrow.DictionaryType
	values arrow.Array
	index  map[string]int32
}

// newDictionary returns the recorded dictionary of a column with the given type of values,
// or nil if there is none.
func newDictionary(f arrow.Field, values arrow.DataType) (*dictionary, error) {
	recorded, err := schema.Dictionary(f)
	if recorded == nil {
		return nil, err
	}
	defer recorded.Release()
	known, err := schema.ConvertArray(recorded, values)
	if err != nil {
		return nil, err
	}
	// The dictionary may outgrow the index type of the put.
	d := &dictionary{&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: values, Ordered: f.Type.(*arrow.DictionaryType).Ordered}, known, map[string]int32{}}
	for i := range known.Len() {
		if known.IsValid(i) { // a dictionary may contain a null, and repeated values
			d.index[string(sorted.AppendKey(nil, known, i))] = int32(i)
		}
	}
	return d, nil
}

// encode returns a as a dictionary array, after adding its new values to d.
func (d *dictionary) encode(a arrow.Array) (arrow.Array, error) {
	indices := array.NewInt32Builder(memory.DefaultAllocator)
	defer indices.Release()
	var fresh []int
	var key []byte
	for i := range a.Len() {
		if a.IsNull(i) {
			indices.AppendNull()
			continue
		}
		key = sorted.AppendKey(key[:0], a, i)
		pos, ok := d.index[string(key)]
		if !ok {
			pos = int32(d.values.Len() + len(fresh))
			d.index[string(key)] = pos
			fresh = append(fresh, i)
		}
		indices.Append(pos)
	}
	if len(d.index) > maxDistinct {
		return nil, fmt.Errorf("a dictionary can have at most %d values: scan without dictionaries", maxDistinct)
	}
	if len(fresh) > 0 {
		more, err := take.Rows(a, fresh)
		if err != nil {
			return nil, err
		}
		defer more.Release()
		if d.values, err = array.Concatenate([]arrow.Array{d.values, more}, memory.DefaultAllocator); err != nil {
			return nil, err
		}
	}
	pos := indices.NewArray()
	defer pos.Release()
	return array.NewDictionaryArray(d.typ, pos, d.values), nil
}

// AsDictionaries encodes columns of r as dictionaries if put, the result of [Table.SchemaAsPut], has a
// dictionary type for them. It takes ownership of r.
func AsDictionaries(r array.RecordReader, put *arrow.Schema) (array.RecordReader, error) {
	fields := slices.Clone(r.Schema().Fields())
	dictionaries := map[int]*dictionary{}
	for i, f := range fields {
		at := put.FieldIndices(f.Name)
		if len(at) != 1 {
			continue
		}
		d, err := newDictionary(put.Field(at[0]), f.Type)
		if err != nil {
			r.Release()
			return nil, fmt.Errorf("the dictionary of column %q: %w", f.Name, err)
		}
		if d != nil {
			dictionaries[i], fields[i].Type = d, d.typ
		}
	}
	if len(dictionaries) == 0 {
		return r, nil
	}
	metadata := r.Schema().Metadata()
	encodedSchema := arrow.NewSchema(fields, &metadata)
	return arrowsafe.Reader(encodedSchema, arrowsafe.Each(r, func(b arrow.RecordBatch) (arrow.RecordBatch, error) {
		columns := slices.Clone(b.Columns())
		for i, d := range dictionaries {
			encoded, err := d.encode(columns[i])
			if err != nil {
				return nil, fmt.Errorf("column %q: %w", fields[i].Name, err)
			}
			defer encoded.Release()
			columns[i] = encoded
		}
		return array.NewRecordBatch(encodedSchema, columns, b.NumRows()), nil
	}), r.Release), nil
}

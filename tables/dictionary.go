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

// maxDictionary is how large the values of a column's dictionary may be, as they are
// kept. A column with a larger one comes back as its values.
const maxDictionary = 64 << 10

// withDictionaries notes in a schema that is put the values of its dictionaries, as
// the first batch has them: their order means something, and so do those that no row
// has.
func withDictionaries(put *arrow.Schema, rows datafile.Rows) *arrow.Schema {
	src, ok := rows.(*datafile.Source)
	if !ok || len(src.Batches) == 0 && !src.Whole() {
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
		one := arrow.NewSchema([]arrow.Field{{Name: "v", Type: values.DataType(), Nullable: true}}, nil)
		batch := array.NewRecordBatch(one, []arrow.Array{values}, int64(values.Len()))
		var b bytes.Buffer
		w := ipc.NewWriter(&b, ipc.WithSchema(one))
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

// mostDistinct bounds how many values a dictionary has, in memory.
const mostDistinct = 1 << 22

// dictionary is the values of a column that were seen so far.
type dictionary struct {
	as     *arrow.DictionaryType
	values arrow.Array
	index  map[string]int32
}

// newDictionary returns the dictionary that is noted for a column whose values have
// a type, nil if there is none.
func newDictionary(f arrow.Field, values arrow.DataType) (*dictionary, error) {
	noted, err := schema.Dictionary(f)
	if noted == nil {
		return nil, err
	}
	defer noted.Release()
	known, err := schema.ConvertArray(noted, values)
	if err != nil {
		return nil, err
	}
	// More values may come than the type of the indices was made for.
	d := &dictionary{&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: values, Ordered: f.Type.(*arrow.DictionaryType).Ordered}, known, map[string]int32{}}
	for i := range known.Len() {
		if known.IsValid(i) { // one may have a null among them, and values twice
			d.index[string(sorted.AppendKey(nil, known, i))] = int32(i)
		}
	}
	return d, nil
}

// encode returns values as a dictionary, which has grown by those that are new.
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
		at, ok := d.index[string(key)]
		if !ok {
			at = int32(d.values.Len() + len(fresh))
			d.index[string(key)] = at
			fresh = append(fresh, i)
		}
		indices.Append(at)
	}
	if len(d.index) > mostDistinct {
		return nil, fmt.Errorf("more than %d values are too many for a dictionary: scan without", mostDistinct)
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
	at := indices.NewArray()
	defer at.Release()
	return array.NewDictionaryArray(d.as, at, d.values), nil
}

// AsDictionaries makes dictionaries of the columns of a reader that have, in the schema
// of a [Table.SchemaAsPut], the name of one. It takes the reader over.
func AsDictionaries(r array.RecordReader, put *arrow.Schema) (array.RecordReader, error) {
	fields := slices.Clone(r.Schema().Fields())
	all := map[int]*dictionary{}
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
			all[i], fields[i].Type = d, d.as
		}
	}
	if len(all) == 0 {
		return r, nil
	}
	metadata := r.Schema().Metadata()
	made := arrow.NewSchema(fields, &metadata)
	return arrowsafe.Reader(made, arrowsafe.Each(r, func(b arrow.RecordBatch) (arrow.RecordBatch, error) {
		columns := slices.Clone(b.Columns())
		for i, d := range all {
			encoded, err := d.encode(columns[i])
			if err != nil {
				return nil, fmt.Errorf("column %q: %w", fields[i].Name, err)
			}
			defer encoded.Release()
			columns[i] = encoded
		}
		return array.NewRecordBatch(made, columns, b.NumRows()), nil
	}), r.Release), nil
}

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

	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/rows/sorted"
	"github.com/go-partd/partd/tables/internal/rows/take"
)

// maxDictionaryBytes is the maximum size of a dictionary in a table's schema, encoded as Arrow IPC. If a column's
// dictionary is larger, the column is read as plain values.
const maxDictionaryBytes = 64 << 10

// withDictionaries adds the dictionaries in the first batch of rows to putSchema, the schema of rows. It returns the
// result. Readers then get the same dictionary values in the same order, even values that no row contains.
func withDictionaries(putSchema *arrow.Schema, rows datafile.Rows) *arrow.Schema {
	src, ok := rows.(*datafile.Source)
	if !ok || len(src.Batches) == 0 && !src.IsWhole() {
		return putSchema
	}
	fields := slices.Clone(putSchema.Fields())
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
		if err == nil && w.Close() == nil && b.Len() <= maxDictionaryBytes {
			m := fields[i].Metadata.ToMap()
			m[schema.DictionaryKey] = base64.StdEncoding.EncodeToString(b.Bytes())
			fields[i].Metadata = arrow.MetadataFrom(m)
		}
	}
	metadata := putSchema.Metadata()
	return arrow.NewSchema(fields, &metadata)
}

// maxDistinct is the maximum number of values in a dictionary that a scan builds.
const maxDistinct = 1 << 22

// dictionary encodes a column's values as indices.
type dictionary struct {
	take.Dictionary
	typ    *arrow.DictionaryType
	values arrow.Array
}

// newDictionary returns the dictionary recorded in f, with values converted to valueType, or nil if f records none.
func newDictionary(f arrow.Field, valueType arrow.DataType) (*dictionary, error) {
	recordedValues, err := schema.Dictionary(f)
	if recordedValues == nil {
		return nil, err
	}
	defer recordedValues.Release()
	values, err := schema.ConvertArray(recordedValues, valueType)
	if err != nil {
		return nil, err
	}
	// Use int32 indices, because the dictionary may become too large for the index type in the put.
	typ := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: valueType, Ordered: f.Type.(*arrow.DictionaryType).Ordered}
	d := &dictionary{take.Dictionary{Codes: map[string]int32{}, Len: values.Len()}, typ, values}
	appendKey := sorted.OrderKeyAppender(values)
	for i := range values.Len() {
		if values.IsValid(i) { // a dictionary can contain a null
			d.Codes[string(appendKey(nil, i))] = int32(i)
		}
	}
	return d, nil
}

// encode adds the new values of a to d and returns a as a dictionary array.
func (d *dictionary) encode(a arrow.Array) (arrow.Array, error) {
	var key []byte
	appendKey := sorted.OrderKeyAppender(a)
	codes, newIndices, err := d.Encode(a, func(row int) ([]byte, error) {
		key = appendKey(key[:0], row)
		return key, nil
	}, func(int, []byte) bool { return len(d.Codes) < maxDistinct })
	if err != nil {
		return nil, err
	}
	defer codes.Release()
	if codes.Len() < a.Len() {
		return nil, fmt.Errorf("the dictionary has more than %d values: scan without the option Dictionaries", maxDistinct)
	}
	if len(newIndices) > 0 {
		newValues, err := take.Rows(a, newIndices)
		if err != nil {
			return nil, err
		}
		defer newValues.Release()
		d.values, err = array.Concatenate([]arrow.Array{d.values, newValues}, memory.DefaultAllocator)
		if err != nil {
			return nil, err
		}
	}
	return array.NewDictionaryArray(d.typ, codes, d.values), nil
}

// AsDictionaries returns a reader of r's rows in which a column is a dictionary if put records dictionary values for
// it. put is the result of [Table.SchemaAsPut]. Releasing the returned reader releases r; if AsDictionaries fails, it
// releases r itself.
func AsDictionaries(r array.RecordReader, put *arrow.Schema) (array.RecordReader, error) {
	fields := slices.Clone(r.Schema().Fields())
	dictionaries := map[int]*dictionary{}
	for i, f := range fields {
		positions := put.FieldIndices(f.Name)
		if len(positions) != 1 {
			continue
		}
		d, err := newDictionary(put.Field(positions[0]), f.Type)
		if err != nil {
			r.Release()
			return nil, fmt.Errorf("read the dictionary of column %q: %w", f.Name, err)
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
	return batches.Reader(encodedSchema, batches.Each(r, func(b arrow.RecordBatch) (arrow.RecordBatch, error) {
		columns := slices.Clone(b.Columns())
		for i, d := range dictionaries {
			encoded, err := d.encode(columns[i])
			if err != nil {
				return nil, fmt.Errorf("encode column %q: %w", fields[i].Name, err)
			}
			defer encoded.Release()
			columns[i] = encoded
		}
		return array.NewRecordBatch(encodedSchema, columns, b.NumRows()), nil
	}), r.Release), nil
}

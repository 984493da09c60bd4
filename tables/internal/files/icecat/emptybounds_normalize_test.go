package icecat

import (
	"bytes"
	"maps"
	"slices"
	"testing"

	"github.com/apache/iceberg-go"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestNormalizeBounds checks that bounds of times in nanoseconds are removed, also in nested columns, and others are
// kept.
func TestNormalizeBounds(t *testing.T) {
	micros, ns, utc := iceberg.PrimitiveTypes.Timestamp, iceberg.TimestampNsType{}, iceberg.TimestampTzNsType{}
	withNanoseconds := []iceberg.NestedField{
		{ID: 1, Name: "micros", Type: micros},
		{ID: 2, Name: "ns", Type: ns},
		{ID: 3, Name: "utc", Type: utc},
		{ID: 4, Name: "list", Type: &iceberg.ListType{ElementID: 5, Element: ns}},
		{ID: 6, Name: "struct", Type: &iceberg.StructType{FieldList: []iceberg.NestedField{{ID: 7, Name: "utc", Type: utc}, {ID: 8, Name: "timestamp_ns", Type: micros}}}},
		{ID: 9, Name: "map", Type: &iceberg.MapType{KeyID: 10, KeyType: ns, ValueID: 11, ValueType: micros}},
	}
	all := map[int][]byte{1: nil, 2: nil, 3: nil, 5: nil, 7: nil, 8: nil, 10: nil, 11: nil}
	for id := range all {
		all[id] = []byte{byte(id), 0, 0, 0, 0, 0, 0, 0}
	}
	for _, c := range []struct {
		fields  []iceberg.NestedField
		invalid bool // the manifest's metadata has an invalid schema
		want    []int
	}{
		{withNanoseconds, false, []int{1, 8, 11}},
		{withNanoseconds[2:4], false, nil},
		{withNanoseconds, true, nil},
		{withNanoseconds[:1], false, []int{1, 2, 3, 5, 7, 8, 10, 11}},
	} {
		var b bytes.Buffer
		id, sequence := int64(7), int64(1)
		w := must.Get(iceberg.NewManifestWriter(3, &b, *iceberg.UnpartitionedSpec, iceberg.NewSchema(0, c.fields...), id))(t)
		d, err := iceberg.NewDataFileBuilder(*iceberg.UnpartitionedSpec, iceberg.EntryContentData, "file:///x.parquet", iceberg.ParquetFile, nil, nil, nil, 1, 100)
		if err == nil {
			d.LowerBoundValues(all).UpperBoundValues(all)
			err = w.Add(iceberg.NewManifestEntry(iceberg.EntryStatusADDED, &id, &sequence, &sequence, d.Build()))
		}
		if err == nil {
			err = w.Close()
		}
		content := b.Bytes()
		if c.invalid {
			content = bytes.Replace(content, []byte(`"struct"`), []byte(`"strucT"`), 1)
		}
		var isNormal bool
		if err == nil {
			isNormal, err = countAvro(t.Context(), bytes.NewReader(content), int64(len(content)), ManifestKind, ManifestBudget())
		}
		if err == nil && !isNormal {
			content, err = normalize(content)
		}
		must.Do(t, err)
		m := iceberg.NewManifestFile(3, "x", int64(len(content)), 0, id).SequenceNum(1, 1).Build()
		entries, err := iceberg.ReadManifest(m, bytes.NewReader(content), false)
		if err != nil || len(entries) != 1 {
			t.Fatalf("entries %v, error %v", entries, err)
		}
		for _, bounds := range []map[int][]byte{entries[0].DataFile().LowerBoundValues(), entries[0].DataFile().UpperBoundValues()} {
			if got := slices.Sorted(maps.Keys(bounds)); !slices.Equal(got, c.want) {
				t.Errorf("fields %v, invalid %v: bounds of %v, want %v", c.fields, c.invalid, got, c.want)
			}
			for id, value := range bounds {
				if !bytes.Equal(value, all[id]) {
					t.Errorf("bound of %d is %x, want %x", id, value, all[id])
				}
			}
		}
	}
}

package datafile

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
)

// inherit returns the values of column c for the rows that a step keeps. In Iceberg's lineage columns, it replaces
// nulls with the inherited values. It may release values. f.lineage.FirstRowID must not be nil.
func (f *file) inherit(c Column, values arrow.Array, st *step, groupStart int64) arrow.Array {
	if f.lineage.Sequence == nil || values.NullN() == 0 {
		return values
	}
	id, _ := idOf(c.IDs)
	if !iceberg.IsMetadataColumn(id) {
		return values
	}
	stored := values.(*array.Int64)
	defer stored.Release()
	b := array.NewInt64Builder(memory.DefaultAllocator)
	defer b.Release()
	b.Reserve(stored.Len())
	for i := range stored.Len() {
		switch {
		case stored.IsValid(i):
			b.Append(stored.Value(i))
		case id == iceberg.LastUpdatedSequenceNumberFieldID:
			b.Append(*f.lineage.Sequence)
		case st.keptRows != nil:
			b.Append(*f.lineage.FirstRowID + groupStart + st.from + int64(st.keptRows[i]))
		default:
			b.Append(*f.lineage.FirstRowID + groupStart + st.from + int64(i))
		}
	}
	return b.NewArray()
}

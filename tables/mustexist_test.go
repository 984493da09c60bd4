package tables

import (
	"errors"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// A put to a table that must exist does not create it, even if the table is deleted while the
// rows arrive.
func TestPutMustExist(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: arrow.PrimitiveTypes.Int64, Nullable: true}}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	b.Field(0).(*array.Int64Builder).AppendValues(make([]int64, 10_000), nil)
	batch := b.NewRecordBatch()
	for name, fold := range map[string]int64{"of few rows": 0, "of many": 1 << 10} {
		for _, mode := range []PutMode{PutAppend, PutReplace} {
			s, err := Open(t.Context(), t.TempDir(), &Options{FoldBytes: fold})
			if err != nil {
				t.Fatal(err)
			}
			bucket := s.Bucket("")
			put := func(o *PutOptions, during func()) error {
				_, err := bucket.Put(t.Context(), "t", array.ReaderFromIter(schema, func(yield func(arrow.RecordBatch, error) bool) {
					for i := range 3 {
						if i == 2 {
							during()
						}
						batch.Retain()
						if !yield(batch, nil) {
							return
						}
					}
				}), mode, o)
				return err
			}
			must := &PutOptions{MustExist: true}
			if err := put(must, func() {}); !errors.Is(err, ErrNotFound) {
				t.Error(name, mode, err)
			}
			if err := put(nil, func() {}); err != nil {
				t.Fatal(err)
			}
			if err := put(must, func() {}); err != nil {
				t.Error(name, mode, err)
			}
			err = put(must, func() {
				if err := bucket.Delete(t.Context(), "t"); err != nil {
					t.Error(err)
				}
			})
			if !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrConflict) {
				t.Error(name, mode, "deleted meanwhile:", err)
			}
			if _, err := bucket.Table(t.Context(), "t"); !errors.Is(err, ErrNotFound) {
				t.Error(name, mode, "it is there:", err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

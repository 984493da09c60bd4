package tables_test

import (
	"errors"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables"
)

// TestPutMustExist checks that a put with MustExist does not create the table, even if the table is deleted while
// the rows arrive.
func TestPutMustExist(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: arrow.PrimitiveTypes.Int64, Nullable: true}}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	b.Field(0).(*array.Int64Builder).AppendValues(make([]int64, 10_000), nil)
	batch := b.NewRecordBatch()
	for name, fold := range map[string]int64{"few rows": 0, "many rows": 1 << 10} {
		for _, mode := range []tables.PutMode{tables.PutAppend, tables.PutReplace} {
			s, err := tables.Open(t.Context(), t.TempDir(), &tables.Options{FoldBytes: fold})
			if err != nil {
				t.Fatal(err)
			}
			bucket := s.Bucket("")
			put := func(o *tables.PutOptions, beforeLastBatch func()) error {
				_, err := bucket.Table("t").Put(t.Context(), array.ReaderFromIter(schema, func(yield func(arrow.RecordBatch, error) bool) {
					for i := range 3 {
						if i == 2 {
							beforeLastBatch()
						}
						batch.Retain()
						if !yield(batch, nil) {
							return
						}
					}
				}), mode, o)
				return err
			}
			mustExist := &tables.PutOptions{MustExist: true}
			if err := put(mustExist, func() {}); !errors.Is(err, tables.ErrNotFound) {
				t.Errorf("%s, mode %d: put to a missing table: error = %v, want ErrNotFound", name, mode, err)
			}
			if err := put(nil, func() {}); err != nil {
				t.Fatal(err)
			}
			if err := put(mustExist, func() {}); err != nil {
				t.Errorf("%s, mode %d: put to an existing table: %v", name, mode, err)
			}
			err = put(mustExist, func() {
				if err := bucket.Delete(t.Context(), "t"); err != nil {
					t.Error(err)
				}
			})
			if !errors.Is(err, tables.ErrNotFound) && !errors.Is(err, tables.ErrConflict) {
				t.Errorf("%s, mode %d: put to a table deleted during the put: error = %v, want ErrNotFound or ErrConflict", name, mode, err)
			}
			if _, err := bucket.Table("t").Info(t.Context()); !errors.Is(err, tables.ErrNotFound) {
				t.Errorf("%s, mode %d: Table of the deleted table: error = %v, want ErrNotFound", name, mode, err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

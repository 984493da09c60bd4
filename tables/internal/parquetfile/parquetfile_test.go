package parquetfile

import (
	"io"
	"math/rand/v2"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// A row group is written once it is large, so that it does not stay in memory; small
// batches are one.
func TestRowGroups(t *testing.T) {
	columns := arrow.NewSchema([]arrow.Field{{Name: "b", Type: arrow.BinaryTypes.Binary}}, nil)
	rnd, value := rand.NewChaCha8([32]byte{}), make([]byte, 100)
	for _, c := range []struct{ batches, rows, groups int }{{1000, 10, 1}, {50, 10_000, 3}} {
		w, err := NewWriter(io.Discard, columns)
		if err != nil {
			t.Fatal(err)
		}
		b := array.NewRecordBuilder(memory.DefaultAllocator, columns)
		for range c.batches {
			for range c.rows {
				_, _ = rnd.Read(value)
				b.Field(0).(*array.BinaryBuilder).Append(value)
			}
			batch := b.NewRecordBatch()
			if err := w.Write(batch); err != nil {
				t.Fatal(err)
			}
			batch.Release()
		}
		b.Release()
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		about, err := w.file.FileMetadata()
		if err != nil {
			t.Fatal(err)
		}
		if about.NumRows != int64(c.batches*c.rows) || len(about.RowGroups) != c.groups {
			t.Errorf("%d rows in %d row groups, want %d in %d", about.NumRows, len(about.RowGroups), c.batches*c.rows, c.groups)
		}
	}
}

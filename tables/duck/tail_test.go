//go:build cgo

package duck

import (
	"os"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/file"

	"github.com/go-partd/partd/tables"
)

// TestReplacedTail writes a tail (rows not yet in data files) to a scratch file after a newer tail has
// replaced it. The scratch file must contain exactly the rows of the old tail.
func TestReplacedTail(t *testing.T) {
	ctx := t.Context()
	store, err := tables.Open(ctx, t.TempDir(), &tables.Options{FoldAge: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	put := func() {
		schema := arrow.NewSchema([]arrow.Field{{Name: "k", Type: arrow.PrimitiveTypes.Int64}}, nil)
		batch, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema, strings.NewReader(`[{"k":1}]`))
		if err != nil {
			t.Fatal(err)
		}
		r, err := array.NewRecordReader(schema, []arrow.RecordBatch{batch})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Release()
		if _, err := store.Bucket("b").Table("t").Put(ctx, r, tables.PutAppend, nil); err != nil {
			t.Fatal(err)
		}
	}
	put()
	if _, err := store.Fold(ctx, nil); err != nil {
		t.Fatal(err)
	}
	put()
	table := store.Bucket("b").Table("t")
	m, err := table.ScanPlan(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	s := &scratch{dir: t.TempDir()}
	f, _ := s.acquire(m.UUID, m.TailMark)
	newer, _ := s.acquire(m.UUID, "newer")
	newer.release()
	if err := f.writeRows(ctx, m, true); err != nil {
		t.Fatal(err)
	}
	written, err := file.OpenParquetFile(f.path, false)
	if err != nil {
		t.Fatal(err)
	}
	if n := written.NumRows(); n != 1 {
		t.Errorf("the scratch file has %d rows, want 1", n)
	}
	if err := written.Close(); err != nil {
		t.Fatal(err)
	}
	f.release()
	if _, err := os.Stat(f.path); !os.IsNotExist(err) {
		t.Errorf("after the release, Stat of the scratch file = %v, want it removed", err)
	}
}

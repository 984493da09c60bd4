//go:build cgo

package duck

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
	"github.com/go-partd/partd/tables/tablestest"
)

// TestScratchOfForbiddenNulls writes a scratch file for rows of another program, with a null in a list whose elements
// are required, and a null list that hides a value. The file must contain the nulls and the rows around them.
func TestScratchOfForbiddenNulls(t *testing.T) {
	list := arrow.ListOfField(arrow.Field{Name: "element", Type: arrow.PrimitiveTypes.Int64})
	values, _, err := array.FromJSON(memory.DefaultAllocator, list, strings.NewReader(`[[1,null],[2],[3]]`))
	must.Do(t, err)
	d := values.Data()
	withHiddenValue := array.MakeFromData(array.NewData(list, 3, append([]*memory.Buffer{memory.NewBufferBytes([]byte{5})}, d.Buffers()[1:]...), d.Children(), 1, 0))
	stored := arrow.NewSchema([]arrow.Field{{Name: "l", Type: list, Nullable: true}}, nil)
	plan := &tables.ScanPlan{Stored: stored, Tail: []arrow.RecordBatch{array.NewRecordBatch(stored, []arrow.Array{withHiddenValue}, 3)}}
	f := &scratchFile{path: filepath.Join(t.TempDir(), "rows")}
	must.Do(t, f.writeRows(t.Context(), plan, true))
	raw := must.Get(os.ReadFile(f.path))(t)
	got := must.Get(pqarrow.ReadTable(t.Context(), bytes.NewReader(raw), parquet.NewReaderProperties(nil), pqarrow.ArrowReadProperties{}, memory.DefaultAllocator))(t)
	defer got.Release()
	if text := got.Column(0).Data().Chunk(0).String(); text != "[[1 (null)] (null) [3]]" {
		t.Errorf("the file contains %s, want [[1 (null)] (null) [3]]", text)
	}
}

// TestReplacedTail writes a tail (rows not yet in data files) to a scratch file after a newer tail has
// replaced it. The scratch file must contain exactly the rows of the old tail.
func TestReplacedTail(t *testing.T) {
	ctx := t.Context()
	store := tablestest.Open(t, &tables.Options{FoldAge: -1})
	put := func() {
		schema := arrow.NewSchema([]arrow.Field{{Name: "k", Type: arrow.PrimitiveTypes.Int64}}, nil)
		putBatch(t, store.Bucket("b").Table("t"), tabletest.ParseRows(t, schema, `[{"k":1}]`))
	}
	put()
	must.Get(store.Fold(ctx, nil))(t)
	put()
	m := must.Get(store.Bucket("b").Table("t").ScanPlan(ctx))(t)
	defer m.Close()
	s := &scratch{dir: t.TempDir()}
	f, _ := s.acquire(m.UUID, m.TailMark)
	newer, _ := s.acquire(m.UUID, "newer")
	newer.release()
	must.Do(t, f.writeRows(ctx, m, true))
	written := must.Get(file.OpenParquetFile(f.path, false))(t)
	if n := written.NumRows(); n != 1 {
		t.Errorf("the scratch file has %d rows, want 1", n)
	}
	must.Do(t, written.Close())
	f.release()
	if _, err := os.Stat(f.path); !os.IsNotExist(err) {
		t.Errorf("after the release, Stat of the scratch file = %v, want it removed", err)
	}
}

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
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/go-partd/partd/tables"
)

// TestScratchOfOldTails writes a scratch file for a tail from an earlier version, with a null in a list whose elements
// are required, and a null list that hides a value. The file must contain the nulls and the rows around them.
func TestScratchOfOldTails(t *testing.T) {
	list := arrow.ListOfField(arrow.Field{Name: "element", Type: arrow.PrimitiveTypes.Int64})
	values, _, err := array.FromJSON(memory.DefaultAllocator, list, strings.NewReader(`[[1,null],[2],[3]]`))
	if err != nil {
		t.Fatal(err)
	}
	d := values.Data()
	withHiddenValue := array.MakeFromData(array.NewData(list, 3, append([]*memory.Buffer{memory.NewBufferBytes([]byte{5})}, d.Buffers()[1:]...), d.Children(), 1, 0))
	stored := arrow.NewSchema([]arrow.Field{{Name: "l", Type: list, Nullable: true}}, nil)
	plan := &tables.ScanPlan{Stored: stored, Tail: []arrow.RecordBatch{array.NewRecordBatch(stored, []arrow.Array{withHiddenValue}, 3)}}
	f := &scratchFile{path: filepath.Join(t.TempDir(), "rows")}
	if err := f.writeRows(t.Context(), plan, true); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(f.path)
	if err != nil {
		t.Fatal(err)
	}
	got, err := pqarrow.ReadTable(t.Context(), bytes.NewReader(raw), parquet.NewReaderProperties(nil), pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Release()
	if text := got.Column(0).Data().Chunk(0).String(); text != "[[1 (null)] (null) [3]]" {
		t.Errorf("the file contains %s, want [[1 (null)] (null) [3]]", text)
	}
}

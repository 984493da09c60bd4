package datafile

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/parquet"
	pqfile "github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	pqschema "github.com/apache/arrow-go/v18/parquet/schema"
	iceio "github.com/apache/iceberg-go/io"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestForeignFile checks that files written by Iceberg's library get no width annotations, and no bounds of floats if
// rows contain NaN, and that the files keep their size and rows.
func TestForeignFile(t *testing.T) {
	fields := []arrow.Field{
		withID(1, arrow.Field{Name: "i", Type: arrow.PrimitiveTypes.Int32}), withID(2, arrow.Field{Name: "l", Type: arrow.PrimitiveTypes.Int64}),
		withID(3, arrow.Field{Name: "d", Type: arrow.FixedWidthTypes.Date32}), withID(4, arrow.Field{Name: "f", Type: arrow.PrimitiveTypes.Float64}),
	}
	annotated := encodeFile(t, `[{"i": 1, "l": 2, "d": "2026-01-01", "f": 1}, {"i": -1, "l": -2, "d": "2026-01-02", "f": 2}]`, fields...)
	for _, hasNaN := range []bool{false, true} {
		name := filepath.Join(t.TempDir(), "f.parquet")
		files := foreignFiles{iceio.LocalFS{}, &atomic.Bool{}, &sync.Map{}}
		files.hasNaN.Store(hasNaN)
		f := must.Get(files.Create(name))(t)
		footer := len(annotated) - 8 - int(annotated[len(annotated)-8]) - int(annotated[len(annotated)-7])<<8
		parts := [][]byte{annotated[:4], annotated[4:footer], annotated[footer : len(annotated)-8], annotated[len(annotated)-8 : len(annotated)-4], annotated[len(annotated)-4:]}
		for _, part := range parts {
			must.Get(f.Write(part))(t)
		}
		must.Do(t, f.Close())
		plain, err := os.ReadFile(name)
		if err != nil || len(plain) != len(annotated) {
			t.Fatalf("the file has %d bytes instead of %d: %v", len(plain), len(annotated), err)
		}
		metadataOf := func(content []byte) *metadata.FileMetaData {
			r := must.Get(pqfile.NewParquetReader(bytes.NewReader(content), pqfile.WithReadProps(parquet.NewReaderProperties(nil))))(t)
			return r.MetaData()
		}
		before, after := metadataOf(annotated), metadataOf(plain)
		for i, want := range []string{"None", "None", "Date", "None"} {
			if got := after.Schema.Column(i).LogicalType().String(); got != want {
				t.Errorf("column %d is annotated as %s, want %s", i, got, want)
			}
		}
		for i := range 4 {
			chunk := must.Get(after.RowGroup(0).ColumnChunk(i))(t)
			if s, err := chunk.Statistics(); err != nil || s.HasMinMax() == (hasNaN && i == 3) {
				t.Errorf("hasNaN %t, column %d: the file has bounds: %t; error: %v", hasNaN, i, s.HasMinMax(), err)
			}
		}
		if _, annotates := before.Schema.Column(0).LogicalType().(pqschema.IntLogicalType); !annotates {
			t.Error("the library does not annotate widths:", before.Schema)
		}
		scan := &Scan{Columns: []Column{column(1, "i", arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int32)}, Rows: 10, Workers: 1}
		if a, b := textOf(scan.readAll(t.Context(), annotated)), textOf(scan.readAll(t.Context(), plain)); a != b || a == "" {
			t.Errorf("without annotations: got rows %s, want %s", b, a)
		}
	}
}

func textOf(text string, _ error) string { return text }

//go:build cgo

package duck

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

// hotBatch returns rows whose texts are compressed. Its other columns have dictionaries, nulls and lists.
func hotBatch(t *testing.T, n int) arrow.RecordBatch {
	t.Helper()
	text, number := arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64
	columns := arrow.NewSchema([]arrow.Field{
		{Name: "k", Type: number},
		{Name: "url", Type: text},
		{Name: "sparse", Type: text, Nullable: true},
		{Name: "list", Type: arrow.ListOf(text), Nullable: true},
		{Name: "kind", Type: text},
		{Name: "m", Type: number},
	}, nil)
	var lines bytes.Buffer
	for i := range n {
		url := fmt.Sprintf("https://www.example.com/a/long/prefix/of/pages/%d.html", i*7919%n)
		sparse, list := "null", "null"
		if i%3 == 0 {
			sparse, list = fmt.Sprintf("%q", url+"?x"), fmt.Sprintf("[%q,%q]", url, url+"#")
		}
		fmt.Fprintf(&lines, `{"k":%d,"url":%q,"sparse":%s,"list":%s,"kind":"kind %d","m":%d}`+"\n", i, url, sparse, list, i%5, uint64(i)*0x9E3779B97F4A7C15>>17)
	}
	b, _, err := array.RecordFromJSON(memory.DefaultAllocator, columns, &lines, array.WithMultipleDocs())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestHotFiles reads texts of a file until the engine unpacks it. Statements must return the same results from the
// copy, without the copy, and after the copy was removed.
func TestHotFiles(t *testing.T) {
	for _, separateProcesses := range []bool{false, true} {
		e, s := newEngine(t, &Options{Processes: separateProcesses})
		e.hot.minBytes = 1
		putBatch(t, s.Bucket("b").Table("t"), hotBatch(t, 20_000))
		if _, err := s.Fold(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		const sql = "SELECT count(*), sum(hash(t))::VARCHAR, bit_xor(hash(row_number, k)) FROM (SELECT *, row_number() OVER () AS row_number FROM b.t) AS t"
		want := firstRow(t, s, sql)
		for range hotReads - 1 {
			if len(e.hot.files) > 0 {
				t.Fatal("the file was unpacked too early")
			}
			if got := firstRow(t, s, sql); got != want {
				t.Fatalf("got %s, want %s", got, want)
			}
			e.hot.running.Wait()
		}
		if len(e.hot.files) != 1 {
			t.Fatalf("%d files were unpacked, want 1", len(e.hot.files))
		}
		c := e.hot.files[0]
		if f, err := os.Open(c.path); err != nil {
			t.Error(err)
		} else if r, err := schema.OpenParquet(f); err != nil || r.NumRows() != 20_000 {
			t.Errorf("the copy has %v rows, error %v; want 20000", r.NumRows(), err)
		} else {
			for _, column := range r.MetaData().RowGroups[0].Columns {
				if m := column.MetaData; m.Codec != 0 || m.Statistics == nil && !strings.Contains(fmt.Sprint(m.PathInSchema), "list") {
					t.Errorf("column %v has codec %v and statistics %v; want no codec, and statistics", m.PathInSchema, m.Codec, m.Statistics)
				}
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
		e.hot.removeUnused() // the file was written since the last call
		if got := firstRow(t, s, sql); got != want || !e.hot.used[c] {
			t.Errorf("from the copy (used: %v): %s, want %s", e.hot.used[c], got, want)
		}
		if err := os.Remove(c.path); err != nil {
			t.Fatal(err)
		}
		if got := firstRow(t, s, sql); got != want || len(e.hot.files) != 0 {
			t.Errorf("after the copy was removed: %s, want %s; %d copies, want 0", got, want, len(e.hot.files))
		}
		for range hotReads {
			_ = firstRow(t, s, sql)
			e.hot.running.Wait()
		}
		if len(e.hot.files) != 1 {
			t.Fatalf("%d files were unpacked again, want 1", len(e.hot.files))
		}
		e.hot.removeUnused()
		e.hot.removeUnused()
		if names, err := filepath.Glob(filepath.Join(e.dir, "unpacked-*")); len(names) > 0 || err != nil || len(e.hot.files) > 0 {
			t.Errorf("unused copies %v remain, error %v", names, err)
		}
	}
}

func firstRow(t *testing.T, s *tables.Store, sql string) string {
	t.Helper()
	r, err := s.Query(t.Context(), sql, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	if !r.Next() {
		t.Fatal(r.Err())
	}
	return fmt.Sprint(r.RecordBatch().Columns())
}

// TestUnpackRefuses calls unpack with files that must not be unpacked.
func TestUnpackRefuses(t *testing.T) {
	b := hotBatch(t, 1000)
	for name, c := range map[string]struct {
		createdBy string
		codec     compress.Compression
		maxBytes  int64
		damage    bool
		want      string
	}{
		"unpacked":       {parquet.DefaultCreatedBy, compress.Codecs.Snappy, 1 << 20, false, "<nil>"},
		"not compressed": {parquet.DefaultCreatedBy, compress.Codecs.Uncompressed, 1 << 20, false, errNotUnpacked.Error()},
		"too large":      {parquet.DefaultCreatedBy, compress.Codecs.Snappy, 1000, false, errNotUnpacked.Error()},
		"foreign":        {"parquet-mr version 1", compress.Codecs.Snappy, 1 << 20, false, errNotUnpacked.Error()},
		"damaged":        {parquet.DefaultCreatedBy, compress.Codecs.Snappy, 1 << 20, true, "parquet"},
	} {
		path := filepath.Join(t.TempDir(), "file")
		var content bytes.Buffer
		w, err := pqarrow.NewFileWriter(b.Schema(), &content, parquet.NewWriterProperties(parquet.WithCreatedBy(c.createdBy), parquet.WithCompression(c.codec)), pqarrow.DefaultWriterProps())
		if err == nil {
			err = w.Write(b)
		}
		if err != nil || w.Close() != nil {
			t.Fatal(err)
		}
		if c.damage {
			clear(content.Bytes()[content.Len()/4 : content.Len()/2])
		}
		if err := os.WriteFile(path, content.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		in, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := unpack(t.Context(), in, &bytes.Buffer{}, c.maxBytes); !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("%s: got error %v, want %s", name, err, c.want)
		}
		if err := in.Close(); err != nil {
			t.Error(err)
		}
	}
}

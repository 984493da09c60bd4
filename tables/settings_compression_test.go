package tables_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestCompression checks the codecs and sizes of files with each kind of compression, also after the setting changes.
func TestCompression(t *testing.T) {
	b := tabletest.BucketWithoutTail(t)
	columns := arrow.NewSchema([]arrow.Field{tabletest.Nullable("n", arrow.PrimitiveTypes.Int64), tabletest.Nullable("url", arrow.BinaryTypes.String)}, nil)
	put := func(name string, s *tables.Settings) {
		t.Helper()
		rb := array.NewRecordBuilder(memory.DefaultAllocator, columns)
		for i := range 50_000 {
			rb.Field(0).(*array.Int64Builder).Append(int64(i))
			rb.Field(1).(*array.StringBuilder).Append(fmt.Sprintf("https://example.com/%d/page/%x", i%977, i*7919))
		}
		tabletest.PutRows(t, b, name, tabletest.OneBatch(rb.NewRecordBatch()), tables.PutReplace, &tables.PutOptions{Settings: s})
	}
	// check compares the codecs of a table's only file with want, and returns the file's size.
	check := func(name string, want ...string) int64 {
		t.Helper()
		path := tabletest.FilesOf(t, b, name)[0]
		encodings := strings.Split(columnEncodings(t, path), ", ")
		for i, codec := range want {
			if !strings.Contains(encodings[i], codec) {
				t.Errorf("table %s, column %d: encoding is %s, want %s", name, i, encodings[i], codec)
			}
		}
		stat, err := os.Stat(strings.TrimPrefix(path, "file://"))
		if err != nil {
			t.Fatal(err)
		}
		return stat.Size()
	}
	put("default", nil)
	put("fast", &tables.Settings{Compression: tables.CompressFast})
	put("small", &tables.Settings{Compression: tables.CompressSmall})
	check("default", "UNCOMPRESSED", "SNAPPY")
	fast, small := check("fast", "UNCOMPRESSED", "SNAPPY"), check("small", "ZSTD", "ZSTD")
	if 4*small > 3*fast {
		t.Errorf("the small file has %d bytes, want at most three quarters of %d", small, fast)
	}
	if err := b.Table("small").SetSettings(t.Context(), tables.Settings{}); err != nil {
		t.Fatal(err)
	}
	check("small", "ZSTD", "ZSTD") // existing files stay as they are
	put("small", nil)
	check("small", "UNCOMPRESSED", "SNAPPY")
	if err := b.Table("fast").SetSettings(t.Context(), tables.Settings{Compression: "tiny"}); err == nil || !strings.Contains(err.Error(), `unknown compression "tiny": use one of ["fast" "small"]`) {
		t.Errorf("SetSettings with an unknown compression: error = %v, want an error that lists the valid ones", err)
	}
}

package tables_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	pqfile "github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestCompactReencodesOldFiles checks that files from earlier versions can be read, and that Compact merges them into
// files with the current encodings. In the old files, all columns have dictionaries and zstd, but no page index.
func TestCompactReencodesOldFiles(t *testing.T) {
	b := tabletest.BucketWithoutTail(t)
	columns := arrow.NewSchema([]arrow.Field{
		tabletest.Nullable("at", &arrow.TimestampType{Unit: arrow.Microsecond}),
		tabletest.Nullable("sym", arrow.BinaryTypes.String),
		tabletest.Nullable("price", arrow.PrimitiveTypes.Float64),
		tabletest.Nullable("amount", &arrow.Decimal128Type{Precision: 12, Scale: 4}),
	}, nil)
	const rows = 20_000
	for f := range 2 {
		rb := array.NewRecordBuilder(memory.DefaultAllocator, columns)
		for i := f * rows; i < (f+1)*rows; i++ {
			rb.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(1e15 + i*1000))
			rb.Field(1).(*array.StringBuilder).Append(fmt.Sprint("S", i%100))
			rb.Field(2).(*array.Float64Builder).Append(1 / float64(i+1))
			if err := rb.Field(3).AppendValueFromString(fmt.Sprint(i, ".25")); err != nil {
				t.Fatal(err)
			}
		}
		tabletest.PutRows(t, b, "t", tabletest.OneBatch(rb.NewRecordBatch()), tables.PutAppend, nil)
	}
	want := scanJSON(t, b, "t", nil)
	for _, path := range tabletest.FilesOf(t, b, "t") {
		rewriteWithOldEncodings(t, strings.TrimPrefix(path, "file://"))
		if encodings := columnEncodings(t, path); encodings != strings.Repeat("RLE_DICTIONARY PLAIN RLE ZSTD, ", 4) {
			t.Fatalf("%s was not rewritten with the old encodings: %s", path, encodings)
		}
	}
	if read := scanJSON(t, b, "t", nil); read != want {
		t.Error("after rewriting the files with the old encodings, the rows differ")
	}
	if r, err := b.Store().Compact(t.Context(), nil); err != nil || r.FilesBefore != 2 || r.FilesAfter != 1 {
		t.Fatalf("Compact = %+v, %v; want FilesBefore 2 and FilesAfter 1", r, err)
	}
	if read := scanJSON(t, b, "t", nil); read != want {
		t.Error("after the compaction, the rows differ")
	}
	encodings := columnEncodings(t, tabletest.FilesOf(t, b, "t")[0])
	deltas := "DELTA_BINARY_PACKED RLE UNCOMPRESSED index, "
	if encodings != deltas+"RLE_DICTIONARY PLAIN RLE UNCOMPRESSED index, "+"PLAIN RLE UNCOMPRESSED index, "+deltas {
		t.Errorf("after the compaction, the columns' encodings are %s", encodings)
	}
}

// rewriteWithOldEncodings rewrites a file with zstd and the library's default encodings, like earlier versions of this
// package.
func rewriteWithOldEncodings(t *testing.T, path string) {
	t.Helper()
	old, err := pqfile.OpenParquetFile(path, false)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close() //nolint:errcheck // it was only read
	r, err := pqarrow.NewFileReader(old, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
	if err != nil {
		t.Fatal(err)
	}
	all, err := r.ReadTable(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer all.Release()
	out, err := os.Create(path + ".new")
	if err != nil {
		t.Fatal(err)
	}
	o := parquet.NewWriterProperties(parquet.WithCompression(compress.Codecs.Zstd), parquet.WithDictionaryCostFallbackFor("price", false))
	if err := pqarrow.WriteTable(all, out, all.NumRows(), o, pqarrow.DefaultWriterProps()); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// columnEncodings returns a description of the encodings of a file's columns.
func columnEncodings(t *testing.T, path string) string {
	t.Helper()
	r, err := pqfile.OpenParquetFile(strings.TrimPrefix(path, "file://"), false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close() //nolint:errcheck // it was only read
	var encodings strings.Builder
	for i := range r.MetaData().Schema.NumColumns() {
		chunk, err := r.MetaData().RowGroup(0).ColumnChunk(i)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range chunk.Encodings() {
			encodings.WriteString(e.String() + " ")
		}
		encodings.WriteString(chunk.Compression().String())
		if location := chunk.GetOffsetIndexLocation(); location != nil {
			encodings.WriteString(" index")
		}
		encodings.WriteString(", ")
	}
	return encodings.String()
}

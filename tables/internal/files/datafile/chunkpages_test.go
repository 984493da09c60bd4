package datafile

import (
	"bytes"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

// textScan returns a scan of a Parquet file with a column of the given texts.
func textScan(t *testing.T, texts []string, version parquet.DataPageVersion, encoding parquet.Encoding) *Scan {
	t.Helper()
	field := withID(1, arrow.Field{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true})
	fields := arrow.NewSchema([]arrow.Field{field}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, fields)
	b.Field(0).(*array.StringBuilder).AppendValues(texts, nil)
	options := []parquet.WriterProperty{
		parquet.WithCompression(compress.Codecs.Zstd), parquet.WithStats(false), parquet.WithDictionaryPageSizeLimit(1 << 30),
		parquet.WithDataPageVersion(version), parquet.WithDataPageSize(1 << 18), parquet.WithBatchSize(8),
	}
	if encoding != parquet.Encodings.PlainDict {
		options = append(options, parquet.WithDictionaryDefault(false), parquet.WithEncoding(encoding))
	}
	content := written(t, b.NewRecordBatch(), nil, options...)
	return &Scan{
		Rows: BatchRows, Workers: 1, Columns: []Column{{Field: arrow.Field{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true}, IDs: field}},
		Open: func(string) (parquet.ReaderAtSeeker, error) { return bytes.NewReader(content), nil },
	}
}

func repeated(rows, size int) []string {
	texts := make([]string, rows)
	for i := range texts {
		texts[i] = strings.Repeat("x", size-1) + string(rune('a'+i%26))
	}
	return texts
}

// TestDeltaBatches checks that batches have few rows if the encoding DELTA_BYTE_ARRAY repeats a long text in many rows.
func TestDeltaBatches(t *testing.T) {
	for _, version := range []parquet.DataPageVersion{parquet.DataPageV1, parquet.DataPageV2} {
		texts := repeated(100, 1<<20)
		texts[7] = ""
		rows := 0
		for b, err := range textScan(t, texts, version, parquet.Encodings.DeltaByteArray).Read(t.Context(), []File{{Path: "x"}}) {
			must.Do(t, err)
			if n := b.NumRows(); n > maxBatchBytes>>20 {
				t.Errorf("a batch has %d texts of 1 MiB, want at most %d", n, maxBatchBytes>>20)
			}
			for i := range int(b.NumRows()) {
				if b.Column(0).(*array.String).Value(i) != texts[rows+i] {
					t.Errorf("row %d has another text", rows+i)
				}
			}
			rows += int(b.NumRows())
			b.Release()
		}
		if rows != len(texts) {
			t.Errorf("read %d rows, want %d", rows, len(texts))
		}
	}
}

// TestLargePages checks that a large page is refused as the client's fault if the file comes from another engine, and
// that a large value which the program itself wrote is readable.
func TestLargePages(t *testing.T) {
	const size = 70 << 20
	random := make([]byte, size)
	for i := range random {
		random[i] = byte(33 + rand.IntN(90)) // does not fit in 64 MiB when compressed
	}
	incompressible := string(random) + string(random[:size/2])
	for name, texts := range map[string][]string{"compressible": {strings.Repeat("x", size)}, "incompressible": {incompressible}} {
		for _, encoding := range []parquet.Encoding{parquet.Encodings.PlainDict, parquet.Encodings.Plain, parquet.Encodings.DeltaByteArray} {
			s := textScan(t, texts, parquet.DataPageV1, encoding)
			for _, limit := range []int64{0, math.MaxInt64} {
				s.MaxPage = func(context.Context, string) (int64, error) { return limit, nil }
				var err error
				rows := int64(0)
				for b, readErr := range s.Read(t.Context(), []File{{Path: "x"}}) {
					if err = readErr; err == nil {
						rows += b.NumRows()
						b.Release()
					}
				}
				if limit > 0 && (rows != 1 || err != nil) {
					t.Errorf("%s, %v: read %d rows, error %v, want 1 row", name, encoding, rows, err)
				}
				if limit == 0 && (rows != 0 || !errors.As(err, new(*schema.Error))) {
					t.Errorf("%s, %v: read %d rows, error %v, want an error about the column", name, encoding, rows, err)
				}
			}
		}
	}
}

// TestAreSmall checks which files the server itself reads for a statement.
func TestAreSmall(t *testing.T) {
	uneven := append(repeated(100, 1<<20), make([]string, 1<<17)...) // 0.8 KiB a row on average
	for _, c := range []struct {
		texts    []string
		encoding parquet.Encoding
		want     bool
	}{
		{repeated(100000, 20), parquet.Encodings.Plain, true},
		{repeated(100000, 20), parquet.Encodings.PlainDict, true},
		{repeated(50000, 1000), parquet.Encodings.Plain, true},
		{repeated(100000, 20), parquet.Encodings.DeltaByteArray, false},
		{repeated(2, 10<<20), parquet.Encodings.Plain, false},
		{repeated(1, 10<<20), parquet.Encodings.PlainDict, false},
		{uneven, parquet.Encodings.Plain, false},
	} {
		s := textScan(t, c.texts, parquet.DataPageV1, c.encoding)
		if got, err := s.AreSmall(t.Context(), []File{{Path: "x"}}); got != c.want || err != nil {
			t.Errorf("%d texts with %d bytes first, %v: AreSmall = %t, %v, want %t", len(c.texts), len(c.texts[0]), c.encoding, got, err, c.want)
		}
	}
}

package datafile

import (
	"bytes"
	"context"
	"runtime"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/iceberg-go"
	iceio "github.com/apache/iceberg-go/io"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestFalseClaims checks that the reader allocates little memory for files whose page index or footer claims a
// hundred million elements in a few bytes.
func TestFalseClaims(t *testing.T) {
	rows := pagedRows(3000)
	undamaged := pagedFile(t, rows)
	r := parse(t, undamaged)
	group := r.MetaData().RowGroup(0)
	index, hasIndex := group.ColumnIndexLocation(0)
	offsets, hasOffsets := group.OffsetIndexLocation(0)
	if !hasIndex || !hasOffsets {
		t.Fatal("the file has no page index")
	}
	c := Column{Field: arrow.Field{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, IDs: rows.Schema().Field(0)}
	where := bind(t, "n > 700", rows.Schema())
	count := func(elementType byte) []byte { return []byte{0xf0 | elementType, 0x80, 0x84, 0xaf, 0x2f} } // 99,353,088
	for name, change := range map[string]struct {
		offset int64
		claim  []byte
	}{
		"null pages":     {index.Offset, append([]byte{0x19}, count(1)...)},
		"minimum values": {index.Offset, append([]byte{0x29}, count(8)...)},
		"null counts":    {index.Offset, append([]byte{0x59}, count(6)...)},
		"page locations": {offsets.Offset, append([]byte{0x19}, count(12)...)},
		"schema":         {int64(len(undamaged)-8) - int64(r.MetaData().Size()), append([]byte{0x15, 4, 0x19}, count(12)...)},
	} {
		content := bytes.Clone(undamaged)
		copy(content[change.offset:], change.claim)
		s := &Scan{Rows: 1000, Columns: []Column{c}, ConditionColumns: []Column{c}, Where: where}
		s.Open = func(string) (parquet.ReaderAtSeeker, error) { return bytes.NewReader(content), nil }
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		n := int64(0)
		for b, err := range s.Read(t.Context(), []File{{Path: "a file"}}) {
			if err != nil && name == "schema" && strings.HasPrefix(err.Error(), "file a file: its footer claims") {
				n = 3000 - 2103
				break
			} else if err != nil {
				t.Fatalf("scan a file with wrong %s: %v", name, err)
			}
			n += b.NumRows()
		}
		runtime.ReadMemStats(&after)
		if allocatedBytes := after.TotalAlloc - before.TotalAlloc; allocatedBytes > 32<<20 {
			t.Errorf("%s: allocated %d bytes for a file of %d bytes, want at most 32 MiB", name, allocatedBytes, len(content))
		}
		if n != 3000-2103 {
			t.Errorf("%s: got %d rows, want %d", name, n, 3000-2103)
		}
	}
}

// TestUnsupportedEncoding checks that only the column that the library cannot decode is refused.
func TestUnsupportedEncoding(t *testing.T) {
	rows := arrow.NewSchema([]arrow.Field{
		withID(1, arrow.Field{Name: "f", Type: &arrow.FixedSizeBinaryType{ByteWidth: 4}}), withID(2, arrow.Field{Name: "n", Type: arrow.PrimitiveTypes.Int64}),
	}, nil)
	b, _, err := array.RecordFromJSON(memory.DefaultAllocator, rows, strings.NewReader(`[{"f": "YWJjZA==", "n": 1}]`))
	must.Do(t, err)
	content := pagedFile(t, b, parquet.WithDictionaryDefault(false))
	pathIndex := bytes.LastIndex(content, []byte("\x19\x18\x01f")) // the column's path follows its encodings
	plain := bytes.LastIndexByte(content[:pathIndex], 0)
	content[plain] = 2 * byte(parquet.Encodings.DeltaByteArray)
	for i, want := range []string{`file x: column "f": DELTA_BYTE_ARRAY is not supported`, ""} {
		c := Column{Field: rows.Field(i), IDs: rows.Field(i)}
		s := &Scan{Rows: 10, Columns: []Column{c}, Open: func(string) (parquet.ReaderAtSeeker, error) { return bytes.NewReader(content), nil }}
		for _, err := range s.Read(t.Context(), []File{{Path: "x"}}) {
			if want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)) {
				t.Errorf("column %s: got error %v, want %q", c.Field.Name, err, want)
			}
		}
	}
}

// TestInvalidGroupSize checks that groups have valid sizes even if the table's setting is invalid.
func TestInvalidGroupSize(t *testing.T) {
	sc := iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "n", Type: iceberg.PrimitiveTypes.Int64})
	for _, n := range []string{"-5", "0", "9000000000000000000"} {
		meta := must.Get(table.NewMetadata(sc, iceberg.UnpartitionedSpec, table.UnsortedSortOrder, "file:///nowhere", iceberg.Properties{
			table.ParquetRowGroupLimitKey: n, table.ParquetRowGroupSizeBytesKey: n, table.WriteTargetFileSizeBytesKey: n,
		}))(t)
		w := &fileWriter{ctx: t.Context(), icebergSchema: sc, table: table.New(nil, meta, "", func(context.Context) (iceio.IO, error) { return nil, nil }, nil)}
		must.Do(t, w.prepare())
		if w.groups.maxRows < 1 || w.groups.maxBytes > 1<<30 {
			t.Errorf("setting %s: groups have %d rows and %d bytes, want at least 1 row and at most 1 GiB", n, w.groups.maxRows, w.groups.maxBytes)
		}
	}
}

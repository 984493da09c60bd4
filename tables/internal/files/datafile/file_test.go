package datafile

import (
	"bytes"
	"runtime"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
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
	if err != nil {
		t.Fatal(err)
	}
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

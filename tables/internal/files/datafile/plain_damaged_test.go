package datafile

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestPlainWrongNullCount checks that the rows are read correctly even if the footer wrongly claims that there are
// no nulls.
func TestPlainWrongNullCount(t *testing.T) {
	const n = 9000
	random := rand.New(rand.NewPCG(35, 2))
	rows := plainRows(random, n)
	for _, version := range []parquet.DataPageVersion{parquet.DataPageV1, parquet.DataPageV2} {
		for _, withIndex := range []bool{true, false} {
			content := plainContent(t, rows, false, parquet.WithDictionaryDefault(false), parquet.WithDataPageVersion(version), parquet.WithPageIndexEnabled(withIndex))
			f, g, err := plainFile(t, content, withIndex)
			must.Do(t, err)
			g.index = f.pageIndex(g)
			for _, c := range f.parsed.MetaData().RowGroups[0].Columns {
				c.MetaData.Statistics.NullCount = new(int64)
			}
			all := randomSpans(random, n)
			got, errs, copied := readSpans(t, f, g, all, false)
			want, wantErrs, _ := readSpans(t, f, g, all, true)
			for i, c := range f.scan.Columns {
				if errs[i] != nil || wantErrs[i] != nil {
					t.Fatalf("column %s: got error %v, the library's reader %v", c.Field.Name, errs[i], wantErrs[i])
				}
				nulls := 0
				for j := range all {
					if nulls += want[i][j].NullN(); !array.Equal(floatBits(got[i][j]), floatBits(want[i][j])) {
						t.Fatalf("pages %v, %s: rows %d to %d: got %v, want %v", version, c.Field.Name, all[j].from, all[j].to, got[i][j], want[i][j])
					}
				}
				if nulls > 0 && copied[i] {
					t.Errorf("pages %v, %s: the column has %d nulls, but its pages were copied", version, c.Field.Name, nulls)
				}
			}
		}
	}
}

// fewPages returns a file for each version of Parquet's pages. Each has two columns, one of them
// nullable, and a few pages.
func fewPages(t testing.TB) (files [][]byte) {
	fields := []arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}, {Name: "x", Type: arrow.PrimitiveTypes.Float64, Nullable: true}}
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema(fields, nil))
	defer b.Release()
	for i := range 16 {
		b.Field(0).(*array.Int64Builder).Append(int64(i) * 1_000_003)
		b.Field(1).(*array.Float64Builder).Append(float64(i) / 7)
	}
	rows := b.NewRecordBatch()
	for _, version := range []parquet.DataPageVersion{parquet.DataPageV1, parquet.DataPageV2} {
		o := []parquet.WriterProperty{parquet.WithDictionaryDefault(false), parquet.WithDataPageVersion(version), parquet.WithDataPageSize(50), parquet.WithBatchSize(8), parquet.WithPageIndexEnabled(false)}
		files = append(files, plainContent(t, rows, false, o...))
	}
	return files
}

// compareWithLibrary checks that the rows of a file, which may be damaged, equal the rows that the library reads. It
// returns the number of columns that were refused, and the number whose pages were copied.
func compareWithLibrary(t testing.TB, content []byte) (failed, copied int) {
	f, g, err := plainFile(t, content, true)
	if err != nil || len(f.scan.Columns) != 2 {
		return 1, 0
	}
	all := []span{{0, 5}, {6, 11}, {11, 16}}
	got, errs, isCopied := readSpans(t, f, g, all, false)
	want, wantErrs, _ := readSpans(t, f, g, all, true)
	for i := range errs {
		if (errs[i] == nil) != (wantErrs[i] == nil) || len(got[i]) != len(want[i]) {
			t.Fatalf("column %d: got error after %d parts: %v; the library's reader after %d: %v", i, len(got[i]), errs[i], len(want[i]), wantErrs[i])
		}
		for j := range got[i] {
			if !array.Equal(floatBits(got[i][j]), floatBits(want[i][j])) {
				t.Fatalf("column %d: rows %d to %d: got %v, but the library's reader got %v", i, all[j].from, all[j].to, got[i][j], want[i][j])
			}
		}
		if errs[i] != nil {
			failed++
		}
		if isCopied[i] {
			copied++
		}
	}
	return failed, copied
}

// TestPlainDamaged checks that a damaged page yields the same rows as the library's reader, or that both
// refuse it.
func TestPlainDamaged(t *testing.T) {
	random := rand.New(rand.NewPCG(35, 3))
	for version, undamaged := range fewPages(t) {
		if failed, copied := compareWithLibrary(t, undamaged); failed != 0 || copied != 2 {
			t.Fatalf("version %d: %d columns were refused, and %d copied, want 0 and 2", version+1, failed, copied)
		}
		end := len(undamaged) - 8 - int(binary.LittleEndian.Uint32(undamaged[len(undamaged)-8:])) // the end of the pages
		failed, copied := 0, 0
		for offset := 0; offset < len(undamaged)-8; offset++ {
			changed := []byte{undamaged[offset] - 1, undamaged[offset] - 2, undamaged[offset] + 2} // zigzag encoding doubles numbers
			if offset > end {
				changed, offset = []byte{byte(random.Uint32())}, offset+4
			}
			for _, v := range changed {
				content := bytes.Clone(undamaged)
				content[offset] = v
				moreFailed, moreCopied := compareWithLibrary(t, content)
				failed, copied = failed+moreFailed, copied+moreCopied
			}
		}
		if failed < 100 || copied < 100 {
			t.Errorf("version %d: %d columns were refused, and %d copied, want at least 100 each", version+1, failed, copied)
		}
	}
}

// FuzzPlain changes bytes of a file, and checks that its rows equal the rows that the library reads.
func FuzzPlain(f *testing.F) {
	files := fewPages(f)
	f.Add(false, uint16(20), []byte{1})
	f.Add(true, uint16(30), []byte{2, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, second bool, at uint16, with []byte) {
		content := bytes.Clone(files[0])
		if second {
			content = bytes.Clone(files[1])
		}
		copy(content[min(int(at), len(content)):], with)
		compareWithLibrary(t, content)
	})
}

package datafile

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/files/icecat"
)

// pagedRows returns rows ordered by column n, with some nulls, lists, repeated strings (column often), and distinct
// strings (column once).
func pagedRows(n int) arrow.RecordBatch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{
		withID(1, arrow.Field{Name: "n", Type: arrow.PrimitiveTypes.Int64}),
		withID(2, arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Float64}),
		withID(3, arrow.Field{Name: "often", Type: arrow.BinaryTypes.String}),
		withID(4, arrow.Field{Name: "once", Type: arrow.BinaryTypes.String}),
		withID(5, arrow.Field{Name: "list", Type: arrow.ListOfField(withID(6, arrow.Field{Name: "element", Type: arrow.PrimitiveTypes.Int32}))}),
	}, nil))
	defer b.Release()
	random := rand.New(rand.NewPCG(1, 2))
	specialFloats := []float64{math.NaN(), math.Copysign(0, -1), 0, math.Inf(1), math.Inf(-1)}
	for i := range n {
		null := i/700%5 == 3 || random.IntN(20) == 0
		if b.Field(0).(*array.Int64Builder).Append(int64(i / 3)); null && i%2 == 0 {
			b.Field(1).AppendNull()
		} else if random.IntN(10) == 0 {
			b.Field(1).(*array.Float64Builder).Append(specialFloats[random.IntN(len(specialFloats))])
		} else {
			b.Field(1).(*array.Float64Builder).Append(float64(i/100) + random.Float64())
		}
		if null {
			b.Field(2).AppendNull()
		} else {
			b.Field(2).(*array.StringBuilder).Append(fmt.Sprint("text ", i/500, " ", random.IntN(9)))
		}
		b.Field(3).(*array.StringBuilder).Append(fmt.Sprint("row ", i))
		list := b.Field(4).(*array.ListBuilder)
		if list.Append(!null); !null {
			for range random.IntN(3) {
				list.ValueBuilder().(*array.Int32Builder).Append(int32(i))
			}
		}
	}
	return b.NewRecordBatch()
}

// pagedFile returns a file of several groups, each with many pages.
func pagedFile(t testing.TB, rows arrow.RecordBatch, o ...parquet.WriterProperty) []byte {
	t.Helper()
	o = append([]parquet.WriterProperty{
		parquet.WithMaxRowGroupLength(7000), parquet.WithDataPageSize(2000), parquet.WithBatchSize(100), parquet.WithStats(true),
		parquet.WithPageIndexEnabled(true), parquet.WithDictionaryFor("once", false), parquet.WithDictionaryFor("x", false),
	}, o...)
	return written(t, rows, nil, o...)
}

type countingReader struct {
	*bytes.Reader
	bytes *atomic.Int64
}

func (c countingReader) ReadAt(to []byte, at int64) (int, error) {
	c.bytes.Add(int64(len(to)))
	return c.Reader.ReadAt(to, at)
}

// TestPages checks that a condition selects the same rows in the same order, whatever the pages, the
// encodings and the number of goroutines. Pages without matching rows must not be read.
func TestPages(t *testing.T) {
	rows := pagedRows(16_000)
	columns := columnsOf(rows.Schema())
	files := map[string][]byte{
		"paged":            pagedFile(t, rows),
		"not indexed":      pagedFile(t, rows, parquet.WithPageIndexEnabled(false)),
		"second version":   pagedFile(t, rows, parquet.WithDataPageVersion(parquet.DataPageV2), parquet.WithCompression(compress.Codecs.Zstd)),
		"no dictionary":    pagedFile(t, rows, parquet.WithDictionaryDefault(false), parquet.WithEncodingFor("n", parquet.Encodings.DeltaBinaryPacked)),
		"full dictionary":  pagedFile(t, rows, parquet.WithDictionaryPageSizeLimit(200)),
		"one page a group": pagedFile(t, rows, parquet.WithDataPageSize(1<<20)),
	}
	for _, c := range []struct {
		cond     string
		fewPages bool // only a few pages have matching rows
	}{
		{"n >= 3000 and n < 3010", true},
		{"n = 5 or n = 6000", true},
		{"n is null", false},
		{"x > 150.5", false},
		{"x = 0", false},
		{"not x < 150", false},
		{"often = 'text 7 3'", true},
		{"often in ('text 7 3', 'text 31 0')", false},
		{"often like 'text 1%'", false},
		{"often is null and n < 3000", false},
		{"often != 'text 7 3' and n < 1200", false},
		{"once = 'row 777'", true},
		{"often < once", false},
		{"n > 100000", false},
		{"x is null", false},
		{"often >= 'text 9'", false},
	} {
		e := must.Get(filter.Parse(c.cond))(t)
		wanted := must.Get(e.Filter(t.Context(), rows))(t)
		where := must.Get(e.Bind(rows.Schema()))(t)
		for name, content := range files {
			for i, out := range [][]Column{columns, columns[3:], columns[2:3], {columns[4], columns[0]}} {
				s := &Scan{Rows: []int64{32768, 300, 7000}[i%3], Columns: out, Workers: i % 4, Memory: 1 << 20}
				s.choose(where, columns)
				var read atomic.Int64
				s.Open = func(string) (parquet.ReaderAtSeeker, error) {
					return countingReader{bytes.NewReader(content), &read}, nil
				}
				row := int64(0)
				for b, err := range s.Read(t.Context(), []File{{Path: "a file"}}) {
					if err != nil {
						t.Fatalf("%s, %s: read: %v", name, c.cond, err)
					}
					for j, o := range out {
						wantColumn := wanted.Column(rows.Schema().FieldIndices(o.Field.Name)[0])
						if part := array.NewSlice(wantColumn, row, min(row+b.NumRows(), int64(wantColumn.Len()))); !array.Equal(floatBits(b.Column(j)), floatBits(part)) {
							t.Fatalf("%s, %s: column %s, from row %d on: got %v, want %v", name, c.cond, o.Field.Name, row, b.Column(j), part)
						}
					}
					row += b.NumRows()
				}
				if row != wanted.NumRows() {
					t.Errorf("%s, %s: got %d rows, want %d", name, c.cond, row, wanted.NumRows())
				}
				if c.fewPages && name == "no dictionary" && i > 0 && s.Workers < 2 && read.Load() > int64(len(content)/3) {
					t.Errorf("%s, %s: read %d bytes of %d, want at most a third", name, c.cond, read.Load(), len(content))
				}
			}
		}
	}
}

// TestDuplicateDictionaryEntry checks that if a dictionary contains a string twice, as other writers may produce it,
// rows with either code match the string.
func TestDuplicateDictionaryEntry(t *testing.T) {
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{withID(1, arrow.Field{Name: "t", Type: arrow.BinaryTypes.String})}, nil))
	for i := range 100 {
		b.Field(0).(*array.StringBuilder).Append([]string{"first", "other", "third"}[i%3])
	}
	rows := b.NewRecordBatch()
	content := pagedFile(t, rows, parquet.WithStats(false), parquet.WithPageIndexEnabled(false))
	if n := bytes.Count(content, []byte("other")); n != 1 {
		t.Fatalf("the file contains the string %d times, want once", n)
	}
	content = bytes.Replace(content, []byte("other"), []byte("first"), 1)
	c := Column{Field: arrow.Field{Name: "t", Type: arrow.BinaryTypes.String, Nullable: true}, IDs: rows.Schema().Field(0)}
	for cond, want := range map[string]int{"t = 'first'": 67, "t = 'third'": 33, "t = 'other'": 0} {
		where := bind(t, cond, rows.Schema())
		s := &Scan{Rows: 40, Columns: []Column{c}, ConditionColumns: []Column{c}, Where: where}
		if got, err := s.readAll(t.Context(), content); err != nil || strings.Count(got, `"t"`) != want || strings.Count(got, cond[5:len(cond)-1]) != want {
			t.Errorf("%s: got error %v, rows %s, want %d rows", cond, err, got, want)
		}
	}
}

// TestCachedFooters checks that the cached footer of a file is not used after the file was replaced.
func TestCachedFooters(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.parquet")
	cat := must.Get(icecat.Open(t.Context(), dir, icecat.Options{FS: vfs.OS{}, CacheBytes: 1 << 20}))(t)
	defer cat.Close() //nolint:errcheck // nothing is written
	rows := pagedRows(100)
	c := Column{Field: arrow.Field{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, IDs: rows.Schema().Field(0)}
	s := &Scan{Rows: 1000, Columns: []Column{c}, Footers: cat.NewIO().Footers()}
	s.Open = func(path string) (parquet.ReaderAtSeeker, error) { return os.Open(path) }
	for i, part := range []arrow.RecordBatch{rows, rows, rows.NewSlice(10, 30), rows} {
		must.Do(t, os.WriteFile(path, pagedFile(t, part), 0o666))
		must.Do(t, os.Chtimes(path, time.Unix(int64(i), 0), time.Unix(int64(i), 0)))
		for range 2 {
			n := int64(0)
			for b, err := range s.Read(t.Context(), []File{{Path: path}}) {
				must.Do(t, err)
				n += b.NumRows()
			}
			if n != part.NumRows() {
				t.Errorf("file %d: got %d rows, want %d", i, n, part.NumRows())
			}
		}
	}
	cachedFooters := 0
	for i := range 4 {
		info := must.Get(os.Stat(path))(t)
		if _, ok := s.Footers.Get(fmt.Sprintf("%s %d %d", path, info.Size(), time.Unix(int64(i), 0).UnixNano())); ok {
			cachedFooters++
		}
	}
	if cachedFooters != 3 {
		t.Errorf("the cache has %d footers of files of this length, want 3", cachedFooters)
	}
}

// TestSearchForNulls checks that a search for nulls reads pages that have only nulls, and files without statistics.
func TestSearchForNulls(t *testing.T) {
	n := column(1, "n", arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Int64)
	columns := arrow.NewSchema([]arrow.Field{n.IDs}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, columns)
	const nulls = 20_000
	for i := range 2 * nulls {
		if i < nulls {
			b.Field(0).AppendNull()
		} else {
			b.Field(0).(*array.Int64Builder).Append(int64(i))
		}
	}
	rows := b.NewRecordBatch()
	own := encodeGroups(t, []arrow.RecordBatch{rows}, columns) // some pages have only nulls
	where := bind(t, "n is null", columns)
	for name, content := range map[string][]byte{
		"with statistics": own, "without statistics": pagedFile(t, rows, parquet.WithStats(false), parquet.WithPageIndexEnabled(false)),
	} {
		s := &Scan{Rows: BatchRows, Columns: []Column{n}, Where: where, ConditionColumns: []Column{n}}
		if got, err := s.readAll(t.Context(), content); err != nil || strings.Count(got, "null") != nulls {
			t.Errorf("%s: got %d nulls, error %v, want %d", name, strings.Count(got, "null"), err, nulls)
		}
	}
}

// TestPagesWithDeletes checks that position and equality deletes hide the right rows, whichever pages
// are read.
func TestPagesWithDeletes(t *testing.T) {
	rows := pagedRows(16_000)
	content := pagedFile(t, rows)
	columns := columnsOf(rows.Schema())
	onceColumn := rows.Column(3).(*array.String)
	isDeleted := func(row int64) bool { return row%7 == 3 || row/2000 == 4 }
	findDeletes := func(context.Context) (*Deletes, error) {
		return &Deletes{Columns: columns[3:4], MarkDeleted: func(first int64, keep []bool, columns []arrow.Array) error {
			for i := range keep {
				keep[i] = keep[i] && !isDeleted(first+int64(i)) && !strings.HasSuffix(columns[0].(*array.String).Value(i), "11")
			}
			return nil
		}}, nil
	}
	for _, cond := range []string{"", "n >= 3000 and n < 3010", "n = 5 or n > 5200", "n < 400 or n > 5000", "often = 'text 7 3'", "once < 'row 12'", "x is null and n > 4900"} {
		where, want := (*filter.Condition)(nil), rows
		if cond != "" {
			e := must.Get(filter.Parse(cond))(t)
			where, want = must.Get(e.Bind(rows.Schema()))(t), must.Get(e.Filter(t.Context(), rows))(t)
		}
		at := map[string]int64{}
		for i := range onceColumn.Len() {
			at[onceColumn.Value(i)] = int64(i)
		}
		var wantRows []string
		for i := range int(want.NumRows()) {
			if v := want.Column(3).(*array.String).Value(i); !isDeleted(at[v]) && !strings.HasSuffix(v, "11") {
				wantRows = append(wantRows, v+want.Column(2).ValueStr(i)+want.Column(4).ValueStr(i))
			}
		}
		for i := range 6 {
			s := &Scan{Rows: []int64{32768, 300, 5000}[i%3], Columns: columns[2:], Workers: i % 4, Memory: 1 << 20}
			if where != nil {
				s.choose(where, columns)
			}
			s.Open = func(string) (parquet.ReaderAtSeeker, error) { return bytes.NewReader(content), nil }
			var got []string
			for b, err := range s.Read(t.Context(), []File{{Path: "a file", Deletes: findDeletes}}) {
				if err != nil {
					t.Fatalf("scan with %q: %v", cond, err)
				}
				for i := range int(b.NumRows()) {
					got = append(got, b.Column(1).ValueStr(i)+b.Column(0).ValueStr(i)+b.Column(2).ValueStr(i))
				}
			}
			if !slices.Equal(got, wantRows) {
				t.Errorf("%q, %d rows per batch: got %d rows, want %d", cond, s.Rows, len(got), len(wantRows))
			}
		}
	}
}

package datafile

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

// storedTypes lists the types that tables store; see docs/types.md. The last four are nested.
var storedTypes = []arrow.DataType{
	arrow.FixedWidthTypes.Boolean, arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Float32, arrow.PrimitiveTypes.Float64,
	arrow.BinaryTypes.String, arrow.BinaryTypes.Binary, &arrow.FixedSizeBinaryType{ByteWidth: 2}, &arrow.FixedSizeBinaryType{ByteWidth: 16},
	&arrow.Decimal128Type{Precision: 7, Scale: 2}, &arrow.Decimal128Type{Precision: 12, Scale: 4}, &arrow.Decimal128Type{Precision: 20}, &arrow.Decimal128Type{Precision: 38, Scale: 2},
	arrow.FixedWidthTypes.Date32, arrow.FixedWidthTypes.Time64us, &arrow.TimestampType{Unit: arrow.Microsecond}, &arrow.TimestampType{Unit: arrow.Nanosecond},
	arrow.FixedWidthTypes.Timestamp_us,
	arrow.ListOf(arrow.PrimitiveTypes.Int64), arrow.ListOf(arrow.BinaryTypes.String), arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int32),
	arrow.StructOf(arrow.Field{Name: "a", Type: arrow.PrimitiveTypes.Int32, Nullable: true}, arrow.Field{Name: "b", Type: arrow.ListOf(arrow.BinaryTypes.String), Nullable: true}),
}

// randomGenerator returns a random generator of numbers, such as a constant or a sequence with a fixed step.
func randomGenerator(r *rand.Rand) func() int64 {
	last, step, small := r.Int64()>>r.IntN(40), r.Int64N(2000)-1000, r.Int64N(500)+1
	kinds := []func() int64{
		func() int64 { return small },
		func() int64 { last += step; return last },
		func() int64 { last += r.Int64N(50) - 5; return last },
		func() int64 { return r.Int64N(small) * 1_000_003 },
		func() int64 { return int64(r.Uint64()) },
		func() int64 { return []int64{math.MinInt64, math.MaxInt64, 0, -1}[r.IntN(4)] },
		func() int64 { return []int64{math.MinInt32, math.MaxInt32}[r.IntN(2)] },
	}
	return kinds[r.IntN(len(kinds))]
}

// randomNulls returns a function that reports whether row i is null. It chooses at random whether no rows, a
// tenth of the rows, long runs of rows, nearly all rows, or all rows are null.
func randomNulls(r *rand.Rand) func(i int) bool {
	n := r.IntN(4000) + 1
	return []func(int) bool{
		func(int) bool { return false }, func(int) bool { return false }, func(int) bool { return r.IntN(10) == 0 }, func(i int) bool { return i/n%2 == 1 },
		func(int) bool { return r.IntN(1500) != 0 }, func(int) bool { return true },
	}[r.IntN(6)]
}

func appendRandomRows(b array.Builder, r *rand.Rand, rows int) {
	next, null := randomGenerator(r), randomNulls(r)
	for i := range rows {
		if null(i) {
			b.AppendNull()
		} else {
			appendRandomValue(b, r, next)
		}
	}
}

// appendRandomValue appends a value that it makes of a number from next.
func appendRandomValue(b array.Builder, r *rand.Rand, next func() int64) {
	v := next()
	text := func() string {
		if v%97 == 0 && r.IntN(6) == 0 {
			return strings.Repeat(fmt.Sprint(v), 1000)
		}
		return fmt.Sprint("text ", v)
	}
	switch b := b.(type) {
	case *array.BooleanBuilder:
		b.Append(v%3 == 0)
	case *array.Int8Builder:
		b.Append(int8(v))
	case *array.Int32Builder:
		b.Append(int32(v))
	case *array.Int64Builder:
		b.Append(v)
	case *array.Uint16Builder:
		b.Append(uint16(v))
	case *array.Uint32Builder:
		b.Append(uint32(v))
	case *array.Uint64Builder:
		b.Append(uint64(v))
	case *array.Float32Builder:
		b.Append(math.Float32frombits(uint32(v) &^ (1 << 23))) // clear a bit of the exponent, so that the value is not a NaN with a payload
	case *array.Float64Builder:
		b.Append([]float64{math.NaN(), math.Copysign(0, -1), math.Float64frombits(uint64(v) >> 2), float64(v) / 100}[min(r.IntN(40), 3)])
	case *array.StringBuilder:
		b.Append(text())
	case *array.BinaryBuilder:
		b.Append([]byte(text()))
	case *array.FixedSizeBinaryBuilder:
		b.Append([]byte(fmt.Sprintf("%032d", v&math.MaxInt64))[32-b.Type().(*arrow.FixedSizeBinaryType).ByteWidth:])
	case *array.Decimal128Builder:
		b.Append(decimal128.FromI64(v % 10_000_000))
	case *array.Date32Builder:
		b.Append(arrow.Date32(v % 1_000_000))
	case *array.Time32Builder:
		b.Append(arrow.Time32(v & math.MaxInt64 % 86_400_000))
	case *array.Time64Builder:
		b.Append(arrow.Time64(v & math.MaxInt64 % 86_400_000_000))
	case *array.TimestampBuilder:
		b.Append(arrow.Timestamp(v >> 4))
	case *array.ListBuilder:
		b.Append(true)
		appendRandomRows(b.ValueBuilder(), r, r.IntN(4))
	case *array.MapBuilder:
		b.Append(true)
		for i := range r.IntN(3) {
			b.KeyBuilder().(*array.StringBuilder).Append(fmt.Sprint(text(), i))
			appendRandomRows(b.ItemBuilder(), r, 1)
		}
	case *array.StructBuilder:
		b.Append(true)
		for i := range b.NumField() {
			appendRandomRows(b.FieldBuilder(i), r, 1)
		}
	default:
		panic(b.Type())
	}
}

// randomGroups returns groups of rows with random columns. ids is their schema, with field IDs.
func randomGroups(t *testing.T, r *rand.Rand, nested bool) (groups []arrow.RecordBatch, ids *arrow.Schema) {
	types := storedTypes
	if !nested {
		types = storedTypes[:len(storedTypes)-4]
	}
	var fields []arrow.Field
	for i := range r.IntN(4) + 1 {
		fields = append(fields, arrow.Field{Name: fmt.Sprint("c", i), Type: types[r.IntN(len(types))], Nullable: true})
	}
	shape := must.Get(schema.NewShape(arrow.NewSchema(fields, nil), nil, 0))(t)
	ids = must.Get(table.SchemaToArrowSchema(shape.Schema, nil, true, false))(t)
	for range r.IntN(2) + 1 {
		b := array.NewRecordBuilder(memory.DefaultAllocator, ids)
		rows := []int{1, 7, 1023, 1024, 1025, 3000, 9000, 20_000}[r.IntN(8)]
		for _, f := range b.Fields() {
			appendRandomRows(f, r, rows)
		}
		groups = append(groups, b.NewRecordBatch())
	}
	return groups, ids
}

func encodeGroups(t *testing.T, groups []arrow.RecordBatch, ids *arrow.Schema) []byte {
	t.Helper()
	content, _ := encodeWith(t, groups, ids)
	return content
}

// encodeWith returns a file of this package, and its closed encoder.
func encodeWith(t *testing.T, groups []arrow.RecordBatch, ids *arrow.Schema) ([]byte, *encoder) {
	t.Helper()
	var out bytes.Buffer
	e := must.Get(newEncoder(&out, ids, false))(t)
	for _, group := range groups {
		must.Do(t, e.write(t.Context(), group))
	}
	footer, size, err := e.close()
	if err != nil || size != int64(out.Len()) || len(footer.RowGroups) != len(groups) {
		t.Fatalf("close: got size %d, want %d, error %v", size, out.Len(), err)
	}
	return out.Bytes(), e
}

// floatBits returns an array with the bits of floats, also of nested ones, so that NaN equals itself and -0 differs
// from 0.
func floatBits(a arrow.Array) arrow.Array { return array.MakeFromData(bitsOf(a.Data())) }

func bitsOf(d arrow.ArrayData) arrow.ArrayData {
	var children []arrow.ArrayData
	for _, child := range d.Children() {
		children = append(children, bitsOf(child))
	}
	var bits arrow.DataType
	switch t := d.DataType().(type) {
	case *arrow.Float32Type:
		bits = arrow.PrimitiveTypes.Int32
	case *arrow.Float64Type:
		bits = arrow.PrimitiveTypes.Int64
	case *arrow.ListType:
		bits = arrow.ListOf(children[0].DataType())
	case *arrow.StructType:
		fields := t.Fields()
		for i := range fields {
			fields[i].Type = children[i].DataType()
		}
		bits = arrow.StructOf(fields...)
	default:
		return d
	}
	return array.NewData(bits, d.Len(), d.Buffers(), children, d.NullN(), d.Offset())
}

// TestEncodeRoundTrip checks that this package, pyarrow and DuckDB read back values of every type
// unchanged.
func TestEncodeRoundTrip(t *testing.T) {
	python, err := procs.PythonPath("engines")
	dir := t.TempDir()
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(35, seed))
		groups, ids := randomGroups(t, r, seed%3 == 0)
		content := encodeGroups(t, groups, ids)
		s := &Scan{Rows: 1 << 20, Open: func(string) (parquet.ReaderAtSeeker, error) { return bytes.NewReader(content), nil }}
		for _, f := range ids.Fields() {
			s.Columns = append(s.Columns, Column{Field: f, IDs: f})
		}
		n, row := 0, int64(0) // the next group and its next row; a group with long texts is read as several batches
		for b, err := range s.Read(t.Context(), []File{{Path: "a file"}}) {
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			for i, c := range b.Columns() {
				want := array.NewSlice(groups[n].Column(i), row, row+b.NumRows())
				if !array.Equal(floatBits(c), floatBits(want)) {
					t.Fatalf("seed %d, group %d, column %d of type %v: the values read differ from the values written", seed, n, i, c.DataType())
				}
			}
			if row += b.NumRows(); row == groups[n].NumRows() {
				n, row = n+1, 0
			}
		}
		if n != len(groups) {
			t.Fatalf("read %d groups, want %d", n, len(groups))
		}
		checkIndex(t, content, groups)
		if err == nil {
			writeForPeers(t, filepath.Join(dir, fmt.Sprint(seed)), content, groups)
		}
	}
	if err != nil {
		t.Skip("pyarrow and DuckDB did not read the files: ", err)
	}
	out, err := exec.CommandContext(t.Context(), python, filepath.Join("testdata", "read.py"), dir).CombinedOutput()
	if err != nil {
		t.Errorf("pyarrow or DuckDB read other values (error %v):\n%s", err, out)
	}
}

// checkIndex checks the bounds of strings and integers in the footer and the page index, because scans
// use them to skip rows.
func checkIndex(t *testing.T, content []byte, groups []arrow.RecordBatch) {
	t.Helper()
	parsed := parse(t, content)
	for n, group := range groups {
		pages := must.Get(parsed.GetPageIndexReader().RowGroup(n))(t)
		for i, a := range group.Columns() {
			number := integerDecoder(a)
			if pages != nil && !hasNested(group.Schema()) && width(a) <= maxIndexedBytes {
				checkPageRows(t, pages, i, int64(a.Len()))
			}
			if text := a.DataType().ID() == arrow.STRING || a.DataType().ID() == arrow.BINARY; pages == nil || !text && number == nil || parsed.MetaData().Schema.NumColumns() > int(group.NumCols()) {
				continue
			}
			value := plainValue(a)
			isLess := func(a, b []byte) bool {
				return number != nil && number(a) < number(b) || number == nil && bytes.Compare(a, b) < 0
			}
			chunk := must.Get(parsed.MetaData().RowGroup(n).ColumnChunk(i))(t)
			stats, err := chunk.Statistics()
			if err != nil || stats.NullCount() != int64(a.NullN()) || stats.NumValues() != int64(a.Len()-a.NullN()) {
				t.Fatalf("column %d has %d nulls, but its statistics are %v, %v", i, a.NullN(), stats, err)
			}
			bounds, locations := must.Get(pages.GetColumnIndex(i))(t), must.Get(pages.GetOffsetIndex(i))(t)
			if bounds == nil { // long texts have no index
				continue
			}
			for p, location := range locations.GetPageLocations() {
				end := int64(a.Len())
				if p+1 < len(locations.GetPageLocations()) {
					end = locations.GetPageLocations()[p+1].FirstRowIndex
				}
				minValue, maxValue, nulls := bounds.GetMinValues()[p], bounds.GetMaxValues()[p], int64(0)
				seen := [2]bool{}
				for row := location.FirstRowIndex; row < end; row++ {
					if a.IsNull(int(row)) {
						nulls++
						continue
					}
					v := value(int(row))
					if isLess(v, minValue) || isLess(maxValue, v) {
						t.Fatalf("row %d of column %d is outside the bounds of its page", row, i)
					}
					seen = [2]bool{seen[0] || bytes.Equal(v, minValue), seen[1] || bytes.Equal(v, maxValue)}
				}
				if all := nulls == end-location.FirstRowIndex; bounds.GetNullPages()[p] != all || bounds.GetNullCounts()[p] != nulls || !all && seen != [2]bool{true, true} {
					t.Fatalf("page %d of column %d: got all null %v and %d nulls, want %v and %d; the minimum and the maximum occur in the page: %v, want both", p, i, bounds.GetNullPages()[p], bounds.GetNullCounts()[p], all, nulls, seen)
				}
			}
		}
	}
}

// checkPageRows checks that each page of a column has at least one row, and at most pageRows rows.
func checkPageRows(t *testing.T, pages *metadata.RowGroupPageIndexReader, column int, rows int64) {
	t.Helper()
	index := must.Get(pages.GetOffsetIndex(column))(t)
	var begins []int64
	for _, location := range index.GetPageLocations() {
		begins = append(begins, location.FirstRowIndex)
	}
	for p, end := range append(begins[1:], rows) {
		if n := end - begins[p]; n < 1 || n > pageRows {
			t.Fatalf("page %d of column %d has %d rows, want 1 to %d", p, column, n, pageRows)
		}
	}
}

// TestPagesOfNestedFiles checks that pages of a file with nested columns have few rows, whatever their encodings.
func TestPagesOfNestedFiles(t *testing.T) {
	const rows = 40_000
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{
		withID(1, arrow.Field{Name: "plain", Type: arrow.PrimitiveTypes.Int64}),
		withID(2, arrow.Field{Name: "dictionary", Type: arrow.PrimitiveTypes.Int64}),
		withID(3, arrow.Field{Name: "list", Type: arrow.ListOfField(withID(4, arrow.Field{Name: "element", Type: arrow.PrimitiveTypes.Int32}))}),
	}, nil))
	defer b.Release()
	r := rand.New(rand.NewPCG(1, 1))
	for range rows {
		b.Field(0).(*array.Int64Builder).Append(r.Int64())
		b.Field(1).(*array.Int64Builder).Append(r.Int64N(1000))
		b.Field(2).AppendNull()
	}
	group := b.NewRecordBatch()
	parsed := parse(t, encodeGroups(t, []arrow.RecordBatch{group}, group.Schema()))
	pages := must.Get(parsed.GetPageIndexReader().RowGroup(0))(t)
	for i := range 2 {
		checkPageRows(t, pages, i, rows)
	}
}

// writeForPeers stores a file and its expected rows, for testdata/read.py.
func writeForPeers(t *testing.T, name string, content []byte, groups []arrow.RecordBatch) {
	t.Helper()
	must.Do(t, os.WriteFile(name+".parquet", content, 0o600))
	f := must.Get(os.Create(name + ".arrow"))(t)
	w := must.Get(ipc.NewFileWriter(f, ipc.WithSchema(groups[0].Schema())))(t)
	for _, group := range groups {
		must.Do(t, w.Write(group))
	}
	must.Do(t, errors.Join(w.Close(), f.Close()))
}

// TestChooseEncoding checks that the encoding of a column depends on its values, and that the file has a page
// index.
func TestChooseEncoding(t *testing.T) {
	const rows = 100_000
	r := rand.New(rand.NewPCG(1, 2))
	arrayOf := func(t arrow.DataType, append func(b array.Builder, i int)) arrow.Array {
		b := array.NewBuilder(memory.DefaultAllocator, t)
		for i := range rows {
			append(b, i)
		}
		return b.NewArray()
	}
	integers := func(f func(i int) int64) arrow.Array {
		return arrayOf(arrow.PrimitiveTypes.Int64, func(b array.Builder, i int) { b.(*array.Int64Builder).Append(f(i)) })
	}
	floats := func(f func(i int) float64) arrow.Array {
		return arrayOf(arrow.PrimitiveTypes.Float64, func(b array.Builder, i int) { b.(*array.Float64Builder).Append(f(i)) })
	}
	texts := func(f func(i int) string) arrow.Array {
		return arrayOf(arrow.BinaryTypes.String, func(b array.Builder, i int) { b.(*array.StringBuilder).Append(f(i)) })
	}
	decimals := func(precision int32) arrow.Array {
		return arrayOf(&arrow.Decimal128Type{Precision: precision, Scale: 4}, func(b array.Builder, _ int) {
			b.(*array.Decimal128Builder).Append(decimal128.FromI64(r.Int64N(200_000_000) - 100_000_000))
		})
	}
	letters := func() string {
		text := make([]byte, 20)
		for i := range text {
			text[i] = byte(r.Uint32())&63 + 48
		}
		return string(text)
	}
	stretches := func(b array.Builder, i int) {
		if i/2000%2 == 1 {
			b.AppendNull()
		} else {
			b.(*array.Int64Builder).Append(int64(i))
		}
	}
	for _, c := range []struct {
		name  string
		a     arrow.Array
		want  string
		bytes int // upper limit
	}{
		{"evenly spaced times", integers(func(i int) int64 { return 1_700_000_000_000_000 + int64(i)*1000 }), "DELTA_BINARY_PACKED", 20_000},
		{"nearly ordered times", integers(func(i int) int64 { return int64(i)*1000 + r.Int64N(5000) }), "DELTA_BINARY_PACKED", 190_000},
		{"small integers", integers(func(int) int64 { return r.Int64N(1000) }), "RLE_DICTIONARY", 140_000},
		{"repeated large integers", integers(func(int) int64 { return r.Int64N(1000) * 1_000_000_007 }), "RLE_DICTIONARY", 140_000},
		{"a quarter of rare integers", integers(func(i int) int64 { return r.Int64() * int64(i%4/3) }), "RLE_DICTIONARY", 450_000},
		{"four fifths of rare integers", integers(func(i int) int64 { return r.Int64() * int64(min(i%5, 1)) }), "PLAIN", 820_000},
		{"integers, nearly all zero", integers(func(i int) int64 { return max(r.Int64N(160)-150, 0) }), "RLE_DICTIONARY", 30_000},
		{"one integer", integers(func(int) int64 { return 7 }), "RLE_DICTIONARY", 2_000},
		{"random integers", integers(func(int) int64 { return r.Int64() }), "PLAIN", 820_000},
		{"runs of integers and nulls", arrayOf(arrow.PrimitiveTypes.Int64, stretches), "PLAIN zstd", 60_000},
		{"decimals of nine digits", decimals(9), "PLAIN", 410_000},
		{"decimals of twelve digits", decimals(12), "DELTA_BINARY_PACKED", 380_000},
		{"decimals of twenty digits", decimals(20), "PLAIN zstd", 480_000},
		{"random floats", floats(func(int) float64 { return r.Float64() }), "PLAIN", 820_000},
		{"floats of two digits", floats(func(int) float64 { return float64(r.IntN(2000)) / 100 }), "RLE_DICTIONARY", 160_000},
		{"repeated strings", texts(func(int) string { return fmt.Sprint("S", r.IntN(100)) }), "RLE_DICTIONARY", 100_000},
		{"thousands of distinct strings", texts(func(int) string { return fmt.Sprintf("a longer text %d", r.IntN(5000)) }), "RLE_DICTIONARY", 300_000},
		{"random strings", texts(func(int) string { return letters() }), "PLAIN", 2_420_000},
		{"similar strings", texts(func(i int) string { return fmt.Sprintf("https://example.com/page/of/many/%d", i) }), "PLAIN zstd", 700_000},
	} {
		f := withID(1, arrow.Field{Name: "c", Type: c.a.DataType()})
		columns := arrow.NewSchema([]arrow.Field{f}, nil)
		content := encodeGroups(t, []arrow.RecordBatch{array.NewRecordBatch(columns, []arrow.Array{c.a}, rows)}, columns)
		parsed := parse(t, content)
		chunk := must.Get(parsed.MetaData().RowGroup(0).ColumnChunk(0))(t)
		got := []string{}
		for _, e := range chunk.Encodings() {
			if text := e.String(); text != "RLE" && (text != "PLAIN" || !chunk.HasDictionaryPage()) {
				got = append(got, text)
			}
		}
		if codec := chunk.Compression().String(); codec != "UNCOMPRESSED" {
			got = append(got, strings.ToLower(codec))
		}
		if all := strings.Join(got, " "); all != c.want || len(content) > c.bytes {
			t.Errorf("%s: got %s, %d bytes, want %s, at most %d bytes", c.name, all, len(content), c.want, c.bytes)
		}
		if offsetIndex := chunk.GetOffsetIndexLocation(); offsetIndex == nil || offsetIndex.Length == 0 {
			t.Errorf("%s: the file has no page index", c.name)
		}
	}
}

// TestNullsAfterDeltas checks that a column can be read back if a page of nulls follows pages of values.
// The library's delta encoder fails on such a column, so the column must have another encoding.
func TestNullsAfterDeltas(t *testing.T) {
	const rows = 60_000
	b, r := array.NewInt64Builder(memory.DefaultAllocator), rand.New(rand.NewPCG(1, 2))
	for i := range rows {
		if b.Append(int64(i)<<30 + r.Int64N(1<<30)); i > 17_000 && i < 24_000 || i > 59_000 {
			b.SetNull(i)
		}
	}
	columns := arrow.NewSchema([]arrow.Field{withID(1, arrow.Field{Name: "c", Type: arrow.PrimitiveTypes.Int64})}, nil)
	batch := array.NewRecordBatch(columns, []arrow.Array{b.NewArray()}, rows)
	for _, group := range []arrow.RecordBatch{batch, batch.NewSlice(0, 17_000), batch.NewSlice(16_000, 60_000)} {
		content := encodeGroups(t, []arrow.RecordBatch{group}, columns)
		s := &Scan{Rows: rows, Open: func(string) (parquet.ReaderAtSeeker, error) { return bytes.NewReader(content), nil }}
		s.Columns = []Column{{Field: columns.Field(0), IDs: columns.Field(0)}}
		for b, err := range s.Read(t.Context(), []File{{Path: "a file"}}) {
			if err != nil || !array.Equal(b.Column(0), group.Column(0)) {
				t.Errorf("read error %v, want nil and the values that were written", err)
			}
		}
	}
}

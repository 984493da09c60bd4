package datafile

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/go-partd/partd/internal/testutil/must"
)

// plainRows returns n rows with columns of many types. A column's name describes where it has nulls.
func plainRows(random *rand.Rand, n int) arrow.RecordBatch {
	types := []arrow.DataType{
		arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Float32, arrow.PrimitiveTypes.Float64,
		arrow.FixedWidthTypes.Date32, arrow.FixedWidthTypes.Time32ms, arrow.FixedWidthTypes.Time64us, arrow.FixedWidthTypes.Timestamp_us,
		arrow.FixedWidthTypes.Timestamp_ns, arrow.FixedWidthTypes.Boolean, arrow.PrimitiveTypes.Int8, arrow.PrimitiveTypes.Uint16,
		arrow.PrimitiveTypes.Uint32, arrow.PrimitiveTypes.Uint64, arrow.BinaryTypes.String, arrow.BinaryTypes.Binary,
		&arrow.FixedSizeBinaryType{ByteWidth: 8}, &arrow.Decimal128Type{Precision: 9, Scale: 2}, &arrow.Decimal128Type{Precision: 18, Scale: 2},
		&arrow.Decimal128Type{Precision: 30, Scale: 2}, arrow.ListOf(arrow.PrimitiveTypes.Float32),
		arrow.StructOf(arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Float64, Nullable: true}),
	}
	noNulls := func(int) bool { return false }
	var fields []arrow.Field
	var columns []arrow.Array
	add := func(name string, t arrow.DataType, nullable bool, null func(i int) bool) {
		b := array.NewBuilder(memory.DefaultAllocator, t)
		defer b.Release()
		for i := range n {
			if null(i) {
				b.AppendNull()
			} else {
				distinct := uint64(50) // number of distinct values; small at first, so that a dictionary is possible
				if i > n/3 {
					distinct = math.MaxUint64
				}
				appendRandomValue(b, random, func() int64 { return int64((random.Uint64() >> random.IntN(64)) % distinct) })
			}
		}
		fields = append(fields, arrow.Field{Name: fmt.Sprint(name, " ", t), Type: t, Nullable: nullable})
		columns = append(columns, b.NewArray())
	}
	for _, t := range types {
		add("required", t, false, noNulls)
		add("none", t, true, noNulls)
		add("late", t, true, func(i int) bool { return i > n*2/3 && i%100 == 7 })
		add("anywhere", t, true, func(int) bool { return random.IntN(5) == 0 })
		add("all", t, true, func(int) bool { return true })
	}
	return array.NewRecordBatch(arrow.NewSchema(fields, nil), columns, int64(n))
}

// plainFile opens a file, and selects all its columns in the file's types.
func plainFile(t testing.TB, content []byte, recycle bool) (*file, group, error) {
	s := &Scan{Rows: 700, Recycle: recycle}
	s.Open = func(string) (parquet.ReaderAtSeeker, error) { return bytes.NewReader(content), nil }
	f, err := s.open(t.Context(), File{Path: "a file"})
	if err != nil {
		return nil, group{}, err
	}
	if len(f.groups) == 0 {
		return nil, group{}, fmt.Errorf("the file has no rows")
	}
	for _, manifestField := range f.reader.Manifest.Fields {
		field := *manifestField.Field
		s.Columns = append(s.Columns, Column{Field: arrow.Field{Name: field.Name, Type: field.Type, Nullable: true}, IDs: field})
	}
	return f, f.groups[0], nil
}

// readSpans reads the given spans of a group, each column separately, up to the column's first error. It
// returns each column's arrays, and whether plain copied all its pages. If library is true, it uses only the
// library's reader.
func readSpans(t testing.TB, f *file, g group, all []span, library bool) (got [][]arrow.Array, errs []error, copied []bool) {
	for _, column := range f.scan.Columns {
		var read []arrow.Array
		c, err := f.openColumns(t.Context(), f.reader, g, []Column{column}, 0)
		if err == nil && library {
			c.useLibraryReader(0)
		}
		for _, s := range all {
			if err == nil {
				err = c.seek(s.from)
			}
			if err == nil {
				var part []arrow.Array
				part, err = c.next(s.rows())
				read = append(read, part...)
			}
		}
		got, errs, copied = append(got, read), append(errs, err), append(copied, c != nil && c.plain[0] != nil)
		if c != nil {
			c.release()
		}
	}
	return got, errs, copied
}

func randomSpans(random *rand.Rand, rows int64) (all []span) {
	for start := int64(0); start < rows; {
		if random.IntN(3) > 0 {
			start += random.Int64N(rows - start)
		}
		end := min(rows, start+1+random.Int64N(2000))
		all, start = append(all, span{start, end}), end
	}
	return all
}

var plainTypes = []arrow.Type{arrow.INT32, arrow.INT64, arrow.FLOAT32, arrow.FLOAT64, arrow.DATE32, arrow.TIME32, arrow.TIME64, arrow.TIMESTAMP}

// TestPlain checks that random rows of all types equal the rows that the library reads, however the pages
// were written. The pages of columns with plain values and without nulls must be copied.
func TestPlain(t *testing.T) {
	const n = 9000
	random := rand.New(rand.NewPCG(35, 1))
	rows := plainRows(random, n)
	noDictionary := []parquet.WriterProperty{parquet.WithDictionaryDefault(false)}
	for _, version := range []parquet.DataPageVersion{parquet.DataPageV1, parquet.DataPageV2} {
		for _, o := range []struct {
			name       string
			properties []parquet.WriterProperty
			plain      bool
		}{
			{"plain", noDictionary, true},
			{"no index", append(noDictionary, parquet.WithPageIndexEnabled(false)), true},
			{"compressed", append(noDictionary, parquet.WithCompression(compress.Codecs.Zstd)), true},
			{"snappy", append(noDictionary, parquet.WithCompression(compress.Codecs.Snappy)), true},
			{"INT96", noDictionary, true},
			{"integers", append(noDictionary, parquet.WithStoreDecimalAsInteger(true)), true},
			{"no stats", append(noDictionary, parquet.WithStats(false), parquet.WithPageIndexEnabled(false)), true},
			{"no stats, compressed", append(noDictionary, parquet.WithStats(false), parquet.WithPageIndexEnabled(false), parquet.WithCompression(compress.Codecs.Snappy)), true},
			{"dictionary", nil, false},
			{"full dictionary", []parquet.WriterProperty{parquet.WithDictionaryPageSizeLimit(1000)}, false},
		} {
			name := fmt.Sprintf("%s, pages %v", o.name, version)
			content := plainContent(t, rows, o.name == "INT96", append(o.properties, parquet.WithDataPageVersion(version))...)
			for _, recycle := range []bool{version == parquet.DataPageV1, random.IntN(2) == 0} {
				f, g, err := plainFile(t, content, recycle)
				if err != nil {
					t.Fatalf("%s: open: %v", name, err)
				}
				g.index = f.pageIndex(g)
				library := must.Get(pqarrow.NewFileReader(f.parsed, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator))(t)
				table, err := library.ReadTable(t.Context())
				if err != nil {
					t.Fatalf("%s: the library's reader: %v", name, err)
				}
				all := randomSpans(random, n)
				got, errs, copied := readSpans(t, f, g, all, false)
				for i, c := range f.scan.Columns {
					if errs[i] != nil {
						t.Fatalf("%s, column %s: %v", name, c.Field.Name, errs[i])
					}
					want := must.Get(array.Concatenate(table.Column(i).Data().Chunks(), memory.DefaultAllocator))(t)
					for j, s := range all {
						if part := array.NewSlice(want, s.from, s.to); !array.Equal(floatBits(got[i][j]), floatBits(part)) {
							t.Fatalf("%s, %s: rows %d to %d: got %v, want %v", name, c.Field.Name, s.from, s.to, got[i][j], part)
						}
					}
					wantCopied := o.plain && want.NullN() == 0 && slices.Contains(plainTypes, c.Field.Type.ID())
					switch o.name {
					case "INT96":
						wantCopied = wantCopied && !arrow.TypeEqual(c.Field.Type, arrow.FixedWidthTypes.Timestamp_ns)
					case "no stats, compressed":
						wantCopied = wantCopied && !rows.Schema().Field(i).Nullable
					}
					if copied[i] != wantCopied {
						t.Errorf("%s, %s: pages were copied: %v, want %v", name, c.Field.Name, copied[i], wantCopied)
					}
				}
			}
		}
	}
}

func plainContent(t testing.TB, rows arrow.RecordBatch, int96 bool, o ...parquet.WriterProperty) []byte {
	t.Helper()
	o = append([]parquet.WriterProperty{parquet.WithDataPageSize(1000), parquet.WithBatchSize(50), parquet.WithStats(true), parquet.WithPageIndexEnabled(true)}, o...)
	for _, f := range rows.Schema().Fields() { // otherwise, the library drops dictionaries of random values
		o = append(o, parquet.WithDictionaryCostFallbackFor(f.Name, false))
	}
	return written(t, rows, []pqarrow.WriterOption{pqarrow.WithDeprecatedInt96Timestamps(int96)}, o...)
}

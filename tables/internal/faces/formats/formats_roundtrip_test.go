package formats_test

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/extensions"
	"github.com/apache/arrow-go/v18/arrow/float16"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/formats"
	"github.com/go-partd/partd/tables/internal/rows/arrowtype"
	"github.com/go-partd/partd/tables/tablestest"
)

// plainTypes contains all types in docs/types.md that are not nested and that are read back unchanged.
var plainTypes = func() []arrow.DataType {
	json, err := extensions.NewJSONType(arrow.BinaryTypes.String)
	if err != nil {
		panic(err)
	}
	all := []arrow.DataType{
		arrow.Null, arrow.FixedWidthTypes.Boolean,
		arrow.PrimitiveTypes.Int8, arrow.PrimitiveTypes.Int16, arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int64,
		arrow.PrimitiveTypes.Uint8, arrow.PrimitiveTypes.Uint16, arrow.PrimitiveTypes.Uint32, arrow.PrimitiveTypes.Uint64,
		arrow.FixedWidthTypes.Float16, arrow.PrimitiveTypes.Float32, arrow.PrimitiveTypes.Float64,
		arrow.BinaryTypes.String, arrow.BinaryTypes.LargeString, arrow.BinaryTypes.StringView,
		arrow.BinaryTypes.Binary, arrow.BinaryTypes.LargeBinary, arrow.BinaryTypes.BinaryView, &arrow.FixedSizeBinaryType{ByteWidth: 3},
		&arrow.Decimal32Type{Precision: 7, Scale: 2}, &arrow.Decimal64Type{Precision: 15, Scale: 15}, &arrow.Decimal128Type{Precision: 38, Scale: 2}, &arrow.Decimal128Type{Precision: 20},
		arrow.FixedWidthTypes.Date32, arrow.FixedWidthTypes.Date64,
		arrow.FixedWidthTypes.Time32s, arrow.FixedWidthTypes.Time32ms, arrow.FixedWidthTypes.Time64us, arrow.FixedWidthTypes.Time64ns,
		extensions.NewUUIDType(), json,
	}
	for _, u := range arrow.TimeUnitValues {
		all = append(all, &arrow.DurationType{Unit: u}, &arrow.TimestampType{Unit: u}, &arrow.TimestampType{Unit: u, TimeZone: "UTC"}, &arrow.TimestampType{Unit: u, TimeZone: "America/New_York"})
	}
	return all
}()

type random struct{ *rand.Rand }

// typ returns a random type that is nested at most depth levels.
func (r random) typ(depth int) arrow.DataType {
	if depth == 0 || r.IntN(3) > 0 {
		return plainTypes[r.IntN(len(plainTypes))]
	}
	field := arrow.Field{Name: "item", Type: r.typ(depth - 1), Nullable: true}
	switch r.IntN(5) {
	case 0:
		return arrow.ListOfField(field)
	case 1:
		return arrow.LargeListOfField(field)
	case 2:
		return arrow.FixedSizeListOfField(2, field)
	case 3:
		keys := []arrow.DataType{arrow.BinaryTypes.String, arrow.PrimitiveTypes.Uint64, arrow.FixedWidthTypes.Date32}
		return arrow.MapOf(keys[r.IntN(len(keys))], field.Type)
	}
	return arrow.StructOf(field, arrow.Field{Name: `é "x",`, Type: r.typ(depth - 1), Nullable: true})
}

// integer returns a random integer with the given number of bits, often the minimum or maximum.
func (r random) integer(bits int) int64 {
	switch r.IntN(4) {
	case 0:
		return math.MinInt64 >> (64 - bits)
	case 1:
		return math.MaxInt64 >> (64 - bits)
	case 2:
		return int64(r.Uint64()) >> (64 - bits)
	}
	return int64(r.IntN(200) - 100)
}

func (r random) integerWithin(limit int64) int64 { return min(max(r.integer(64)%limit, -limit), limit) }

func (r random) float() float64 {
	special := []float64{math.NaN(), math.Inf(1), math.Inf(-1), math.Copysign(0, -1), 0, math.MaxFloat64, math.SmallestNonzeroFloat64, 1 << 53, 1 << 60, 1e21, 0.1, 16777217}
	if i := r.IntN(2 * len(special)); i < len(special) {
		return special[i]
	}
	return r.NormFloat64() * 1000
}

func (r random) text() string {
	texts := []string{"", " ", "null", "(null)", "NULL", "NaN", "00501", "1e5", "true", "2026-01-31", "x\r\ny", "\r", "\n", `"`, `""`, "a,b", "\ufeffx", "é\u2028<&>\x00", "\\N", "\t", "# x", strings.Repeat("long ", 100)}
	return texts[r.IntN(len(texts))]
}

func (r random) add(b array.Builder, t arrow.DataType) {
	if b.Type().ID() == arrow.NULL || r.IntN(5) == 0 {
		b.AppendNull()
	} else {
		r.addValue(b, t)
	}
}

func (r random) addValue(b array.Builder, t arrow.DataType) {
	switch b := b.(type) {
	case *array.BooleanBuilder:
		b.Append(r.IntN(2) == 0)
	case *array.Int8Builder:
		b.Append(int8(r.integer(8)))
	case *array.Int16Builder:
		b.Append(int16(r.integer(16)))
	case *array.Int32Builder:
		b.Append(int32(r.integer(32)))
	case *array.Int64Builder:
		b.Append(r.integer(64))
	case *array.Uint8Builder:
		b.Append(uint8(r.integer(64)))
	case *array.Uint16Builder:
		b.Append(uint16(r.integer(64)))
	case *array.Uint32Builder:
		b.Append(uint32(r.integer(64)))
	case *array.Uint64Builder:
		b.Append(uint64(r.integer(64)))
	case *array.Float16Builder:
		if n := float16.FromBits(uint16(r.Uint32())); arrowtype.FromFloat16(n) == arrowtype.FromFloat16(n) {
			b.Append(n)
		} else {
			b.Append(arrowtype.ToFloat16(math.NaN()))
		}
	case *array.Float32Builder:
		b.Append(float32(r.float()))
	case *array.Float64Builder:
		b.Append(r.float())
	case array.StringLikeBuilder:
		b.Append(r.text())
	case *array.FixedSizeBinaryBuilder:
		b.Append([]byte("\x00\xff" + "abcdefghijklmnop")[:t.(*arrow.FixedSizeBinaryType).ByteWidth])
	case *array.Decimal32Builder:
		b.Append(decimal.Decimal32(r.integerWithin(9999999)))
	case *array.Decimal64Builder:
		b.Append(decimal.Decimal64(r.integerWithin(999999999999999)))
	case *array.Decimal128Builder:
		values := []decimal128.Num{decimal128.GetMaxValue(t.(arrow.DecimalType).GetPrecision()), decimal128.FromI64(r.integer(64)), decimal128.FromI64(100)}
		n := values[r.IntN(len(values))]
		if r.IntN(2) == 0 {
			n = n.Negate()
		}
		b.Append(n)
	case *array.Date32Builder:
		b.Append(arrow.Date32(r.integer(32)))
	case *array.Date64Builder: // values that fit the stored type
		b.Append(arrow.Date64(r.integerWithin(1e8) * 86_400_000)) // whole days
	case *array.Time32Builder:
		b.Append(arrow.Time32(r.Int64N(86400 * int64(1e9) / int64(t.(*arrow.Time32Type).Unit.Multiplier()))))
	case *array.Time64Builder:
		b.Append(arrow.Time64(r.Int64N(86400 * int64(1e9) / int64(t.(*arrow.Time64Type).Unit.Multiplier()))))
	case *array.TimestampBuilder:
		limits := map[arrow.TimeUnit]int64{arrow.Second: 9e12, arrow.Millisecond: 9e15, arrow.Microsecond: math.MaxInt64, arrow.Nanosecond: math.MaxInt64}
		b.Append(arrow.Timestamp(r.integerWithin(limits[t.(*arrow.TimestampType).Unit])))
	case *array.DurationBuilder:
		b.Append(arrow.Duration(r.integer(64)))
	case *array.StructBuilder:
		b.Append(true)
		for i, f := range t.(*arrow.StructType).Fields() {
			r.add(b.FieldBuilder(i), f.Type)
		}
	case *array.MapBuilder:
		b.Append(true)
		for range r.IntN(3) {
			r.addValue(b.KeyBuilder(), t.(*arrow.MapType).KeyType())
			r.add(b.ItemBuilder(), t.(*arrow.MapType).ItemType())
		}
	case array.ListLikeBuilder:
		b.Append(true)
		n := r.IntN(3)
		if fixed, ok := t.(*arrow.FixedSizeListType); ok {
			n = int(fixed.Len())
		}
		for range n {
			r.add(b.ValueBuilder(), t.(arrow.ListLikeType).Elem())
		}
	case interface{ StorageBuilder() array.Builder }:
		r.addValue(b.StorageBuilder(), t.(arrow.ExtensionType).StorageType())
	case interface{ Append([]byte) }:
		b.Append([]byte(r.text()))
	default:
		panic(fmt.Sprintf("%T", b))
	}
}

// exactText returns a text that differs for different values. All NaNs have the same text.
func exactText(a arrow.Array, i int) string {
	if a.IsNull(i) || a.DataType().ID() == arrow.NULL {
		return "null"
	}
	var parts []string
	switch a := a.(type) {
	case *array.Float16:
		if f := arrowtype.FromFloat16(a.Value(i)); f == f {
			return fmt.Sprint("bits ", a.Value(i).Uint16())
		}
		return "NaN"
	case *array.Float32:
		if f := a.Value(i); f == f {
			return fmt.Sprint("bits ", math.Float32bits(f))
		}
		return "NaN"
	case *array.Float64:
		if f := a.Value(i); f == f {
			return fmt.Sprint("bits ", math.Float64bits(f))
		}
		return "NaN"
	case array.ExtensionArray:
		return exactText(a.Storage(), i)
	case *array.Struct:
		for k := range a.NumField() {
			parts = append(parts, exactText(a.Field(k), i))
		}
	case array.ListLike:
		start, end := a.ValueOffsets(i)
		for k := start; k < end; k++ {
			parts = append(parts, exactText(a.ListValues(), int(k)))
		}
	default:
		return fmt.Sprintf("%#v", array.ValueAsAny(a, i))
	}
	return "(" + strings.Join(parts, " ") + ")"
}

func rowsOf(t *testing.T, table *tables.Table) (schema *arrow.Schema, rows []string) {
	t.Helper()
	r := must.Get(table.Scan(t.Context(), nil))(t)
	defer r.Release()
	for r.Next() {
		for i := range int(r.RecordBatch().NumRows()) {
			var row []string
			for _, c := range r.RecordBatch().Columns() {
				row = append(row, exactText(c, i))
			}
			rows = append(rows, strings.Join(row, " | "))
		}
	}
	must.Do(t, r.Err())
	return r.Schema(), rows
}

// TestFormatsKeepTables checks that each format keeps a table's rows: a file of the table, put into an
// empty table with the same columns, must yield the same rows. The tables cover all types, including nested
// types, with nulls, empty texts and extreme values. PARTD_ROUNDTRIPS sets the number of random tables.
func TestFormatsKeepTables(t *testing.T) {
	seed := rand.Uint64()
	rounds := procs.Number(t, "PARTD_ROUNDTRIPS", 12)
	if n, err := strconv.ParseUint(os.Getenv("PARTD_ROUNDTRIP_SEED"), 10, 64); err == nil {
		seed = n
	}
	t.Logf("PARTD_ROUNDTRIP_SEED=%d", seed)
	r := random{rand.New(rand.NewPCG(seed, 31))}
	s := tablestest.Open(t, nil)
	for round := range rounds {
		var fields []arrow.Field
		for range 1 + r.IntN(6)*(round%3) { // every third table has one column
			fields = append(fields, arrow.Field{Name: fmt.Sprintf("c %d,\"", len(fields)), Type: r.typ(2), Nullable: true})
		}
		checkRoundTrip(t, r, s.Bucket(fmt.Sprint(round)), arrow.NewSchema(fields, nil))
		if t.Failed() {
			return
		}
	}
	// Test each type by itself and within a list.
	for i, plain := range plainTypes {
		fields := []arrow.Field{{Name: "x", Type: plain, Nullable: true}, {Name: "l", Type: arrow.ListOf(plain), Nullable: true}}
		checkRoundTrip(t, r, s.Bucket(fmt.Sprint("type ", i)), arrow.NewSchema(fields, nil))
	}
}

// checkRoundTrip puts random rows with a schema into a table, and checks that every format can export and import them.
func checkRoundTrip(t *testing.T, r random, bucket *tables.Bucket, schema *arrow.Schema) {
	t.Helper()
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	for range 1 + r.IntN(30) {
		for i, f := range schema.Fields() {
			r.add(b.Field(i), f.Type)
		}
	}
	batch := b.NewRecordBatch()
	put := func(name string, mode tables.PutMode, batches ...arrow.RecordBatch) *tables.Table {
		reader, err := array.NewRecordReader(schema, batches)
		if err == nil {
			_, err = bucket.Table(name).Put(t.Context(), reader, mode, nil)
		}
		if err != nil {
			t.Fatalf("put rows with schema %v: %v", schema, err)
		}
		return bucket.Table(name)
	}
	known, want := rowsOf(t, put("first", tables.PutError, batch))
	for _, format := range []*formats.Format{formats.CSV(), formats.JSONL(), formats.Arrow(), formats.Parquet()} {
		table := put("again", tables.PutReplace, batch.NewSlice(0, 0))
		var out bytes.Buffer
		scan := must.Get(put("second", tables.PutReplace, batch).Scan(t.Context(), nil))(t)
		w, err := format.Write(&out, scan.Schema(), formats.WriteOptions{})
		for err == nil && scan.Next() {
			err = w.Write(scan.RecordBatch())
		}
		scan.Release()
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			t.Errorf("writing %s with the schema %v: %v", format, schema, err)
			continue
		}
		in := &formats.Input{Name: format.Name, Format: format, Known: known, File: fileWith(t, out.Bytes())}
		reader, err := in.Read(t.Context())
		if err == nil {
			_, err = bucket.Table("again").Put(t.Context(), reader, tables.PutAppend, nil)
			reader.Release()
		}
		if err != nil {
			t.Errorf("reading %s with the schema %v: %v\n%.3000s", format, schema, err, out.String())
			continue
		}
		_, got := rowsOf(t, table)
		for i := range max(len(got), len(want)) {
			if i >= len(got) || i >= len(want) || got[i] != want[i] {
				t.Errorf("%s with the schema %v: read %d rows, want %d; the first difference is in row %d:\n%.2000s\nwant\n%.2000s", format, schema, len(got), len(want), i, append(got, "none")[i], append(want, "none")[i])
				break
			}
		}
	}
}

func fileWith(t *testing.T, content []byte) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x")
	must.Do(t, os.WriteFile(path, content, 0o600))
	f := must.Get(os.Open(path))(t)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

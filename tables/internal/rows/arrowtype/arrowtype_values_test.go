package arrowtype_test

import (
	"encoding/binary"
	"flag"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
	"github.com/apache/arrow-go/v18/arrow/extensions"
	"github.com/apache/arrow-go/v18/arrow/float16"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/internal/faces/formats"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/rows/sorted"
)

var update = flag.Bool("update", false, "rewrite testdata/values.txt")

const file = "testdata/values.txt"

// TestValues compares what tables do with random values of every type with the results in testdata/values.txt: the
// texts, the JSON, the keys, the order, and the values that come back after they were stored.
func TestValues(t *testing.T) {
	var all strings.Builder
	for _, dt := range types(t) {
		a := randomArray(dt, 60, rand.New(rand.NewPCG(1, 2)))
		a = array.NewSlice(a, 3, 59)
		fmt.Fprintf(&all, "%s: %s\n  widens to: %v\n  can be put into: %v\n", dt, properties(dt), matching(t, dt, schema.CanWiden), matching(t, dt, schema.CanPut))
		for _, f := range []struct {
			name   string
			append func(a arrow.Array) func(out []byte, row int) ([]byte, error)
		}{
			{"text", appendText},
			{"JSON", appendJSON},
			{"SQL key", sorted.SQLKeyAppender},
			{"text key", appendTextKey},
			{"order key", appendOrderKey},
			{"exact key", appendExactKey},
			{"order", appendOrder},
			{"stored", appendStored},
		} {
			fmt.Fprintf(&all, "  %s: %s\n", f.name, summary(a, f.append))
		}
	}
	if *update {
		must.Do(t, os.WriteFile(file, []byte(all.String()), 0o644))
	}
	want := strings.Split(string(must.Get(os.ReadFile(file))(t)), "\n")
	header := ""
	for i, line := range strings.Split(all.String(), "\n") {
		if !strings.HasPrefix(line, " ") {
			header = line
		}
		if i >= len(want) || line != want[i] {
			t.Errorf("%s, line %d of %s: got\n%s\nwant\n%s", header, i+1, file, line, want[min(i, len(want)-1)])
		}
	}
}

func properties(dt arrow.DataType) string {
	stored, err := schema.StoredType(dt)
	class, classErr := sorted.SQLKeyClass(dt)
	return fmt.Sprintf("stored as %v (%v), key class %q (%v), has order: %v, keys in order: %v", stored, err, class, classErr, sorted.HasOrder(dt), sorted.KeysInOrder(dt))
}

// matching returns the stored types for which f returns true.
func matching(t testing.TB, from arrow.DataType, f func(from, to arrow.DataType) bool) (matches []arrow.DataType) {
	if _, err := schema.StoredType(from); err != nil {
		return nil
	}
	for _, to := range types(t) {
		if _, err := schema.StoredType(to); err == nil && f(from, to) {
			matches = append(matches, to)
		}
	}
	return matches
}

// summary returns some of the outputs for an array's rows, and a hash of all of them.
func summary(a arrow.Array, appender func(a arrow.Array) func(out []byte, row int) ([]byte, error)) (text string) {
	defer func() {
		if p := recover(); p != nil {
			text = "panics"
		}
	}()
	f := appender(a)
	if f == nil {
		return "unsupported"
	}
	hash := fnv.New64a()
	var samples []string
	for row := range a.Len() {
		out, err := f(nil, row)
		if err != nil {
			out = []byte("error: " + err.Error())
		}
		fmt.Fprintf(hash, "%d:%s,", len(out), out)
		if row < 5 {
			samples = append(samples, fmt.Sprintf("%.60q", out))
		}
	}
	return fmt.Sprintf("%016x %s", hash.Sum64(), strings.Join(samples, " "))
}

func appendText(a arrow.Array) func(out []byte, row int) ([]byte, error) {
	return func(out []byte, row int) ([]byte, error) {
		out, isNull, err := formats.TextAppender(a)(out, row)
		if isNull {
			out = append(out, "NULL"...)
		}
		return out, err
	}
}

func batchOf(a arrow.Array) arrow.RecordBatch {
	return array.NewRecordBatch(arrow.NewSchema([]arrow.Field{{Name: "v", Type: a.DataType(), Nullable: true}}, nil), []arrow.Array{a}, int64(a.Len()))
}

func appendJSON(a arrow.Array) func(out []byte, row int) ([]byte, error) {
	return func(out []byte, row int) ([]byte, error) {
		var b strings.Builder
		batch := batchOf(array.NewSlice(a, int64(row), int64(row+1)))
		w, err := formats.JSONL().Write(&b, batch.Schema(), formats.WriteOptions{})
		if err == nil {
			err = w.Write(batch)
		}
		return append(out, b.String()...), err
	}
}

func appendTextKey(a arrow.Array) func(out []byte, row int) ([]byte, error) {
	return sorted.TextKeyAppender(a, formats.TextAppender(a))
}

// appendOrderKey appends the keys of stored types if they sort like the values, and otherwise the first row with an equal
// key.
func appendOrderKey(a arrow.Array) func(out []byte, row int) ([]byte, error) {
	appendKey := sorted.OrderKeyAppender(a)
	f := func(out []byte, row int) ([]byte, error) {
		if a.IsNull(row) {
			return out, nil
		}
		return appendKey(out, row), nil
	}
	if sorted.KeysInOrder(a.DataType()) {
		return f
	}
	return firstEqual(a, f)
}

func appendExactKey(a arrow.Array) func(out []byte, row int) ([]byte, error) {
	appendKey := sorted.ExactKeyAppender(a, math.MaxInt)
	return firstEqual(a, func(out []byte, row int) ([]byte, error) { return appendKey(out, row), nil })
}

// firstEqual returns a function that appends the number of the first row with the same key. It returns nil for types
// that tables do not store.
func firstEqual(a arrow.Array, key func(out []byte, row int) ([]byte, error)) func(out []byte, row int) ([]byte, error) {
	if stored, err := schema.StoredType(a.DataType()); err != nil || !schema.Alike(stored, a.DataType()) {
		return nil
	}
	return func(out []byte, row int) ([]byte, error) {
		want, err := key(nil, row)
		for i := range row {
			if got, _ := key(nil, i); string(got) == string(want) {
				return fmt.Append(out, i), err
			}
		}
		return fmt.Append(out, row), err
	}
}

// appendOrder appends the original row numbers of the sorted rows.
func appendOrder(a arrow.Array) func(out []byte, row int) ([]byte, error) {
	if !sorted.HasOrder(a.DataType()) {
		return nil
	}
	numbers := array.NewInt64Builder(memory.DefaultAllocator)
	for i := range a.Len() {
		numbers.Append(int64(i))
	}
	columns := arrow.NewSchema([]arrow.Field{{Name: "v", Type: a.DataType(), Nullable: true}, {Name: "n", Type: arrow.PrimitiveTypes.Int64}}, nil)
	batch := array.NewRecordBatch(columns, []arrow.Array{a, numbers.NewArray()}, int64(a.Len()))
	sortedRows, err := sorted.Block([]arrow.RecordBatch{batch.NewSlice(0, 20), batch.NewSlice(20, int64(a.Len()))}, []int{0})
	return func(out []byte, row int) ([]byte, error) {
		if err != nil {
			return nil, err
		}
		return fmt.Append(out, sortedRows.Column(1).ValueStr(row)), nil
	}
}

// appendStored appends a value as it is stored, and as it comes back.
func appendStored(a arrow.Array) func(out []byte, row int) ([]byte, error) {
	return func(out []byte, row int) ([]byte, error) {
		a := array.NewSlice(a, int64(row), int64(row+1))
		to, err := schema.StoredType(a.DataType())
		if err != nil {
			return nil, err
		}
		stored, err := schema.ConvertArray(a, to)
		if err != nil {
			return nil, err
		}
		back, err := schema.ConvertArray(stored, a.DataType())
		if err != nil {
			return nil, err
		}
		return fmt.Append(out, stored.ValueStr(0), " ", back.ValueStr(0), " ", schema.CheckArray(a)), nil
	}
}

func types(t testing.TB) []arrow.DataType {
	all := []arrow.DataType{
		arrow.Null, arrow.FixedWidthTypes.Boolean,
		arrow.PrimitiveTypes.Int8, arrow.PrimitiveTypes.Int16, arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int64,
		arrow.PrimitiveTypes.Uint8, arrow.PrimitiveTypes.Uint16, arrow.PrimitiveTypes.Uint32, arrow.PrimitiveTypes.Uint64,
		arrow.FixedWidthTypes.Float16, arrow.PrimitiveTypes.Float32, arrow.PrimitiveTypes.Float64,
		arrow.BinaryTypes.String, arrow.BinaryTypes.LargeString, arrow.BinaryTypes.StringView,
		arrow.BinaryTypes.Binary, arrow.BinaryTypes.LargeBinary, arrow.BinaryTypes.BinaryView, &arrow.FixedSizeBinaryType{ByteWidth: 3},
		arrow.FixedWidthTypes.Date32, arrow.FixedWidthTypes.Date64,
		arrow.FixedWidthTypes.Time32s, arrow.FixedWidthTypes.Time32ms, arrow.FixedWidthTypes.Time64us, arrow.FixedWidthTypes.Time64ns,
		arrow.FixedWidthTypes.Duration_s, arrow.FixedWidthTypes.Duration_ms, arrow.FixedWidthTypes.Duration_us, arrow.FixedWidthTypes.Duration_ns,
		arrow.FixedWidthTypes.MonthInterval, arrow.FixedWidthTypes.DayTimeInterval, arrow.FixedWidthTypes.MonthDayNanoInterval,
		&arrow.Decimal32Type{Precision: 7, Scale: 2}, &arrow.Decimal64Type{Precision: 15, Scale: 3}, &arrow.Decimal128Type{Precision: 38, Scale: 4},
		&arrow.Decimal128Type{Precision: 9}, &arrow.Decimal256Type{Precision: 50, Scale: 3},
		extensions.NewUUIDType(), must.Get(extensions.NewJSONType(arrow.BinaryTypes.String))(t),
	}
	for unit := arrow.Second; unit <= arrow.Nanosecond; unit++ {
		for _, zone := range []string{"", "UTC", "America/New_York"} {
			all = append(all, &arrow.TimestampType{Unit: unit, TimeZone: zone})
		}
	}
	point := arrow.StructOf(arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, arrow.Field{Name: "y", Type: arrow.BinaryTypes.String, Nullable: true})
	return append(all,
		point, arrow.ListOf(arrow.PrimitiveTypes.Float32), arrow.LargeListOf(arrow.FixedWidthTypes.Date64), arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Uint16),
		arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Float64), arrow.ListOf(point), arrow.ListViewOf(arrow.PrimitiveTypes.Int8),
		&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String},
		&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Uint16, ValueType: &arrow.Decimal128Type{Precision: 38, Scale: 4}},
		arrow.RunEndEncodedOf(arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int16), arrow.ListOf(&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}),
	)
}

// randomArray returns an array of n values, of which some are null. Numbers have random bits, so that there are NaNs and
// the extremes of each type.
func randomArray(dt arrow.DataType, n int, random *rand.Rand) arrow.Array {
	child := func(t arrow.DataType, n int) arrow.ArrayData { return randomArray(t, n, random).Data() }
	nulls, bitmap := 0, make([]byte, bitutil.BytesForBits(int64(n)))
	for i := range n {
		isNull := i%7 == 5
		bitutil.SetBitTo(bitmap, i, !isNull)
		if isNull {
			nulls++
		}
	}
	buffers := []*memory.Buffer{memory.NewBufferBytes(bitmap)}
	make_ := func(buffers []*memory.Buffer, children ...arrow.ArrayData) arrow.Array {
		return array.MakeFromData(array.NewData(dt, n, buffers, children, nulls, 0))
	}
	switch t := dt.(type) {
	case *arrow.NullType:
		return array.NewNull(n)
	case arrow.ExtensionType:
		return array.NewExtensionArrayWithStorage(t, randomArray(t.StorageType(), n, random))
	case *arrow.DictionaryType:
		values := randomArray(t.ValueType, 40, random)
		indices := array.NewBuilder(memory.DefaultAllocator, t.IndexType)
		for i := range n {
			if i%7 == 5 {
				indices.AppendNull()
			} else {
				_ = indices.AppendValueFromString(fmt.Sprint(random.IntN(40)))
			}
		}
		return array.NewDictionaryArray(t, indices.NewArray(), values)
	case *arrow.RunEndEncodedType:
		ends := array.NewInt32Builder(memory.DefaultAllocator)
		for i := 3; i < n; i += 3 {
			ends.Append(int32(i))
		}
		ends.Append(int32(n))
		return array.NewRunEndEncodedArray(ends.NewArray(), randomArray(t.Encoded(), ends.Len()+n, random), n, 0)
	case *arrow.StructType:
		var children []arrow.ArrayData
		for _, f := range t.Fields() {
			children = append(children, child(f.Type, n))
		}
		return make_(buffers, children...)
	case *arrow.FixedSizeListType:
		return make_(buffers, child(t.Elem(), n*int(t.Len())))
	case *arrow.MapType:
		keys := randomArray(t.KeyType(), 2*n, random)
		keys = array.MakeFromData(array.NewData(keys.DataType(), keys.Len(), append([]*memory.Buffer{nil}, keys.Data().Buffers()[1:]...), nil, 0, 0))
		entries := array.MakeFromData(array.NewData(t.Elem(), 2*n, []*memory.Buffer{nil}, []arrow.ArrayData{keys.Data(), child(t.ItemType(), 2*n)}, 0, 0))
		return make_(append(buffers, offsets[int32](n, 3)), entries.Data())
	case *arrow.ListType:
		return make_(append(buffers, offsets[int32](n, 3)), child(t.Elem(), 2*n))
	case *arrow.LargeListType:
		return make_(append(buffers, offsets[int64](n, 3)), child(t.Elem(), 2*n))
	case *arrow.ListViewType:
		return make_(append(buffers, offsets[int32](n, 2), memory.NewBufferBytes(arrow.GetBytes(filled(n, int32(1))))), child(t.Elem(), n+1))
	case arrow.FixedWidthDataType:
		return make_(append(buffers, memory.NewBufferBytes(randomBytes(t, n, random))))
	}
	b := array.NewBuilder(memory.DefaultAllocator, dt)
	for i := range n {
		text := []string{"", "a", "a\x00", "ab", "a text of more than twelve bytes", `quote " and \ and <`, "ünicode", "a, b"}[random.IntN(8)]
		if i%7 == 5 {
			b.AppendNull()
		} else if texts, ok := b.(array.StringLikeBuilder); ok {
			texts.Append(text)
		} else {
			b.(interface{ Append([]byte) }).Append([]byte(text))
		}
	}
	return b.NewArray()
}

func filled[T any](n int, v T) []T {
	all := make([]T, n)
	for i := range all {
		all[i] = v
	}
	return all
}

// offsets returns the offsets of n lists that have one or two values each, or one value each if halves is 2.
func offsets[T int32 | int64](n int, halves T) *memory.Buffer {
	all := make([]T, n+1)
	for i := range all {
		all[i] = T(i) * halves / 2
	}
	return memory.NewBufferBytes(arrow.GetBytes(all))
}

// randomBytes returns the bytes of n values.
func randomBytes(t arrow.FixedWidthDataType, n int, random *rand.Rand) []byte {
	if t.BitWidth() == 1 {
		return randomBits(n, random)
	}
	size := t.Bytes()
	values := randomBits(n*size*8, random)
	for i := range n {
		v := values[i*size : (i+1)*size]
		switch random.IntN(4) { // small numbers of both signs
		case 0:
			clear(v[1:])
		case 1:
			for k := range v[1:] {
				v[1+k] = 0xff
			}
		}
		switch t := t.(type) {
		case *arrow.Float16Type:
			binary.LittleEndian.PutUint16(v, [...]uint16{0, 0x8000, 1, float16.New(1.5).Uint16(), 0x7c00, 0xfc00, 0x7e00, binary.LittleEndian.Uint16(v)}[random.IntN(8)])
		case *arrow.Float32Type:
			f := [...]float64{0, math.Copysign(0, -1), math.NaN(), math.Inf(-1), 1.5, 1e20, 1e-9, 16777216}[random.IntN(8)]
			binary.LittleEndian.PutUint32(v, math.Float32bits(float32(f)))
		case *arrow.Float64Type:
			f := [...]float64{0, math.Copysign(0, -1), math.NaN(), math.Inf(1), 0.1, 1e20, 1e-9, -16777217}[random.IntN(8)]
			binary.LittleEndian.PutUint64(v, math.Float64bits(f))
		case *arrow.Time32Type:
			binary.LittleEndian.PutUint32(v, uint32(random.IntN(86400)*int(1e9/t.Unit.Multiplier())))
		case *arrow.Time64Type:
			binary.LittleEndian.PutUint64(v, uint64(random.Int64N(86400*int64(1e9/t.Unit.Multiplier()))))
		case *arrow.Date32Type:
			binary.LittleEndian.PutUint32(v, uint32(random.IntN(60000)-20000))
		case *arrow.Date64Type:
			binary.LittleEndian.PutUint64(v, uint64(random.Int64N(60000)-20000)*86400_000+uint64(i%5/4))
		case *arrow.TimestampType:
			binary.LittleEndian.PutUint64(v, uint64((random.Int64N(4e9)-2e9)*int64(1e9/t.Unit.Multiplier())+random.Int64N(int64(1e9/t.Unit.Multiplier()))))
		}
	}
	return values
}

func randomBits(n int, random *rand.Rand) []byte {
	b := make([]byte, bitutil.BytesForBits(int64(n)))
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

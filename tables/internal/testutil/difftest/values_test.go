// Package difftest applies random steps to a table. It compares all ways of reading the table with a model in
// memory, with SQL, and with the rows that pyiceberg and DuckDB read from the files. The model shares no code
// with the code under test: its rows are plain Go values.
package difftest

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/extensions"
	"github.com/apache/arrow-go/v18/arrow/float16"
)

// A value is nil, bool, string, []byte, float64 or *big.Rat. A *big.Rat is a number, or a time in nanoseconds
// since 1970 or midnight, independent of the type's unit. Lists are []any. Structs are []any with their
// fields, and maps are []any with alternating keys and items.

func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

var zones = []string{"", "", "UTC", "America/New_York", "+01:30"}

func plainTypes(r *rand.Rand) []arrow.DataType {
	unit := arrow.TimeUnit(r.IntN(4))
	precision := func(maxPrecision int32) (int32, int32) {
		p := pick(r, maxPrecision, 1+r.Int32N(maxPrecision))
		return p, r.Int32N(p + 1)
	}
	p32, s32 := precision(9)
	p64, s64 := precision(18)
	p128, s128 := precision(38)
	json, err := extensions.NewJSONType(arrow.BinaryTypes.String)
	if err != nil {
		panic(err)
	}
	return []arrow.DataType{
		arrow.Null, arrow.FixedWidthTypes.Boolean, arrow.FixedWidthTypes.Boolean,
		arrow.PrimitiveTypes.Int8, arrow.PrimitiveTypes.Int16, arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int64,
		arrow.PrimitiveTypes.Uint8, arrow.PrimitiveTypes.Uint16, arrow.PrimitiveTypes.Uint32, arrow.PrimitiveTypes.Uint64,
		arrow.FixedWidthTypes.Float16, arrow.PrimitiveTypes.Float32, arrow.PrimitiveTypes.Float64,
		arrow.BinaryTypes.String, arrow.BinaryTypes.LargeString, arrow.BinaryTypes.StringView,
		arrow.BinaryTypes.Binary, arrow.BinaryTypes.LargeBinary, arrow.BinaryTypes.BinaryView,
		&arrow.FixedSizeBinaryType{ByteWidth: 1 + r.IntN(20)},
		&arrow.Decimal32Type{Precision: p32, Scale: s32}, &arrow.Decimal64Type{Precision: p64, Scale: s64}, &arrow.Decimal128Type{Precision: p128, Scale: s128},
		arrow.FixedWidthTypes.Date32, arrow.FixedWidthTypes.Date64,
		arrow.FixedWidthTypes.Time32s, arrow.FixedWidthTypes.Time32ms, arrow.FixedWidthTypes.Time64us, arrow.FixedWidthTypes.Time64ns,
		&arrow.TimestampType{Unit: unit, TimeZone: pick(r, zones...)}, &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: pick(r, zones...)},
		&arrow.DurationType{Unit: arrow.TimeUnit(r.IntN(4))},
		&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int16, ValueType: pick[arrow.DataType](r, arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int32)},
		arrow.RunEndEncodedOf(arrow.PrimitiveTypes.Int32, pick[arrow.DataType](r, arrow.PrimitiveTypes.Int16, arrow.BinaryTypes.String)),
		extensions.NewUUIDType(), json,
	}
}

// randomType returns a type with at most depth levels of nesting.
func randomType(r *rand.Rand, depth int) arrow.DataType {
	if depth == 0 || r.IntN(3) > 0 {
		return pick(r, plainTypes(r)...)
	}
	field := func(name string) arrow.Field {
		t := randomType(r, depth-1)
		return arrow.Field{Name: name, Type: t, Nullable: r.IntN(3) > 0 || t.ID() == arrow.NULL}
	}
	switch r.IntN(6) {
	case 0:
		return arrow.ListOfField(field("item"))
	case 1:
		return arrow.LargeListOfField(field("item"))
	case 2:
		return arrow.FixedSizeListOfField(1+r.Int32N(3), field("item"))
	case 3:
		m := arrow.MapOf(pick[arrow.DataType](r, arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Uint16, arrow.FixedWidthTypes.Date32), randomType(r, depth-1))
		m.SetItemNullable(r.IntN(8) > 0 || m.ItemType().ID() == arrow.NULL)
		return m
	}
	return arrow.StructOf([]arrow.Field{field("a"), field("id"), field("x y")}[:1+r.IntN(3)]...)
}

// plainType returns the type of the values if t is a dictionary, run-end encoded or extension type, and otherwise
// t.
func plainType(t arrow.DataType) arrow.DataType {
	switch t := t.(type) {
	case *arrow.DictionaryType:
		return plainType(t.ValueType)
	case *arrow.RunEndEncodedType:
		return plainType(t.Encoded())
	case arrow.ExtensionType:
		return plainType(t.StorageType())
	}
	return t
}

func ratOf(i int64) *big.Rat { return new(big.Rat).SetInt64(i) }

func nanos(i int64, unit time.Duration) *big.Rat {
	return new(big.Rat).Mul(ratOf(i), ratOf(int64(unit)))
}

const day = 24 * time.Hour

// unitRange returns the unit of a type, as a multiple of 1 or of a nanosecond, and the minimum and maximum
// number of units. For types without units, unit is 0.
func unitRange(t arrow.DataType) (unit time.Duration, minCount, maxCount int64) {
	switch t := t.(type) {
	case *arrow.Int8Type, *arrow.Int16Type, *arrow.Int32Type, *arrow.Int64Type:
		bits := t.(arrow.FixedWidthDataType).BitWidth()
		return 1, math.MinInt64 >> (64 - bits), math.MaxInt64 >> (64 - bits)
	case *arrow.Uint8Type, *arrow.Uint16Type, *arrow.Uint32Type:
		return 1, 0, 1<<t.(arrow.FixedWidthDataType).BitWidth() - 1
	case *arrow.DurationType:
		return 1, math.MinInt64, math.MaxInt64
	case *arrow.Date32Type:
		return day, math.MinInt32, math.MaxInt32
	case *arrow.Date64Type: // stored in microseconds
		maxDays := int64(math.MaxInt64 / (day / time.Microsecond))
		return day, -maxDays, maxDays
	case *arrow.Time32Type:
		unit := t.Unit.Multiplier()
		return unit, 0, int64(day/unit) - 1
	case *arrow.Time64Type:
		unit := t.Unit.Multiplier()
		return unit, 0, int64(day/unit) - 1
	case *arrow.TimestampType:
		unit := t.Unit.Multiplier()
		if t.Unit == arrow.Nanosecond {
			return unit, math.MinInt64, math.MaxInt64
		}
		scale := int64(unit / time.Microsecond)
		return unit, math.MinInt64 / scale, math.MaxInt64 / scale
	}
	return 0, 0, 0
}

var sampleStrings = []string{
	"", " ", "a", "b", "A", "é", "NULL", "it's", `"q"`, "a\nb", "a,b", "\x00", "1", "2024-01-01", strings.Repeat("x", 16), strings.Repeat("x", 17),
	strings.Repeat("x", 17) + "y", strings.Repeat("long ", 60), strings.Repeat("\U0010FFFF", 20), strings.Repeat("\U0010FFFF", 5),
}

func randomValue(r *rand.Rand, t arrow.DataType, nullable bool) any {
	if nullable && r.IntN(6) == 0 || t.ID() == arrow.NULL {
		return nil
	}
	t = plainType(t)
	if unit, minCount, maxCount := unitRange(t); unit > 0 {
		n := pick(r, minCount, maxCount, 0, 1, -1, r.Int64N(8), r.Int64N(8), r.Int64N(8))
		if _, isTime := t.(*arrow.TimestampType); isTime || t.ID() == arrow.DATE32 || t.ID() == arrow.DATE64 {
			if r.IntN(4) > 0 { // mostly times within the same four days
				n = int64((time.Duration(19_700+r.IntN(4))*day + pick(r, 0, 1, unit, time.Hour)) / unit)
			}
		} else if r.IntN(8) == 0 && maxCount > 100 {
			n = r.Int64N(maxCount)
		}
		return nanos(max(n, minCount), unit)
	}
	switch t := t.(type) {
	case *arrow.BooleanType:
		return r.IntN(2) == 0
	case *arrow.Uint64Type:
		return new(big.Rat).SetInt(new(big.Int).SetUint64(pick(r, 0, math.MaxUint64, 1<<63, r.Uint64(), r.Uint64N(8), r.Uint64N(8))))
	case *arrow.Float16Type:
		return float64(float16.New(pick(r, float32(math.NaN()), float32(math.Copysign(0, -1)), 0, 0.1, 65504, float32(math.Inf(1)), float32(r.IntN(8)))).Float32())
	case *arrow.Float32Type:
		return float64(pick(r, float32(math.NaN()), float32(math.Copysign(0, -1)), 0, 0.1, -math.MaxFloat32, math.SmallestNonzeroFloat32, float32(math.Inf(-1)), 16777216, float32(r.IntN(8)), float32(r.IntN(8))))
	case *arrow.Float64Type:
		return pick(r, math.NaN(), math.Copysign(0, -1), 0, 0.1, math.MaxFloat64, math.SmallestNonzeroFloat64, math.Inf(1), math.Inf(-1), 1<<53, float64(r.IntN(8)), float64(r.IntN(8)))
	case arrow.DecimalType:
		limit := new(big.Int).Sub(power10(t.GetPrecision()), big.NewInt(1))
		n := pick(r, limit, new(big.Int).Neg(limit), new(big.Int).Sub(limit, big.NewInt(1)), big.NewInt(0), big.NewInt(-1), big.NewInt(r.Int64N(8)), new(big.Int).Rsh(limit, uint(r.IntN(130))))
		return new(big.Rat).SetFrac(n, power10(t.GetScale()))
	case *arrow.FixedSizeBinaryType:
		return slices.Repeat([]byte{pick[byte](r, 0, 1, 0xff)}, t.ByteWidth)
	case *arrow.BinaryType, *arrow.LargeBinaryType, *arrow.BinaryViewType:
		return pick(r, []byte(pick(r, sampleStrings...)), []byte{}, []byte{0xff}, slices.Repeat([]byte{0xff}, 20), []byte{0xc3, 0})
	case *arrow.StringType, *arrow.LargeStringType, *arrow.StringViewType:
		return pick(r, sampleStrings...)
	case *arrow.StructType:
		row := []any{}
		for _, f := range t.Fields() {
			row = append(row, randomValue(r, f.Type, f.Nullable))
		}
		return row
	case *arrow.MapType:
		row := []any{}
		isUsed := map[string]bool{}
		for range r.IntN(4) {
			if key := randomValue(r, t.KeyType(), false); !isUsed[canonicalText(key)] {
				isUsed[canonicalText(key)] = true
				row = append(row, key, randomValue(r, t.ItemType(), t.ItemField().Nullable))
			}
		}
		return row
	case arrow.ListLikeType:
		n := r.IntN(4)
		if fixed, ok := t.(*arrow.FixedSizeListType); ok {
			n = int(fixed.Len())
		}
		row := []any{}
		for range n {
			row = append(row, randomValue(r, t.Elem(), t.ElemField().Nullable))
		}
		return row
	}
	panic(fmt.Sprint("no values of ", t))
}

func power10(n int32) *big.Int {
	return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil)
}

// appendValue appends a value to a builder. For plain types, it converts v to the parameter type of the builder's
// method Append, which it calls by reflection.
func appendValue(b array.Builder, v any) {
	t := b.Type()
	if v == nil {
		b.AppendNull()
		return
	}
	switch b := b.(type) {
	case interface{ StorageBuilder() array.Builder }: // builder of an extension type
		appendValue(b.StorageBuilder(), v)
		return
	case *array.RunEndEncodedBuilder:
		b.Append(1)
		appendValue(b.ValueBuilder(), v)
		return
	case array.DictionaryBuilder:
		values := array.NewBuilder(alloc, t.(*arrow.DictionaryType).ValueType)
		appendValue(values, v)
		if err := b.AppendArray(values.NewArray()); err != nil {
			panic(err)
		}
		return
	case *array.Decimal128Builder:
		b.Append(decimal128.FromBigInt(unscaledInt(v, t)))
		return
	case *array.Float16Builder:
		b.Append(float16.New(float32(v.(float64))))
		return
	}
	if list, ok := v.([]any); ok {
		b.(interface{ Append(bool) }).Append(true)
		for i, child := range list {
			switch b := b.(type) {
			case *array.StructBuilder:
				appendValue(b.FieldBuilder(i), child)
			case *array.MapBuilder:
				appendValue([]array.Builder{b.KeyBuilder(), b.ItemBuilder()}[i%2], child)
			case array.ListLikeBuilder:
				appendValue(b.ValueBuilder(), child)
			}
		}
		return
	}
	if n, ok := v.(*big.Rat); ok {
		unit, _, _ := unitRange(t)
		switch i := new(big.Rat).Quo(n, ratOf(int64(max(unit, 1)))).Num(); {
		case arrow.IsDecimal(t.ID()):
			v = unscaledInt(n, t).Int64()
		case t.ID() == arrow.UINT64:
			v = i.Uint64()
		case t.ID() == arrow.DATE64:
			v = i.Int64() * day.Milliseconds()
		default:
			v = i.Int64()
		}
	}
	method := reflect.ValueOf(b).MethodByName("Append")
	method.Call([]reflect.Value{reflect.ValueOf(v).Convert(method.Type().In(0))})
}

func unscaledInt(v any, t arrow.DataType) *big.Int {
	return new(big.Rat).Mul(v.(*big.Rat), new(big.Rat).SetInt(power10(t.(arrow.DecimalType).GetScale()))).Num()
}

// readValue returns the value at an index of an array. Arrays of plain types have a method Value that returns some
// Go type.
func readValue(a arrow.Array, i int) any {
	if a.IsNull(i) || a.DataType().ID() == arrow.NULL {
		return nil
	}
	row := []any{}
	switch a := a.(type) {
	case array.ExtensionArray:
		return readValue(a.Storage(), i)
	case *array.RunEndEncoded:
		return readValue(a.Values(), a.GetPhysicalIndex(i))
	case *array.Dictionary:
		return readValue(a.Dictionary(), a.GetValueIndex(i))
	case *array.Struct:
		for f := range a.NumField() {
			row = append(row, readValue(a.Field(f), i))
		}
		return row
	case array.ListLike:
		for j, to := a.ValueOffsets(i); j < to; j++ {
			if m, ok := a.(*array.Map); ok {
				row = append(row, readValue(m.Keys(), int(j)), readValue(m.Items(), int(j)))
			} else {
				row = append(row, readValue(a.ListValues(), int(j)))
			}
		}
		return row
	case *array.Float16:
		return float64(a.Value(i).Float32())
	}
	unit, _, _ := unitRange(a.DataType())
	n := new(big.Rat)
	switch v := reflect.ValueOf(a).MethodByName("Value").Call([]reflect.Value{reflect.ValueOf(i)})[0]; {
	case a.DataType().ID() == arrow.DECIMAL128:
		n.SetInt(v.Interface().(decimal128.Num).BigInt())
	case v.CanInt():
		n.SetInt64(v.Int())
	case v.CanUint():
		n.SetUint64(v.Uint())
	case v.CanFloat():
		return v.Float()
	case v.Kind() == reflect.String:
		return strings.Clone(v.String())
	case v.Kind() == reflect.Slice:
		return slices.Clone(v.Bytes())
	default:
		return v.Bool()
	}
	if d, ok := a.DataType().(arrow.DecimalType); ok {
		return n.Quo(n, new(big.Rat).SetInt(power10(d.GetScale())))
	}
	if a.DataType().ID() == arrow.DATE64 {
		unit = time.Millisecond
	}
	return n.Mul(n, ratOf(int64(max(unit, 1))))
}

// canonicalText returns a text that is the same for two values only if they are equal. Floats are equal if their bits
// are equal, or if both are NaN.
func canonicalText(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return strconv.FormatBool(v)
	case string:
		return strconv.Quote(v)
	case []byte:
		return fmt.Sprintf("x%x", v)
	case *big.Rat:
		return v.RatString()
	case float64:
		if v == 0 && math.Signbit(v) {
			return "f-0"
		}
		return "f" + strconv.FormatFloat(v, 'g', -1, 64)
	}
	var parts []string
	for _, child := range v.([]any) {
		parts = append(parts, canonicalText(child))
	}
	return "[" + strings.Join(parts, " ") + "]"
}

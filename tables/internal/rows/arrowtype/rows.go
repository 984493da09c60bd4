package arrowtype

import (
	"math"
	"reflect"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/float16"

	"github.com/go-partd/partd/internal/engine/extsort"
)

var (
	boolType   = arrow.FixedWidthTypes.Boolean
	int32Type  = arrow.PrimitiveTypes.Int32
	int64Type  = arrow.PrimitiveTypes.Int64
	textType   = arrow.BinaryTypes.String
	binaryType = arrow.BinaryTypes.Binary
	microsType = arrow.FixedWidthTypes.Time64us
)

// rows is the table of types. Of adds the types of known extensions.
var rows = [...]Row{
	arrow.NULL: {Kind: Null, SQL: "BOOLEAN", Stored: boolType},
	arrow.BOOL: {
		Kind: Bool, Native: reflect.Bool, SQL: "BOOLEAN", Stored: boolType, IsSorted: true,
		Ints: reader(boolToInt), IntAppender: appender(func(v int64) bool { return v != 0 }),
		Ordered: func(a arrow.Array) []int64 {
			all := make([]int64, a.Len())
			for i := range all {
				all[i] = boolToInt(a.(*array.Boolean).Value(i))
			}
			return all
		},
	},

	arrow.INT8:   sortable(integers[int8](Integer, "TINYINT", int32Type)),
	arrow.INT16:  sortable(integers[int16](Integer, "SMALLINT", int32Type)),
	arrow.INT32:  sortable(integers[int32](Integer, "INTEGER", int32Type)),
	arrow.INT64:  sortable(integers[int64](Integer, "BIGINT", int64Type)),
	arrow.UINT8:  integers[uint8](Integer, "UTINYINT", int32Type),
	arrow.UINT16: integers[uint16](Integer, "USMALLINT", int32Type),
	arrow.UINT32: integers[uint32](Integer, "UINTEGER", int64Type),
	arrow.UINT64: integers[uint64](Integer, "UBIGINT", &arrow.Decimal128Type{Precision: 20}),

	arrow.FLOAT16: {
		Kind: Float, SQL: "FLOAT", Stored: arrow.PrimitiveTypes.Float32,
		Floats: reader(func(v float16.Num) float64 { return float64(FromFloat16(v)) }), FloatAppender: appender(ToFloat16),
	},
	arrow.FLOAT32: sortable(floats[float32]("FLOAT", arrow.PrimitiveTypes.Float32)),
	arrow.FLOAT64: sortable(floats[float64]("DOUBLE", arrow.PrimitiveTypes.Float64)),

	arrow.DECIMAL32: decimals(func(v decimal.Decimal32) decimal128.Num { return decimal128.FromI64(int64(v)) },
		func(v decimal128.Num) decimal.Decimal32 { return decimal.Decimal32(v.LowBits()) }),
	arrow.DECIMAL64: decimals(func(v decimal.Decimal64) decimal128.Num { return decimal128.FromI64(int64(v)) },
		func(v decimal128.Num) decimal.Decimal64 { return decimal.Decimal64(v.LowBits()) }),
	arrow.DECIMAL128: {
		Kind: Decimal, IsSorted: true, DecimalAppender: appenderTo[decimal128.Num],
		Decimals: func(a arrow.Array) func(int) decimal128.Num { return a.(*array.Decimal128).Value },
	},
	arrow.DECIMAL256: {Kind: Decimal},

	arrow.STRING:       {Kind: Text, Native: reflect.String, SQL: "VARCHAR", Stored: textType, IsSorted: true, BytesAppender: textAppender},
	arrow.LARGE_STRING: {Kind: Text, Native: reflect.String, SQL: "VARCHAR", Stored: textType, Plain: textType, IsSorted: true, BytesAppender: largeTextAppender},
	arrow.STRING_VIEW:  {Kind: Text, Native: reflect.String, SQL: "VARCHAR", Stored: textType, Plain: textType, BytesAppender: textViewAppender},

	arrow.BINARY:            {Kind: Binary, Native: reflect.String, SQL: "BLOB", Stored: binaryType, IsSorted: true, BytesAppender: appenderTo[[]byte]},
	arrow.LARGE_BINARY:      {Kind: Binary, Native: reflect.String, SQL: "BLOB", Stored: binaryType, Plain: binaryType, IsSorted: true, BytesAppender: appenderTo[[]byte]},
	arrow.BINARY_VIEW:       {Kind: Binary, Native: reflect.String, SQL: "BLOB", Stored: binaryType, Plain: binaryType, BytesAppender: appenderTo[[]byte]},
	arrow.FIXED_SIZE_BINARY: {Kind: Binary, SQL: "BLOB", IsSorted: true, BytesAppender: appenderTo[[]byte]},

	arrow.DATE32:    sortable(integers[arrow.Date32](Date, "DATE", arrow.FixedWidthTypes.Date32)),
	arrow.DATE64:    integers[arrow.Date64](Date, "TIMESTAMP", &arrow.TimestampType{Unit: arrow.Microsecond}),
	arrow.TIME32:    sortable(integers[arrow.Time32](Time, "TIME", microsType)),
	arrow.TIME64:    sortable(integers[arrow.Time64](Time, "", nil)),
	arrow.TIMESTAMP: sortable(integers[arrow.Timestamp](Timestamp, "", nil)),
	arrow.DURATION:  sortable(integers[arrow.Duration](Duration, "BIGINT", int64Type)),

	arrow.INTERVAL_MONTHS:         {Kind: Interval},
	arrow.INTERVAL_DAY_TIME:       {Kind: Interval},
	arrow.INTERVAL_MONTH_DAY_NANO: {Kind: Interval},

	arrow.LIST: {Kind: List, WithFields: func(_ arrow.DataType, fields []arrow.Field) arrow.DataType { return arrow.ListOfField(fields[0]) }},
	arrow.LARGE_LIST: {Kind: List, WithFields: func(_ arrow.DataType, fields []arrow.Field) arrow.DataType {
		return arrow.LargeListOfField(fields[0])
	}},
	arrow.FIXED_SIZE_LIST: {Kind: List, WithFields: func(t arrow.DataType, fields []arrow.Field) arrow.DataType {
		return arrow.FixedSizeListOfField(t.(*arrow.FixedSizeListType).Len(), fields[0])
	}},
	arrow.LIST_VIEW:       {Kind: List},
	arrow.LARGE_LIST_VIEW: {Kind: List},
	arrow.MAP: {Kind: Map, WithFields: func(t arrow.DataType, fields []arrow.Field) arrow.DataType {
		m := arrow.MapOf(fields[0].Type, fields[1].Type)
		m.SetItemNullable(fields[1].Nullable)
		m.KeysSorted = t.(*arrow.MapType).KeysSorted
		return m
	}},
	arrow.STRUCT:       {Kind: Struct, WithFields: func(_ arrow.DataType, fields []arrow.Field) arrow.DataType { return arrow.StructOf(fields...) }},
	arrow.SPARSE_UNION: {Kind: Union},
	arrow.DENSE_UNION:  {Kind: Union},

	arrow.DICTIONARY:      {Kind: Dictionary},
	arrow.RUN_END_ENCODED: {Kind: Runs},
	arrow.EXTENSION:       {Kind: Extension},
}

var uuidRow = Row{Kind: UUID, SQL: "UUID", IsSorted: true, BytesAppender: appenderTo[[]byte]}

func sortable(r Row) Row {
	r.IsSorted = true
	return r
}

// appenderTo returns the function of b that appends a value of type T.
func appenderTo[T any](b array.Builder) func(v T) { return b.(interface{ Append(v T) }).Append }

// appender is like appenderTo, but for values that convert first turns into the builder's type.
func appender[T, V any](convert func(V) T) func(b array.Builder) func(v V) {
	return func(b array.Builder) func(v V) {
		appendValue := appenderTo[T](b)
		return func(v V) { appendValue(convert(v)) }
	}
}

// reader returns a function that reads an array of values of type T.
func reader[T, V any](convert func(T) V) func(a arrow.Array) func(i int) V {
	return func(a arrow.Array) func(i int) V {
		values := a.(interface{ Value(i int) T })
		return func(i int) V { return convert(values.Value(i)) }
	}
}

func integers[T arrow.IntType | arrow.UintType](kind Kind, sql string, stored arrow.DataType) Row {
	return Row{
		Kind: kind, Native: reflect.TypeFor[T]().Kind(), SQL: sql, Stored: stored,
		Ints: func(a arrow.Array) func(int) int64 { // faster than reader
			values := arrow.GetValues[T](a.Data(), 1)
			return func(i int) int64 { return int64(values[i]) }
		},
		IntAppender: appender(func(v int64) T { return T(v) }),
		Ordered: func(a arrow.Array) []int64 {
			if reflect.TypeFor[T]().Kind() == reflect.Int64 {
				return arrow.GetValues[int64](a.Data(), 1)
			}
			return convert(a, func(v T) int64 { return int64(v) })
		},
		OrderKey: func(a arrow.Array) func([]byte, int) []byte {
			values := arrow.GetValues[T](a.Data(), 1)
			return func(dst []byte, i int) []byte { return extsort.AppendUint(dst, uint64(values[i])^1<<63) }
		},
		SignedKey: func(a arrow.Array) func([]byte, int) []byte {
			values := arrow.GetValues[T](a.Data(), 1)
			return func(dst []byte, i int) []byte {
				v, sign := values[i], byte(1)
				if v < 0 {
					sign = 0
				}
				return extsort.AppendUint(append(dst, sign), uint64(v))
			}
		},
	}
}

func boolToInt(v bool) int64 {
	if v {
		return 1
	}
	return 0
}

func floats[T float32 | float64](sql string, stored arrow.DataType) Row {
	return Row{
		Kind: Float, Native: reflect.TypeFor[T]().Kind(), SQL: sql, Stored: stored,
		Floats: func(a arrow.Array) func(int) float64 { // faster than reader
			values := arrow.GetValues[T](a.Data(), 1)
			return func(i int) float64 { return float64(values[i]) }
		},
		FloatAppender: appender(func(v float64) T { return T(v) }),
		Ordered: func(a arrow.Array) []int64 {
			return convert(a, func(v T) int64 { return floatOrder(float64(v)) })
		},
		ExactKey: func(a arrow.Array) func([]byte, int) []byte {
			values := arrow.GetValues[T](a.Data(), 1)
			return func(dst []byte, i int) []byte { return appendExactFloat(dst, float64(values[i])) }
		},
	}
}

// floatOrder returns an integer that sorts like v: -0 equals 0, and NaN comes before all numbers.
func floatOrder(v float64) int64 {
	bits := int64(math.Float64bits(v))
	switch {
	case v != v:
		return math.MinInt64 + 2 // not one of the smallest two integers, whose comparison takes package sorted two steps
	case v == 0:
		return 0
	case bits < 0:
		return ^bits ^ math.MinInt64
	}
	return bits
}

// convert returns the results of f for the values of an array.
func convert[T arrow.FixedWidthType, V any](a arrow.Array, f func(T) V) []V {
	values := arrow.GetValues[T](a.Data(), 1)
	all := make([]V, len(values))
	for i, v := range values {
		all[i] = f(v)
	}
	return all
}

func decimals[T any](wide func(T) decimal128.Num, narrow func(decimal128.Num) T) Row {
	return Row{Kind: Decimal, Decimals: reader(wide), DecimalAppender: appender(narrow)}
}

func textAppender(b array.Builder) func([]byte) { return b.(*array.StringBuilder).BinaryBuilder.Append }

func largeTextAppender(b array.Builder) func([]byte) {
	return b.(*array.LargeStringBuilder).BinaryBuilder.Append
}

func textViewAppender(b array.Builder) func([]byte) {
	return b.(*array.StringViewBuilder).BinaryViewBuilder.Append
}

// appendExactFloat is like extsort.AppendFloat, but -0 comes before 0.
func appendExactFloat(dst []byte, x float64) []byte {
	if x == 0 && math.Signbit(x) {
		return extsort.AppendUint(dst, 1<<63-1)
	}
	return extsort.AppendFloat(dst, x)
}

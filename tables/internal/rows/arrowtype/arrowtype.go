// Package arrowtype is the table of Arrow's types. The table has a row for each type. Code that treats types differently
// asks the row for the type's kind and properties. It reads and appends values with the row's functions.
package arrowtype

import (
	"reflect"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/extensions"
)

// Kind says what the values of a type mean. Types of one kind differ in size, unit or layout.
type Kind uint8

// The kinds. None is the kind of types that the table lacks.
const (
	None Kind = iota
	Null
	Bool
	Integer
	Float
	Decimal
	Text
	Binary
	UUID
	Date
	Time // time of day
	Timestamp
	Duration
	Interval
	List
	Map
	Struct
	Union
	Dictionary
	Runs
	Extension // extension with an unknown name
)

// Row describes a type. The functions are nil for types without such values.
type Row struct {
	Kind     Kind
	Native   reflect.Kind   // kind of the Go values in the array's buffer; Invalid if Go has no such kind
	Stored   arrow.DataType // type with which tables store the values; nil if it depends on parameters or does not exist
	Plain    arrow.DataType // type with the same values in the usual layout; nil for the usual layout
	SQL      string         // DuckDB's name of the type; "" if it depends on parameters, or is that of the stored type
	IsSorted bool           // rows can be sorted by columns of the type

	// integers, booleans as 0 and 1, and dates and times in the type's unit; a uint64 keeps its bits
	Ints        func(a arrow.Array) func(i int) int64
	IntAppender func(b array.Builder) func(v int64)

	// returns integers that sort like the values; the result may share memory with the array and is arbitrary for nulls
	Ordered func(a arrow.Array) []int64

	// append an integer's bytes: those of OrderKey sort like the values; those of SignedKey are the same for all
	// integer types
	OrderKey, SignedKey func(a arrow.Array) func(dst []byte, i int) []byte

	Floats        func(a arrow.Array) func(i int) float64
	FloatAppender func(b array.Builder) func(v float64)
	ExactKey      func(a arrow.Array) func(dst []byte, i int) []byte // appends the bytes of a float, which differ for -0 and 0

	Decimals        func(a arrow.Array) func(i int) decimal128.Num // without the scale
	DecimalAppender func(b array.Builder) func(v decimal128.Num)

	BytesAppender func(b array.Builder) func(v []byte) // texts and binary values

	WithFields func(t arrow.DataType, fields []arrow.Field) arrow.DataType // see [WithFields]
}

// Of returns the row of t.
func Of(t arrow.DataType) *Row {
	if _, ok := t.(*extensions.UUIDType); ok {
		return &uuidRow
	}
	return ByID(t.ID())
}

// ByID returns the row of the types with the given ID. Its kind is None if the table lacks the type.
func ByID(id arrow.Type) *Row {
	if int(id) >= len(rows) {
		return &Row{}
	}
	return &rows[id]
}

// KindOf returns the kind of t.
func KindOf(t arrow.DataType) Kind { return Of(t).Kind }

// IsUnsigned reports whether r describes unsigned integers.
func (r *Row) IsUnsigned() bool { return r.Native >= reflect.Uint8 && r.Native <= reflect.Uint64 }

// IsNumber reports whether r describes integers, floats or decimals.
func (r *Row) IsNumber() bool { return r.Kind >= Integer && r.Kind <= Decimal }

// IsTemporal reports whether r describes dates, times of day or timestamps.
func (r *Row) IsTemporal() bool { return r.Kind >= Date && r.Kind <= Timestamp }

// IsNested reports whether r describes values that contain other values.
func (r *Row) IsNested() bool { return r.Kind >= List && r.Kind <= Union }

// Inner returns the type of the values in a dictionary, in runs or in an extension, and nil for other types.
func Inner(t arrow.DataType) arrow.DataType {
	switch t := t.(type) {
	case *arrow.DictionaryType:
		return t.ValueType
	case *arrow.RunEndEncodedType:
		return t.Encoded()
	case arrow.ExtensionType:
		return t.StorageType()
	}
	return nil
}

// Unwrap returns the type of a column's values, without encodings and extensions. It does not change nested types.
func Unwrap(t arrow.DataType) arrow.DataType {
	for inner := Inner(t); inner != nil; inner = Inner(t) {
		t = inner
	}
	return t
}

// Values returns the array that contains the values of a, without dictionaries, runs and extensions except UUIDs. index
// maps row i of a to an index in values, or to -1 if the row is null.
func Values(a arrow.Array) (values arrow.Array, index func(i int) int) {
	switch a := a.(type) {
	case *array.Null:
		return a, func(int) int { return -1 }
	case *array.Dictionary:
		values, index := Values(a.Dictionary())
		return values, func(i int) int {
			if a.IsNull(i) {
				return -1
			}
			return index(a.GetValueIndex(i))
		}
	case *array.RunEndEncoded:
		values, index := Values(a.Values())
		return values, func(i int) int { return index(a.GetPhysicalIndex(i)) }
	case array.ExtensionArray:
		if KindOf(a.DataType()) != UUID {
			return Values(a.Storage())
		}
	}
	if a.NullN() == 0 {
		return a, func(i int) int { return i }
	}
	return a, func(i int) int {
		if a.IsNull(i) {
			return -1
		}
		return i
	}
}

// Times returns a function that returns a value of an array of dates or timestamps, in UTC.
func Times(a arrow.Array) func(i int) time.Time {
	value, t := Of(a.DataType()).Ints(a), a.DataType()
	switch t := t.(type) {
	case *arrow.Date32Type:
		return func(i int) time.Time { return arrow.Date32(value(i)).ToTime() }
	case *arrow.TimestampType:
		return func(i int) time.Time { return arrow.Timestamp(value(i)).ToTime(t.Unit) }
	}
	return func(i int) time.Time { return arrow.Date64(value(i)).ToTime() }
}

// Storage returns the array under an extension array, and other arrays unchanged.
func Storage(a arrow.Array) arrow.Array {
	for {
		e, ok := a.(array.ExtensionArray)
		if !ok {
			return a
		}
		a = e.Storage()
	}
}

// Children returns the arrays of a struct's or a union's fields, or of a list's or a map's values. It returns nil for
// other arrays, which include dictionaries, runs and extensions.
func Children(a arrow.Array) []arrow.Array {
	var field func(i int) arrow.Array
	n := 0
	switch a := a.(type) {
	case array.ListLike:
		return []arrow.Array{a.ListValues()}
	case *array.Struct:
		n, field = a.NumField(), a.Field
	case array.Union:
		n, field = a.NumFields(), a.Field
	}
	children := make([]arrow.Array, n)
	for i := range children {
		children[i] = field(i)
	}
	return children
}

// Fields returns the fields of a struct, the element of a list, or the key and the item of a map. It returns nil for
// other types.
func Fields(t arrow.DataType) []arrow.Field {
	if m, ok := t.(*arrow.MapType); ok {
		return []arrow.Field{m.KeyField(), m.ItemField()}
	}
	if nested, ok := t.(arrow.NestedType); ok && Of(t).WithFields != nil {
		return nested.Fields()
	}
	return nil
}

// WithFields returns t with other fields, in the order of [Fields]. The fields of a map keep no metadata.
func WithFields(t arrow.DataType, fields []arrow.Field) arrow.DataType {
	return Of(t).WithFields(t, fields)
}

package pandasframe

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/encode"
)

// numbers are the types of numbers that Arrow and pandas store in the same format.
type numbers interface {
	int8 | int16 | int32 | int64 | uint8 | uint16 | uint32 | uint64 | float32 | float64
}

func number[T numbers](v []T) arrow.Array { return arrayNoCopy(arrow.GetDataType[T](), v, nil, 0) }

func arrayNoCopy[T numbers](t arrow.DataType, v []T, valid []byte, nulls int) arrow.Array {
	buffers := []*memory.Buffer{nil, memory.NewBufferBytes(arrow.GetBytes(v))}
	if nulls > 0 {
		buffers[0] = memory.NewBufferBytes(valid)
	}
	return array.MakeFromData(array.NewData(t, len(v), buffers, nil, nulls, 0))
}

// arrayWithNulls returns an array of type t with the numbers v, in which numbers equal to missing are null.
func arrayWithNulls[T int32 | int64](t arrow.DataType, v []T, missing T) arrow.Array {
	valid, nulls := make([]byte, bitutil.BytesForBits(int64(len(v)))), 0
	for i, n := range v {
		bitutil.SetBitTo(valid, i, n != missing)
		if n == missing {
			nulls++
		}
	}
	return arrayNoCopy(t, v, valid, nulls)
}

var units = map[string]arrow.TimeUnit{"s": arrow.Second, "ms": arrow.Millisecond, "us": arrow.Microsecond, "ns": arrow.Nanosecond}

func toArrow(values any) (arrow.Array, error) {
	switch v := values.(type) {
	case []bool:
		b := array.NewBooleanBuilder(memory.DefaultAllocator)
		b.AppendValues(v, nil)
		return b.NewArray(), nil
	case []int8:
		return number(v), nil
	case []int16:
		return number(v), nil
	case []int32:
		return number(v), nil
	case []int64:
		return number(v), nil
	case []uint8:
		return number(v), nil
	case []uint16:
		return number(v), nil
	case []uint32:
		return number(v), nil
	case []uint64:
		return number(v), nil
	case []float32:
		return number(v), nil
	case []float64:
		return number(v), nil
	case encode.Times: // Arrow writes offsets without the prefix UTC
		zone := v.Zone
		if rest := strings.TrimPrefix(zone, "UTC"); rest != "" {
			zone = rest
		}
		unit, ok := units[v.Unit]
		if !ok {
			return nil, fmt.Errorf("unsupported time unit %q", v.Unit)
		}
		return arrayWithNulls(&arrow.TimestampType{Unit: unit, TimeZone: zone}, v.Counts, math.MinInt64), nil
	case encode.Durations:
		unit, ok := units[v.Unit]
		if !ok {
			return nil, fmt.Errorf("unsupported time unit %q", v.Unit)
		}
		return arrayWithNulls(&arrow.DurationType{Unit: unit}, v.Counts, math.MinInt64), nil
	case encode.Texts:
		if v.Null != nil && len(v.Null) != len(v.Values) {
			return nil, fmt.Errorf("field Values has %d elements, but field Null has %d", len(v.Values), len(v.Null))
		}
		b := array.NewLargeStringBuilder(memory.DefaultAllocator)
		for i, text := range v.Values {
			if v.Null != nil && v.Null[i] {
				b.AppendNull()
				continue
			} else if !utf8.ValidString(text) {
				return nil, fmt.Errorf("element %d is not valid UTF-8: for example, it may contain half a surrogate pair", i)
			}
			b.Append(text)
		}
		return b.NewArray(), nil
	case []any:
		return objects(v)
	case encode.Categorical:
		categories, err := toArrow(v.Categories)
		if err != nil {
			return nil, fmt.Errorf("categories: %w", err)
		}
		for i, code := range v.Codes {
			if code < -1 || int(code) >= categories.Len() {
				return nil, fmt.Errorf("element %d has the code %d, but there are %d categories", i, code, categories.Len())
			}
		}
		codes := arrayWithNulls(arrow.PrimitiveTypes.Int32, v.Codes, -1)
		return array.NewDictionaryArray(&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: categories.DataType(), Ordered: v.Ordered},
			codes, categories), nil
	}
	return nil, fmt.Errorf("values of type %T cannot be converted to Arrow", values)
}

// objects returns an array of objects, which must be strings or nil, or else byte slices or nil.
func objects(v []any) (arrow.Array, error) {
	var b array.Builder = array.NewStringBuilder(memory.DefaultAllocator)
	if slices.ContainsFunc(v, func(o any) bool { _, isBytes := o.([]byte); return isBytes }) {
		b = array.NewBinaryBuilder(memory.DefaultAllocator, arrow.BinaryTypes.Binary)
	}
	for i, o := range v {
		switch o := o.(type) {
		case nil:
			b.AppendNull()
			continue
		case string:
			if texts, ok := b.(*array.StringBuilder); ok {
				if !utf8.ValidString(o) {
					return nil, fmt.Errorf("element %d is not valid UTF-8: for example, it may contain half a surrogate pair", i)
				}
				texts.Append(o)
				continue
			}
		case []byte:
			b.(*array.BinaryBuilder).Append(o)
			continue
		}
		return nil, fmt.Errorf("the objects must be all strings or all bytes: element %d is a %T", i, o)
	}
	return b.NewArray(), nil
}

// filled returns the numbers of an array, with the value missing in place of nulls.
func filled[T numbers](a arrow.Array, missing T) []T {
	v := slices.Clone(arrow.GetValues[T](a.Data(), 1))
	for i := range v {
		if a.IsNull(i) {
			v[i] = missing
		}
	}
	return v
}

func fromArrow(a arrow.Array) (any, error) {
	if id := a.DataType().ID(); (arrow.IsInteger(id) || id == arrow.BOOL) && a.NullN() > 0 {
		return nil, fmt.Errorf("%d values are null, which pandas cannot represent in this type: convert the column to floats", a.NullN())
	}
	switch a := a.(type) {
	case *array.Int8:
		return slices.Clone(a.Int8Values()), nil
	case *array.Int16:
		return slices.Clone(a.Int16Values()), nil
	case *array.Int32:
		return slices.Clone(a.Int32Values()), nil
	case *array.Int64:
		return slices.Clone(a.Int64Values()), nil
	case *array.Uint8:
		return slices.Clone(a.Uint8Values()), nil
	case *array.Uint16:
		return slices.Clone(a.Uint16Values()), nil
	case *array.Uint32:
		return slices.Clone(a.Uint32Values()), nil
	case *array.Uint64:
		return slices.Clone(a.Uint64Values()), nil
	case *array.Boolean:
		v := make([]bool, a.Len())
		for i := range v {
			v[i] = a.Value(i)
		}
		return v, nil
	case *array.Float32:
		return filled(a, float32(math.NaN())), nil
	case *array.Float64:
		return filled(a, math.NaN()), nil
	case *array.Timestamp:
		t := a.DataType().(*arrow.TimestampType)
		zone := t.TimeZone
		if strings.HasPrefix(zone, "+") || strings.HasPrefix(zone, "-") {
			zone = "UTC" + zone
		}
		return encode.Times{Unit: t.Unit.String(), Zone: zone, Counts: filled(a, int64(math.MinInt64))}, nil
	case *array.Duration:
		return encode.Durations{Unit: a.DataType().(*arrow.DurationType).Unit.String(), Counts: filled(a, int64(math.MinInt64))}, nil
	case *array.String, *array.Binary:
		v := make([]any, a.Len())
		for i := range v {
			if texts, ok := a.(*array.String); a.IsNull(i) {
				continue
			} else if ok {
				v[i] = texts.Value(i)
			} else {
				v[i] = slices.Clone(a.(*array.Binary).Value(i))
			}
		}
		return v, nil
	case *array.LargeString:
		t := encode.Texts{Values: make([]string, a.Len())}
		for i := range t.Values {
			if a.IsValid(i) {
				t.Values[i] = a.Value(i)
				continue
			} else if t.Null == nil {
				t.Null = make([]bool, a.Len())
			}
			t.Null[i] = true
		}
		return t, nil
	case *array.Dictionary:
		categories, err := fromArrow(a.Dictionary())
		if err != nil {
			return nil, fmt.Errorf("categories: %w", err)
		}
		c := encode.Categorical{Codes: make([]int32, a.Len()), Categories: categories, Ordered: a.DataType().(*arrow.DictionaryType).Ordered}
		for i := range c.Codes {
			c.Codes[i] = -1
			if a.IsValid(i) {
				c.Codes[i] = int32(a.GetValueIndex(i))
			}
		}
		return c, nil
	}
	return nil, errors.New("pandas blocks do not support the type")
}

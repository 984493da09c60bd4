package encode

import (
	"fmt"
	"time"
	"unsafe"

	"github.com/go-partd/partd/frame"
	"github.com/go-partd/partd/internal/pyvalue"
	"github.com/go-partd/partd/internal/pyvalue/msgpack"
	"github.com/go-partd/partd/internal/pyvalue/npy"
)

// Element is the constraint for the elements of [NumPy] arrays. Their dtypes are: bool
// |b1, int8 |i1, uint8 |u1, the other integers <i2 to <u8 (int and uint by their size),
// Float16 <f2, float32 <f4, float64 <f8, complex64 <c8, complex128 <c16, time.Time
// <M8[ns], time.Duration <m8[ns], and string |O, which means objects.
type Element interface {
	bool | int8 | int16 | int32 | int64 | int | uint8 | uint16 | uint32 | uint64 | uint |
		Float16 | float32 | float64 | complex64 | complex128 | time.Time | time.Duration | string
}

func dtypeOf[T Element]() npy.DType {
	element := *new(T)
	d := npy.DType{Size: int(unsafe.Sizeof(element))}
	switch any(element).(type) {
	case bool:
		d.Kind = 'b'
	case int8, int16, int32, int64, int:
		d.Kind = 'i'
	case uint8, uint16, uint32, uint64, uint:
		d.Kind = 'u'
	case Float16, float32, float64:
		d.Kind = 'f'
	case complex64, complex128:
		d.Kind = 'c'
	case time.Time:
		d = npy.DType{Kind: 'M', Size: 8, Unit: "ns"}
	case time.Duration:
		d = npy.DType{Kind: 'm', Size: 8, Unit: "ns"}
	case string:
		d = npy.DType{Kind: 'O'}
	}
	return d
}

func appendArray[T Element](dst []byte, d npy.DType, elements []T) ([]byte, error) {
	switch v := any(elements).(type) {
	case []time.Time:
		return npy.AppendTimes(dst, d, v)
	case []string:
		start := len(dst)
		out, err := msgpack.AppendTexts(frame.Begin(dst), v)
		if err != nil {
			return dst, err
		}
		return frame.End(out, start), nil
	}
	return npy.AppendFixed(dst, d, elements), nil
}

// fixedArray decodes the elements in data, whose length must be a multiple of d.Size.
func fixedArray[T Element](d npy.DType, data []byte) ([]T, error) {
	var v any
	var err error
	switch any(*new(T)).(type) {
	case bool:
		v = npy.DecodeBools(data)
	case time.Time:
		v, err = npy.DecodeTimes(d, data)
	case time.Duration:
		v, err = npy.DecodeDurations(d, data)
	default:
		return npy.DecodeFixed[T](d, data), nil
	}
	elements, _ := v.([]T)
	return elements, err
}

// objectArray decodes the objects of one append. All must be str.
func objectArray[T Element](data []byte) ([]T, error) {
	objects, err := Python().Decode(data)
	if err != nil {
		return nil, err
	}
	elements := make([]T, len(objects))
	for i, o := range objects {
		var ok bool
		elements[i], ok = o.(T)
		if !ok {
			return nil, fmt.Errorf("element %d is a %s: only arrays of str objects can be read", i, pyvalue.Name(o))
		}
	}
	return elements, nil
}

// Float16 holds the bits of a 16-bit floating-point number (IEEE 754 binary16).
type Float16 uint16

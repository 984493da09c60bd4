package shuffle

import (
	"encoding"
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
	"unsafe"
)

// plan encodes and decodes values of a type. In encode and decode, p points to the value.
type plan struct {
	flat   bool // the encoding copies the value's memory, which has no pointers and no gaps
	encode func(dst []byte, p unsafe.Pointer) ([]byte, error)
	decode func(data []byte, p unsafe.Pointer) (rest []byte, err error)
}

var (
	marshaler   = reflect.TypeFor[encoding.BinaryMarshaler]()
	unmarshaler = reflect.TypeFor[encoding.BinaryUnmarshaler]()
)

// newPlan returns a plan for values of type t. If forKeys is set, equal values have equal encodings.
func newPlan(t reflect.Type, forKeys bool) (*plan, error) {
	// Encodings of keys are compared, so they must not contain padding.
	if !forKeys && consistsOf(t, isPlainKind) {
		return flatPlan(t.Size()), nil
	}
	if t.Implements(marshaler) && reflect.PointerTo(t).Implements(unmarshaler) {
		return marshalPlan(t), nil
	}
	switch t.Kind() {
	case reflect.Float32, reflect.Float64:
		return floatKeyPlan(t), nil
	case reflect.Complex64:
		return floatKeyPlan(reflect.TypeFor[float32]()).repeated(2, 4), nil
	case reflect.Complex128:
		return floatKeyPlan(reflect.TypeFor[float64]()).repeated(2, 8), nil
	case reflect.Bool, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint8,
		reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return flatPlan(t.Size()), nil
	case reflect.String:
		return stringPlan(), nil
	case reflect.Struct:
		return structPlan(t, forKeys)
	case reflect.Array:
		return arrayPlan(t, forKeys)
	}
	return nil, fmt.Errorf("it has a %v", t.Kind())
}

func isPlainKind(k reflect.Kind) bool { return k >= reflect.Bool && k <= reflect.Complex128 }

// consistsOf reports whether matches accepts the kind of every basic part of a value of type t.
func consistsOf(t reflect.Type, matches func(reflect.Kind) bool) bool {
	switch t.Kind() {
	case reflect.Struct:
		for f := range t.Fields() {
			if !consistsOf(f.Type, matches) {
				return false
			}
		}
		return true
	case reflect.Array:
		return t.Len() == 0 || consistsOf(t.Elem(), matches)
	}
	return matches(t.Kind())
}

func flatPlan(n uintptr) *plan {
	return &plan{
		flat: true,
		encode: func(dst []byte, p unsafe.Pointer) ([]byte, error) {
			return append(dst, unsafe.Slice((*byte)(p), n)...), nil
		},
		decode: func(data []byte, p unsafe.Pointer) ([]byte, error) {
			if uintptr(len(data)) < n {
				return nil, errEncoding
			}
			copy(unsafe.Slice((*byte)(p), n), data)
			return data[n:], nil
		},
	}
}

// floatKeyPlan returns a plan for floats in keys. Equal floats have the same encoding. All NaNs
// also share one encoding.
func floatKeyPlan(t reflect.Type) *plan {
	get := func(p unsafe.Pointer) float64 { return *(*float64)(p) }
	set := func(p unsafe.Pointer, x float64) { *(*float64)(p) = x }
	if t.Kind() == reflect.Float32 {
		get = func(p unsafe.Pointer) float64 { return float64(*(*float32)(p)) }
		set = func(p unsafe.Pointer, x float64) { *(*float32)(p) = float32(x) }
	}
	return &plan{
		encode: func(dst []byte, p unsafe.Pointer) ([]byte, error) {
			x := get(p)
			if x == 0 {
				x = 0 // also turns -0 into 0
			}
			if math.IsNaN(x) {
				x = math.NaN()
			}
			return binary.NativeEndian.AppendUint64(dst, math.Float64bits(x)), nil
		},
		decode: func(data []byte, p unsafe.Pointer) ([]byte, error) {
			if len(data) < 8 {
				return nil, errEncoding
			}
			set(p, math.Float64frombits(binary.NativeEndian.Uint64(data)))
			return data[8:], nil
		},
	}
}

// repeated returns a plan for n consecutive values, each of size bytes.
func (p *plan) repeated(n int, size uintptr) *plan {
	return &plan{
		encode: func(dst []byte, ptr unsafe.Pointer) (_ []byte, err error) {
			for i := range n {
				dst, err = p.encode(dst, unsafe.Add(ptr, uintptr(i)*size))
				if err != nil {
					return dst, err
				}
			}
			return dst, nil
		},
		decode: func(data []byte, ptr unsafe.Pointer) (_ []byte, err error) {
			for i := range n {
				data, err = p.decode(data, unsafe.Add(ptr, uintptr(i)*size))
				if err != nil {
					return nil, err
				}
			}
			return data, nil
		},
	}
}

func stringPlan() *plan {
	return &plan{
		encode: func(dst []byte, p unsafe.Pointer) ([]byte, error) {
			s := *(*string)(p)
			return append(binary.AppendUvarint(dst, uint64(len(s))), s...), nil
		},
		decode: func(data []byte, p unsafe.Pointer) ([]byte, error) {
			s, rest, err := cut(data)
			*(*string)(p) = string(s)
			return rest, err
		},
	}
}

func marshalPlan(t reflect.Type) *plan {
	return &plan{
		encode: func(dst []byte, p unsafe.Pointer) ([]byte, error) {
			b, err := reflect.NewAt(t, p).Elem().Interface().(encoding.BinaryMarshaler).MarshalBinary()
			return append(binary.AppendUvarint(dst, uint64(len(b))), b...), err
		},
		decode: func(data []byte, p unsafe.Pointer) ([]byte, error) {
			b, rest, err := cut(data)
			if err != nil {
				return rest, err
			}
			err = reflect.NewAt(t, p).Interface().(encoding.BinaryUnmarshaler).UnmarshalBinary(b)
			return rest, err
		},
	}
}

func structPlan(t reflect.Type, forKeys bool) (*plan, error) {
	type field struct {
		offset uintptr
		*plan
	}
	var fields []field
	end, flat := uintptr(0), true
	for i := range t.NumField() {
		f := t.Field(i)
		p, err := newPlan(f.Type, forKeys)
		if err != nil {
			return nil, fmt.Errorf("field %s: %w", f.Name, err)
		}
		flat = flat && p.flat && f.Offset == end
		end = f.Offset + f.Type.Size()
		fields = append(fields, field{f.Offset, p})
	}
	if flat && end == t.Size() {
		return flatPlan(end), nil
	}
	return &plan{
		encode: func(dst []byte, p unsafe.Pointer) (_ []byte, err error) {
			for i := range fields {
				dst, err = fields[i].encode(dst, unsafe.Add(p, fields[i].offset))
				if err != nil {
					return dst, err
				}
			}
			return dst, nil
		},
		decode: func(data []byte, p unsafe.Pointer) (_ []byte, err error) {
			for i := range fields {
				data, err = fields[i].decode(data, unsafe.Add(p, fields[i].offset))
				if err != nil {
					return nil, err
				}
			}
			return data, nil
		},
	}, nil
}

func arrayPlan(t reflect.Type, forKeys bool) (*plan, error) {
	elem, err := newPlan(t.Elem(), forKeys)
	if err != nil {
		return nil, err
	}
	if elem.flat || t.Len() == 0 {
		return flatPlan(t.Size()), nil
	}
	return elem.repeated(t.Len(), t.Elem().Size()), nil
}

// cut reads a length and that many bytes from data. It returns the bytes and the rest of data.
func cut(data []byte) (b, rest []byte, err error) {
	n, l := binary.Uvarint(data)
	if l <= 0 || n > uint64(len(data)-l) {
		return nil, nil, errEncoding
	}
	return data[l : l+int(n)], data[l+int(n):], nil
}

package shuffle

import (
	"errors"
	"fmt"
	"reflect"
	"unsafe"
)

// Codec turns values into bytes and back. The functions may be called by several
// goroutines at once. They may be those of a codec of package encode, which also
// joins the values that are stored under one key; here each value stands alone:
//
//	json := encode.JSON[Event]()
//	opts := &shuffle.Options[Event]{Codec: shuffle.Codec[Event]{Encode: json.Encode, Decode: json.Decode}}
type Codec[T any] struct {
	// Encode appends the encoding of v to dst. It changes nothing of v, and what
	// it returns refers to nothing of it.
	Encode func(dst []byte, v T) ([]byte, error)
	// Decode returns the value of one whole encoding. It keeps nothing of data,
	// which is used again: the value is the caller's.
	Decode func(data []byte) (T, error)

	flat bool // the encoding is the memory of the value
}

// DefaultCodec returns the codec that is used where none is given. It takes
// bytes and strings as they are, numbers in the machine's order, structs, arrays,
// slices, maps and pointers by what they hold, unexported fields too, and types
// that implement encoding.BinaryMarshaler and BinaryUnmarshaler by that, such as
// time.Time. It is for data that the same program reads back: it writes no names
// and no types. There is none for interfaces, functions, channels, and types
// that contain themselves: the error names the type.
func DefaultCodec[T any]() (Codec[T], error) { return newCodec[T](false) }

// newCodec returns the default codec. One for keys gives equal values equal
// encodings: -0 that of 0, and all NaNs the same.
func newCodec[T any](forKeys bool) (c Codec[T], err error) {
	switch c := any(&c).(type) {
	case *Codec[[]byte]:
		c.Encode = func(dst, v []byte) ([]byte, error) { return append(dst, v...), nil }
		c.Decode = func(data []byte) ([]byte, error) { return append([]byte{}, data...), nil }
	case *Codec[string]:
		c.Encode = func(dst []byte, v string) ([]byte, error) { return append(dst, v...), nil }
		c.Decode = func(data []byte) (string, error) { return string(data), nil }
	}
	if c.Encode != nil {
		return c, nil
	}
	t := reflect.TypeFor[T]()
	p, err := (&planner{forKeys: forKeys, within: make(map[reflect.Type]bool)}).plan(t)
	if err != nil {
		return c, fmt.Errorf("no codec for %v: %w: give one", t, err)
	}
	if p.flat && t.Size() > 0 {
		return Codec[T]{encodeFlat[T], decodeFlat[T], true}, nil
	}
	c.Encode = func(dst []byte, v T) ([]byte, error) { return p.encode(dst, unsafe.Pointer(&v)) }
	c.Decode = func(data []byte) (v T, err error) {
		rest, err := p.decode(data, unsafe.Pointer(&v))
		if err == nil && len(rest) > 0 {
			err = wrongLength(len(data), len(data)-len(rest))
		}
		return v, err
	}
	return c, nil
}

// encodeFlat copies the memory of a type without pointers and without gaps.
func encodeFlat[T any](dst []byte, v T) ([]byte, error) {
	return append(dst, unsafe.Slice((*byte)(unsafe.Pointer(&v)), unsafe.Sizeof(v))...), nil
}

func decodeFlat[T any](data []byte) (v T, err error) {
	if uintptr(len(data)) != unsafe.Sizeof(v) {
		return v, wrongLength(len(data), int(unsafe.Sizeof(v)))
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&v)), unsafe.Sizeof(v)), data)
	return v, nil
}

var errEncoding = errors.New("the encoding of a value is not whole")

func wrongLength(have, want int) error {
	return fmt.Errorf("%w: it has %d bytes, not %d", errEncoding, have, want)
}

package shuffle

import (
	"errors"
	"fmt"
	"reflect"
	"unsafe"
)

// SpillCodec turns the records, keys and accumulators that a shuffle stores into
// bytes and back. [SpillCodecOf] makes one of two functions. It is no
// encode.ValueCodec, whose format others may read, and which joins values.
type SpillCodec[T any] interface {
	// Encode appends the encoding of v to dst, and keeps neither.
	Encode(dst []byte, v T) ([]byte, error)
	// Decode returns the value of one whole encoding. It keeps nothing of data,
	// which is used again.
	Decode(data []byte) (T, error)
}

// SpillCodecOf makes a codec of two functions, such as those of a ValueCodec of
// package encode:
//
//	json := encode.JSON[Event]()
//	opts := &shuffle.Options[Event]{Codec: shuffle.SpillCodecOf(json.Encode, json.Decode)}
func SpillCodecOf[T any](encode func(dst []byte, v T) ([]byte, error), decode func(data []byte) (T, error)) SpillCodec[T] {
	return funcCodec[T]{encode, decode}
}

type funcCodec[T any] struct {
	encode func(dst []byte, v T) ([]byte, error)
	decode func(data []byte) (T, error)
}

func (c funcCodec[T]) Encode(dst []byte, v T) ([]byte, error) { return c.encode(dst, v) }
func (c funcCodec[T]) Decode(data []byte) (T, error)          { return c.decode(data) }

// DefaultSpillCodec returns the codec that is used where none is given. It takes
// bytes and strings as they are, numbers in the machine's order, structs, arrays,
// slices, maps and pointers by what they hold, unexported fields too, and types
// that implement encoding.BinaryMarshaler and BinaryUnmarshaler by that, such as
// time.Time. It is for data that the same program reads back: it writes no names
// and no types. There is none for interfaces, functions, channels, and types
// that contain themselves: the error names the type.
func DefaultSpillCodec[T any]() (SpillCodec[T], error) { return newCodec[T](false) }

// newCodec returns the default codec. One for keys gives equal values equal
// encodings: -0 that of 0, and all NaNs the same.
func newCodec[T any](forKeys bool) (SpillCodec[T], error) {
	var codec any
	switch any(*new(T)).(type) {
	case []byte:
		codec = bytesCodec{}
	case string:
		codec = stringCodec{}
	default:
		t := reflect.TypeFor[T]()
		p, err := (&planner{forKeys: forKeys, within: make(map[reflect.Type]bool)}).plan(t)
		if err != nil {
			return nil, fmt.Errorf("no codec for %v: %w: give one", t, err)
		}
		if p.flat && t.Size() > 0 {
			return flatCodec[T]{}, nil
		}
		return planCodec[T]{p}, nil
	}
	return codec.(SpillCodec[T]), nil
}

type bytesCodec struct{}

func (bytesCodec) Encode(dst []byte, v []byte) ([]byte, error) { return append(dst, v...), nil }
func (bytesCodec) Decode(data []byte) ([]byte, error)          { return append([]byte{}, data...), nil }

type stringCodec struct{}

func (stringCodec) Encode(dst []byte, v string) ([]byte, error) { return append(dst, v...), nil }
func (stringCodec) Decode(data []byte) (string, error)          { return string(data), nil }

// flatCodec copies the memory of types without pointers and without gaps.
type flatCodec[T any] struct{}

func (flatCodec[T]) Encode(dst []byte, v T) ([]byte, error) {
	return append(dst, unsafe.Slice((*byte)(unsafe.Pointer(&v)), unsafe.Sizeof(v))...), nil
}

func (flatCodec[T]) Decode(data []byte) (v T, err error) {
	if uintptr(len(data)) != unsafe.Sizeof(v) {
		return v, wrongLength(len(data), int(unsafe.Sizeof(v)))
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&v)), unsafe.Sizeof(v)), data)
	return v, nil
}

// planCodec follows a plan.
type planCodec[T any] struct{ *plan }

func (c planCodec[T]) Encode(dst []byte, v T) ([]byte, error) {
	return c.encode(dst, unsafe.Pointer(&v))
}

func (c planCodec[T]) Decode(data []byte) (v T, err error) {
	rest, err := c.decode(data, unsafe.Pointer(&v))
	if err == nil && len(rest) > 0 {
		err = wrongLength(len(data), len(data)-len(rest))
	}
	return v, err
}

var errEncoding = errors.New("the encoding of a value is not whole")

func wrongLength(have, want int) error {
	return fmt.Errorf("%w: it has %d bytes, not %d", errEncoding, have, want)
}

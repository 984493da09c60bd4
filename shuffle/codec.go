package shuffle

import (
	"errors"
	"fmt"
	"reflect"
	"unsafe"

	"github.com/go-partd/partd/encode"
)

// DefaultCodec returns the codec that is used if the options have none. It writes neither
// names nor types, so only the same program can read the data back. It encodes:
//
//   - []byte and strings unchanged;
//   - numbers in the machine's byte order;
//   - structs (including unexported fields) and arrays by content;
//   - types that implement encoding.BinaryMarshaler and BinaryUnmarshaler, such as
//     time.Time, with these methods.
//
// For all other types, such as a struct with a slice, a map or a pointer, DefaultCodec returns an
// error that names the type. Set [encode.Gob] or [encode.JSON] for records of such a type.
func DefaultCodec[T any]() (encode.ValueCodec[T], error) {
	c, _, err := newCodec[T](false)
	return c, codecTypeError[T]("", err)
}

// codecTypeError returns nil if err is nil. Otherwise, it adds advice to err, an error from newCodec.
// prefix precedes the type in the error, such as "accumulators of type "; it may be "".
func codecTypeError[T any](prefix string, err error) error {
	if err == nil {
		return nil
	}
	t := reflect.TypeFor[T]()
	return argumentErrorf("no default codec for %s%v: %w: pass encode.Gob[%v]() or encode.JSON[%v]() as its codec", prefix, t, err, t, t)
}

// newKeyCodec returns the codec for keys, which no option can replace.
func newKeyCodec[K any]() (c encode.ValueCodec[K], err error) {
	c, _, err = newCodec[K](true)
	if err != nil {
		return c, keyTypeError(reflect.TypeFor[K](), err)
	}
	return c, nil
}

func keyTypeError(t reflect.Type, err error) error {
	return argumentErrorf("keys of type %v: %w: return an array or a struct without such parts, or a string, such as the bytes of encode.JSON or encode.Gob", t, err)
}

// newCodec returns the default codec. flat reports whether an encoding is a copy of the value's
// memory. If forKeys is set, equal values have equal encodings: -0 is encoded as 0, and all
// NaNs are encoded alike.
func newCodec[T any](forKeys bool) (c encode.ValueCodec[T], flat bool, err error) {
	switch c := any(&c).(type) {
	case *encode.ValueCodec[[]byte]:
		c.Encode = func(dst, v []byte) ([]byte, error) { return append(dst, v...), nil }
		c.Decode = func(data []byte) ([]byte, error) { return append([]byte{}, data...), nil }
	case *encode.ValueCodec[string]:
		c.Encode = func(dst []byte, v string) ([]byte, error) { return append(dst, v...), nil }
		c.Decode = func(data []byte) (string, error) { return string(data), nil }
	}
	if c.Encode != nil {
		return c, false, nil
	}
	t := reflect.TypeFor[T]()
	p, err := newPlan(t, forKeys)
	if err != nil {
		return c, false, err
	}
	if p.flat && t.Size() > 0 {
		c.Encode = func(dst []byte, v T) ([]byte, error) {
			return append(dst, unsafe.Slice((*byte)(unsafe.Pointer(&v)), unsafe.Sizeof(v))...), nil
		}
		c.Decode = func(data []byte) (v T, err error) {
			if uintptr(len(data)) != unsafe.Sizeof(v) {
				return v, wrongLengthError(len(data), int(unsafe.Sizeof(v)))
			}
			copy(unsafe.Slice((*byte)(unsafe.Pointer(&v)), unsafe.Sizeof(v)), data)
			return v, nil
		}
		return c, true, nil
	}
	c.Encode = func(dst []byte, v T) ([]byte, error) { return p.encode(dst, unsafe.Pointer(&v)) }
	c.Decode = func(data []byte) (v T, err error) {
		rest, err := p.decode(data, unsafe.Pointer(&v))
		if err == nil && len(rest) > 0 {
			err = wrongLengthError(len(data), len(data)-len(rest))
		}
		return v, err
	}
	return c, false, nil
}

var errEncoding = errors.New("the encoding of a value is damaged")

func wrongLengthError(got, want int) error {
	return fmt.Errorf("%w: %d bytes instead of %d", errEncoding, got, want)
}

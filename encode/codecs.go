package encode

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"github.com/go-partd/partd/internal/pyvalue"
	"github.com/go-partd/partd/internal/pyvalue/msgpack"
	"github.com/go-partd/partd/internal/pyvalue/pickle"
)

// Bytes is the codec that stores byte slices unchanged. Unlike a store of bytes, a Store with
// this codec knows where each appended value ends, so [Store.All] yields them one by one.
func Bytes() ValueCodec[[]byte] {
	return ValueCodec[[]byte]{
		Encode: func(dst, v []byte) ([]byte, error) { return append(dst, v...), nil },
		Decode: func(data []byte) ([]byte, error) { return append(make([]byte, 0, len(data)), data...), nil },
		Join:   Concat[[]byte],
	}
}

// JSON is the codec for any type that encoding/json supports. As in encoding/json, bytes in strings
// that are not valid UTF-8 are replaced. Join concatenates slices and strings and rejects several
// values of any other type; see [ErrNoJoin].
func JSON[T any]() ValueCodec[T] {
	return ValueCodec[T]{
		Encode: func(dst []byte, v T) ([]byte, error) {
			w := bytes.NewBuffer(dst)
			e := json.NewEncoder(w)
			e.SetEscapeHTML(false)
			if err := e.Encode(v); err != nil {
				return dst, err
			}
			return bytes.TrimSuffix(w.Bytes(), []byte("\n")), nil
		},
		Decode: func(data []byte) (v T, err error) {
			err = json.Unmarshal(data, &v)
			return v, err
		},
		Join: JoinOf[T](),
	}
}

// Gob is the codec for any type that encoding/gob supports. Each value includes a
// description of its type, 30 bytes or more: prefer slices to single small values. Join
// concatenates slices and strings and rejects several values of any other type; see
// [ErrNoJoin]. Data from an untrusted source can make package gob allocate 10 MiB for each
// nested slice.
func Gob[T any]() ValueCodec[T] {
	return ValueCodec[T]{
		Encode: func(dst []byte, v T) ([]byte, error) {
			w := bytes.NewBuffer(dst)
			if err := gob.NewEncoder(w).EncodeValue(reflect.ValueOf(&v).Elem()); err != nil {
				return dst, err
			}
			return w.Bytes(), nil
		},
		Decode: func(data []byte) (v T, err error) {
			if err := checkGob(data); err != nil {
				return v, fmt.Errorf("gob: %w", err)
			}
			r := bytes.NewReader(data)
			if err := gob.NewDecoder(r).Decode(&v); err != nil {
				if err == io.EOF {
					err = io.ErrUnexpectedEOF
				}
				return v, fmt.Errorf("gob: %w", err)
			}
			if r.Len() > 0 {
				return v, fmt.Errorf("gob: %d bytes follow the value", r.Len())
			}
			return v, nil
		},
		Join: JoinOf[T](),
	}
}

// checkGob returns an error unless data consists of whole gob messages. Given a truncated
// message, package gob would allocate several megabytes before it noticed.
//
// A message is its length, followed by that many bytes. A length below 128 is one byte. A
// greater length that takes n bytes is stored as the byte 256-n, followed by those n
// bytes, most significant first.
func checkGob(data []byte) error {
	for len(data) > 0 {
		n := uint64(data[0])
		data = data[1:]
		if n >= 128 {
			size := 256 - int(n)
			if size > 8 || size > len(data) {
				return io.ErrUnexpectedEOF
			}
			n = 0
			for _, c := range data[:size] {
				n = n<<8 | uint64(c)
			}
			data = data[size:]
		}
		if n > uint64(len(data)) {
			return fmt.Errorf("a message claims %d bytes, but only %d follow: %w", n, len(data), io.ErrUnexpectedEOF)
		}
		data = data[n:]
	}
	return nil
}

// Concat concatenates slices. Use it as the Join of a codec for a slice type.
func Concat[S ~[]E, E any](pieces []S) (S, error) {
	if len(pieces) == 1 {
		return pieces[0], nil
	}
	return slices.Concat(pieces...), nil
}

// JoinOf returns a function for the Join field of a codec for T. The function concatenates slices
// and strings. For any other type, it returns a single value unchanged, and the zero value if there
// are no values. If there are several values, it returns an error that wraps [ErrNoJoin].
func JoinOf[T any]() func([]T) (T, error) {
	switch reflect.TypeFor[T]().Kind() {
	case reflect.Slice:
		return func(pieces []T) (T, error) { return concatAny(pieces), nil }
	case reflect.String:
		return func(pieces []T) (joined T, _ error) {
			var b strings.Builder
			for i := range pieces {
				b.WriteString(reflect.ValueOf(&pieces[i]).Elem().String())
			}
			reflect.ValueOf(&joined).Elem().SetString(b.String())
			return joined, nil
		}
	}
	return func(pieces []T) (joined T, _ error) {
		if len(pieces) > 1 {
			return joined, fmt.Errorf("%d values of type %T: %w", len(pieces), joined, ErrNoJoin)
		}
		if len(pieces) == 1 {
			joined = pieces[0]
		}
		return joined, nil
	}
}

// concatAny concatenates slices.
func concatAny[T any](pieces []T) (joined T) {
	if len(pieces) == 1 {
		return pieces[0]
	}
	total := 0
	for i := range pieces {
		total += reflect.ValueOf(&pieces[i]).Elem().Len()
	}
	all := reflect.ValueOf(&joined).Elem()
	all.Grow(total) // leaves it nil if all pieces are empty
	for i := range pieces {
		all.Set(reflect.AppendSlice(all, reflect.ValueOf(&pieces[i]).Elem()))
	}
	return joined
}

// The following types represent Python types that have no counterpart in Go. The codecs
// [Pickle] and [Python] decode the other types as follows: None as nil, bool as bool, int
// as int64 (or *big.Int if int64 is too small), float as float64, str as string, bytes as
// []byte, and list as []any.
//
// The codecs encode all of these types, numbers of every size, and slices, arrays and maps: a slice
// becomes a list, and a map becomes a dict sorted by key. The codecs also accept named types, but
// not structs. Values must not contain themselves, and can be nested up to 1,000 levels deep.
type (
	PyTuple     = pyvalue.Tuple     // []any: Python's tuple
	PyDict      = pyvalue.Dict      // []PyItem: Python's dict, its items in insertion order
	PyItem      = pyvalue.Item      // struct{ Key, Value any }: an item of a PyDict
	PySet       = pyvalue.Set       // []any: Python's set
	PyFrozenSet = pyvalue.FrozenSet // []any: Python's frozenset
	PyByteArray = pyvalue.ByteArray // []byte: Python's bytearray
)

// Pickle is the codec of Python's partd.Pickle: pickled lists of plain values. It writes
// pickle protocol 5 and reads protocols 4 and 5.
//
// The codec executes nothing. If a pickle contains a class, a function or another value that
// is not plain, decoding fails with an error that names this value. If a list contains the
// same container twice, so does the decoded list, as in Python.
func Pickle() ValueCodec[[]any] {
	return ValueCodec[[]any]{
		Encode: func(dst []byte, v []any) ([]byte, error) { return pickle.Append(dst, v) },
		Decode: func(data []byte) ([]any, error) { return decodeList("pickle", pickle.Decode, data) },
		Join:   Concat[[]any],
	}
}

// Python is the codec of Python's partd.Python: lists of plain values in MessagePack. It is faster
// and shorter than Pickle, but tuples and bytearrays are decoded as lists and bytes. The codec
// pickles a list if MessagePack cannot hold one of its values (sets, integers beyond 64 bits), or
// if Python could not read the MessagePack (dicts with keys that are neither str nor bytes). The
// codec reads both forms.
func Python() ValueCodec[[]any] {
	return ValueCodec[[]any]{
		Encode: func(dst []byte, v []any) ([]byte, error) {
			out, err := msgpack.Append(dst, v)
			if errors.Is(err, msgpack.ErrNotPlain) {
				return pickle.Append(dst, v)
			}
			return out, err
		},
		Decode: func(data []byte) ([]any, error) {
			// These are the first bytes of MessagePack lists. A pickle never begins with them.
			if len(data) == 0 || data[0]&0xf0 == 0x90 || data[0] == 0xdc || data[0] == 0xdd {
				return decodeList("msgpack", msgpack.Decode, data)
			}
			return decodeList("pickle", pickle.Decode, data)
		},
		Join: Concat[[]any],
	}
}

func decodeList(format string, decode func([]byte) (any, error), data []byte) ([]any, error) {
	v, err := decode(data)
	if err != nil {
		return nil, err
	}
	list, ok := v.([]any)
	if !ok {
		return nil, fmt.Errorf("%s: the value is a %s, not a list", format, pyvalue.Name(v))
	}
	return list, nil
}

package encode

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"sync"

	"github.com/ugorji/go/codec"
)

// Bytes is the codec of byte slices as they are. Its values can be taken apart
// again, which those of a bare store cannot.
func Bytes() Codec[[]byte] {
	return Codec[[]byte]{
		Encode: func(dst, v []byte) ([]byte, error) { return append(dst, v...), nil },
		Decode: func(data []byte) ([]byte, error) { return append(make([]byte, 0, len(data)), data...), nil },
		Join:   Concat[[]byte],
	}
}

// JSON is the codec of any type that encoding/json takes. Text has to be UTF-8:
// what is not is replaced, as encoding/json does. Slices and strings join one
// behind the other; others do not, see [ErrNoJoin].
func JSON[T any]() Codec[T] {
	return Codec[T]{
		Encode: func(dst []byte, v T) ([]byte, error) {
			w := writer{dst}
			e := json.NewEncoder(&w)
			e.SetEscapeHTML(false)
			if err := e.Encode(v); err != nil {
				return dst, err
			}
			return bytes.TrimSuffix(w.bytes, []byte("\n")), nil
		},
		Decode: func(data []byte) (v T, err error) {
			err = json.Unmarshal(data, &v)
			return v, err
		},
		Join: joinOf[T](),
	}
}

// Gob is the codec of any type that encoding/gob takes. Each value holds the
// description of its type, 30 bytes and more: it is for slices rather than for
// single small values. Slices and strings join one behind the other; others do
// not, see [ErrNoJoin].
func Gob[T any]() Codec[T] {
	return Codec[T]{
		Encode: func(dst []byte, v T) ([]byte, error) {
			w := writer{dst}
			if err := gob.NewEncoder(&w).EncodeValue(reflect.ValueOf(&v).Elem()); err != nil {
				return dst, err
			}
			return w.bytes, nil
		},
		Decode: func(data []byte) (v T, err error) {
			r := bytes.NewReader(data)
			if err := gob.NewDecoder(r).Decode(&v); err != nil {
				if err == io.EOF {
					err = io.ErrUnexpectedEOF
				}
				return v, fmt.Errorf("gob: %w", err)
			}
			return v, ended("gob", len(data), len(data)-r.Len())
		},
		Join: joinOf[T](),
	}
}

// Msgpack is the codec of any type that github.com/ugorji/go/codec takes, in
// MessagePack: structs as maps, with names from the tag codec or json, text as
// str, bytes as bin, time.Time as the timestamp of the format. Slices and strings
// join one behind the other; others do not, see [ErrNoJoin].
func Msgpack[T any]() Codec[T] {
	handle := &codec.MsgpackHandle{WriteExt: true, PositiveIntUnsigned: true}
	handle.Canonical = true // the same value, the same bytes
	handle.CheckCircularRef = true
	handle.MapType = reflect.TypeFor[map[string]any]()
	handle.SignedInteger = true
	handle.MaxDepth = 1000
	encoders := sync.Pool{New: func() any {
		e := &msgpackEncoder{}
		e.encoder = codec.NewEncoderBytes(&e.out, handle)
		return e
	}}
	decoders := sync.Pool{New: func() any { return codec.NewDecoderBytes(nil, handle) }}
	return Codec[T]{
		Encode: func(dst []byte, v T) ([]byte, error) {
			e := encoders.Get().(*msgpackEncoder)
			e.encoder.ResetBytes(&e.out)
			if err := e.encoder.Encode(&v); err != nil {
				return dst, fmt.Errorf("msgpack: %w", err)
			}
			dst = append(dst, e.out...)
			if cap(e.out) <= keepAtMost {
				encoders.Put(e)
			}
			return dst, nil
		},
		Decode: func(data []byte) (v T, err error) {
			d := decoders.Get().(*codec.Decoder)
			d.ResetBytes(data)
			if err := d.Decode(&v); err != nil {
				return v, fmt.Errorf("msgpack: %w", err)
			}
			read := d.NumBytesRead()
			decoders.Put(d)
			return v, ended("msgpack", len(data), read)
		},
		Join: joinOf[T](),
	}
}

// msgpackEncoder is an encoder with the bytes that it writes to.
type msgpackEncoder struct {
	encoder *codec.Encoder
	out     []byte
}

// ended returns an error where a value does not fill its piece.
func ended(format string, size, read int) error {
	if read < size {
		return fmt.Errorf("%s: %d bytes follow the value", format, size-read)
	}
	return nil
}

// writer appends what is written.
type writer struct{ bytes []byte }

func (w *writer) Write(p []byte) (int, error) {
	w.bytes = append(w.bytes, p...)
	return len(p), nil
}

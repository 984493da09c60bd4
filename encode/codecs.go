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

	"github.com/go-partd/partd/internal/msgpack"
)

// Bytes is the codec of byte slices as they are. Its values can be taken apart
// again, which those of a bare store cannot.
func Bytes() ValueCodec[[]byte] {
	return ValueCodec[[]byte]{
		Encode: func(dst, v []byte) ([]byte, error) { return append(dst, v...), nil },
		Decode: func(data []byte) ([]byte, error) { return append(make([]byte, 0, len(data)), data...), nil },
		Join:   Concat[[]byte],
	}
}

// JSON is the codec of any type that encoding/json takes. Text has to be UTF-8:
// what is not is replaced, as encoding/json does. Slices and strings join one
// behind the other; others do not, see [ErrNoJoin].
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
		Join: joinOf[T](),
	}
}

// Gob is the codec of any type that encoding/gob takes. Each value holds the
// description of its type, 30 bytes and more: it is for slices rather than for
// single small values. Slices and strings join one behind the other; others do
// not, see [ErrNoJoin].
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
		Join: joinOf[T](),
	}
}

// Msgpack is the codec of any type that github.com/ugorji/go/codec takes, in
// MessagePack: structs as maps, with names from the tag codec or json, text as
// str, bytes as bin, time.Time as the timestamp of the format. Slices and strings
// join one behind the other; others do not, see [ErrNoJoin].
func Msgpack[T any]() ValueCodec[T] {
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
	return ValueCodec[T]{
		Encode: func(dst []byte, v T) ([]byte, error) {
			e := encoders.Get().(*msgpackEncoder)
			e.encoder.ResetBytes(&e.out)
			if err := e.encoder.Encode(&v); err != nil {
				return dst, fmt.Errorf("msgpack: %w", err)
			}
			dst = append(dst, e.out...)
			if cap(e.out) <= maxPooled {
				encoders.Put(e)
			}
			return dst, nil
		},
		Decode: func(data []byte) (v T, err error) {
			// The decoder takes memory for lengths before it comes to the data.
			if err := msgpack.Check(data); err != nil {
				return v, err
			}
			d := decoders.Get().(*codec.Decoder)
			d.ResetBytes(data)
			if err := d.Decode(&v); err != nil {
				return v, fmt.Errorf("msgpack: %w", err)
			}
			decoders.Put(d)
			return v, nil
		},
		Join: joinOf[T](),
	}
}

// msgpackEncoder is an encoder with the bytes that it writes to.
type msgpackEncoder struct {
	encoder *codec.Encoder
	out     []byte
}

// checkGob returns an error unless data is whole messages: for a message that is longer
// than that, the decoder would take some megabytes before it found out. A message
// is its length and as many bytes; a length below 128 is a byte, another the
// negated count of its bytes and these.
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
			return fmt.Errorf("a message of %d bytes, and %d are left: %w", n, len(data), io.ErrUnexpectedEOF)
		}
		data = data[n:]
	}
	return nil
}

// Package gomsgpack converts values of Go types to MessagePack and back, by reflection.
// Package encode/msgpack turns it into a codec. It is not part of package encode, because
// its library would link net/http into every program.
package gomsgpack

import (
	"fmt"
	"reflect"
	"sync"

	"github.com/ugorji/go/codec"

	"github.com/go-partd/partd/internal/pyvalue/msgpack"
)

// maxPooled is the size of the largest buffer that is reused.
const maxPooled = 4 << 20

// Of returns functions that encode and decode values of a type. They are safe for
// concurrent use, and do not retain their arguments.
func Of[T any]() (encode func(dst []byte, v T) ([]byte, error), decode func(data []byte) (T, error)) {
	handle := &codec.MsgpackHandle{WriteExt: true, PositiveIntUnsigned: true}
	handle.Canonical = true // equal values have equal bytes
	handle.CheckCircularRef = true
	handle.MapType = reflect.TypeFor[map[string]any]()
	handle.SignedInteger = true
	handle.MaxDepth = 1000
	encoders := sync.Pool{New: func() any {
		e := &encoder{}
		e.encoder = codec.NewEncoderBytes(&e.out, handle)
		return e
	}}
	decoders := sync.Pool{New: func() any { return codec.NewDecoderBytes(nil, handle) }}
	encode = func(dst []byte, v T) ([]byte, error) {
		e := encoders.Get().(*encoder)
		e.encoder.ResetBytes(&e.out)
		if err := e.encoder.Encode(&v); err != nil {
			return dst, fmt.Errorf("msgpack: %w", err)
		}
		dst = append(dst, e.out...)
		if cap(e.out) <= maxPooled {
			encoders.Put(e)
		}
		return dst, nil
	}
	decode = func(data []byte) (v T, err error) {
		// Check the data first, because the decoder allocates memory for any length that the data
		// claims.
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
	}
	return encode, decode
}

type encoder struct {
	encoder *codec.Encoder
	out     []byte
}

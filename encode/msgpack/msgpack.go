// Package msgpack is a codec for package encode: it stores Go values in
// MessagePack. Its library imports net/http, which makes a program about 12 MB
// larger.
//
// For the MessagePack lists that Python's partd stores, use [encode.Python].
package msgpack

import (
	"github.com/go-partd/partd/encode"
	"github.com/go-partd/partd/internal/gomsgpack"
)

// Codec is the codec for any type that github.com/ugorji/go/codec supports, in
// MessagePack: structs become maps, with names from the tag codec or json, text
// becomes str, bytes become bin, and time.Time becomes the format's timestamp.
// Slices and strings are concatenated; other types have no join, see
// [encode.ErrNoJoin].
//
// It never allocates memory just because a length field claims it. But the memory of a
// value depends on the type, because a byte or two may stand for a large struct.
func Codec[T any]() encode.ValueCodec[T] {
	encodeValue, decodeValue := gomsgpack.Of[T]()
	return encode.ValueCodec[T]{Encode: encodeValue, Decode: decodeValue, Join: encode.JoinOf[T]()}
}

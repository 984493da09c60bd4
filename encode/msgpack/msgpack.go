// Package msgpack is a codec for package encode: it stores Go values in MessagePack. It
// makes a program about 12 MB larger, because its MessagePack library imports net/http.
//
// For the MessagePack lists that Python's partd stores, use [encode.Python].
package msgpack

import (
	"github.com/go-partd/partd/encode"
	"github.com/go-partd/partd/internal/gomsgpack"
)

// Codec is the codec for any type that github.com/ugorji/go/codec supports. Structs become
// maps, whose keys come from the struct tags "codec" or "json". Strings become str, []byte
// becomes bin, and time.Time becomes MessagePack's timestamp. Join concatenates slices and
// strings, and rejects several values of any other type; see [encode.ErrNoJoin].
//
// Codec never trusts a length field when it allocates memory. But the memory of a
// value depends on the type, because a byte or two may stand for a large struct.
func Codec[T any]() encode.ValueCodec[T] {
	encodeValue, decodeValue := gomsgpack.Of[T]()
	return encode.ValueCodec[T]{Encode: encodeValue, Decode: decodeValue, Join: encode.JoinOf[T]()}
}

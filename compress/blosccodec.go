package compress

import "github.com/go-partd/partd/compress/blosc"

// bloscCodec is Blosc containers. They have no checksum and are not decompressed
// in parts: where their blocks are is in no order.
type bloscCodec struct {
	noStream
	encoder *blosc.Encoder
	decoder *blosc.Decoder
	limit   int64
}

func newBlosc(o *Options, limit int64) (codec, error) {
	limit = min(limit, blosc.MaxLen)
	encoder, err := blosc.NewEncoder(&blosc.Options{
		Compressor: o.Inner, Shuffle: o.Shuffle, TypeSize: o.TypeSize, Level: o.Level,
	})
	if err != nil {
		return nil, err
	}
	return bloscCodec{encoder: encoder, decoder: blosc.NewDecoder(limit), limit: limit}, nil
}

func (c bloscCodec) encode(dst, src []byte) ([]byte, error) { return c.encoder.Append(dst, src) }

func (c bloscCodec) decode(dst, content []byte) ([]byte, error) {
	return c.decoder.Append(dst, content)
}

func (c bloscCodec) measure(head []byte, total int64) (int64, error) {
	return blosc.DecodedLen(head, total, c.limit)
}

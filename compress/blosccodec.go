package compress

import (
	"io"

	"github.com/go-partd/partd/compress/blosc"
)

// bloscCodec is Blosc containers. They have no checksum and are not decompressed
// in parts: where their blocks are is in no order.
type bloscCodec struct {
	*blosc.Encoder
	*blosc.Decoder
	limit int64
}

func newBlosc(o *Options, limit int64) (codec, error) {
	limit = min(limit, blosc.MaxLen)
	encoder, err := blosc.NewEncoder(&blosc.Options{
		Codec: o.Inner, Shuffle: o.Shuffle, TypeSize: o.TypeSize, Level: o.Level,
	})
	if err != nil {
		return nil, err
	}
	return bloscCodec{encoder, blosc.NewDecoder(limit), limit}, nil
}

// maxEncoded leaves room for what other writers may add to each block.
func (c bloscCodec) maxEncoded(n int64) int64 { return 1024 + n + n/8 }

func (c bloscCodec) encode(dst, src []byte) ([]byte, error) { return c.Encoder.Append(dst, src) }

func (c bloscCodec) decode(dst, content []byte) ([]byte, error) {
	return c.Decoder.Append(dst, content)
}

func (c bloscCodec) measure(p *piece) (int64, error) {
	total := p.left
	head, err := p.head(blosc.HeaderLen)
	if err != nil {
		return 0, err
	}
	return blosc.DecodedLen(head, total, c.limit)
}

func (bloscCodec) stream(*piece) (io.ReadCloser, error) { return nil, nil }

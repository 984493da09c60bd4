package compress

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

func BenchmarkCodec(b *testing.B) {
	for _, f := range Formats() {
		for _, n := range []int{100, 10_000, 1 << 20} {
			data := make([]byte, n)
			r := rand.New(rand.NewPCG(1, 2))
			for i := range data {
				data[i] = "etaoin shrdlu"[r.IntN(13)]
			}
			c, err := newCodec(f, &Options{}, 1<<30)
			if err != nil {
				b.Fatal(err)
			}
			packed, err := c.encode(nil, data)
			if err != nil {
				b.Fatal(err)
			}
			b.Run(fmt.Sprintf("%s/%d/enc", f, n), func(b *testing.B) {
				b.SetBytes(int64(n))
				b.ReportAllocs()
				var dst []byte
				for b.Loop() {
					dst, _ = c.encode(dst[:0], data)
				}
			})
			b.Run(fmt.Sprintf("%s/%d/dec", f, n), func(b *testing.B) {
				b.SetBytes(int64(n))
				b.ReportAllocs()
				var dst []byte
				var err error
				for b.Loop() {
					if dst, err = c.decode(dst[:0], packed); err != nil {
						b.Fatal(err)
					}
				}
				if !bytes.Equal(dst, data) {
					b.Fatal("differs")
				}
			})
		}
	}
}

package schema

import (
	"bytes"
	"runtime"
	"testing"

	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestCodecsAreBounded checks that pages which decompress to more than their headers say take no more memory.
func TestCodecsAreBounded(t *testing.T) {
	for _, name := range []compress.Compression{compress.Codecs.Snappy, compress.Codecs.Gzip, compress.Codecs.Brotli, compress.Codecs.Zstd, compress.Codecs.Lz4Raw} {
		codec := must.Get(compress.GetCodec(name))(t)
		text := bytes.Repeat([]byte("text"), 8<<20)
		compressed := codec.Encode(make([]byte, codec.CompressBound(int64(len(text)))), text)
		decoded, err := compress.Decode(codec, make([]byte, len(text)), compressed)
		if err != nil || !bytes.Equal(decoded, text) {
			t.Errorf("%v: decoded %d bytes, error %v", name, len(decoded), err)
		}
		page := make([]byte, 1<<10)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err = compress.Decode(codec, page, compressed)
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; err == nil || n > 16<<20 {
			t.Errorf("%v: decoding 32 MiB into 1 KiB allocated %d bytes, error %v", name, n, err)
		}
	}
}

package compress

import (
	"bytes"
	stdbzip2 "compress/bzip2"
	stdgzip "compress/gzip"
	stdzlib "compress/zlib"
	"io"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/frame"
	"github.com/go-partd/partd/internal/testutil/must"
)

// fuzzLimit is the Limit of the layers in fuzz tests.
const fuzzLimit = 64 << 10

func FuzzSnappy(f *testing.F) { fuzzDecode(f, Snappy, nil) }
func FuzzS2(f *testing.F)     { fuzzDecode(f, S2, nil) }
func FuzzZstd(f *testing.F)   { fuzzDecode(f, Zstd, nil) }
func FuzzLZ4(f *testing.F)    { fuzzDecode(f, LZ4, nil) }
func FuzzBlosc(f *testing.F)  { fuzzDecode(f, Blosc, nil) }

// FuzzZlib, FuzzGzip and FuzzBZ2 also compare the result with the standard library's.
func FuzzZlib(f *testing.F) {
	fuzzDecode(f, Zlib, func(r io.Reader) (io.Reader, error) { return stdzlib.NewReader(r) })
}

func FuzzGzip(f *testing.F) {
	fuzzDecode(f, Gzip, func(r io.Reader) (io.Reader, error) { return stdgzip.NewReader(r) })
}

func FuzzBZ2(f *testing.F) {
	fuzzDecode(f, BZ2, func(r io.Reader) (io.Reader, error) { return stdbzip2.NewReader(r), nil })
}

// fuzzDecode reads a value with an arbitrary piece between two valid ones, with each method. All
// methods must agree and respect the limit, and decoding the arbitrary piece must not affect the valid
// pieces, although they share pooled decoders.
func fuzzDecode(f *testing.F, format Format, newStdReader func(io.Reader) (io.Reader, error)) {
	s := newStore(f, partd.NewDict(), format, &Options{Limit: fuzzLimit})
	good := randomText(500)
	goodPiece := must.Get(s.codec.encode(nil, good))(f)
	f.Add(goodPiece)
	f.Add(goodPiece[:len(goodPiece)/2])
	f.Add(pack(f, format, make([]byte, fuzzLimit+1)))
	f.Fuzz(func(t *testing.T, content []byte) {
		if len(content) > 64<<10 {
			return
		}
		stored := frame.Append(frame.Append(frame.Append(nil, goodPiece), content), goodPiece)
		must.Do(t, partd.Set(t.Context(), s.Unwrap(), "k", stored))
		values := map[string][]byte{}
		errs := map[string]error{}
		for method, read := range readMethods(s) {
			values[method], errs[method] = read()
			if len(values[method]) > fuzzLimit+2*len(good) {
				t.Fatalf("%s returned %d bytes, more than the limit", method, len(values[method]))
			}
		}
		fullValue, getErr := values["Get"], errs["Get"]
		for method, err := range errs {
			if (err == nil) != (getErr == nil) || err == nil && !bytes.Equal(values[method], fullValue) {
				t.Fatalf("Get = %d bytes, %v, but %s = %d bytes, %v", len(fullValue), getErr, method, len(values[method]), err)
			}
		}
		size, keysErr := int64(0), error(nil)
		for info, err := range s.Keys(t.Context()) {
			size, keysErr = info.Size, err
		}
		if getErr == nil {
			if keysErr != nil || size != int64(len(fullValue)) {
				t.Fatalf("Keys yields a size of %d bytes, %v, want %d", size, keysErr, len(fullValue))
			}
			if !bytes.HasPrefix(fullValue, good) || !bytes.HasSuffix(fullValue, good) {
				t.Fatal("a valid piece before or after the arbitrary one was decoded wrongly")
			}
		}
		decoded, err := s.codec.decode(t.Context(), nil, goodPiece)
		if err != nil || !bytes.Equal(decoded, good) {
			t.Fatalf("decoding a valid piece after the arbitrary one = %d bytes, %v, want the valid data", len(decoded), err)
		}
		if newStdReader == nil || getErr != nil {
			return
		}
		r, err := newStdReader(bytes.NewReader(content))
		var want []byte
		if err == nil {
			want, err = io.ReadAll(r)
		}
		if piece := fullValue[len(good) : len(fullValue)-len(good)]; err != nil || !bytes.Equal(piece, want) {
			t.Fatalf("decoding returned %d bytes, but the standard library returned %d bytes, error %v", len(piece), len(want), err)
		}
	})
}

func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("a"))
	f.Add(randomText(1000))
	f.Add(make([]byte, 5000))
	const limit = 777 // small, so that values are split into several pieces
	var stores []*Store
	for _, format := range Formats() {
		stores = append(stores, newStore(f, partd.NewDict(), format, &Options{Limit: limit}))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		if len(value) > 20*limit {
			return
		}
		want := append(bytes.Clone(value), value...)
		for _, s := range stores {
			for range 2 {
				must.Do(t, s.Append(t.Context(), partd.Entry{Key: "k", Value: value}))
			}
			for method, read := range readMethods(s) {
				if got, err := read(); err != nil || !bytes.Equal(got, want) {
					t.Fatalf("format %s: %s = %d bytes, %v, want the %d appended bytes", s.format, method, len(got), err, len(want))
				}
			}
			must.Do(t, s.Drop(t.Context()))
		}
	})
}

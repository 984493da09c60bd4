package compress

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/storekit"
)

// windows reads stored bytes as storekit.Layer does.
type windows struct {
	io.Reader
	window []byte
}

func (w windows) Next() ([]byte, error) {
	n, err := w.Read(w.window)
	return w.window[:n], err
}

// TestReadingCopiesLittle checks that readers copy each stored byte only a few times before they decompress it,
// whatever the sizes of the pieces and of the reads from the underlying store.
func TestReadingCopiesLittle(t *testing.T) {
	file := must.Get(partd.OpenFile(t.TempDir(), nil))(t)
	defer file.Close()
	const total = 2 << 20
	value := make([]byte, total)
	random := rand.NewChaCha8([32]byte{})
	_, _ = random.Read(value)
	for _, format := range Formats() {
		for _, pieceSize := range []int{500, chunkBytes + 1, total} {
			for name, inner := range map[string]partd.Partd{"dict": partd.NewDict(), "file": file} {
				s := newStore(t, inner, format, nil)
				length := min(total, 1000*pieceSize)
				if format == BZ2 {
					length = min(length, total/8) // writing is slow
				}
				for start := 0; start < length; start += pieceSize {
					must.Do(t, s.Append(t.Context(), partd.Entry{Key: "k", Value: value[start:min(start+pieceSize, length)]}))
				}
				// Incompressible data takes up to a quarter more space. Growing memory copies each byte up to four
				// times.
				limit := int64(length) * 6
				r := must.Get(partd.Open(t.Context(), inner, "k"))(t)
				value := s.decompress(t.Context(), "k", windows{r, make([]byte, chunkBytes)}).(*valueReader)
				if n, err := io.Copy(io.Discard, value); err != nil || n != int64(length) {
					t.Fatalf("reading returned %d bytes, %v, want %d", n, err, length)
				}
				if copied := value.copied; copied > limit {
					t.Errorf("%s on %s: reading %d bytes in pieces of %d copied %d, want at most %d", format, name, length, pieceSize, copied, limit)
				}
				must.Do(t, errors.Join(r.Close(), s.Drop(t.Context())))
			}
		}
	}
	for _, window := range []int{100, 4096, total} {
		for _, n := range []int{8, 1000, 100_000, total} {
			rest := value
			src := source{ctx: t.Context(), next: func() ([]byte, error) {
				if len(rest) == 0 {
					return nil, io.EOF
				}
				data := rest[:min(window, len(rest))]
				rest = rest[len(data):]
				return data, nil
			}}
			for {
				data := must.Get(src.peek(n))(t)
				if len(data) == 0 {
					break
				}
				src.skip(len(data))
			}
			if src.copied > 6*total {
				t.Errorf("peeking %d bytes at a time, with windows of %d, copied %d bytes of %d", n, window, src.copied, total)
			}
		}
	}
}

// endingContext ends after a number of calls of Err.
type endingContext struct {
	context.Context
	left *int
}

func (c endingContext) Err() error {
	if *c.left--; *c.left < 0 {
		return context.Canceled
	}
	return nil
}

// TestReadingStopsWithContext checks that all ways of reading a long piece stop soon after their context has ended.
func TestReadingStopsWithContext(t *testing.T) {
	for _, format := range Formats() {
		dict := partd.NewDict()
		s := newStore(t, dict, format, nil)
		value := make([]byte, 33<<20) // most formats decompress it from a single window
		must.Do(t, s.Append(t.Context(), partd.Entry{Key: "k", Value: value}))
		for _, name := range []string{"Get", "Pop", "Open", "Scan", "Keys"} {
			storesSize := format != Zlib && format != Gzip && format != BZ2
			if name == "Keys" && storesSize || format == Snappy && (name == "Get" || name == "Pop") {
				continue // Keys reads few bytes, and the library decodes a Snappy block as a whole
			}
			n := 30
			ctx := endingContext{t.Context(), &n}
			reads := streamingReads(ctx, s)
			reads["Pop"] = func() (int64, error) { _, err := s.Pop(ctx, "k"); return 0, err }
			_, err := reads[name]()
			if !errors.Is(err, context.Canceled) || errors.As(err, new(*partd.CorruptError)) {
				t.Errorf("%s: %s with a context that ends = %v, want Canceled", format, name, err)
			}
			if e := new(partd.Error); !errors.As(err, &e) {
				t.Errorf("%s: the error of %s is %s, want a partd.Error", format, name, fmt.Sprintf("%#v", err))
			}
		}
	}
}

// TestRewindInsideValue checks that a reader that is rewound anywhere returns the whole value.
func TestRewindInsideValue(t *testing.T) {
	value := randomText(300_000)
	for _, format := range Formats() {
		file := must.Get(partd.OpenFile(t.TempDir(), nil))(t)
		s := newStore(t, file, format, &Options{Limit: 100_000})
		must.Do(t, s.Append(t.Context(), partd.Entry{Key: "k", Value: value}))
		r := must.Get(s.Open(t.Context(), "k"))(t)
		for _, n := range []int64{10, 100_000, 150_000, 300_000} {
			must.Get(io.CopyN(io.Discard, r, n))(t)
			must.Do(t, r.(storekit.Rewinder).Rewind())
			got, err := io.ReadAll(io.LimitReader(r, 400_000))
			if err != nil || !bytes.Equal(got, value) {
				t.Errorf("%s: after %d bytes and Rewind, the reader returns %d bytes, %v", format, n, len(got), err)
			}
			must.Do(t, r.(storekit.Rewinder).Rewind())
		}
		must.Do(t, errors.Join(r.Close(), s.Close()))
	}
}

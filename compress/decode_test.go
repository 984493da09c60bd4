package compress

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/frame"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// unchecked lists the formats without a checksum, in which a flipped bit may go unnoticed.
var unchecked = []Format{Snappy, Blosc}

func TestMain(m *testing.M) { procs.Main(m) }

func newStore(t testing.TB, inner partd.Partd, format Format, opts *Options) *Store {
	t.Helper()
	return must.Get(New(inner, format, opts))(t)
}

// randomText returns n bytes that compress moderately.
func randomText(n int) []byte {
	var b []byte
	for i := 0; len(b) < n; i++ {
		b = fmt.Appendf(b, "%d bottles of beer on the %x wall, ", i, i*i*7919)
	}
	return b[:n]
}

// pack compresses data into a piece.
func pack(t testing.TB, format Format, data []byte) []byte {
	t.Helper()
	return must.Get(newStore(t, partd.NewDict(), format, nil).codec.encode(nil, data))(t)
}

// readMethods returns functions that read the value of key "k" with each method.
func readMethods(s *Store) map[string]func() ([]byte, error) {
	ctx := context.Background()
	return map[string]func() ([]byte, error){
		"Get": func() ([]byte, error) {
			v, err := s.Get(ctx, "k")
			if err != nil {
				if v != nil {
					return nil, fmt.Errorf("Get returned values and the error %v", err) // not a CorruptError
				}
				return nil, err
			}
			return v[0], nil
		},
		"Open": func() ([]byte, error) {
			r, err := s.Open(ctx, "k")
			if err != nil {
				return nil, err
			}
			data, err := io.ReadAll(r)
			return data, errors.Join(err, r.Close())
		},
		"Scan": func() (data []byte, err error) {
			for c, err := range s.Scan(ctx) {
				if err != nil {
					return data, err
				}
				data = append(data, c.Data...)
			}
			return data, nil
		},
	}
}

// wantCorrupt checks that every read fails with a CorruptError at offset, and delivers a prefix of good.
func wantCorrupt(t *testing.T, s *Store, label string, offset int64, good []byte) {
	t.Helper()
	for method, read := range readMethods(s) {
		got, err := read()
		var corruptErr *partd.CorruptError
		var storeErr *partd.Error
		if !errors.As(err, &corruptErr) || !errors.As(err, &storeErr) || storeErr.Key != "k" || !storeErr.HasKey || corruptErr.Offset != offset {
			t.Errorf("%s: %s = %v, want a CorruptError of key k at offset %d", label, method, err, offset)
		}
		if !bytes.HasPrefix(good, got) && (method == "Get" || len(good) <= aheadBytes) {
			t.Errorf("%s: %s delivered %d bytes that are not the beginning of the value", label, method, len(got))
		}
	}
}

// TestDamage checks that every read detects a second piece that is truncated, has trailing data, or has another format.
func TestDamage(t *testing.T) {
	for _, format := range Formats() {
		t.Run(string(format), func(t *testing.T) {
			dict := partd.NewDict()
			s := newStore(t, dict, format, nil)
			first, data := randomText(100), randomText(3000)
			intact, piece := frame.Append(nil, pack(t, format, first)), pack(t, format, data)
			try := func(label string, content []byte) {
				t.Helper()
				stored := frame.Append(slices.Clone(intact), content)
				stored = append(stored, intact...)
				must.Do(t, dict.Set(t.Context(), "k", stored))
				wantCorrupt(t, s, label, int64(len(intact)), slices.Concat(first, data))
			}
			for _, n := range []int{0, 1, 2, 3, 4, 8, 15, 16, 17, 20, len(piece) / 2, len(piece) - 4, len(piece) - 1} {
				try(fmt.Sprint("cut to ", n), piece[:n])
			}
			for _, garbage := range []string{"\x00", "x", "garbage that follows", string(piece[:len(piece)/2])} {
				try("trailing garbage", slices.Concat(piece, []byte(garbage)))
			}
			for _, otherFormat := range Formats() {
				if otherFormat != format {
					try("a piece of "+string(otherFormat), pack(t, otherFormat, data))
				}
			}
			for _, plain := range []string{"plain", "a plain text that is not compressed\n", strings.Repeat("\x00", 100), strings.Repeat("\xff", 40)} {
				try("plain bytes", []byte(plain))
			}
			// Plain bytes without frames, and a truncated value.
			for _, stored := range []string{"plain", "plain bytes, more than a header\n"} {
				must.Do(t, dict.Set(t.Context(), "k", []byte(stored)))
				wantCorrupt(t, s, "no frame", 0, nil)
			}
			untruncated := frame.Append(slices.Clone(intact), piece)
			for _, n := range []int{1, 7, 8, 9, len(piece)} {
				must.Do(t, dict.Set(t.Context(), "k", untruncated[:len(intact)+n]))
				wantCorrupt(t, s, "a truncated value", int64(len(intact)), slices.Concat(first, data))
				for info, err := range s.Keys(t.Context()) {
					if !errors.As(err, new(*partd.CorruptError)) {
						t.Errorf("value truncated %d bytes into a piece: Keys yields %v, %v, want a CorruptError", n, info, err)
					}
				}
			}
		})
	}
}

// TestFlippedBits flips each bit of a piece. In a format with a checksum, reading must fail or return
// the original value, because some bits, such as those of gzip's time, have no effect.
func TestFlippedBits(t *testing.T) {
	allMethods := os.Getenv(allLayers) != ""
	for _, format := range Formats() {
		t.Run(string(format), func(t *testing.T) {
			dict := partd.NewDict()
			s := newStore(t, dict, format, nil)
			data := randomText(700)
			if format == BZ2 && !allMethods {
				data = data[:100] // decoding is slow
			}
			piece := pack(t, format, data)
			detected, reads := 0, 0
			for i := range len(piece) * 8 {
				flipped := slices.Clone(piece)
				flipped[i/8] ^= 1 << (i % 8)
				must.Do(t, dict.Set(t.Context(), "k", frame.Append(nil, flipped)))
				methods := readMethods(s)
				for n, method := range slices.Sorted(maps.Keys(methods)) {
					if n != i%len(methods) && !allMethods {
						continue // to save time, use only one method for each bit
					}
					reads++
					got, err := methods[method]()
					switch {
					case err != nil && !errors.As(err, new(*partd.CorruptError)):
						t.Errorf("%s with bit %d flipped = %v, want a CorruptError", method, i, err)
					case err != nil:
						detected++
					case !bytes.Equal(got, data) && !slices.Contains(unchecked, format):
						t.Errorf("%s with bit %d flipped returned %d bytes that differ from the value, and no error", method, i, len(got))
					}
				}
			}
			if detected < reads/24 {
				t.Errorf("%d of %d reads with a flipped bit failed, want at least %d", detected, reads, reads/24)
			}
		})
	}
}

// TestFlippedBitsOfLargeValue flips bits of a large piece, and cuts it off, at places that differ from run to run.
func TestFlippedBitsOfLargeValue(t *testing.T) {
	changes := 8
	if os.Getenv(allLayers) != "" {
		changes = 24
	}
	rnd := procs.Rand(t)
	data := randomText(2 << 20)
	for _, format := range Formats() {
		if slices.Contains(unchecked, format) {
			continue
		}
		dict := partd.NewDict()
		s := newStore(t, dict, format, nil)
		piece := pack(t, format, data)
		changes := changes
		if format == BZ2 {
			changes = 2 // bzip2 is slow
		}
		for i := range changes {
			changed := slices.Clone(piece)
			// Only the data counts: a flipped bit of the header, such as of gzip's time, may have no effect.
			at := int(float64(len(piece)) * (0.05 + 0.9*(float64(i)+rnd.Float64())/float64(changes)))
			if i%2 == 0 {
				changed[at] ^= 1 << rnd.IntN(8)
			} else {
				changed = changed[:at]
			}
			must.Do(t, dict.Set(t.Context(), "k", frame.Append(nil, changed)))
			wantCorrupt(t, s, fmt.Sprintf("%s, change %d at %d of %d", format, i, at, len(piece)), 0, data)
		}
	}
}

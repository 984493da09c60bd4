package compress

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/frame"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/klauspost/compress/zstd"
)

// makeBombs returns small pieces that decompress to 64 MiB or 8 MiB of zeros.
func makeBombs(t *testing.T) map[string][]byte {
	const size = 64 << 20
	zeros := make([]byte, size)
	bombs := map[string][]byte{}
	for _, format := range Formats() {
		n := size
		switch format {
		case BZ2, Snappy, LZ4, Blosc:
			n = 8 << 20 // a smaller size, because writing is slow, or the maximum ratio of the format is low
		}
		bombs[string(format)] = pack(t, format, zeros[:n])
	}
	// Frames without a size in the header. Some windows are within the limit, others are larger.
	var out bytes.Buffer
	for _, window := range []int{128 << 10, 1 << 20, 8 << 20} {
		out.Reset()
		w := must.Get(zstd.NewWriter(&out, zstd.WithWindowSize(window)))(t)
		for range size >> 20 {
			must.Get(w.Write(zeros[:1<<20]))(t)
		}
		must.Do(t, w.Close())
		bombs[fmt.Sprintf("zstd, window of %d KiB", window>>10)] = slices.Clone(out.Bytes())
	}
	// A bomb that contains a bomb, for two layers.
	bombs["gzip twice"] = pack(t, Gzip, frame.Append(nil, bombs["gzip"]))
	return bombs
}

// TestBombs checks that reading a bomb with a limit of 1 MiB is an error, and allocates little more than 2 MiB.
func TestBombs(t *testing.T) {
	for name, bomb := range makeBombs(t) {
		t.Run(name, func(t *testing.T) {
			format := strings.Trim(strings.Fields(name)[0], ",")
			dict := partd.NewDict()
			var s partd.Partd = newStore(t, dict, Format(format), &Options{Limit: 1 << 20})
			if name == "gzip twice" {
				s = newStore(t, s, Gzip, &Options{Limit: 1 << 20})
			}
			must.Do(t, dict.Set(t.Context(), "k", frame.Append(nil, bomb)))
			t.Logf("%d bytes", len(bomb))
			allowed := int64(2<<20) + 4*int64(len(bomb))
			switch {
			case strings.HasPrefix(name, "bz2"):
				allowed += 8 << 20 // a reader's memory for a block of 900,000 bytes
			case name == "gzip twice":
				allowed *= 2 // for two layers
			}
			for method, read := range streamingReads(t.Context(), s.(*Store)) {
				var got int64
				var err error
				used := procs.Allocated(func() { got, err = read() })
				if !errors.As(err, new(*partd.CorruptError)) || got > 1<<20 {
					t.Errorf("%s of a bomb = %d bytes, %v, want a CorruptError", method, got, err)
				}
				if used > uint64(allowed) {
					t.Errorf("%s of a bomb of %d bytes allocated %d bytes, want at most %d", method, len(bomb), used, allowed)
				}
			}
		})
	}
}

// streamingReads returns functions that read the value of key "k", without keeping it, and return its size.
func streamingReads(ctx context.Context, s *Store) map[string]func() (int64, error) {
	return map[string]func() (int64, error){
		"Get": func() (int64, error) {
			v, err := s.Get(ctx, "k")
			return int64(len(v)), err
		},
		"Open": func() (int64, error) {
			r, err := s.Open(ctx, "k")
			if err != nil {
				return 0, err
			}
			n, err := io.Copy(io.Discard, struct{ io.Reader }{r})
			return n, errors.Join(err, r.Close())
		},
		"Scan": func() (n int64, err error) {
			for c, err := range s.Scan(ctx) {
				if err != nil {
					return n, err
				}
				n += int64(len(c.Data))
			}
			return n, nil
		},
		"Keys": func() (n int64, err error) {
			for info, err := range s.Keys(ctx) {
				if err != nil {
					return n, err
				}
				n += info.Size
			}
			return n, nil
		},
	}
}

// TestFalseLengths checks that small pieces whose headers claim 1 GiB are refused before memory is allocated for them.
func TestFalseLengths(t *testing.T) {
	const claimed = 1 << 30
	lz4 := pack(t, LZ4, randomText(5000))
	for name, piece := range map[string][]byte{
		"snappy": append(binary.AppendUvarint(nil, claimed), 0xfe, 1, 0, 0xfe, 1, 0),
		"zstd":   {0x28, 0xb5, 0x2f, 0xfd, 0xa4, 0, 0, 0, 0x40, 0x01, 0, 0, 0, 0, 0, 0},
		"lz4":    slices.Concat(lz4[:6], binary.LittleEndian.AppendUint64(nil, claimed), lz4[14:]),
		"s2": slices.Concat([]byte(s2Identifier), []byte{s2Compressed, 8, 0, 0, 1, 2, 3, 4},
			binary.AppendUvarint(nil, claimed)[:4]),
		"blosc": slices.Concat([]byte{2, 1, 0x81, 8}, binary.LittleEndian.AppendUint32(nil, claimed),
			binary.LittleEndian.AppendUint32(nil, 1<<20), binary.LittleEndian.AppendUint32(nil, 16+4*1024),
			make([]byte, 4*1024)),
	} {
		t.Run(name, func(t *testing.T) {
			dict := partd.NewDict()
			s := newStore(t, dict, Format(name), &Options{Limit: 1<<30 + 1000})
			must.Do(t, dict.Set(t.Context(), "k", frame.Append(nil, piece)))
			for method, read := range readMethods(s) {
				var err error
				if used := procs.Allocated(func() { _, err = read() }); used > 1<<20 {
					t.Errorf("%s of a false length allocated %d bytes, want at most 1 MiB: %v", method, used, err)
				}
				if !errors.As(err, new(*partd.CorruptError)) {
					t.Errorf("%s of a false length = %v, want a CorruptError", method, err)
				}
			}
		})
	}
}

// TestManyFalseLengths checks that Get does not allocate the sum of the sizes that the headers of many damaged pieces
// claim, although each size is plausible.
func TestManyFalseLengths(t *testing.T) {
	const pieces = 50_000
	for name, piece := range map[string][]byte{
		// A header that claims 512 KiB, and an invalid block.
		"zstd":   {0x28, 0xb5, 0x2f, 0xfd, 0xa4, 0, 0, 8, 0, 0xff, 0xff, 0xff, 0, 0, 0, 0},
		"snappy": append(binary.AppendUvarint(nil, 150), 0xfe, 1, 0, 0xfe, 1, 0),
	} {
		t.Run(name, func(t *testing.T) {
			dict := partd.NewDict()
			s := newStore(t, dict, Format(name), nil)
			stored := bytes.Repeat(frame.Append(nil, piece), pieces)
			must.Do(t, dict.Set(t.Context(), "k", stored))
			var err error
			used := procs.Allocated(func() { _, err = s.Get(t.Context(), "k") })
			if !errors.As(err, new(*partd.CorruptError)) {
				t.Errorf("Get = %v, want a CorruptError", err)
			}
			if limit := 40 * int64(len(stored)); used > uint64(limit) {
				t.Errorf("Get of %d stored bytes allocated %d bytes, want at most %d: %v", len(stored), used, limit, err)
			}
		})
	}
}

// TestIncompressiblePieces checks that all methods read pieces at the limit whose compressed form is longer than the
// data.
func TestIncompressiblePieces(t *testing.T) {
	for _, format := range Formats() {
		for _, limit := range []int64{1, 100, 1000, 70_000} {
			s := newStore(t, partd.NewDict(), format, &Options{Limit: limit})
			value := make([]byte, 2*limit)
			random := rand.NewChaCha8([32]byte{byte(limit)})
			_, _ = random.Read(value)
			must.Do(t, s.Append(t.Context(), partd.Entry{Key: "k", Value: value}))
			for method, read := range readMethods(s) {
				if got, err := read(); err != nil || !bytes.Equal(got, value) {
					t.Errorf("%s: %s of incompressible pieces of %d bytes = %d bytes, %v", format, method, limit, len(got), err)
				}
			}
		}
	}
}

// TestPieceOfFalseSize checks that an LZ4 frame that is valid except for the size in its header is damaged.
func TestPieceOfFalseSize(t *testing.T) {
	data := randomText(1000)
	piece := pack(t, LZ4, data)
	const sizeAt, checksumAt = 6, 14 // positions in the header
	for _, claimed := range []uint64{999, 1000, 1001, 2000} {
		binary.LittleEndian.PutUint64(piece[sizeAt:], claimed)
		valid := map[string]int{}
		for checksum := range 256 { // one of them is the header's checksum
			piece[checksumAt] = byte(checksum)
			dict := partd.NewDict()
			s := newStore(t, dict, LZ4, nil)
			must.Do(t, dict.Set(t.Context(), "k", frame.Append(nil, piece)))
			for method, read := range readMethods(s) {
				got, err := read()
				if err == nil && bytes.Equal(got, data) {
					valid[method]++
				} else if !errors.As(err, new(*partd.CorruptError)) {
					t.Errorf("%s of 1000 bytes that claim to be %d = %d bytes, %v", method, claimed, len(got), err)
				}
			}
		}
		if claimed == uint64(len(data)) && len(valid) == 0 {
			t.Error("no checksum of the header is valid")
		}
		for method, n := range valid {
			if claimed != 1000 || n != 1 {
				t.Errorf("%s accepted 1000 bytes that claim to be %d with %d checksums of the header", method, claimed, n)
			}
		}
	}
}

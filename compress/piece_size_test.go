package compress

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/frame"
	"github.com/go-partd/partd/storekit"
)

// TestIncompressiblePieces checks that all methods read pieces at the limit whose compressed form is longer than the data.
func TestIncompressiblePieces(t *testing.T) {
	for _, format := range Formats() {
		for _, limit := range []int64{1, 100, 1000, 70_000} {
			s := newStore(t, partd.NewDict(), format, &Options{Limit: limit})
			value := make([]byte, 2*limit)
			random := rand.NewChaCha8([32]byte{byte(limit)})
			_, _ = random.Read(value)
			if err := s.Append(t.Context(), partd.Entry{Key: "k", Value: value}); err != nil {
				t.Fatal(err)
			}
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
			if err := dict.Set(t.Context(), "k", frame.Append(nil, piece)); err != nil {
				t.Fatal(err)
			}
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

// TestS2OfFalseSize checks that an S2 piece that is valid except for the total size in its length chunk is damaged. The S2
// library skips this chunk.
func TestS2OfFalseSize(t *testing.T) {
	data := randomText(s2Block + 1000)
	piece := pack(t, S2, data)
	length := piece[len(s2Identifier)+s2HeaderLen:][:8+s2ChecksumLen]
	for _, claimed := range []int{s2Block, len(data) - 1, len(data), len(data) + 1, 2 * len(data)} {
		dict := partd.NewDict()
		s := newStore(t, dict, S2, nil)
		binary.LittleEndian.PutUint64(length, uint64(claimed))
		binary.LittleEndian.PutUint32(length[8:], s.codec.(*s2Codec).checksum(length[:8]))
		if err := dict.Set(t.Context(), "k", frame.Append(nil, piece)); err != nil {
			t.Fatal(err)
		}
		for method, read := range readMethods(s) {
			got, err := read()
			if claimed == len(data) && (err != nil || !bytes.Equal(got, data)) {
				t.Errorf("%s of intact data = %d bytes, %v", method, len(got), err)
			} else if claimed != len(data) && !errors.As(err, new(*partd.CorruptError)) {
				t.Errorf("%s of %d bytes that claim to be %d = %d bytes, %v", method, len(data), claimed, len(got), err)
			}
		}
	}
}

// canceledPop is a Dict whose Pop damages what it returns, and cancels the caller's context after it removed the keys.
type canceledPop struct {
	*partd.Dict
	damaged []byte
	cancel  func()
}

func (c *canceledPop) Pop(ctx context.Context, keys ...string) ([][]byte, error) {
	if err := c.Set(ctx, "k", c.damaged); err != nil {
		return nil, err
	}
	defer c.cancel()
	return c.Dict.Pop(ctx, keys...)
}

// TestCanceledDamagedPop checks that a canceled Pop, too, appends a damaged value again.
func TestCanceledDamagedPop(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	dict := &canceledPop{partd.NewDict(), []byte("rubbish"), cancel}
	s := newStore(t, dict, Snappy, nil)
	if err := s.Append(ctx, partd.Entry{Key: "k", Value: []byte("good")}); err != nil {
		t.Fatal(err)
	}
	if v, err := s.Pop(ctx, "k"); !errors.As(err, new(*partd.CorruptError)) {
		t.Errorf("Pop of a damaged value = %q, %v, want a CorruptError", v, err)
	}
	if v, err := dict.Get(t.Context(), "k"); err != nil || string(v[0]) != "rubbish" {
		t.Errorf("after a canceled Pop, the store has %q, %v, want the damaged value", v, err)
	}
}

// TestRewindInsideValue checks that a reader that is rewound anywhere returns the whole value.
func TestRewindInsideValue(t *testing.T) {
	value := randomText(300_000)
	for _, format := range Formats() {
		file, err := partd.OpenFile(t.TempDir(), nil)
		if err != nil {
			t.Fatal(err)
		}
		s := newStore(t, file, format, &Options{Limit: 100_000})
		if err := s.Append(t.Context(), partd.Entry{Key: "k", Value: value}); err != nil {
			t.Fatal(err)
		}
		r, err := s.Open(t.Context(), "k")
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int64{10, 100_000, 150_000, 300_000} {
			if _, err := io.CopyN(io.Discard, r, n); err != nil {
				t.Fatal(err)
			}
			if err := r.(storekit.Rewinder).Rewind(); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(io.LimitReader(r, 400_000))
			if err != nil || !bytes.Equal(got, value) {
				t.Errorf("%s: after %d bytes and Rewind, the reader returns %d bytes, %v", format, n, len(got), err)
			}
			if err := r.(storekit.Rewinder).Rewind(); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(r.Close(), s.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

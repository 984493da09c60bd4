package blosc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

const fuzzLimit = 1 << 20

// FuzzDecode checks that decoded data has the length that the header claims, within the limit.
func FuzzDecode(f *testing.F) {
	for _, codec := range []Compressor{LZ4, Zstd, Copy} {
		e := must.Get(NewEncoder(&Options{Compressor: codec, TypeSize: 4}))(f)
		c := must.Get(e.Append(nil, bytes.Repeat([]byte("some numbers"), 100)))(f)
		f.Add(c)
		// The same streams, labeled as another codec, as split, or as shuffled.
		for _, flags := range []byte{0x00, 0x01, 0x04, 0x20, 0x41, 0x61, 0x84} {
			changed := bytes.Clone(c)
			changed[2] = flags
			f.Add(changed)
		}
	}
	d := NewDecoder(fuzzLimit)
	f.Fuzz(func(t *testing.T, container []byte) {
		n, lenErr := DecodedLen(container, int64(len(container)), fuzzLimit)
		data, err := d.Append([]byte("before"), container)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrTooLong) || string(data) != "before" {
				t.Fatalf("Append = %q, %v, want dst unchanged and ErrCorrupt or ErrTooLong", data, err)
			}
			return
		}
		if lenErr != nil || int64(len(data)) != n+6 {
			t.Fatalf("Append decoded %d bytes, but DecodedLen = %d, %v", len(data)-6, n, lenErr)
		}
		decodedAgain, err := d.Append(nil, container)
		if err != nil || !bytes.Equal(decodedAgain, data[6:]) {
			t.Fatalf("the second Append = %d bytes, %v, want the same result as the first", len(decodedAgain), err)
		}
	})
}

// FuzzBloscLZ checks that decoding an arbitrary stream does not write beyond the end of the buffer.
func FuzzBloscLZ(f *testing.F) {
	f.Add([]byte{2, 'a', 'b', 'c', 0x20, 2}, uint16(6))
	f.Add([]byte{0, 'a', 0xe0, 10, 0}, uint16(20))
	f.Add([]byte{0, 'a', 0xff, 0, 255, 0, 1}, uint16(20))
	f.Fuzz(func(t *testing.T, stream []byte, length uint16) {
		dst := make([]byte, length, int(length)+100)
		guard := dst[length:cap(dst)]
		if err := decodeBloscLZ(dst, stream); err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
		if !bytes.Equal(guard, make([]byte, 100)) {
			t.Fatal("decodeBloscLZ wrote beyond the end of dst")
		}
	})
}

func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("a"), byte(8), byte(0), byte(0))
	f.Add(bytes.Repeat([]byte{1, 0, 0, 0}, 300), byte(4), byte(1), byte(1))
	f.Add(make([]byte, 1000), byte(17), byte(2), byte(2))
	d := NewDecoder(fuzzLimit)
	f.Fuzz(func(t *testing.T, data []byte, size, shuffle, codec byte) {
		e := must.Get(NewEncoder(&Options{TypeSize: int(size), Shuffle: Shuffle(shuffle % 3), Compressor: Compressor(codec % 3)}))(t)
		container, err := e.Append([]byte("before"), data)
		if len(data) == 0 {
			if err == nil {
				t.Fatal("Append of no data succeeded")
			}
			return
		}
		if err != nil || len(container)-6 > len(data)+HeaderLen {
			t.Fatalf("encoding %d bytes returned %d bytes, error %v; want at most the header's length more", len(data), len(container)-6, err)
		}
		got, err := d.Append(nil, container[6:])
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("decoding returned %d bytes, error %v; want the %d encoded bytes", len(got), err, len(data))
		}
	})
}

// container returns a container of raw blocks of numbers of typeSize bytes. Each stream is stored after its length.
func container(flags byte, typeSize, length, blockSize int, blocks ...[][]byte) []byte {
	e := &Encoder{typeSize: typeSize}
	c := e.appendHeader(nil, flags|wireLZ4<<codecShift, length, blockSize)
	c = append(c, make([]byte, 4*len(blocks))...)
	for i, streams := range blocks {
		binary.LittleEndian.PutUint32(c[HeaderLen+4*i:], uint32(len(c)))
		for _, s := range streams {
			c = append(binary.LittleEndian.AppendUint32(c, uint32(len(s))), s...)
		}
	}
	binary.LittleEndian.PutUint32(c[12:], uint32(len(c)))
	return c
}

// TestShortLastBlock checks that only whole blocks are split into streams: the last block, which is shorter, is one
// stream, even if it could be split.
func TestShortLastBlock(t *testing.T) {
	data := numbers(512 + 256)
	c := container(0, 2, len(data), 512, [][]byte{data[:256], data[256:512]}, [][]byte{data[512:]})
	if got, err := NewDecoder(1000).Append(nil, c); err != nil || !bytes.Equal(got, data) {
		t.Errorf("decoding a container with a short block = %d bytes, %v, want %d", len(got), err, len(data))
	}
}

// TestBlockInOffsets checks that a block must not begin within the list of offsets.
func TestBlockInOffsets(t *testing.T) {
	data := numbers(32)
	c := container(flagNoSplit, 1, 32, 16, [][]byte{data[:16]}, [][]byte{data[16:]})
	if got, err := NewDecoder(1000).Append(nil, c); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("decoding two blocks = %x, %v, want %x", got, err, data)
	}
	// The first offset, 16, is also the length of a stream at the offset 16.
	binary.LittleEndian.PutUint32(c[HeaderLen:], HeaderLen)
	if got, err := NewDecoder(1000).Append(nil, c); !errors.Is(err, ErrCorrupt) {
		t.Errorf("decoding a block in the list of offsets = %x, %v, want ErrCorrupt", got, err)
	}
}

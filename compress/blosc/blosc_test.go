package blosc

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

// numbers returns n bytes of increasing 8-byte numbers.
func numbers(n int) []byte {
	var b []byte
	for i := 0; len(b) < n; i++ {
		b = append(b, byte(i), byte(i>>8), byte(i>>16), 0, 0, 0, 0, 0)
	}
	return b[:n]
}

// TestBlocks checks that encoding and decoding preserve data of one or several blocks, the last of which can be shorter
// than the others, and even than one number.
func TestBlocks(t *testing.T) {
	d := NewDecoder(10 << 20)
	for _, o := range []Options{
		{Compressor: LZ4},
		{Compressor: Zstd},
		{Compressor: Copy},
		{Compressor: LZ4, Shuffle: BitShuffle},
		{Compressor: Zstd, Shuffle: BitShuffle},
	} {
		for _, size := range []int{1, 3, 8, 200} {
			o.TypeSize = size
			e := must.Get(NewEncoder(&o))(t)
			block := blockBytes / size * size
			for _, n := range []int{
				1, 2, 3, 7, 8, 9, 127, 128, 129, size, 8*size + 1,
				block - 1, block, block + 1, block + size - 1, block + size + 1, 3*blockBytes + 1001,
			} {
				text := bytes.Repeat([]byte("no byte of these numbers is 0. "), n/31+1)[:n]
				for kind, data := range map[string][]byte{"numbers": numbers(n), "text": text} {
					c := must.Get(e.Append(nil, data))(t)
					got, err := d.Append(nil, c)
					if err != nil || !bytes.Equal(got, data) {
						t.Errorf("options %+v, %s: decoding returned %d bytes, error %v; want the %d encoded bytes", o, kind, len(got), err, n)
					}
					if n > 1000 && size < 200 && o.Compressor != Copy && len(c) > n*2/3 {
						t.Errorf("options %+v, %s: %d bytes were compressed to %d, want at most two thirds", o, kind, n, len(c))
					}
				}
			}
		}
	}
}

func TestBloscLZ(t *testing.T) {
	for _, c := range []struct {
		stream []byte
		want   string // "" for an error
		length int
	}{
		{[]byte{2, 'a', 'b', 'c'}, "abc", 3},
		{[]byte{0xe2, 'a', 'b', 'c'}, "abc", 3}, // only five bits of the first byte count
		{[]byte{2, 'a', 'b', 'c', 0x20, 2}, "abcabc", 6},
		{[]byte{0, 'a', 0xe0, 1, 0}, "aaaaaaaaaaa", 11},
		{[]byte{0, 'a', 0x20, 1}, "", 4},                  // a copy from before the beginning
		{[]byte{0, 'a', 0x20, 0}, "", 3},                  // a copy beyond the end
		{[]byte{2, 'a', 'b'}, "", 3},                      // truncated literals
		{[]byte{2, 'a', 'b', 'c'}, "", 4},                 // too little data
		{[]byte{0, 'a', 0x20}, "", 4},                     // a truncated copy
		{[]byte{0, 'a', 0xe0, 255}, "", 300},              // a copy truncated in its length
		{[]byte{0, 'a', 0x3f, 255}, "", 4},                // a copy truncated in its distance
		{[]byte{0, 'a', 0x3f, 255, 0}, "", 4},             // a copy truncated in the second byte of its distance
		{[]byte{0, 'a', 0x3f, 255, 0xff, 0xff}, "", 1000}, // a far copy from before the beginning
		{nil, "", 1},
	} {
		dst := make([]byte, c.length)
		err := decodeBloscLZ(dst, c.stream)
		if c.want == "" && !errors.Is(err, ErrCorrupt) || c.want != "" && (err != nil || string(dst) != c.want) {
			t.Errorf("decodeBloscLZ(% x) = %q, %v, want %q (empty: an error)", c.stream, dst, err, c.want)
		}
	}
	// A far copy, whose distance is at least 8,192 bytes.
	var stream []byte
	data := numbers(10_000)
	for part := range slices.Chunk(data, 32) {
		stream = append(append(stream, byte(len(part)-1)), part...)
	}
	distance := 9_000
	longDistance := distance - 1 - 8191
	stream = append(stream, 0x3f, 255, byte(longDistance>>8), byte(longDistance))
	dst := make([]byte, len(data)+3)
	if err := decodeBloscLZ(dst, stream); err != nil || !bytes.Equal(dst[len(data):], data[len(data)-distance:][:3]) {
		t.Errorf("decodeBloscLZ of a far copy = % x, %v, want % x", dst[len(data):], err, data[len(data)-distance:][:3])
	}
}

func TestHeaders(t *testing.T) {
	e := must.Get(NewEncoder(nil))(t)
	good := must.Get(e.Append(nil, numbers(5000)))(t)
	d := NewDecoder(5000)
	for i := range HeaderLen {
		for _, b := range []byte{0, 1, 0x7f, 0x80, 0xff} {
			c := bytes.Clone(good)
			if c[i] == b {
				continue
			}
			c[i] = b
			data, err := d.Append(nil, c)
			if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrTooLong) || err != nil && len(data) > 0 {
				t.Errorf("decoding with header byte %d set to %#x = %d bytes, %v, want ErrCorrupt or ErrTooLong and no data", i, b, len(data), err)
			}
			if err == nil && i != 2 && i != 3 { // some other flags and type sizes are valid
				t.Errorf("decoding with header byte %d set to %#x succeeded", i, b)
			}
		}
	}
	must.Fail(t, must.Err(NewDecoder(4999).Append(nil, good)), ErrTooLong, "decoding one byte more than the limit")
	for _, opts := range []Options{{TypeSize: 256}, {TypeSize: -1}, {Level: 10}, {Level: -1}, {Compressor: 9}, {Shuffle: 9}, {Compressor: Copy, Level: 1}} {
		if _, err := NewEncoder(&opts); err == nil {
			t.Errorf("NewEncoder(%+v) succeeded", opts)
		}
	}
}

func Example() {
	encoder, err := NewEncoder(&Options{Compressor: Zstd, TypeSize: 8})
	if err != nil {
		fmt.Println(err)
		return
	}
	data := numbers(80_000) // 10,000 numbers of eight bytes
	container, err := encoder.Append(nil, data)
	if err != nil {
		fmt.Println(err)
		return
	}
	decoded, err := NewDecoder(1<<20).Append(nil, container)
	fmt.Println(len(container) < len(data)/20, bytes.Equal(decoded, data), err)
	// Output: true true <nil>
}

func TestShuffles(t *testing.T) {
	for _, size := range []int{1, 2, 3, 4, 7, 8, 16, 255} {
		for _, n := range []int{0, 1, size - 1, size, 8 * size, 8*size + 1, 17 * size, 64 * size, 1000} {
			src := make([]byte, n)
			for i := range src {
				src[i] = byte(i*i + i>>3)
			}
			shuffled, unshuffled := make([]byte, n), make([]byte, n)
			shuffle(shuffled, src, size)
			for i := range n / size * size {
				if want := src[i%(n/size)*size+i/(n/size)]; shuffled[i] != want {
					t.Fatalf("size %d, %d bytes: shuffle set byte %d to %d, want %d", size, n, i, shuffled[i], want)
				}
			}
			if unshuffle(unshuffled, shuffled, size); !bytes.Equal(unshuffled, src) {
				t.Errorf("size %d, %d bytes: unshuffle does not undo shuffle", size, n)
			}
			if n < size {
				continue // no whole number to shuffle
			}
			bitShuffle(shuffled, src, size)
			if unbitShuffle(unshuffled, shuffled, size); !bytes.Equal(unshuffled, src) {
				t.Errorf("size %d, %d bytes: unbitShuffle does not undo bitShuffle", size, n)
			}
			if count := n / size; count%8 == 0 && count > 0 {
				for bit := range size * 8 {
					for i := range count {
						want := src[i*size+bit/8] >> (bit % 8) & 1
						k := bit*count + i
						if got := shuffled[k/8] >> (k % 8) & 1; got != want {
							t.Fatalf("size %d, %d bytes: bitShuffle set bit %d of number %d to %d, want %d", size, n, bit, i, got, want)
						}
					}
				}
			}
		}
	}
}

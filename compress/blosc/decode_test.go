package blosc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

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

// TestBitShuffledBlocks checks that data of every length comes back, in particular with a last block that is shorter
// than one number.
func TestBitShuffledBlocks(t *testing.T) {
	for _, size := range []int{1, 3, 8, 200} {
		e := must.Get(NewEncoder(&Options{Shuffle: BitShuffle, TypeSize: size}))(t)
		block := blockBytes / size * size
		for _, n := range []int{1, 7, size, 8*size + 1, block - 1, block, block + 1, block + size - 1, block + size + 1} {
			data := bytes.Repeat([]byte("no byte of these numbers is 0. "), n/31+1)[:n]
			c := must.Get(e.Append(nil, data))(t)
			if got, err := NewDecoder(10<<20).Append(nil, c); err != nil || !bytes.Equal(got, data) {
				t.Errorf("type size %d: decoding %d bytes = %d bytes, %v, and equal: %v", size, n, len(got), err, bytes.Equal(got, data))
			}
		}
	}
}

package compress

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/frame"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestS2HeaderDamage checks that a flipped bit before the data of a long piece is detected by every read.
func TestS2HeaderDamage(t *testing.T) {
	dict := partd.NewDict()
	s := newStore(t, dict, S2, nil)
	good := bytes.Repeat([]byte("0123456789"), s2Block/5)
	piece := pack(t, S2, good)
	for bit := range 8 * (len(s2Identifier) + s2HeaderLen + 8 + s2ChecksumLen) {
		damaged := bytes.Clone(piece)
		damaged[bit/8] ^= 1 << (bit % 8)
		must.Do(t, dict.Set(t.Context(), "k", frame.Append(nil, damaged)))
		wantCorrupt(t, s, fmt.Sprintf("bit %d flipped", bit), 0, good)
	}
}

// TestS2OfFalseSize checks that an S2 piece that is valid except for the total size in its length chunk is damaged. The
// S2 library skips this chunk.
func TestS2OfFalseSize(t *testing.T) {
	data := randomText(s2Block + 1000)
	piece := pack(t, S2, data)
	length := piece[len(s2Identifier)+s2HeaderLen:][:8+s2ChecksumLen]
	for _, claimed := range []int{s2Block, len(data) - 1, len(data), len(data) + 1, 2 * len(data)} {
		dict := partd.NewDict()
		s := newStore(t, dict, S2, nil)
		binary.LittleEndian.PutUint64(length, uint64(claimed))
		binary.LittleEndian.PutUint32(length[8:], s.codec.(*s2Codec).checksum(length[:8]))
		must.Do(t, dict.Set(t.Context(), "k", frame.Append(nil, piece)))
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

package records

import (
	"math/rand/v2"
	"testing"
)

// TestEndBits checks that both implementations of findBits find exactly the separators and newlines, and that both
// implementations of findPositions return the positions of these bits.
func TestEndBits(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	data := make([]byte, endsWindow)
	for _, sep := range []byte{',', '\t', 0, 0x0b, 0x80, 0xff} {
		for range 200 {
			for i := range data {
				data[i] = byte(r.Uint32())
				if r.IntN(3) == 0 {
					data[i] = []byte{sep, '\n', sep ^ 1, sep ^ 0x80, '\n' ^ 0x80, '\n' + 1}[r.IntN(6)]
				}
			}
			blocks := 1 + r.IntN(endsWindow/64)
			for name, find := range map[string]func([]byte, uint64, [][2]uint64){"findBits": findBits, "findBitsPortable": findBitsPortable} {
				bits := make([][2]uint64, blocks+1)
				find(data[:64*blocks], uint64(sep)*eachByte, bits[:blocks])
				for i, c := range data[:64*blocks] {
					all, newline := bits[i/64][0]>>(i%64)&1 == 1, bits[i/64][1]>>(i%64)&1 == 1
					if newline != (c == '\n') || all != (c == '\n' || c == sep) {
						t.Fatalf("%s, separator %q: byte %d, %q, has wrong bits: ends a field: %v, is a newline: %v", name, sep, i, c, all, newline)
					}
				}
				for name, find := range map[string]func([][2]uint64, []uint32){"findPositions": findPositions, "findPositionsPortable": findPositionsPortable} {
					positions := make([]uint32, 64*blocks+64)
					find(bits[:blocks], positions)
					for i := range 64 * blocks {
						if bits[i/64][0]>>(i%64)&1 == 0 {
							continue
						}
						if positions[0] != uint32(i) {
							t.Fatalf("%s returns position %d, want %d", name, positions[0], i)
						}
						positions = positions[1:]
					}
				}
				if bits[blocks] != [2]uint64{} {
					t.Fatalf("%s wrote beyond the end of bits", name)
				}
			}
		}
	}
}

package records

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestEndBits checks that both implementations of findBits find exactly the separators and newlines, and that both
// implementations of findPositions return the positions of these bits.
func TestEndBits(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	data := make([]byte, endsWindow)
	for _, sep := range []byte{',', '\t', 0, 0x0b, 0x80, 0xff} {
		for round := range 200 {
			for i := range data {
				data[i] = byte(r.Uint32())
				if r.IntN(100) < round { // up to all bytes
					data[i] = []byte{sep, '\n', sep ^ 1, sep ^ 0x80, '\n' ^ 0x80, '\n' + 1}[r.IntN(6-round%5)]
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
					buf := slices.Repeat([]uint32{1 << 31}, 64*blocks+65)
					positions := buf[: 64*blocks+64 : 64*blocks+64]
					find(bits[:blocks], positions)
					if buf[len(positions)] != 1<<31 {
						t.Fatalf("%s wrote beyond the end of positions", name)
					}
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

// TestEndsOfEachLength checks that ends.find finds the ends in windows of each length, also after a longer window.
func TestEndsOfEachLength(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	e := ends{sep: ',' * eachByte}
	for n := endsWindow; n >= 0; n-- {
		data := make([]byte, n)
		var want, lines []uint32
		for i := range data {
			data[i] = "a,\n"[r.IntN(3)]
			if data[i] == '\n' {
				lines = append(lines, uint32(len(want)))
			}
			if data[i] != 'a' {
				want = append(want, uint32(i))
			}
		}
		if e.find(data, 0); !slices.Equal(e.positions[:len(want)], want) || !slices.Equal(e.lines, lines) {
			t.Fatalf("%q: got the lines %d, want %d, at the positions %d", data, e.lines, lines, want)
		}
	}
}

package records

import "golang.org/x/sys/cpu"

//go:noescape
func wideBits(data *byte, blocks int, sep, newline byte, bits *[2]uint64)

// findBits is a faster findBitsPortable. The length of data must be a multiple of 64.
func findBits(data []byte, sep uint64, bits [][2]uint64) {
	if cpu.X86.HasAVX2 {
		wideBits(&data[0], len(bits), byte(sep), '\n', &bits[0])
		return
	}
	findBitsPortable(data, sep, bits)
}

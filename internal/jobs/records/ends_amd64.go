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

//go:noescape
func widePositions(bits *[2]uint64, blocks int, positions *uint32)

// findPositions is a faster findPositionsPortable. ends must not be empty.
func findPositions(ends [][2]uint64, positions []uint32) {
	if cpu.X86.HasAVX512VBMI2 && cpu.X86.HasAVX512BW && len(positions) >= 64*len(ends)+64 {
		widePositions(&ends[0], len(ends), &positions[0])
		return
	}
	findPositionsPortable(ends, positions)
}

//go:build !amd64

package records

func findBits(data []byte, sep uint64, bits [][2]uint64) { findBitsPortable(data, sep, bits) }

func findPositions(ends [][2]uint64, positions []uint32) { findPositionsPortable(ends, positions) }

package blosc

import "encoding/binary"

// shuffle copies numbers of size bytes from src to dst: the first bytes of all numbers, then the
// second bytes, and so on. An incomplete number at the end is copied unchanged.
func shuffle(dst, src []byte, size int) {
	n := len(src) / size
	i := 0
	if size == 8 {
		// A lane is the part of dst for one byte of each number. Gather 64 bytes of each lane
		// before writing them, because lanes are often a multiple of 4,096 bytes apart and then
		// compete for the same cache lines.
		const tile = 64
		var lanes [8 * tile]byte
		for ; i+tile <= n; i += tile {
			for k := 0; k < tile; k += 8 {
				transpose8(lanes[k:], tile, src[(i+k)*8:(i+k)*8+64], 8)
			}
			for j := range 8 {
				copy(dst[j*n+i:], lanes[j*tile:(j+1)*tile])
			}
		}
	}
	for j := range size {
		lane := dst[j*n : (j+1)*n]
		srcIndex := i*size + j
		for k := i; k < n; k++ {
			lane[k] = src[srcIndex]
			srcIndex += size
		}
	}
	copy(dst[n*size:], src[n*size:])
}

// transpose8 copies an 8 × 8 matrix of bytes, transposed, from src to dst. The rows are srcStride
// bytes apart in src and dstStride bytes apart in dst.
func transpose8(dst []byte, dstStride int, src []byte, srcStride int) {
	var rows [8]uint64
	for j := range rows {
		rows[j] = binary.LittleEndian.Uint64(src[j*srcStride:])
	}
	transpose(&rows)
	for j, row := range rows {
		binary.LittleEndian.PutUint64(dst[j*dstStride:], row)
	}
}

func unshuffle(dst, src []byte, size int) {
	n := len(src) / size
	i := 0
	if size == 8 {
		for ; i+8 <= n; i += 8 {
			transpose8(dst[i*8:i*8+64], 8, src[i:], n)
		}
	}
	for j := range size {
		lane := src[j*n : (j+1)*n]
		for i := i; i < n; i++ {
			dst[i*size+j] = lane[i]
		}
	}
	copy(dst[n*size:], src[n*size:])
}

func transpose(m *[8]uint64) {
	for i := range 4 { // 4 × 4 blocks
		a, b := m[i], m[i+4]
		m[i] = a&0x00000000ffffffff | b<<32
		m[i+4] = a>>32 | b&0xffffffff00000000
	}
	for _, i := range [4]int{0, 1, 4, 5} { // 2 × 2 blocks
		a, b := m[i], m[i+2]
		m[i] = a&0x0000ffff0000ffff | b&0x0000ffff0000ffff<<16
		m[i+2] = a>>16&0x0000ffff0000ffff | b&0xffff0000ffff0000
	}
	for i := 0; i < 8; i += 2 { // single bytes
		a, b := m[i], m[i+1]
		m[i] = a&0x00ff00ff00ff00ff | b&0x00ff00ff00ff00ff<<8
		m[i+1] = a>>8&0x00ff00ff00ff00ff | b&0xff00ff00ff00ff00
	}
}

// bitShuffle copies numbers of size bytes from src to dst: the lowest bits of all numbers, then the
// next bits, and so on. Each byte of dst has bits from 8 numbers; the first number's bit is the lowest. If
// the count of numbers is not a multiple of 8, src is copied unchanged.
func bitShuffle(dst, src []byte, size int) { moveBits(dst, src, size, false) }

func unbitShuffle(dst, src []byte, size int) { moveBits(dst, src, size, true) }

func moveBits(dst, src []byte, size int, inverse bool) {
	n := len(src) / size
	if n%8 != 0 {
		copy(dst, src)
		return
	}
	for j := range size {
		for g := range n / 8 {
			srcStart, srcStep, dstStart, dstStep := g*8*size+j, size, j*n+g, n/8
			if inverse {
				srcStart, srcStep, dstStart, dstStep = dstStart, dstStep, srcStart, srcStep
			}
			var bits uint64
			for i := range 8 {
				bits |= uint64(src[srcStart+i*srcStep]) << (8 * i)
			}
			bits = transposeBits(bits)
			for i := range 8 {
				dst[dstStart+i*dstStep] = byte(bits >> (8 * i))
			}
		}
	}
	copy(dst[n*size:], src[n*size:])
}

// transposeBits transposes an 8 × 8 matrix of bits. Each byte is a row (Hacker's Delight, 7-3).
func transposeBits(x uint64) uint64 {
	t := (x ^ x>>7) & 0x00aa00aa00aa00aa
	x ^= t ^ t<<7
	t = (x ^ x>>14) & 0x0000cccc0000cccc
	x ^= t ^ t<<14
	t = (x ^ x>>28) & 0x00000000f0f0f0f0
	return x ^ t ^ t<<28
}

package blosc

import "encoding/binary"

// shuffle puts the bytes of src, numbers of size bytes, into dst: all first
// ones, all second ones, and so on. What is left over at the end stays there.
func shuffle(dst, src []byte, size int) {
	n := len(src) / size
	i := 0
	if size == 8 {
		for ; i+8 <= n; i += 8 {
			shuffle8(dst[i:], src[i*8:i*8+64], n)
		}
	}
	for j := range size {
		lane := dst[j*n : (j+1)*n]
		at := i*size + j
		for k := i; k < n; k++ {
			lane[k] = src[at]
			at += size
		}
	}
	copy(dst[n*size:], src[n*size:])
}

// shuffle8 puts eight numbers of eight bytes into lanes of dst that are n bytes
// apart.
func shuffle8(dst, src []byte, n int) {
	var rows [8]uint64
	for j := range rows {
		rows[j] = binary.LittleEndian.Uint64(src[j*8:])
	}
	transpose(&rows)
	for j, row := range rows {
		binary.LittleEndian.PutUint64(dst[j*n:], row)
	}
}

// unshuffle undoes shuffle.
func unshuffle(dst, src []byte, size int) {
	n := len(src) / size
	i := 0
	if size == 8 {
		for ; i+8 <= n; i += 8 {
			unshuffle8(dst[i*8:i*8+64], src[i:], n)
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

// unshuffle8 makes eight numbers of eight bytes, whose lanes in src are n bytes
// apart.
func unshuffle8(dst, src []byte, n int) {
	var rows [8]uint64
	for j := range rows {
		rows[j] = binary.LittleEndian.Uint64(src[j*n:])
	}
	transpose(&rows)
	for j, row := range rows {
		binary.LittleEndian.PutUint64(dst[j*8:], row)
	}
}

// transpose exchanges rows and columns of an 8 × 8 matrix of bytes.
func transpose(m *[8]uint64) {
	for _, step := range [3]struct {
		apart, shift uint
		mask         uint64
	}{{4, 32, 0x00000000ffffffff}, {2, 16, 0x0000ffff0000ffff}, {1, 8, 0x00ff00ff00ff00ff}} {
		for i := uint(0); i < 8; i++ {
			if i&step.apart != 0 {
				continue
			}
			a, b := m[i], m[i+step.apart]
			m[i] = a&step.mask | b&step.mask<<step.shift
			m[i+step.apart] = a>>step.shift&step.mask | b&^step.mask
		}
	}
}

// bitShuffle puts the bits of src, numbers of size bytes, into dst: the lowest
// bits of all numbers, then the next ones, and so on, eight to a byte, the first
// number's lowest. Where the numbers do not come in eights, all stays as it is.
func bitShuffle(dst, src []byte, size int) {
	n := len(src) / size
	if n%8 != 0 {
		copy(dst, src)
		return
	}
	for j := range size {
		for g := range n / 8 {
			var bits uint64
			for i := range 8 {
				bits |= uint64(src[(g*8+i)*size+j]) << (8 * i)
			}
			bits = transposeBits(bits)
			for k := range 8 {
				dst[(j*8+k)*n/8+g] = byte(bits >> (8 * k))
			}
		}
	}
	copy(dst[n*size:], src[n*size:])
}

// unbitShuffle undoes bitShuffle.
func unbitShuffle(dst, src []byte, size int) {
	n := len(src) / size
	if n%8 != 0 {
		copy(dst, src)
		return
	}
	for j := range size {
		for g := range n / 8 {
			var bits uint64
			for k := range 8 {
				bits |= uint64(src[(j*8+k)*n/8+g]) << (8 * k)
			}
			bits = transposeBits(bits)
			for i := range 8 {
				dst[(g*8+i)*size+j] = byte(bits >> (8 * i))
			}
		}
	}
	copy(dst[n*size:], src[n*size:])
}

// transposeBits exchanges rows and columns of an 8 × 8 matrix of bits, a byte a
// row (Hacker's Delight, 7-3).
func transposeBits(x uint64) uint64 {
	t := (x ^ x>>7) & 0x00aa00aa00aa00aa
	x ^= t ^ t<<7
	t = (x ^ x>>14) & 0x0000cccc0000cccc
	x ^= t ^ t<<14
	t = (x ^ x>>28) & 0x00000000f0f0f0f0
	return x ^ t ^ t<<28
}

package npy

import (
	"encoding/binary"
	"slices"
	"unsafe"
)

// Fixed are the types of elements that have in memory the bytes that they have
// in an array of the machine's byte order.
type Fixed interface {
	~int8 | ~int16 | ~int32 | ~int64 | ~int | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~uint |
		~float32 | ~float64 | ~complex64 | ~complex128
}

// machineIsBig tells whether the machine is big-endian.
var machineIsBig = binary.NativeEndian.Uint16([]byte{0, 1}) == 1

// memory returns the bytes of elements. Every pattern of bytes is an element of
// a type that is Fixed.
func memory[T Fixed](v []T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), len(v)*int(unsafe.Sizeof(*new(T))))
}

// AppendFixed appends elements in the byte order of d, of which they have the size.
func AppendFixed[T Fixed](dst []byte, d DType, v []T) []byte {
	start := len(dst)
	dst = append(dst, memory(v)...)
	d.reorder(dst[start:])
	return dst
}

// Fixeds returns the elements that data is in the byte order of d. What is left
// of data beyond whole elements is not looked at.
func Fixeds[T Fixed](d DType, data []byte) []T {
	v := make([]T, len(data)/d.Size)
	b := memory(v)
	copy(b, data)
	d.reorder(b)
	return v
}

// reorder changes between the machine's byte order and that of d.
func (d DType) reorder(b []byte) {
	if d.Big != machineIsBig {
		d.Swap(b)
	}
}

// AppendBools appends truth values.
func AppendBools(dst []byte, v []bool) []byte {
	for _, t := range v {
		c := byte(0)
		if t {
			c = 1
		}
		dst = append(dst, c)
	}
	return dst
}

// Bools returns the truth values that data is. Like NumPy, it takes every byte
// but 0 for true.
func Bools(data []byte) []bool {
	v := make([]bool, len(data))
	for i, c := range data {
		v[i] = c != 0
	}
	return v
}

// Swap changes the byte order of elements in place.
func (d DType) Swap(b []byte) {
	for n := d.word(); n > 1 && len(b) >= n; b = b[n:] {
		slices.Reverse(b[:n])
	}
}

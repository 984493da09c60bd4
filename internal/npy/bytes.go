package npy

import (
	"encoding/binary"
	"slices"
	"unsafe"
)

// machineIsBig reports whether the machine is big-endian.
var machineIsBig = binary.NativeEndian.Uint16([]byte{0, 1}) == 1

// memory returns the bytes of elements, which have no pointers.
func memory[T any](v []T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), len(v)*int(unsafe.Sizeof(*new(T))))
}

// AppendFixed appends elements in the byte order of d, of which they have the
// size. Their type has in memory the bytes that NumPy has in an array of the
// machine's byte order: truth values, numbers, and types made of one.
func AppendFixed[T any](dst []byte, d DType, v []T) []byte {
	start := len(dst)
	dst = append(dst, memory(v)...)
	d.reorder(dst[start:])
	return dst
}

// Fixeds returns the elements that data is in the byte order of d. What is left
// of data beyond whole elements is not looked at. Every pattern of bytes has to
// be an element: of the types of AppendFixed that is so for all but bool.
func Fixeds[T any](d DType, data []byte) []T {
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

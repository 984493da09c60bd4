//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package database

import (
	"encoding/binary"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
)

// blank zeroes the values under an array's nulls, and under those of what it is in, which have
// a bitmap, or nil. DuckDB leaves there what its memory held before: an address, or values of
// other statements.
func blank(d arrow.ArrayData, outer []byte) {
	kind := d.DataType()
	if e, ok := kind.(arrow.ExtensionType); ok {
		kind = e.StorageType()
	}
	buffers, valid := d.Buffers(), outer
	if len(buffers) > 0 && buffers[0] != nil && bitutil.CountSetBits(buffers[0].Bytes(), d.Offset(), d.Len()) < d.Len() {
		own := buffers[0].Bytes()
		if valid = own; d.Offset() > 0 || outer != nil {
			valid = bitmap(d.Len(), func(row int) bool {
				return bitutil.BitIsSet(own, d.Offset()+row) && (outer == nil || bitutil.BitIsSet(outer, row))
			})
		}
	}
	for _, child := range d.Children() {
		var inherited []byte
		switch of := kind.(type) {
		case *arrow.StructType:
			inherited = valid
		case *arrow.FixedSizeListType:
			if valid != nil {
				inherited = bitmap(child.Len(), func(row int) bool { return bitutil.BitIsSet(valid, row/int(of.Len())) })
			}
		}
		blank(child, inherited)
	}
	fixed, ok := kind.(arrow.FixedWidthDataType)
	if valid == nil || !ok || len(buffers) != 2 || buffers[1] == nil {
		return
	}
	values, bits := buffers[1].Bytes(), fixed.BitWidth()
	for row := range d.Len() {
		if valid[row/8]&(1<<(row%8)) != 0 {
			continue
		}
		switch at := d.Offset() + row; bits {
		case 1:
			bitutil.ClearBit(values, at)
		case 64:
			binary.NativeEndian.PutUint64(values[8*at:], 0)
		default:
			clear(values[at*bits/8 : (at+1)*bits/8])
		}
	}
}

func bitmap(n int, set func(i int) bool) []byte {
	b := make([]byte, bitutil.BytesForBits(int64(n)))
	for i := range n {
		if set(i) {
			bitutil.SetBit(b, i)
		}
	}
	return b
}

//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package database

import (
	"encoding/binary"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
)

// zeroNulls zeroes the stored values of an array where the array or one of its parents is null. There, DuckDB leaves
// old memory contents, such as addresses or values from other statements. parentValid is the parents' validity bitmap,
// or nil.
func zeroNulls(d arrow.ArrayData, parentValid []byte) {
	dataType := d.DataType()
	if e, ok := dataType.(arrow.ExtensionType); ok {
		dataType = e.StorageType()
	}
	buffers, valid := d.Buffers(), parentValid
	if len(buffers) > 0 && buffers[0] != nil && bitutil.CountSetBits(buffers[0].Bytes(), d.Offset(), d.Len()) < d.Len() {
		validity := buffers[0].Bytes()
		valid = validity
		if d.Offset() > 0 || parentValid != nil {
			valid = newBitmap(d.Len(), func(row int) bool {
				return bitutil.BitIsSet(validity, d.Offset()+row) && (parentValid == nil || bitutil.BitIsSet(parentValid, row))
			})
		}
	}
	for _, child := range d.Children() {
		var inherited []byte
		if list, ok := dataType.(*arrow.FixedSizeListType); ok && valid != nil {
			inherited = newBitmap(child.Len(), func(row int) bool { return bitutil.BitIsSet(valid, row/int(list.Len())) })
		} else if dataType.ID() == arrow.STRUCT {
			inherited = valid
		}
		zeroNulls(child, inherited)
	}
	fixed, ok := dataType.(arrow.FixedWidthDataType)
	if valid == nil || !ok || len(buffers) != 2 || buffers[1] == nil {
		return
	}
	values, bits := buffers[1].Bytes(), fixed.BitWidth()
	for row := range d.Len() {
		if valid[row/8]&(1<<(row%8)) != 0 {
			continue
		}
		i := d.Offset() + row
		switch bits {
		case 1:
			bitutil.ClearBit(values, i)
		case 64:
			binary.NativeEndian.PutUint64(values[8*i:], 0)
		default:
			clear(values[i*bits/8 : (i+1)*bits/8])
		}
	}
}

func newBitmap(n int, isSet func(i int) bool) []byte {
	b := make([]byte, bitutil.BytesForBits(int64(n)))
	for i := range n {
		if isSet(i) {
			bitutil.SetBit(b, i)
		}
	}
	return b
}

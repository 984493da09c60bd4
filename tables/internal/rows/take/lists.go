package take

import (
	"fmt"
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

func listRows(a array.ListLike, indices []int) (arrow.Array, error) {
	var childIndices []int
	offsets64 := make([]int64, len(indices)+1)
	for i, p := range indices {
		if p >= 0 && a.IsValid(p) {
			for start, end := a.ValueOffsets(p); start < end; start++ {
				childIndices = append(childIndices, int(start))
			}
		}
		offsets64[i+1] = int64(len(childIndices))
	}
	child, err := Rows(a.ListValues(), childIndices)
	if err != nil {
		return nil, err
	}
	defer child.Release()
	if _, isLarge := a.(*array.LargeList); isLarge {
		return buildRows(a, indices, []*memory.Buffer{memory.NewBufferBytes(arrow.GetBytes(offsets64))}, []arrow.ArrayData{child.Data()}), nil
	}
	if len(childIndices) > math.MaxInt32 {
		return nil, fmt.Errorf("the lists have %d values, but an array must have fewer than 2³¹: "+
			"read fewer rows at a time", len(childIndices))
	}
	return buildRows(a, indices, []*memory.Buffer{Offsets32(offsets64)}, []arrow.ArrayData{child.Data()}), nil
}

// Offsets32 returns offsets as 32-bit integers.
func Offsets32(offsets []int64) *memory.Buffer {
	narrow := make([]int32, len(offsets))
	for i, end := range offsets {
		narrow[i] = int32(end)
	}
	return memory.NewBufferBytes(arrow.GetBytes(narrow))
}

func fixedListRows(a *array.FixedSizeList, indices []int) (arrow.Array, error) {
	size := int(a.DataType().(*arrow.FixedSizeListType).Len())
	childIndices := make([]int, 0, len(indices)*size)
	for _, p := range indices {
		for j := range size {
			if p < 0 {
				childIndices = append(childIndices, -1)
				continue
			}
			start, _ := a.ValueOffsets(p)
			childIndices = append(childIndices, int(start)+j)
		}
	}
	child, err := Rows(a.ListValues(), childIndices)
	if err != nil {
		return nil, err
	}
	defer child.Release()
	return buildRows(a, indices, nil, []arrow.ArrayData{child.Data()}), nil
}

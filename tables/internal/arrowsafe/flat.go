package arrowsafe

import (
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd"
)

// flat returns the bytes that values take beyond their own once each stands for
// itself: those of dictionaries, of runs and of views may stand for many. The array
// was validated.
func flat(a arrow.Array) (all int64, err error) {
	add := func(children ...arrow.Array) error {
		for _, child := range children {
			more, err := flat(child)
			if err != nil {
				return err
			}
			all += more
		}
		return nil
	}
	switch a := a.(type) {
	case *array.Dictionary:
		for _, size := range sizesOf(a) {
			all += size
		}
	case *array.RunEndEncoded:
		values := sizesOf(a.Values())
		from := 0
		for i := range values {
			end := runEnd(a.RunEndsArr(), i)
			all += values[i] * int64(max(0, min(end, a.Len())-from))
			from = min(end, a.Len())
		}
		return all, nil
	case array.ViewLike:
		for _, size := range sizesOf(a) {
			all += size
		}
	case array.ListLike:
		if err := shared(a); err != nil {
			return 0, err
		}
		return all, add(a.ListValues())
	case *array.Struct:
		for i := range a.NumField() {
			if err := add(a.Field(i)); err != nil {
				return 0, err
			}
		}
	case array.Union:
		for i := range a.NumFields() {
			if err := add(a.Field(i)); err != nil {
				return 0, err
			}
		}
	case array.ExtensionArray:
		err = add(a.Storage())
	}
	return all, err
}

// shared refuses views of lists that share what they hold.
func shared(a array.ListLike) error {
	switch a.(type) {
	case *array.ListView, *array.LargeListView:
	default:
		return nil
	}
	left := int64(a.ListValues().Len())
	for i := range a.Len() {
		if from, to := a.ValueOffsets(i); a.IsValid(i) {
			left -= to - from
		}
	}
	if left < 0 {
		return fmt.Errorf("its lists share values: %w", partd.ErrTooLarge)
	}
	return nil
}

func runEnd(ends arrow.Array, i int) int {
	switch ends := ends.(type) {
	case *array.Int16:
		return int(ends.Value(i))
	case *array.Int32:
		return int(ends.Value(i))
	default:
		return int(ends.(*array.Int64).Value(i))
	}
}

// sizesOf returns the bytes of each value.
func sizesOf(a arrow.Array) []int64 {
	sizes := make([]int64, a.Len())
	switch a := a.(type) {
	case interface{ ValueLen(int) int }: // texts and bytes
		for i := range sizes {
			sizes[i] = int64(a.ValueLen(i))
		}
	case *array.Dictionary:
		values := sizesOf(a.Dictionary())
		for i := range sizes {
			if a.IsValid(i) {
				sizes[i] = values[a.GetValueIndex(i)]
			}
		}
	case array.ExtensionArray:
		return sizesOf(a.Storage())
	case *array.Struct:
		for i := range a.NumField() {
			for j, size := range sizesOf(a.Field(i))[:len(sizes)] {
				sizes[j] += size
			}
		}
	case array.ListLike:
		until := []int64{0}
		for _, size := range sizesOf(a.ListValues()) {
			until = append(until, until[len(until)-1]+size)
		}
		for i := range sizes {
			from, to := a.ValueOffsets(i)
			sizes[i] = until[to] - until[from]
		}
	default: // of one width, or nested in a way that no table has
		var each uint64 = wordless
		if a.Len() > 0 {
			each += a.Data().SizeInBytes() / uint64(a.Len())
		}
		for i := range sizes {
			sizes[i] = int64(each)
		}
	}
	return sizes
}

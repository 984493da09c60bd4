package shuffle_test

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/go-partd/partd/shuffle"
)

func TestKeysOfAllTypes(t *testing.T) {
	type named string
	check := func(name string, sorted bool) {
		t.Helper()
		if !sorted {
			t.Errorf("keys of type %s are not in order", name)
		}
	}
	sortedBy := func(k shuffle.Key[int]) []int {
		return mustCollect(t, shuffle.Sort(context.Background(), shuffle.Values(numbers...), shuffle.By(k), nil))
	}
	check("int8", isSortedBy(sortedBy(shuffle.Asc(func(n int) int8 { return int8(n) })), func(n int) int8 { return int8(n) }))
	check("int16", isSortedBy(sortedBy(shuffle.Asc(func(n int) int16 { return int16(n) })), func(n int) int16 { return int16(n) }))
	check("int32", isSortedBy(sortedBy(shuffle.Asc(func(n int) int32 { return int32(n) })), func(n int) int32 { return int32(n) }))
	check("uint8", isSortedBy(sortedBy(shuffle.Asc(func(n int) uint8 { return uint8(n) })), func(n int) uint8 { return uint8(n) }))
	check("uint64", isSortedBy(sortedBy(shuffle.Asc(func(n int) uint64 { return uint64(n) })), func(n int) uint64 { return uint64(n) }))
	check("float32", isSortedBy(sortedBy(shuffle.Asc(func(n int) float32 { return float32(n) })), func(n int) float32 { return float32(n) }))
	check("float64", isSortedBy(sortedBy(shuffle.Desc(func(n int) float64 { return -float64(n) })), func(n int) float64 { return float64(n) }))
	check("string", isSortedBy(sortedBy(shuffle.Asc(func(n int) named { return named(fmt.Sprint(n)) })), func(n int) string { return fmt.Sprint(n) }))
	descending := sortedBy(shuffle.Desc(func(n int) string { return fmt.Sprint(n) }))
	slices.Reverse(descending)
	check("string, descending", isSortedBy(descending, func(n int) string { return fmt.Sprint(n) }))
}

var numbers = []int{5, -1, 1 << 40, 0, -1 << 40, 255, 256, 127, 128, -128, 32768, 65535, -32769, 1 << 31, 99, 9, 10}

func isSortedBy[K cmp.Ordered](list []int, key func(int) K) bool {
	return len(list) == len(numbers) && slices.IsSortedFunc(list, func(a, b int) int { return cmp.Compare(key(a), key(b)) })
}

func TestSort(t *testing.T) {
	for _, n := range []int{0, 1, manyRecords} {
		in := randomRecs(1, n)
		want := slices.Clone(in)
		slices.SortStableFunc(want, compareRecs)
		got := mustCollect(t, shuffle.Sort(t.Context(), shuffle.Values(in...), byTextAndSmall, minMemory[rec](t)))
		if !slices.Equal(got, want) {
			t.Errorf("Sort() of %d records differs from the records sorted in memory", n)
		}
	}
}

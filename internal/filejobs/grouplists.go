package filejobs

import (
	"encoding/binary"
	"math"
	"unsafe"

	"github.com/go-partd/partd/internal/aggregate"
	"github.com/go-partd/partd/internal/offheap"
)

// numberLists holds the latest numbers of each group's lists, for quantiles, of one worker. A
// list is a word in the state of its group: the position of its numbers, their capacity and
// their count, or 0 for an empty list. Numbers that do not fit go to the sorter as pieces of
// a list.
type numberLists struct {
	mem     []byte
	numbers []float64
	used    int
	crowded bool // there was no memory for a list
}

const (
	lenBits    = 16
	capBits    = 8
	firstList  = 4   // initial capacity of a list
	maxListLen = 512 // maximum capacity of a list
)

// allocateNumbers allocates memory outside the Go heap, and returns it as bytes and as
// numbers.
func allocateNumbers(memory int64) (mem []byte, numbers []float64, err error) {
	if mem, err = offheap.Allocate(int(memory) &^ 7); err != nil {
		return nil, nil, err
	}
	return mem, unsafe.Slice((*float64)(unsafe.Pointer(&mem[0])), len(mem)/8), nil
}

func (l *numberLists) close() error {
	offheap.Release(l.mem)
	l.mem, l.numbers = nil, nil
	return nil
}

func (l *numberLists) reset() { l.used, l.crowded = 0, false }

// get returns the numbers of a list.
func (l *numberLists) get(list uint64) []float64 {
	if list == 0 {
		return nil
	}
	pos := list >> (lenBits + capBits)
	return l.numbers[pos : pos+list&(1<<lenBits-1) : pos+1<<(list>>lenBits&(1<<capBits-1))]
}

// add adds a number to a list. It returns false if there is no memory.
func (l *numberLists) add(list *uint64, x float64) bool {
	old := l.get(*list)
	if len(old) == cap(old) && !l.grow(list, old) {
		return false
	}
	n := len(old)
	l.get(*list + 1)[n] = x
	*list++
	return true
}

// grow doubles the capacity of a list, up to a limit.
func (l *numberLists) grow(list *uint64, old []float64) bool {
	size, log := firstList, uint64(2)
	for size <= cap(old) {
		size, log = 2*size, log+1
	}
	if size > maxListLen {
		return false
	}
	if l.used+size > len(l.numbers) {
		l.crowded = true
		return false
	}
	copy(l.numbers[l.used:], old)
	*list = uint64(l.used)<<(lenBits+capBits) | log<<lenBits | uint64(len(old))
	l.used += size
	return true
}

// addNumber adds the number of a record to a list of its group.
func (w *groupWorker) addNumber(i int, list *uint64, key []byte, n aggregate.Number) error {
	x, exact := n.ExactFloat64()
	switch {
	case x == 0:
		x = 0 // also turns -0 into 0
	case !exact:
		w.sorted = n.Append(append(w.sorted[:0], wideNumber, byte(i), byte(i>>8)))
		return w.to.Add(w.g.sortKey(w.key, key, wideNumber), w.sorted)
	}
	if w.lists.add(list, x) {
		return nil
	}
	err := w.sendNumbers(i, w.lists.get(*list), key)
	*list &^= 1<<lenBits - 1
	if err == nil && !w.lists.add(list, x) { // the list has no memory at all
		single := [1]float64{x}
		err = w.sendNumbers(i, single[:], key)
	}
	return err
}

// sendNumbers passes the numbers of a list, if there are any, to the sorter.
func (w *groupWorker) sendNumbers(i int, numbers []float64, key []byte) error {
	if len(numbers) == 0 {
		return nil
	}
	w.sorted = append(w.sorted[:0], someNumbers, byte(i), byte(i>>8))
	for _, x := range numbers {
		w.sorted = binary.LittleEndian.AppendUint64(w.sorted, math.Float64bits(x))
	}
	return w.to.Add(w.g.sortKey(w.key, key, someNumbers), w.sorted)
}

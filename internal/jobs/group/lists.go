package group

import (
	"encoding/binary"
	"math"
	"unsafe"

	"github.com/go-partd/partd/internal/base/offheap"
	"github.com/go-partd/partd/internal/jobs/aggregate"
)

// numberLists holds one worker's lists of numbers, for quantiles. A group's state contains a
// word for each list: the position of its numbers, their capacity and their count, or 0 if
// the list is empty. When a list is full, its numbers move to the sorter.
type numberLists struct {
	mem        []byte
	numbers    []float64
	used       int
	needsFlush bool    // a list could not grow
	sink       float64 // sum of prefetched numbers, computed so that the compiler keeps the reads
}

const (
	lenBits    = 16 // the lowest bits of a list's word: the length of the list
	capBits    = 8  // the next bits: the logarithm of its capacity to base 2
	minListCap = 4
	maxListCap = 512
)

// allocateNumbers allocates memory outside the Go heap. It returns the memory twice, as bytes
// and as numbers.
func allocateNumbers(memory int64) (mem []byte, numbers []float64, err error) {
	mem, err = offheap.Allocate(int(memory) &^ 7)
	if err != nil {
		return nil, nil, err
	}
	return mem, unsafe.Slice((*float64)(unsafe.Pointer(&mem[0])), len(mem)/8), nil
}

func (l *numberLists) close() error {
	offheap.Release(l.mem)
	l.mem, l.numbers = nil, nil
	return nil
}

func (l *numberLists) reset() { l.used, l.needsFlush = 0, false }

// get returns the numbers of the list with the given word.
func (l *numberLists) get(list uint64) []float64 {
	if list == 0 {
		return nil
	}
	pos := list >> (lenBits + capBits)
	return l.numbers[pos : pos+list&(1<<lenBits-1) : pos+1<<(list>>lenBits&(1<<capBits-1))]
}

// add adds a number to a list. It returns false if the list is full and cannot grow.
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

// prefetch reads the place after the last number of some groups' lists, so that the processor fetches
// all of them at the same time. word is the index of the list's word in a state.
func (l *numberLists) prefetch(states [][]uint64, word int) {
	for _, state := range states {
		if list := state[word]; list != 0 {
			pos := list>>(lenBits+capBits) + list&(1<<lenBits-1)
			l.sink += l.numbers[min(pos, uint64(len(l.numbers)-1))]
		}
	}
}

func (l *numberLists) grow(list *uint64, old []float64) bool {
	size, log := minListCap, uint64(2)
	for size <= cap(old) {
		size, log = 2*size, log+1
	}
	if size > maxListCap {
		return false
	}
	if l.used+size > len(l.numbers) {
		l.needsFlush = true
		return false
	}
	copy(l.numbers[l.used:], old)
	*list = uint64(l.used)<<(lenBits+capBits) | log<<lenBits | uint64(len(old))
	l.used += size
	return true
}

func (w *worker) addNumber(i int, list *uint64, key []byte, n aggregate.Number) error {
	x, exact := n.ExactFloat64()
	if !exact {
		w.recordBuf = n.Append(append(w.recordBuf[:0], wideNumberPart, byte(i), byte(i>>8)))
		return w.writer.Add(w.engine.sortKey(w.sortKeyBuf, key, wideNumberPart), w.recordBuf)
	}
	if w.lists.add(list, x) {
		return nil
	}
	err := w.sendNumbers(i, w.lists.get(*list), key)
	*list &^= 1<<lenBits - 1
	if err == nil && !w.lists.add(list, x) { // the list has no capacity at all
		single := [1]float64{x}
		err = w.sendNumbers(i, single[:], key)
	}
	return err
}

func (w *worker) sendNumbers(i int, numbers []float64, key []byte) error {
	if len(numbers) == 0 {
		return nil
	}
	w.recordBuf = append(w.recordBuf[:0], numbersPart, byte(i), byte(i>>8))
	for _, x := range numbers {
		w.recordBuf = binary.LittleEndian.AppendUint64(w.recordBuf, math.Float64bits(x))
	}
	return w.writer.Add(w.engine.sortKey(w.sortKeyBuf, key, numbersPart), w.recordBuf)
}

package group

import (
	"encoding/binary"
	"math"
	"unsafe"

	"github.com/go-partd/partd/internal/base/offheap"
	"github.com/go-partd/partd/internal/jobs/aggregate"
)

// numberLists holds one worker's lists of numbers, for quantiles. A group's state contains a
// reference to each list: a word that packs the position, capacity and count of its numbers, or 0
// if the list is empty. When a list is full, its numbers move to the sorter.
type numberLists struct {
	mem        []byte
	numbers    []float64
	used       int
	needsFlush bool    // a list could not grow
	sink       float64 // sum of prefetched numbers, computed so that the compiler keeps the reads
}

const (
	lenBits    = 16 // the lowest bits of a reference: the length of the list
	capBits    = 8  // the next bits: the logarithm of its capacity to base 2
	minListCap = 4
	maxListCap = 512
)

// allocateNumbers allocates size bytes outside the Go heap. It returns the memory twice: as bytes
// and as numbers.
func allocateNumbers(size int64) (mem []byte, numbers []float64, err error) {
	mem, err = offheap.Allocate(int(size) &^ 7)
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

// get returns the numbers of the list that ref refers to.
func (l *numberLists) get(ref uint64) []float64 {
	if ref == 0 {
		return nil
	}
	pos := ref >> (lenBits + capBits)
	return l.numbers[pos : pos+ref&(1<<lenBits-1) : pos+1<<(ref>>lenBits&(1<<capBits-1))]
}

// add adds a number to a list. It returns false if the list is full and cannot grow.
func (l *numberLists) add(ref *uint64, x float64) bool {
	old := l.get(*ref)
	if len(old) == cap(old) && !l.grow(ref, old) {
		return false
	}
	n := len(old)
	l.get(*ref + 1)[n] = x
	*ref++
	return true
}

// prefetch reads the slot after the last number of each list, so that the processor fetches these
// slots at the same time. wordIndex is the index of the reference in a state.
func (l *numberLists) prefetch(states [][]uint64, wordIndex int) {
	for _, state := range states {
		if ref := state[wordIndex]; ref != 0 {
			pos := ref>>(lenBits+capBits) + ref&(1<<lenBits-1)
			l.sink += l.numbers[min(pos, uint64(len(l.numbers)-1))]
		}
	}
}

func (l *numberLists) grow(ref *uint64, old []float64) bool {
	newCap, logCap := minListCap, uint64(2)
	for newCap <= cap(old) {
		newCap, logCap = 2*newCap, logCap+1
	}
	if newCap > maxListCap {
		return false
	}
	if l.used+newCap > len(l.numbers) {
		l.needsFlush = true
		return false
	}
	copy(l.numbers[l.used:], old)
	*ref = uint64(l.used)<<(lenBits+capBits) | logCap<<lenBits | uint64(len(old))
	l.used += newCap
	return true
}

func (w *worker) addNumber(column int, ref *uint64, key []byte, n aggregate.Number) error {
	x, exact := n.ExactFloat64()
	if !exact {
		w.recordBuf = n.Append(append(w.recordBuf[:0], wideNumberPart, byte(column), byte(column>>8)))
		return w.writer.Add(w.engine.sortKey(w.sortKeyBuf, key, wideNumberPart), w.recordBuf)
	}
	if w.lists.add(ref, x) {
		return nil
	}
	err := w.sendNumbers(column, w.lists.get(*ref), key)
	*ref &^= 1<<lenBits - 1
	if err == nil && !w.lists.add(ref, x) { // the list has no memory: send x alone
		single := [1]float64{x}
		err = w.sendNumbers(column, single[:], key)
	}
	return err
}

func (w *worker) sendNumbers(column int, numbers []float64, key []byte) error {
	if len(numbers) == 0 {
		return nil
	}
	w.recordBuf = append(w.recordBuf[:0], numbersPart, byte(column), byte(column>>8))
	for _, x := range numbers {
		w.recordBuf = binary.LittleEndian.AppendUint64(w.recordBuf, math.Float64bits(x))
	}
	return w.writer.Add(w.engine.sortKey(w.sortKeyBuf, key, numbersPart), w.recordBuf)
}

package filejobs

import (
	"bytes"
	"container/heap"
)

// firstKeys knows the first n of the keys that were added.
type firstKeys struct {
	n       int
	limit   int64 // bytes that it may take
	bytes   int64
	keys    [][]byte // a heap, the last of them on top
	off     bool     // they would take too much
	dropped int64    // keys that are not among the first
}

// keyOverhead is what a key takes beside its bytes.
const keyOverhead = 64

// add adds a key, and reports whether it is among the first n. Of equal keys those
// added first are.
func (f *firstKeys) add(key []byte) bool {
	switch {
	case f.off:
		return true
	case len(f.keys) < f.n:
		key = bytes.Clone(key)
		heap.Push(f, key)
		f.take(cap(key) + keyOverhead)
		return true
	case bytes.Compare(key, f.keys[0]) >= 0:
		f.dropped++
		return false
	}
	grown := -cap(f.keys[0])
	f.keys[0] = append(f.keys[0][:0], key...)
	grown += cap(f.keys[0])
	heap.Fix(f, 0)
	f.take(grown)
	return true
}

// take counts bytes that the keys take, and gives up where they are too many.
func (f *firstKeys) take(n int) {
	if f.bytes += int64(n); f.bytes > f.limit {
		f.off, f.keys = true, nil
	}
}

func (f *firstKeys) Len() int           { return len(f.keys) }
func (f *firstKeys) Less(i, j int) bool { return bytes.Compare(f.keys[i], f.keys[j]) > 0 }
func (f *firstKeys) Swap(i, j int)      { f.keys[i], f.keys[j] = f.keys[j], f.keys[i] }

func (f *firstKeys) Push(key any) { f.keys = append(f.keys, key.([]byte)) }

func (f *firstKeys) Pop() any {
	last := len(f.keys) - 1
	key := f.keys[last]
	f.keys = f.keys[:last]
	return key
}

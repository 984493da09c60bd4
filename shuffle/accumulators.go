package shuffle

import "unsafe"

// maxInline is how many words an accumulator may have to be kept as words.
const maxInline = 64

func wordsOf[A any]() int { return int(unsafe.Sizeof(*new(A))+7) / 8 }

// inWords returns the accumulator that is kept as words. It has no pointers.
func inWords[A any](words []uint64) *A { return (*A)(unsafe.Pointer(unsafe.SliceData(words))) }

// accumulators keeps those of one table. The word of a key is the number of its
// accumulator, and beneath that are pages, which do not move.
type accumulators[T, A any] struct {
	acc   *Accumulator[T, A]
	pages [][]item[A]
	n     int
	sizes int64
}

type item[A any] struct {
	value A
	size  int // what Size said
}

const pageLen = 256

func (l *accumulators[T, A]) at(words []uint64, isNew bool) *A {
	if isNew {
		if l.n == len(l.pages)*pageLen {
			l.pages = append(l.pages, make([]item[A], pageLen))
		}
		words[0] = uint64(l.n)
		l.n++
	}
	return &l.item(words).value
}

func (l *accumulators[T, A]) item(words []uint64) *item[A] {
	return &l.pages[words[0]/pageLen][words[0]%pageLen]
}

// resize asks how large an accumulator is now.
func (l *accumulators[T, A]) resize(words []uint64, a *A) {
	if l.acc.Size != nil {
		it := l.item(words)
		size := l.acc.Size(a)
		l.sizes += int64(size - it.size)
		it.size = size
	}
}

// Append encodes an accumulator.
func (l *accumulators[T, A]) Append(dst []byte, words []uint64) ([]byte, error) {
	return l.acc.Codec.Encode(dst, l.item(words).value)
}

// Merge adds an encoded accumulator.
func (l *accumulators[T, A]) Merge(words []uint64, isNew bool, data []byte) error {
	other, err := l.acc.Codec.Decode(data)
	if err != nil {
		return err
	}
	to := l.at(words, isNew)
	if isNew {
		*to = other
	} else {
		l.acc.Merge(to, &other)
	}
	l.resize(words, to)
	return nil
}

// Memory returns the bytes that they take. The collector needs about as much
// again before it gives back what was dropped.
func (l *accumulators[T, A]) Memory() int64 {
	return 2 * (int64(len(l.pages))*pageLen*int64(unsafe.Sizeof(item[A]{})) + l.sizes)
}

// Reset drops them.
func (l *accumulators[T, A]) Reset() { l.pages, l.n, l.sizes = nil, 0, 0 }

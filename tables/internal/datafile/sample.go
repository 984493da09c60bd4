package datafile

import (
	"hash/maphash"
	"math"
	"math/bits"

	"github.com/apache/arrow-go/v18/arrow"
)

// What a sample has: a few runs of neighbours, for deltas and zstd, and rows from all over,
// for the number of different values.
const (
	sampleRuns   = 4
	sampleRun    = 2*deltaBlock + 1
	sampleSpread = 512
	deltaBlock   = 128 // values, of DELTA_BINARY_PACKED
	deltaPart    = 32
)

// sampled returns values of an array: runs of neighbours, and some from all over.
func sampled(a arrow.Array, value func(int) []byte) (near [][][]byte, spread [][]byte) {
	run := func(from, to, step int) (all [][]byte) {
		for i := from; i < to; i += step {
			if a.IsValid(i) {
				all = append(all, value(i))
			}
		}
		return all
	}
	n := a.Len()
	if n <= sampleRuns*sampleRun+sampleSpread {
		return [][][]byte{run(0, n, 1)}, nil
	}
	for i := range sampleRuns {
		from := i * (n - sampleRun) / (sampleRuns - 1)
		near = append(near, run(from, from+sampleRun, 1))
	}
	return near, run(0, n, n/sampleSpread)
}

// different estimates how many different values there are among so many. Values that
// repeat in their neighbourhood may not do so in the whole, and the other way round.
func different(values int, near [][][]byte, spread [][]byte) float64 {
	seen, seed := map[uint64]bool{}, maphash.MakeSeed()
	add := func(run [][]byte) {
		for _, v := range run {
			seen[maphash.Bytes(seed, v[:min(len(v), mostLooked)])^uint64(len(v))] = true
		}
	}
	looked := 0
	for _, run := range near {
		add(run)
		looked += len(run)
	}
	if looked == 0 { // there are nulls where it was looked
		return float64(values)
	}
	all := float64(values) * float64(len(seen)) / float64(looked)
	clear(seen)
	add(spread)
	// So many that a random choice of as many would have as many that are equal.
	n, d := float64(len(spread)), float64(len(seen))
	low, high := d, float64(values)
	for high-low > 1 {
		if middle := (low + high) / 2; middle*(1-math.Exp(-n/middle)) < d {
			low = middle
		} else {
			high = middle
		}
	}
	if n > 0 {
		all = min(all, high)
	}
	return all
}

// deltaBits is about how many bits a value takes as DELTA_BINARY_PACKED.
func deltaBits(near [][][]byte, number func([]byte) int64) float64 {
	total, deltas := 0, 0
	for _, run := range near {
		for at := 1; at < len(run); at += deltaBlock {
			block := make([]int64, 0, deltaBlock)
			least := int64(math.MaxInt64)
			for i := at; i < min(at+deltaBlock, len(run)); i++ {
				d := number(run[i]) - number(run[i-1])
				block, least = append(block, d), min(least, d)
			}
			total += 8 * (deltaBlock/deltaPart + 2)
			for len(block) > 0 {
				part := block[:min(len(block), deltaPart)]
				block = block[len(part):]
				width := 0
				for _, d := range part {
					width = max(width, bits.Len64(uint64(d-least)))
				}
				total += width * deltaPart
				deltas += len(part)
			}
		}
	}
	if deltas == 0 {
		return math.Inf(1)
	}
	return float64(total) / float64(deltas)
}

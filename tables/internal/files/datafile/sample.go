package datafile

import (
	"bytes"
	"hash/maphash"
	"math"
	"math/bits"

	"github.com/apache/arrow-go/v18/arrow"
)

// A sample has runs of adjacent rows, for estimating deltas and compression, and spread rows, for estimating the number
// of distinct values.
const (
	sampleRunCount   = 4
	sampleRunRows    = 2*deltaBlock + 1
	sampleSpreadRows = 512
	deltaBlock       = 128 // number of values in a block of DELTA_BINARY_PACKED
	miniblockSize    = 32
)

// sample returns runs of adjacent values of an array, and values spread over the whole array.
func sample(a arrow.Array, value func(int) []byte) (runs [][][]byte, spread [][]byte) {
	rowsOf := func(start, end, step int) (values [][]byte) {
		for i := start; i < end; i += step {
			if a.IsValid(i) {
				values = append(values, value(i))
			}
		}
		return values
	}
	rows := a.Len()
	if rows <= sampleRunCount*sampleRunRows+sampleSpreadRows {
		return [][][]byte{rowsOf(0, rows, 1)}, nil
	}
	for i := range sampleRunCount {
		start := i * (rows - sampleRunRows) / (sampleRunCount - 1)
		runs = append(runs, rowsOf(start, start+sampleRunRows, 1))
	}
	return runs, rowsOf(0, rows, rows/sampleSpreadRows)
}

// estimateDistinct estimates the number of distinct values in a column. It needs both parts of a sample, because values
// can repeat in adjacent rows but not in the whole column, or the other way round.
func estimateDistinct(values int, runs [][][]byte, spread [][]byte) float64 {
	distinct, hashSeed := map[uint64]bool{}, maphash.MakeSeed()
	add := func(run [][]byte) {
		for _, v := range run {
			distinct[maphash.Bytes(hashSeed, v[:min(len(v), maxSampledValue)])^uint64(len(v))] = true
		}
	}
	sampled := 0
	for _, run := range runs {
		add(run)
		sampled += len(run)
	}
	if sampled == 0 {
		return float64(values)
	}
	estimate := float64(values) * float64(len(distinct)) / float64(sampled)
	clear(distinct)
	add(spread)
	// Find the number of distinct values for which n randomly chosen values contain d distinct ones.
	n, d := float64(len(spread)), float64(len(distinct))
	low, high := d, float64(values)
	for high-low > 1 {
		if middle := (low + high) / 2; middle*(1-math.Exp(-n/middle)) < d {
			low = middle
		} else {
			high = middle
		}
	}
	if n > 0 {
		estimate = min(estimate, high)
	}
	return estimate
}

// countDistinct estimates the number of distinct values in a column of 4-byte or 8-byte values. The error is below 1 %
// in a full row group, and a few percent in 2,000 rows. It sets a bit for the hash of each value and then counts the
// bits: linear counting, by Whang, Vander-Zanden and Taylor (1990). For values of other sizes, it returns estimate.
func countDistinct(a arrow.Array, size int, estimate float64) float64 {
	data := a.Data().Buffers()[1].Bytes()[a.Data().Offset()*size:]
	switch size {
	case 4:
		return countHashes(a, arrow.Uint32Traits.CastFromBytes(data))
	case 8:
		return countHashes(a, arrow.Uint64Traits.CastFromBytes(data))
	}
	return estimate
}

func countHashes[T uint32 | uint64](a arrow.Array, values []T) float64 {
	shift := (64 - bits.Len(uint(a.Len())|63)) & 63
	bitmap, hasNulls := make([]uint64, 1<<(64-shift)/64), a.NullN() > 0
	for i, v := range values[:a.Len()] {
		if hasNulls && a.IsNull(i) {
			continue
		}
		hash := uint64(v) * 0x9e3779b97f4a7c15
		hash = (hash ^ hash>>32) * 0xbf58476d1ce4e5b9 >> shift
		bitmap[hash/64] |= 1 << (hash % 64)
	}
	ones := 0
	for _, word := range bitmap {
		ones += bits.OnesCount64(word)
	}
	m := float64(64 * len(bitmap))
	return min(math.Round(-m*math.Log(1-float64(ones)/m)), float64(a.Len()))
}

// indexBits estimates the average size of an index into a dictionary of n values, in bits. Parquet stores indexes with
// a fixed width, except that 8 or more equal indexes in a row can be stored once, with their count.
func indexBits(runs [][][]byte, n float64) float64 {
	values, changes := 0, 0
	for _, run := range runs {
		for i := 1; i < len(run); i++ {
			values++
			if !bytes.Equal(run[i], run[i-1]) {
				changes++
			}
		}
	}
	width := math.Ceil(math.Log2(max(n, 2)))
	runBits := 24 + 9*width // two counts, the repeated index, and 8 indexes around the change
	return min(width, runBits*float64(changes)/float64(max(values, 1)))
}

// deltaBits estimates the average size of a value in Parquet's DELTA_BINARY_PACKED encoding, in bits.
func deltaBits(runs [][][]byte, decode func([]byte) int64) float64 {
	total, deltas := 0, 0
	for _, run := range runs {
		for start := 1; start < len(run); start += deltaBlock {
			block := make([]int64, 0, deltaBlock)
			minDelta := int64(math.MaxInt64)
			for i := start; i < min(start+deltaBlock, len(run)); i++ {
				d := decode(run[i]) - decode(run[i-1])
				block, minDelta = append(block, d), min(minDelta, d)
			}
			total += 8 * (deltaBlock/miniblockSize + 2)
			for len(block) > 0 {
				miniblock := block[:min(len(block), miniblockSize)]
				block = block[len(miniblock):]
				width := 0
				for _, d := range miniblock {
					width = max(width, bits.Len64(uint64(d-minDelta)))
				}
				total += width * miniblockSize
				deltas += len(miniblock)
			}
		}
	}
	if deltas == 0 {
		return math.Inf(1)
	}
	return float64(total) / float64(deltas)
}

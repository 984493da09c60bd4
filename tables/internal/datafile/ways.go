package datafile

import (
	"encoding/binary"
	"hash/maphash"
	"math"
	"math/bits"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
)

// way is the encoding of a column in a group of rows; docs/speed.md explains the choice. Only
// encodings that all documented readers support are used. Spark's vectorized Iceberg reader
// supports delta encodings since 1.10, and other encodings only in later versions or not yet.
type way struct {
	encoding   parquet.Encoding // without a dictionary
	dictionary bool
	texts      *texts // the dictionary, or nil
	codec      compress.Compression
}

const (
	maxSampledValue = 4 << 10  // maximum bytes of a value in a sample
	minSample       = 512      // minimum bytes of a sample
	maxSample       = 16 << 10 // maximum bytes of a sample
)

// wayOf chooses the encoding of an array. The library can end a page only after a multiple of
// pageValues values.
func wayOf(a arrow.Array, flat bool, pageValues int) way {
	w := way{encoding: parquet.Encodings.Plain, codec: compress.Codecs.Uncompressed}
	values := a.Len() - a.NullN()
	if values == 0 {
		return w
	}
	if a.DataType().ID() == arrow.BOOL {
		from := a.Data().Offset() / 8
		return w.compressed(a.Data().Buffers()[1].Bytes()[from : from+min(a.Len()/8, maxSampledValue)])
	}
	near, spread := sampled(a, plainValue(a))
	var bytes []byte
	for _, run := range near {
		most := len(bytes) + maxSample/len(near)
		for _, v := range run {
			bytes = append(bytes, v[:min(len(v), most-len(bytes))]...)
		}
	}
	plain := 8 * float64(width(a))
	best := 0.8 * plain // another encoding must save a fifth to be worth its cost for readers
	if n := different(values, near, spread); n <= float64(values)/2 {
		if cost := math.Ceil(math.Log2(n+1)) + n*plain/float64(values); cost < best {
			w.dictionary, best = true, cost
		}
	}
	if number := numberOf(a); number != nil && flat && everyPageHasValues(a, pageValues) && deltaBits(near, number) < best {
		w.dictionary, w.encoding = false, parquet.Encodings.DeltaBinaryPacked
		return w
	}
	if text := a.DataType().ID() == arrow.STRING || a.DataType().ID() == arrow.BINARY; w.dictionary && text && flat {
		w.texts = textsOf(a)
		w.dictionary = w.texts != nil
	}
	if w.dictionary {
		return w
	}
	return w.compressed(bytes)
}

// compressed adds zstd if it shrinks a sample by at least two fifths. Reading then takes twice as
// long, and writing five times.
func (w way) compressed(sample []byte) way {
	if len(sample) < minSample {
		return w
	}
	codec, err := compress.GetCodec(compress.Codecs.Zstd)
	if err == nil && 5*len(codec.EncodeLevel(nil, sample, zstdLevel)) <= 3*len(sample) {
		w.codec = compress.Codecs.Zstd
	}
	return w
}

// plainValue returns a function that returns the bytes of the value at an index, almost as PLAIN
// encodes it.
func plainValue(a arrow.Array) func(i int) []byte {
	buffers, offset := a.Data().Buffers(), a.Data().Offset()
	switch t := a.DataType().(type) {
	case *arrow.StringType, *arrow.BinaryType:
		at := arrow.Int32Traits.CastFromBytes(buffers[1].Bytes())[offset:]
		all := []byte{}
		if buffers[2] != nil {
			all = buffers[2].Bytes()
		}
		return func(i int) []byte { return all[at[i]:at[i+1]] }
	case *arrow.Decimal128Type:
		size := decimalBytes(t)
		return func(i int) []byte { return buffers[1].Bytes()[(offset+i)*16:][:size] }
	default:
		size := t.(arrow.FixedWidthDataType).Bytes()
		return func(i int) []byte { return buffers[1].Bytes()[(offset+i)*size:][:size] }
	}
}

// decimalBytes returns the size of a decimal in Parquet. Iceberg stores short decimals as integers.
func decimalBytes(t *arrow.Decimal128Type) int {
	switch {
	case t.Precision <= 9:
		return 4
	case t.Precision <= 18:
		return 8
	}
	return int(pqarrow.DecimalSize(t.Precision))
}

// width estimates the average bytes of a value in PLAIN.
func width(a arrow.Array) int64 {
	switch t := a.DataType().(type) {
	case *arrow.BooleanType:
		return 1
	case *arrow.StringType, *arrow.BinaryType:
		if a.Len() == a.NullN() {
			return 4
		}
		at := arrow.Int32Traits.CastFromBytes(a.Data().Buffers()[1].Bytes())[a.Data().Offset():]
		return 4 + int64(at[a.Len()]-at[0])/int64(a.Len()-a.NullN())
	case *arrow.Decimal128Type:
		return int64(decimalBytes(t))
	default:
		return int64(t.(arrow.FixedWidthDataType).Bytes())
	}
}

// numberOf returns a function that decodes an integer from a value's bytes, or nil for other types.
func numberOf(a arrow.Array) func([]byte) int64 {
	short := func(b []byte) int64 { return int64(int32(binary.LittleEndian.Uint32(b))) }
	long := func(b []byte) int64 { return int64(binary.LittleEndian.Uint64(b)) }
	switch t := a.DataType().(type) {
	case *arrow.Int32Type, *arrow.Date32Type:
		return short
	case *arrow.Int64Type, *arrow.Time64Type, *arrow.TimestampType:
		return long
	case *arrow.Decimal128Type:
		switch decimalBytes(t) {
		case 4:
			return short
		case 8:
			return long
		}
	}
	return nil
}

// everyPageHasValues reports whether no page can consist only of nulls. The library's delta encoder
// would fill such a page with leftovers of the page before.
func everyPageHasValues(a arrow.Array, pageValues int) bool {
	if a.NullN() == 0 {
		return true
	}
	for from := 0; from < a.Len(); from += pageValues {
		n := min(pageValues, a.Len()-from)
		if bitutil.CountSetBits(a.NullBitmapBytes(), a.Data().Offset()+from, n) == 0 {
			return false
		}
	}
	return true
}

// Sizes of a sample. Its runs of adjacent rows serve to estimate deltas and zstd; its spread rows
// serve to estimate the number of different values.
const (
	sampleRuns   = 4
	sampleRun    = 2*deltaBlock + 1
	sampleSpread = 512
	deltaBlock   = 128 // values in a block of DELTA_BINARY_PACKED
	deltaPart    = 32
)

// sampled returns a sample of an array's values: near has runs of adjacent rows, and spread has
// rows from the whole array.
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

// different estimates the number of different values in a column. Values that repeat locally may
// not repeat in the whole column, and vice versa.
func different(values int, near [][][]byte, spread [][]byte) float64 {
	seen, seed := map[uint64]bool{}, maphash.MakeSeed()
	add := func(run [][]byte) {
		for _, v := range run {
			seen[maphash.Bytes(seed, v[:min(len(v), maxSampledValue)])^uint64(len(v))] = true
		}
	}
	looked := 0
	for _, run := range near {
		add(run)
		looked += len(run)
	}
	if looked == 0 { // all sampled rows are null
		return float64(values)
	}
	all := float64(values) * float64(len(seen)) / float64(looked)
	clear(seen)
	add(spread)
	// Find the number of different values for which a random sample of this size would have as many
	// duplicates.
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

// deltaBits estimates the average bits of a value in DELTA_BINARY_PACKED.
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

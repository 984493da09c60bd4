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

// way is how a column of a group of rows is encoded: docs/speed.md has the rule. Only
// encodings are used that all readers know whom we name: Iceberg's vectorized reader of
// Spark has delta since 1.10, and others later, or not yet.
type way struct {
	encoding   parquet.Encoding // where there is no dictionary
	dictionary bool
	texts      *texts // of a dictionary; may be nil
	codec      compress.Compression
}

const (
	mostLooked      = 4 << 10  // bytes of a value that are looked at
	leastCompressed = 512      // bytes of a sample
	mostCompressed  = 16 << 10 // of them
)

// wayOf chooses how to encode an array, of which a page ends after so many values.
func wayOf(a arrow.Array, flat bool, pageValues int) way {
	w := way{encoding: parquet.Encodings.Plain, codec: compress.Codecs.Uncompressed}
	values := a.Len() - a.NullN()
	if values == 0 {
		return w
	}
	if a.DataType().ID() == arrow.BOOL {
		from := a.Data().Offset() / 8
		return w.compressed(a.Data().Buffers()[1].Bytes()[from : from+min(a.Len()/8, mostLooked)])
	}
	near, spread := sampled(a, plainValue(a))
	var bytes []byte
	for _, run := range near {
		most := len(bytes) + mostCompressed/len(near)
		for _, v := range run {
			bytes = append(bytes, v[:min(len(v), most-len(bytes))]...)
		}
	}
	plain := 8 * float64(width(a))
	best := 0.8 * plain // another way has to be worth its reading
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

// compressed adds zstd where it shrinks a sample by two fifths, or more: it takes twice as
// long to read, and five times to write.
func (w way) compressed(sample []byte) way {
	if len(sample) < leastCompressed {
		return w
	}
	codec, err := compress.GetCodec(compress.Codecs.Zstd)
	if err == nil && 5*len(codec.EncodeLevel(nil, sample, zstdLevel)) <= 3*len(sample) {
		w.codec = compress.Codecs.Zstd
	}
	return w
}

// plainValue returns what has the bytes of an array's values, much as PLAIN has them.
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

// decimalBytes is how many bytes Parquet has for a decimal: Iceberg keeps short ones as
// integers.
func decimalBytes(t *arrow.Decimal128Type) int {
	switch {
	case t.Precision <= 9:
		return 4
	case t.Precision <= 18:
		return 8
	}
	return int(pqarrow.DecimalSize(t.Precision))
}

// width is about how many bytes a value takes as PLAIN.
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

// numberOf returns what makes an integer of a value's bytes, nil if the type is none of
// integers.
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

// everyPageHasValues reports whether no page can be of nulls alone: the library's encoder
// of deltas makes such a page of what the one before has left.
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

package datafile

import (
	"encoding/binary"
	"reflect"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/go-partd/partd/tables/internal/rows/arrowtype"
)

// columnEncoding is a column's encoding in a row group; see docs/dev/tables-speed.md. Recent versions of all readers
// that the docs name can decode it. For example, Spark's vectorized Iceberg reader supports delta encodings since
// Iceberg 1.10.
type columnEncoding struct {
	encoding   parquet.Encoding // the encoding if there is no dictionary
	dictionary bool
	texts      *stringDictionary // dictionary and codes of a string column; can be nil
	codec      compress.Compression
}

const (
	maxSampledValue = 4 << 10  // maximum size of a value in a sample, in bytes
	minSampleBytes  = 512      // minimum size of a sample, in bytes
	maxSampleBytes  = 16 << 10 // maximum size of a sample, in bytes
)

// encodingOf chooses the encoding for an array. flat means that the file has no nested columns, and compressAll means
// that every column is compressed with zstd. The library checks the page size after every pageValues values.
func encodingOf(a arrow.Array, flat bool, pageValues int, compressAll bool) columnEncoding {
	e := columnEncoding{encoding: parquet.Encodings.Plain, codec: compress.Codecs.Uncompressed}
	if compressAll {
		e.codec = compress.Codecs.Zstd
	}
	values := a.Len() - a.NullN()
	if values == 0 {
		return e
	}
	if a.DataType().ID() == arrow.BOOL {
		start := a.Data().Offset() / 8
		return e.withCodec(a.Data().Buffers()[1].Bytes()[start : start+min(a.Len()/8, maxSampledValue)])
	}
	runs, spread := sample(a, plainValue(a))
	var bytes []byte
	for _, run := range runs {
		limit := len(bytes) + maxSampleBytes/len(runs)
		for _, v := range run {
			bytes = append(bytes, v[:min(len(v), limit-len(bytes))]...)
		}
	}
	plainBits := 8 * float64(width(a))
	best := 0.8 * plainBits // another encoding must save a fifth, because readers need longer to decode it
	n := estimateDistinct(values, runs, spread)
	if t, ok := a.DataType().(arrow.FixedWidthDataType); ok && n <= float64(values)/2 {
		n = countDistinct(a, t.Bytes(), n) // a sample's estimate is too low if a few values are frequent and many are rare
	}
	if cost := indexBits(runs, n) + n*plainBits/float64(values); n <= float64(values)/2 && cost < best {
		e.dictionary, best = true, cost
	}
	if decode := integerDecoder(a); decode != nil && flat && everyPageHasValues(a, pageValues) && deltaBits(runs, decode) < best {
		e.dictionary, e.encoding = false, parquet.Encodings.DeltaBinaryPacked
		return e
	}
	if isText := a.DataType().ID() == arrow.STRING || a.DataType().ID() == arrow.BINARY; e.dictionary && isText && flat {
		e.texts = stringDictionaryOf(a)
		e.dictionary = e.texts != nil
	}
	if e.dictionary {
		return e
	}
	return e.withCodec(bytes)
}

// withCodec selects a codec if e has none yet. It selects Snappy, which is read several times as fast as zstd, if
// Snappy shrinks the sample by at least two fifths. It selects zstd if only zstd shrinks the sample that much, or if
// zstd needs less than half of Snappy's bytes.
func (e columnEncoding) withCodec(sample []byte) columnEncoding {
	if e.codec != compress.Codecs.Uncompressed || len(sample) < minSampleBytes {
		return e
	}
	size := func(codec compress.Compression) int {
		c, err := compress.GetCodec(codec)
		if err != nil {
			return len(sample)
		}
		return len(c.EncodeLevel(nil, sample, zstdLevel))
	}
	zstd, snappy := size(compress.Codecs.Zstd), size(compress.Codecs.Snappy)
	switch {
	case 5*zstd > 3*len(sample):
	case 2*zstd < snappy || 5*snappy > 3*len(sample):
		e.codec = compress.Codecs.Zstd
	default:
		e.codec = compress.Codecs.Snappy
	}
	return e
}

// plainValue returns a function that returns the bytes of value i, almost as in Parquet's PLAIN encoding.
func plainValue(a arrow.Array) func(i int) []byte {
	buffers, offset := a.Data().Buffers(), a.Data().Offset()
	switch t := arrowtype.Of(a.DataType()); {
	case t.Native == reflect.String:
		offsets := arrow.Int32Traits.CastFromBytes(buffers[1].Bytes())[offset:]
		all := []byte{}
		if buffers[2] != nil {
			all = buffers[2].Bytes()
		}
		return func(i int) []byte { return all[offsets[i]:offsets[i+1]] }
	case t.Kind == arrowtype.Decimal:
		size := decimalBytes(a.DataType())
		return func(i int) []byte { return buffers[1].Bytes()[(offset+i)*16:][:size] }
	default:
		size := a.DataType().(arrow.FixedWidthDataType).Bytes()
		return func(i int) []byte { return buffers[1].Bytes()[(offset+i)*size:][:size] }
	}
}

// decimalBytes returns a decimal's size in Parquet, in bytes. Iceberg requires integers for short decimals.
func decimalBytes(t arrow.DataType) int {
	precision := t.(arrow.DecimalType).GetPrecision()
	switch {
	case precision <= 9:
		return 4
	case precision <= 18:
		return 8
	}
	return int(pqarrow.DecimalSize(precision))
}

// width estimates the average size of a value in Parquet's PLAIN encoding, in bytes.
func width(a arrow.Array) int64 {
	switch t := arrowtype.Of(a.DataType()); {
	case t.Native == reflect.String:
		if a.Len() == a.NullN() {
			return 4
		}
		offsets := arrow.Int32Traits.CastFromBytes(a.Data().Buffers()[1].Bytes())[a.Data().Offset():]
		return 4 + int64(offsets[a.Len()]-offsets[0])/int64(a.Len()-a.NullN())
	case t.Kind == arrowtype.Decimal:
		return int64(decimalBytes(a.DataType()))
	}
	return int64(a.DataType().(arrow.FixedWidthDataType).Bytes()) // 1 for booleans
}

// integerDecoder returns a function that converts a value's bytes to an integer, or nil for types that are not stored
// as integers.
func integerDecoder(a arrow.Array) func([]byte) int64 {
	int32Of := func(b []byte) int64 { return int64(int32(binary.LittleEndian.Uint32(b))) }
	int64Of := func(b []byte) int64 { return int64(binary.LittleEndian.Uint64(b)) }
	t, size := arrowtype.Of(a.DataType()), 0 // size stays 0 for types that are not stored as integers
	if t.Native == reflect.Int32 || t.Native == reflect.Int64 {
		size = a.DataType().(arrow.FixedWidthDataType).Bytes()
	} else if t.Kind == arrowtype.Decimal {
		size = decimalBytes(a.DataType())
	}
	return map[int]func([]byte) int64{4: int32Of, 8: int64Of}[size]
}

// everyPageHasValues reports whether every page has a non-null value. The delta encoder fills other pages with stale
// data.
func everyPageHasValues(a arrow.Array, pageValues int) bool {
	if a.NullN() == 0 {
		return true
	}
	for start := 0; start < a.Len(); start += pageValues {
		n := min(pageValues, a.Len()-start)
		if bitutil.CountSetBits(a.NullBitmapBytes(), a.Data().Offset()+start, n) == 0 {
			return false
		}
	}
	return true
}

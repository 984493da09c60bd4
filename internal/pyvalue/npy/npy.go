// Package npy parses the types of NumPy arrays, as spelled by dtype.str. It converts the bytes
// of their elements.
//
// NumPy's manual describes the format in "The array interface protocol":
//
//	order  '<' little-endian, '>' big-endian, '|' neither
//	kind   b bool, i and u integers, f float, c complex, M time, m duration, O object
//	size   of an element, in bytes
//	[unit] of times and durations: ns, us, ms, s, m, h, D, W
package npy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"
)

// DType is the type of an array's elements.
type DType struct {
	Kind byte
	Size int    // element size in bytes, 0 for objects
	Big  bool   // big-endian
	Unit string // unit of times and durations
}

// sizes lists the supported element sizes of each kind, in bytes.
var sizes = map[byte][]string{
	'b': {"1"}, 'i': {"1", "2", "4", "8"}, 'u': {"1", "2", "4", "8"},
	'f': {"2", "4", "8"}, 'c': {"8", "16"}, 'M': {"8"}, 'm': {"8"},
}

// Parse parses a type such as "<f8".
func Parse(text string) (DType, error) {
	if len(text) > 100 {
		return DType{}, fmt.Errorf("%.40q… (%d bytes) is not a dtype", text, len(text))
	}
	if strings.HasPrefix(text, "[") {
		return DType{}, fmt.Errorf("%q is a dtype of records, which is not supported", text)
	}
	d, err := parse(text)
	if err != nil {
		return DType{}, fmt.Errorf("%q is not a supported dtype: %w", text, err)
	}
	return d, nil
}

func parse(text string) (d DType, err error) {
	remaining := strings.TrimLeft(text, "<>|=")
	order := text[:len(text)-len(remaining)]
	if len(order) > 1 {
		return d, errors.New("it has several byte orders")
	}
	if remaining == "" {
		return d, errors.New("it has no kind")
	}
	d.Kind, remaining = remaining[0], remaining[1:]
	if d.Kind == 'O' {
		if remaining != "" && remaining != "8" {
			return d, errors.New("objects have no such size")
		}
		return d, nil
	}
	supported, ok := sizes[d.Kind]
	if !ok {
		return d, fmt.Errorf("unknown kind %q", d.Kind)
	}
	size, unit, hasUnit := strings.Cut(remaining, "[")
	if !slices.Contains(supported, size) {
		return d, fmt.Errorf("the kind %q has no size %q", d.Kind, size)
	}
	d.Size, err = strconv.Atoi(size)
	if err != nil {
		return d, err
	}
	d.Big = order == ">" && d.Size > 1
	if needsUnit := d.Kind == 'M' || d.Kind == 'm'; needsUnit != hasUnit {
		return d, errors.New("times and durations need a unit, and other kinds must not have one")
	}
	if hasUnit {
		d.Unit, ok = strings.CutSuffix(unit, "]")
		if !ok || nanoseconds[d.Unit] == 0 {
			return d, fmt.Errorf("unknown unit %q", unit)
		}
	}
	return d, nil
}

// String returns a type as NumPy writes it.
func (d DType) String() string {
	switch {
	case d.Kind == 'O':
		return "|O"
	case d.Unit != "":
		return d.byteOrder() + string(d.Kind) + strconv.Itoa(d.Size) + "[" + d.Unit + "]"
	}
	return d.byteOrder() + string(d.Kind) + strconv.Itoa(d.Size)
}

func (d DType) byteOrder() string {
	switch {
	case d.Size == 1:
		return "|"
	case d.Big:
		return ">"
	}
	return "<"
}

var nativeIsBigEndian = binary.NativeEndian.Uint16([]byte{0, 1}) == 1

// bytesOf returns the memory of elements as bytes. The elements must not contain pointers.
func bytesOf[T any](v []T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), len(v)*int(unsafe.Sizeof(*new(T))))
}

// AppendFixed appends elements in the byte order of d. Their size must be d.Size, and
// their memory must have the layout of a NumPy array in the machine's byte order: bool,
// numbers, and types based on these.
func AppendFixed[T any](dst []byte, d DType, v []T) []byte {
	start := len(dst)
	dst = append(dst, bytesOf(v)...)
	d.reorder(dst[start:])
	return dst
}

// DecodeFixed decodes the elements of data, in the byte order of d. It ignores an incomplete
// element at the end. Every pattern of bytes must be a valid T, so T must not be bool:
// use DecodeBools.
func DecodeFixed[T any](d DType, data []byte) []T {
	v := make([]T, len(data)/d.Size)
	b := bytesOf(v)
	copy(b, data)
	d.reorder(b)
	return v
}

// reorder converts elements between the machine's byte order and d's byte order, in place.
func (d DType) reorder(b []byte) {
	if d.Big != nativeIsBigEndian {
		d.Swap(b)
	}
}

// DecodeBools decodes booleans. As in NumPy, every byte except 0 is true.
func DecodeBools(data []byte) []bool {
	v := make([]bool, len(data))
	for i, c := range data {
		v[i] = c != 0
	}
	return v
}

// Swap changes the byte order of elements in place.
func (d DType) Swap(b []byte) {
	n := d.Size
	if d.Kind == 'c' {
		n /= 2 // swap the bytes of the real and the imaginary part separately
	}
	for ; n > 1 && len(b) >= n; b = b[n:] {
		slices.Reverse(b[:n])
	}
}

// nanoseconds maps the supported units to their lengths. Months and years have no fixed length.
var nanoseconds = map[string]int64{
	"ns": 1,
	"us": 1e3,
	"ms": 1e6,
	"s":  1e9,
	"m":  60e9,
	"h":  3600e9,
	"D":  24 * 3600e9,
	"W":  7 * 24 * 3600e9,
}

// notATime is NumPy's NaT, a missing time.
const notATime = math.MinInt64

// The range of times that 64-bit nanoseconds since 1970 can represent.
var (
	firstTime = time.Unix(0, notATime+1)
	lastTime  = time.Unix(0, math.MaxInt64)
)

// AppendTimes appends times in nanoseconds. The zero time.Time is NaT. Times before 1677 or after
// 2262 are an error, because they do not fit in 64 bits.
func AppendTimes(dst []byte, d DType, v []time.Time) ([]byte, error) {
	counts := make([]int64, len(v))
	for i, t := range v {
		switch {
		case t.IsZero():
			counts[i] = notATime
		case t.Before(firstTime) || t.After(lastTime):
			return dst, fmt.Errorf("element %d, %v: times in nanoseconds range from %v to %v", i, t, firstTime.UTC(), lastTime.UTC())
		default:
			counts[i] = t.UnixNano()
		}
	}
	return AppendFixed(dst, d, counts), nil
}

// DecodeTimes decodes times, in UTC. NaT becomes the zero time.Time.
func DecodeTimes(d DType, data []byte) ([]time.Time, error) {
	counts := DecodeFixed[int64](d, data)
	v := make([]time.Time, len(counts))
	unit := nanoseconds[d.Unit]
	for i, n := range counts {
		if n == notATime {
			continue
		}
		if unit >= 1e9 {
			seconds := unit / 1e9
			// time.Time cannot represent larger years.
			if limit := int64(1<<55) / seconds; n > limit || n < -limit {
				return nil, fmt.Errorf("element %d: %d%s is out of the range of time.Time", i, n, d.Unit)
			}
			v[i] = time.Unix(n*seconds, 0).UTC()
			continue
		}
		perSecond := 1e9 / unit
		v[i] = time.Unix(n/perSecond, n%perSecond*unit).UTC()
	}
	return v, nil
}

// DecodeDurations decodes durations. NaT and durations that do not fit in nanoseconds are errors.
func DecodeDurations(d DType, data []byte) ([]time.Duration, error) {
	v := DecodeFixed[time.Duration](d, data)
	unit := nanoseconds[d.Unit]
	for i, n := range v {
		if n == notATime {
			return nil, fmt.Errorf("element %d: NaT is not a duration", i)
		}
		if limit := math.MaxInt64 / unit; int64(n) > limit || int64(n) < -limit {
			return nil, fmt.Errorf("element %d: %d%s does not fit in 64-bit nanoseconds", i, int64(n), d.Unit)
		}
		v[i] = n * time.Duration(unit)
	}
	return v, nil
}

package encode

import (
	"cmp"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"slices"
	"strings"

	"github.com/go-partd/partd/internal/pyvalue"
	"github.com/go-partd/partd/internal/pyvalue/npy"
)

// PandasOptions lists the Python packages that are installed where Python will read the
// data. If a package is installed, Python's partd reads only data in the package's format;
// otherwise it reads only plain data. If the options are wrong, reading in Python raises
// an error. Go reads every format.
type PandasOptions struct {
	Blosc, Snappy bool // for PandasBlocks
	Msgpack       bool // for PandasColumns
}

const maxFrameBytes = 1 << 30 // maximum size of a decompressed frame

// PandasBlocks is the codec of Python's partd.PandasBlocks. It reads data that Python wrote
// with pandas 2 or 3, without executing pickles. o describes the Python that will read the
// data; nil means that neither blosc nor python-snappy is installed there. Appended
// DataFrames can be joined if they have the same columns of the same types.
func PandasBlocks(o *PandasOptions) ValueCodec[DataFrame] {
	opts := *cmp.Or(o, new(PandasOptions))
	return ValueCodec[DataFrame]{
		Encode: opts.append,
		Decode: func(data []byte) (DataFrame, error) { return (&blocksReader{maxFrameBytes}).readFrame(data) },
		Join:   joinFrames,
	}
}

// DataFrame is a pandas.DataFrame.
type DataFrame struct {
	Columns []Column
	// Index labels the rows. If its Values are nil, rows are numbered from 0.
	Index Column
}

// Column is a column of a DataFrame, or its index. Its Values are one of
//
//	[]bool, []int8 … []float64, []complex128   the number types of Element
//	Times, Durations                           datetime64, timedelta64
//	[]any                                      object, of plain values (see [Python])
//	Texts                                      str and string
//	Categorical                                category
//	Range                                      a RangeIndex (index only)
type Column struct {
	Name   any // text, number, bool or bytes, a tuple of up to 16 of these, or nil
	Values any
}

// checkName rejects names that Python cannot hash, and tuples that are too long for an
// error message.
func checkName(name any) error {
	items, isTuple := name.(PyTuple)
	if !isTuple {
		items = PyTuple{name}
	}
	if len(items) > 16 {
		return fmt.Errorf("names of %d parts are not supported", len(items))
	}
	for _, item := range items {
		switch kind := reflect.ValueOf(item).Kind(); item.(type) {
		case []byte, *big.Int:
		default:
			if kind > reflect.Float64 && kind != reflect.String {
				return fmt.Errorf("names of type %s are not supported", pyvalue.Name(item))
			}
		}
	}
	return nil
}

// Times is a column of dtype datetime64.
type Times struct {
	Unit   string  // ns, us, ms or s
	Zone   string  // such as "Europe/Paris" or "UTC+02:00"; empty for times without a zone
	Counts []int64 // units since 1970, in UTC if there is a zone; math.MinInt64 is NaT
}

// Durations is a column of dtype timedelta64, with the units of [Times].
type Durations struct {
	Unit   string
	Counts []int64
}

// Texts is a column of dtype str, which is new in pandas 3, or of dtype string.
type Texts struct {
	Values []string
	Null   []bool // true for missing values; nil if no value is missing
	NA     bool   // whether the dtype is string; its missing values are pandas.NA
}

// Categorical is a column of dtype category.
type Categorical struct {
	Codes      []int32 // indexes in Categories; -1 is missing
	Categories any     // Values as in Column, but neither Categorical nor Range
	Ordered    bool
}

// Range is Python's range: the numbers from Start up to, but not including, Stop, in
// steps of Step.
type Range struct{ Start, Stop, Step int64 }

// Len returns the number of elements, or math.MaxInt if there are more.
func (r Range) Len() int {
	if r.Step > 0 && r.Start < r.Stop {
		return int(min((uint64(r.Stop)-uint64(r.Start)-1)/uint64(r.Step), math.MaxInt-1)) + 1
	} else if r.Step < 0 && r.Start > r.Stop {
		return int(min((uint64(r.Start)-uint64(r.Stop)-1)/-uint64(r.Step), math.MaxInt-1)) + 1
	}
	return 0
}

func (r Range) numbers() ([]int64, error) {
	if r.Len() > maxFrameBytes/8 {
		return nil, fmt.Errorf("a range of %d numbers is over the limit", r.Len())
	}
	n := make([]int64, r.Len())
	for i := range n {
		n[i] = r.Start + int64(i)*r.Step
	}
	return n, nil
}

// Rows returns the number of d's rows.
func (d DataFrame) Rows() int {
	if len(d.Columns) > 0 {
		return lengthOf(d.Columns[0].Values)
	}
	return lengthOf(d.Index.Values)
}

// lengthOf returns the number of elements in values, or -1 if the type is not supported.
func lengthOf(values any) int {
	switch v := values.(type) {
	case nil:
		return 0
	case Range:
		return v.Len()
	case Times:
		return len(v.Counts)
	case Durations:
		return len(v.Counts)
	case Texts:
		return len(v.Values)
	case Categorical:
		return len(v.Codes)
	}
	if v := reflect.ValueOf(values); v.Kind() == reflect.Slice {
		return v.Len()
	}
	return -1
}

type fixedType struct {
	slice  reflect.Type
	dtype  npy.DType
	read   func(npy.DType, []byte) (any, error)
	append func(dst []byte, values any) []byte
}

var fixedTypes = []fixedType{
	fixedOf[bool](), fixedOf[int8](), fixedOf[int16](), fixedOf[int32](), fixedOf[int64](), fixedOf[int](),
	fixedOf[uint8](), fixedOf[uint16](), fixedOf[uint32](), fixedOf[uint64](), fixedOf[uint](),
	fixedOf[Float16](), fixedOf[float32](), fixedOf[float64](), fixedOf[complex64](), fixedOf[complex128](),
}

func fixedOf[T Element]() fixedType {
	dtype := dtypeOf[T]()
	return fixedType{
		slice:  reflect.TypeFor[[]T](),
		dtype:  dtype,
		read:   func(d npy.DType, data []byte) (any, error) { return fixedArray[T](d, data) },
		append: func(dst []byte, values any) []byte { return npy.AppendFixed(dst, dtype, values.([]T)) },
	}
}

// joinFrames concatenates frames with equal columns, as pandas.concat does.
func joinFrames(frames []DataFrame) (joined DataFrame, err error) {
	for i, f := range frames {
		f, err = f.withIndex()
		if err != nil {
			return DataFrame{}, fmt.Errorf("append %d: %w", i+1, err)
		}
		if len(joined.Columns) == 0 && joined.Rows() == 0 {
			joined = f
			joined.Columns = slices.Clone(f.Columns)
			continue
		}
		if len(f.Columns) == 0 && f.Rows() == 0 {
			continue
		}
		if len(f.Columns) != len(joined.Columns) {
			return DataFrame{}, fmt.Errorf("append %d has %d columns, earlier appends have %d", i+1, len(f.Columns), len(joined.Columns))
		}
		for k, c := range f.Columns {
			column := &joined.Columns[k]
			if !reflect.DeepEqual(column.Name, c.Name) {
				return DataFrame{}, fmt.Errorf("append %d has a column %v, earlier appends have %v", i+1, c.Name, column.Name)
			}
			column.Values, err = concatValues(column.Values, c.Values)
			if err != nil {
				return DataFrame{}, fmt.Errorf("append %d, column %v: %w", i+1, c.Name, err)
			}
		}
		joined.Index.Values, err = concatValues(joined.Index.Values, f.Index.Values)
		if err != nil {
			return DataFrame{}, fmt.Errorf("append %d, index: %w", i+1, err)
		}
		if !reflect.DeepEqual(joined.Index.Name, f.Index.Name) {
			joined.Index.Name = nil // like pandas.concat, drop the name if the names differ
		}
	}
	return joined, nil
}

// concatValues appends values to dst. It returns an error unless both have the same type.
func concatValues(dst, values any) (_ any, err error) {
	if r, ok := dst.(Range); ok {
		nextRange, ok := values.(Range)
		if ok && nextRange.Step == r.Step && nextRange.Start == r.Start+int64(r.Len())*r.Step {
			if joined := (Range{r.Start, nextRange.Stop, r.Step}); joined.Len() == r.Len()+nextRange.Len() {
				return joined, nil
			}
		}
		dst, err = r.numbers()
		if err != nil {
			return nil, err
		}
	}
	if r, ok := values.(Range); ok {
		values, err = r.numbers()
		if err != nil {
			return nil, err
		}
	}
	switch a := dst.(type) {
	case Times:
		if b, ok := values.(Times); ok && a.Unit == b.Unit && a.Zone == b.Zone {
			a.Counts = append(a.Counts, b.Counts...)
			return a, nil
		}
	case Durations:
		if b, ok := values.(Durations); ok && a.Unit == b.Unit {
			a.Counts = append(a.Counts, b.Counts...)
			return a, nil
		}
	case Texts:
		if b, ok := values.(Texts); ok && a.NA == b.NA {
			if a.Null != nil || b.Null != nil {
				a.Null = append(paddedNulls(a), paddedNulls(b)...)
			}
			a.Values = append(a.Values, b.Values...)
			return a, nil
		}
	case Categorical:
		if b, ok := values.(Categorical); ok && a.Ordered == b.Ordered && reflect.DeepEqual(a.Categories, b.Categories) {
			a.Codes = append(a.Codes, b.Codes...)
			return a, nil
		}
	default:
		if reflect.TypeOf(dst) == reflect.TypeOf(values) {
			return reflect.AppendSlice(reflect.ValueOf(dst), reflect.ValueOf(values)).Interface(), nil
		}
	}
	return nil, fmt.Errorf("%s cannot be joined with %s: read the appends one by one, with All", typeName(values), typeName(dst))
}

// paddedNulls returns t.Null, extended to the length of t.Values.
func paddedNulls(t Texts) []bool { return append(t.Null, make([]bool, len(t.Values)-len(t.Null))...) }

func (t *Texts) setMissing(i int) {
	if t.Null == nil {
		t.Null = make([]bool, len(t.Values))
	}
	t.Null[i] = true
}

func typeName(values any) string {
	switch v := values.(type) {
	case Times:
		return fmt.Sprintf("datetime64[%s]", strings.TrimSuffix(v.Unit+", "+v.Zone, ", "))
	case Durations:
		return "timedelta64[" + v.Unit + "]"
	case Categorical:
		return fmt.Sprintf("category of %d (%s, ordered %t)", lengthOf(v.Categories), typeName(v.Categories), v.Ordered)
	}
	return fmt.Sprintf("%T", values)
}

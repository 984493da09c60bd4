package encode

import (
	"cmp"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"slices"
	"strings"

	"github.com/go-partd/partd/internal/npy"
	"github.com/go-partd/partd/internal/pyvalue"
)

// PandasOptions tells [PandasBlocks] and [NewPandasColumns] which packages are installed
// for the Python that reads what Go writes. With a package installed, partd accepts only
// data compressed by it; without, only plain data. If the options are wrong, Python
// raises an error. Go reads both.
type PandasOptions struct {
	Blosc, Snappy bool // for PandasBlocks, which then reads only what they compressed
	Msgpack       bool // for PandasColumns, which reads no key of MessagePack and pickles
}

// maxFrame is how many bytes a frame may decompress to.
const maxFrame = 1 << 30

// PandasBlocks is the codec of partd.PandasBlocks. It reads what pandas 2 and 3 write,
// without executing their pickles. Both can read what it writes if the options match
// their Python; nil means a Python without blosc and python-snappy. Appends join if they
// have the same columns of the same types.
func PandasBlocks(o *PandasOptions) ValueCodec[DataFrame] {
	opts := *cmp.Or(o, new(PandasOptions))
	return ValueCodec[DataFrame]{
		Encode: opts.append,
		Decode: func(data []byte) (DataFrame, error) { return (&blocksReader{maxFrame}).frame(data) },
		Join:   joinFrames,
	}
}

// DataFrame is a table in the sense of pandas.
type DataFrame struct {
	Columns []Column
	// Index labels the rows. Without Values it numbers them from 0.
	Index Column
}

// Column is a column of a DataFrame, or its index. Its Values are one of
//
//	[]bool, []int8 … []float64, []complex128   of the types of Element that are numbers
//	Times, Durations                           datetime64, timedelta64
//	[]any                                      object: plain values, as Python reads them
//	Texts                                      str and string
//	Categorical                                category
//	Range                                      a RangeIndex, of an index only
type Column struct {
	Name   any // text, number, bool or bytes, a tuple of up to 16 of these, or nil, as for an index without a name
	Values any
}

// checkName refuses names that Python does not hash, and those that an error could
// not print.
func checkName(name any) error {
	parts, isTuple := name.(PyTuple)
	if !isTuple {
		parts = PyTuple{name}
	}
	if len(parts) > 16 {
		return fmt.Errorf("a name of %d parts is not read or written", len(parts))
	}
	for _, part := range parts {
		switch kind := reflect.ValueOf(part).Kind(); part.(type) {
		case []byte, *big.Int:
		default:
			if kind > reflect.Float64 && kind != reflect.String {
				return fmt.Errorf("a name that is a %s is not read or written", pyvalue.Name(part))
			}
		}
	}
	return nil
}

// Times is a column of dtype datetime64.
type Times struct {
	Unit   string  // ns, us, ms or s
	Zone   string  // as "Europe/Paris" or "UTC+02:00"; empty for times without a zone
	Counts []int64 // of units since 1970, in UTC where there is a zone; math.MinInt64 is NaT
}

// Durations is a column of dtype timedelta64. Its units are those of [Times].
type Durations struct {
	Unit   string
	Counts []int64
}

// Texts is a column of dtype str, which is new in pandas 3, or of dtype
// string.
type Texts struct {
	Values []string
	Null   []bool // which are missing; nil if none is
	NA     bool   // the dtype is string, where what is missing is pandas.NA
}

// Categorical is a column of dtype category.
type Categorical struct {
	Codes      []int32 // places in Categories; -1 is missing
	Categories any     // as the Values of a Column, neither Categorical nor Range
	Ordered    bool
}

// Range is Python's range: the numbers from Start, in steps of Step, that
// come before Stop.
type Range struct{ Start, Stop, Step int64 }

// Len returns the number of elements, at most math.MaxInt.
func (r Range) Len() int {
	if r.Step > 0 && r.Start < r.Stop {
		return int(min((uint64(r.Stop)-uint64(r.Start)-1)/uint64(r.Step), math.MaxInt-1)) + 1
	} else if r.Step < 0 && r.Start > r.Stop {
		return int(min((uint64(r.Start)-uint64(r.Stop)-1)/-uint64(r.Step), math.MaxInt-1)) + 1
	}
	return 0
}

func (r Range) numbers() ([]int64, error) {
	if r.Len() > maxFrame/8 {
		return nil, fmt.Errorf("a range of %d numbers is over the limit", r.Len())
	}
	n := make([]int64, r.Len())
	for i := range n {
		n[i] = r.Start + int64(i)*r.Step
	}
	return n, nil
}

// Rows returns the number of rows.
func (d DataFrame) Rows() int {
	if len(d.Columns) > 0 {
		return rows(d.Columns[0].Values)
	}
	return rows(d.Index.Values)
}

// rows returns how many elements values have, or -1 if they are none.
func rows(values any) int {
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

// fixedType is a type of elements that all have one size.
type fixedType struct {
	of     reflect.Type // a slice
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
	own := dtypeOf[T]()
	return fixedType{
		of:     reflect.TypeFor[[]T](),
		dtype:  own,
		read:   func(d npy.DType, data []byte) (any, error) { return fixedArray[T](d, data) },
		append: func(dst []byte, values any) []byte { return npy.AppendFixed(dst, own, values.([]T)) },
	}
}

// joinFrames puts frames one behind the other, as pandas.concat does where their
// columns are the same.
func joinFrames(frames []DataFrame) (joined DataFrame, err error) {
	for i, f := range frames {
		if f, err = f.whole(); err != nil {
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
			return DataFrame{}, fmt.Errorf("append %d has %d columns, and those before it %d", i+1, len(f.Columns), len(joined.Columns))
		}
		for k, c := range f.Columns {
			to := &joined.Columns[k]
			if !reflect.DeepEqual(to.Name, c.Name) {
				return DataFrame{}, fmt.Errorf("append %d has the column %v where those before it have %v", i+1, c.Name, to.Name)
			}
			if to.Values, err = concat(to.Values, c.Values); err != nil {
				return DataFrame{}, fmt.Errorf("append %d, column %v: %w", i+1, c.Name, err)
			}
		}
		if joined.Index.Values, err = concat(joined.Index.Values, f.Index.Values); err != nil {
			return DataFrame{}, fmt.Errorf("append %d, index: %w", i+1, err)
		}
		if !reflect.DeepEqual(joined.Index.Name, f.Index.Name) {
			joined.Index.Name = nil // as pandas.concat has it
		}
	}
	return joined, nil
}

// concat appends values to others of the same type.
func concat(to, values any) (_ any, err error) {
	if r, ok := to.(Range); ok {
		next, ok := values.(Range)
		if ok && next.Step == r.Step && next.Start == r.Start+int64(r.Len())*r.Step {
			if both := (Range{r.Start, next.Stop, r.Step}); both.Len() == r.Len()+next.Len() {
				return both, nil
			}
		}
		if to, err = r.numbers(); err != nil {
			return nil, err
		}
	}
	if r, ok := values.(Range); ok {
		if values, err = r.numbers(); err != nil {
			return nil, err
		}
	}
	switch a := to.(type) {
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
				a.Null = append(padded(a), padded(b)...)
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
		if reflect.TypeOf(to) == reflect.TypeOf(values) {
			return reflect.AppendSlice(reflect.ValueOf(to), reflect.ValueOf(values)).Interface(), nil
		}
	}
	return nil, fmt.Errorf("%s does not join with %s: read the appends one by one, with All", typeName(values), typeName(to))
}

func padded(t Texts) []bool { return append(t.Null, make([]bool, len(t.Values)-len(t.Null))...) }

func (t *Texts) miss(i int) {
	if t.Null == nil {
		t.Null = make([]bool, len(t.Values))
	}
	t.Null[i] = true
}

// typeName is how an error names the type of values.
func typeName(values any) string {
	switch v := values.(type) {
	case Times:
		return fmt.Sprintf("datetime64[%s]", strings.TrimSuffix(v.Unit+", "+v.Zone, ", "))
	case Durations:
		return "timedelta64[" + v.Unit + "]"
	case Categorical:
		return fmt.Sprintf("category of %d (%s, ordered %t)", rows(v.Categories), typeName(v.Categories), v.Ordered)
	}
	return fmt.Sprintf("%T", values)
}

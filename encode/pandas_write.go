package encode

import (
	"fmt"
	"math"
	"math/big"
	"reflect"

	"github.com/golang/snappy"

	"github.com/go-partd/partd/compress/blosc"
	"github.com/go-partd/partd/frame"
	"github.com/go-partd/partd/internal/pyvalue/npy"
	"github.com/go-partd/partd/internal/pyvalue/pickle"
)

// append appends the encoded DataFrame to dst, with one block for each column.
func (o PandasOptions) append(dst []byte, d DataFrame) (_ []byte, err error) {
	d, err = d.withIndex()
	if err != nil {
		return dst, err
	}
	names, headers, blocks := make([]any, len(d.Columns)), []any{nil, nil}, make([]storedColumn, len(d.Columns))
	for i, c := range d.Columns {
		names[i] = c.Name
		blocks[i], err = encodeValues(c.Values)
		if err != nil {
			return dst, fmt.Errorf("column %v: %w", c.Name, err)
		}
		headers = append(headers, blocks[i].header(i, lengthOf(c.Values)))
	}
	index, err := indexObject(d.Index)
	if err != nil {
		return dst, fmt.Errorf("index: %w", err)
	}
	for _, v := range []any{headers, pickle.Call("pandas", "Index", names, nil, false, nil, false), index} {
		dst, err = appendPickle(dst, v)
		if err != nil {
			return dst, err
		}
	}
	for i, c := range d.Columns {
		dst, err = o.appendBlock(dst, blocks[i])
		if err != nil {
			return dst, fmt.Errorf("column %v: %w", c.Name, err)
		}
	}
	return dst, nil
}

// withIndex returns d, with a default index if d has none. It returns an error unless all columns
// and the index have the same length and valid names.
func (d DataFrame) withIndex() (DataFrame, error) {
	wantRows := d.Rows()
	if d.Index.Values == nil {
		d.Index.Values = Range{0, int64(wantRows), 1}
	}
	for _, c := range append(d.Columns[:len(d.Columns):len(d.Columns)], d.Index) {
		if err := checkName(c.Name); err != nil {
			return d, err
		}
		switch rows := lengthOf(c.Values); {
		case rows < 0:
			return d, fmt.Errorf("column %v: values of type %T are not supported", c.Name, c.Values)
		case rows != wantRows:
			return d, fmt.Errorf("column %v has %d rows, want %d", c.Name, rows, wantRows)
		}
	}
	return d, nil
}

// storedColumn describes how the values of a column are written: as a NumPy array of
// numbers or objects.
type storedColumn struct {
	dtype       npy.DType
	appendTo    func(dst []byte) []byte // appends the numbers; nil for objects
	objects     []any
	pandasDtype any     // dtype to which pandas converts the array, or nil
	categories  PyTuple // (ordered, index) if the numbers are codes of categories, otherwise nil
}

func encodeValues(values any) (s storedColumn, err error) {
	switch v := values.(type) {
	case []any:
		return storedColumn{dtype: npy.DType{Kind: 'O'}, objects: v}, nil
	case Texts:
		if v.Null != nil && len(v.Null) != len(v.Values) {
			return s, fmt.Errorf("field Values has length %d, but Null has length %d", len(v.Values), len(v.Null))
		}
		s, err = encodeValues(v.objects())
		s.pandasDtype = pickle.Call("pandas", "StringDtype")
		if !v.NA {
			s.pandasDtype = pickle.Call("pandas", "StringDtype", nil, math.NaN())
		}
		return s, err
	case Durations:
		s, _ = encodeValues(v.Counts)
		s.dtype.Kind, s.dtype.Unit = 'm', v.Unit
		return s, checkUnit(v.Unit)
	case Times:
		s, _ = encodeValues(v.Counts)
		if v.Zone == "" {
			s.dtype.Kind, s.dtype.Unit = 'M', v.Unit
		} else {
			s.pandasDtype = pickle.Call("pandas", "DatetimeTZDtype", v.Unit, v.Zone)
		}
		return s, checkUnit(v.Unit)
	case Categorical:
		index, err := indexObject(Column{Values: v.Categories})
		if err == nil {
			err = checkCategories(v.Categories)
		}
		if err != nil {
			return s, fmt.Errorf("categories: %w", err)
		}
		for i, code := range v.Codes {
			if code < -1 || int(code) >= lengthOf(v.Categories) {
				return s, fmt.Errorf("element %d has the code %d, but there are %d categories", i, code, lengthOf(v.Categories))
			}
		}
		s, err = encodeValues(v.Codes)
		s.categories = PyTuple{v.Ordered, index}
		return s, err
	}
	for _, t := range fixedTypes {
		if t.slice == reflect.TypeOf(values) {
			return storedColumn{dtype: t.dtype, appendTo: func(dst []byte) []byte { return t.append(dst, values) }}, nil
		}
	}
	return s, fmt.Errorf("%T is not supported", values)
}

// checkCategories rejects missing and repeated categories, as pandas does.
func checkCategories(values any) error {
	var missingValue any
	switch v := values.(type) {
	case Range, []complex64, []complex128:
		return nil
	case Times:
		values, missingValue = v.Counts, int64(math.MinInt64)
	case Durations:
		values, missingValue = v.Counts, int64(math.MinInt64)
	}
	seen := map[any]bool{}
	for i := range lengthOf(values) {
		v, err := columnName(values, i)
		switch b := v.(type) {
		case []byte:
			v = [1]string{string(b)}
		case PyTuple, *big.Int:
			v = [2]string{fmt.Sprintf("%#v", b)}
		}
		if err != nil {
			return err
		} else if v == missingValue || v == nil || v != v {
			return fmt.Errorf("category %d is a missing value (None, NaN or NaT)", i)
		} else if seen[v] {
			return fmt.Errorf("category %d occurs twice", i)
		}
		seen[v] = true
	}
	return nil
}

func (t Texts) objects() []any {
	list := make([]any, len(t.Values))
	for i, text := range t.Values {
		if t.Null == nil || !t.Null[i] {
			list[i] = text
		}
	}
	return list
}

func checkUnit(unit string) error {
	switch unit {
	case "ns", "us", "ms", "s":
		return nil
	}
	return fmt.Errorf("unknown unit %q: pandas has ns, us, ms and s", unit)
}

func (s storedColumn) numpyDtype() any { return pickle.Call("numpy", "dtype", s.dtype.String()) }

func (s storedColumn) object() any {
	if s.appendTo == nil {
		return s.objects
	}
	return pickle.Call("numpy", "frombuffer", s.appendTo(nil), s.numpyDtype())
}

// header returns the header of the block of one column. placement is the column's number.
func (s storedColumn) header(placement, length int) PyTuple {
	dtype, shape, kind := s.numpyDtype(), PyTuple{1, length}, PyTuple{"numpy_type", PyTuple{}}
	switch {
	case s.pandasDtype != nil:
		dtype, kind[0] = s.pandasDtype, "other"
	case s.categories != nil:
		shape, kind = shape[1:], PyTuple{"categorical_type", s.categories}
	}
	return PyTuple{[]any{placement}, dtype, shape, kind}
}

func indexObject(c Column) (any, error) {
	if r, ok := c.Values.(Range); ok {
		if r.Step == 0 { // invalid in Python
			r = Range{Step: 1}
		}
		state := PyDict{{Key: "name", Value: c.Name}, {Key: "start", Value: r.Start}, {Key: "stop", Value: r.Stop}, {Key: "step", Value: r.Step}}
		return pickle.Call("pandas.core.indexes.base", "_new_Index", pickle.Global{Module: "pandas", Name: "RangeIndex"}, state), nil
	}
	s, err := encodeValues(c.Values)
	if s.categories != nil {
		return nil, fmt.Errorf("a CategoricalIndex is not supported")
	}
	if _, ok := c.Values.([]any); ok {
		s.pandasDtype = "object" // otherwise pandas infers a dtype from the objects
	}
	if s.dtype.Kind == 'f' && s.dtype.Size == 2 {
		return nil, fmt.Errorf("%T: pandas has no index of float16", c.Values)
	}
	// The last argument tells pandas not to turn tuples into a MultiIndex.
	return pickle.Call("pandas", "Index", s.object(), s.pandasDtype, false, c.Name, false), err
}

func appendPickle(dst []byte, v any) ([]byte, error) {
	start := len(dst)
	dst, err := pickle.Append(frame.Begin(dst), v)
	return frame.End(dst, start), err
}

func (o PandasOptions) appendBlock(dst []byte, s storedColumn) ([]byte, error) {
	if s.pandasDtype != nil {
		return appendPickle(dst, pickle.Call("pandas", "array", s.object(), s.pandasDtype))
	}
	start := len(dst)
	dst = frame.Begin(dst)
	if s.appendTo != nil && !o.Blosc {
		return frame.End(s.appendTo(dst), start), nil
	}
	if s.appendTo != nil {
		var err error
		dst, err = appendContainer(dst, s.appendTo(nil), s.dtype.Size)
		return frame.End(dst, start), err
	}
	// Pickle the objects, because Python reads pickles whether msgpack is installed or not.
	objects, err := appendPickle(nil, s.objects)
	switch {
	case err != nil:
	case (o.Snappy || o.Blosc) && len(objects) > maxFrameBytes:
		err = fmt.Errorf("objects of %d bytes are over the limit for compression", len(objects))
	case o.Snappy:
		dst = append(dst, snappy.Encode(nil, objects)...)
	case o.Blosc:
		dst, err = appendContainer(dst, objects, 1)
	default:
		dst = append(dst, objects...)
	}
	return frame.End(dst, start), err
}

// appendContainer appends a Blosc container of data, whose elements have the given size in
// bytes.
func appendContainer(dst, data []byte, elementSize int) ([]byte, error) {
	if len(data) == 0 { // Encoder rejects empty data: append c-blosc's container for it
		return append(dst, 2, 1, 3, byte(elementSize), 0, 0, 0, 0, 0, 0, 0, 0, blosc.HeaderLen, 0, 0, 0), nil
	}
	e, err := blosc.NewEncoder(&blosc.Options{TypeSize: elementSize})
	if err != nil {
		return dst, err
	}
	return e.Append(dst, data)
}

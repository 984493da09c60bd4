package encode

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/go-partd/partd/internal/pyvalue"
	"github.com/go-partd/partd/internal/pyvalue/npy"
	"github.com/go-partd/partd/internal/pyvalue/pickle"
)

// array is a NumPy array, or a pandas array that wraps one.
type array struct {
	dtype       npy.DType
	shape       []int // nil for one dimension of any length
	fortran     bool  // column-major: the first dimension varies fastest
	data        []byte
	objects     []any          // the elements, if dtype is O
	pandasDtype *pickle.Object // dtype of the pandas array, or nil for a NumPy array
}

// column returns column i of the count columns in an array, as the Values of a Column. pandas
// stores several columns of one dtype as the rows of a two-dimensional array. A
// one-dimensional array is a single column.
func (a array) column(i, count int) (any, error) {
	length := len(a.objects)
	if a.dtype.Kind != 'O' {
		length = len(a.data) / a.dtype.Size
		if excess := len(a.data) % a.dtype.Size; excess != 0 {
			return nil, partialElementError(a.dtype, int64(len(a.data)), excess)
		}
	}
	shape := a.shape
	if len(shape) == 1 {
		shape = []int{1, shape[0]}
	}
	if length%count != 0 || shape == nil && count != 1 || shape != nil && (len(shape) != 2 || shape[0] != count || shape[1] != length/count) {
		return nil, fmt.Errorf("the array's %d elements do not match its shape %v and %d columns", length, a.shape, count)
	}
	length /= count
	start, end, size := i*length, (i+1)*length, a.dtype.Size
	switch {
	case a.dtype.Kind == 'O':
		return a.values(nil, a.objects[start:end:end])
	case a.fortran:
		row := make([]byte, 0, length*size)
		for offset := i * size; offset < len(a.data); offset += count * size {
			row = append(row, a.data[offset:offset+size]...)
		}
		return a.values(row, nil)
	}
	return a.values(a.data[start*size:end*size], nil)
}

// values returns the elements in data, or objects if the dtype is O, as the Values of a
// Column.
func (a array) values(data []byte, objects []any) (any, error) {
	name := ""
	if a.pandasDtype != nil {
		name = a.pandasDtype.Name()
	}
	switch kind := a.dtype.Kind; {
	case name == "" && kind == 'O':
		for i, v := range objects {
			switch v.(type) {
			case pickle.Global, *pickle.Object: // such as pandas.NA
				return nil, fmt.Errorf("element %d is a %s, not a plain value", i, pyvalue.Name(v))
			}
		}
		return objects, nil
	case name == "" && kind == 'M':
		return Times{Unit: a.dtype.Unit, Counts: npy.DecodeFixed[int64](a.dtype, data)}, checkUnit(a.dtype.Unit)
	case name == "" && kind == 'm':
		return Durations{a.dtype.Unit, npy.DecodeFixed[int64](a.dtype, data)}, checkUnit(a.dtype.Unit)
	case name == "StringDtype" && kind == 'O':
		return decodeTexts(objects, a.pandasDtype)
	case name == "DatetimeTZDtype" && a.dtype.Size == 8:
		unit, zone, err := unitAndZoneOf(a.pandasDtype)
		if err != nil {
			return nil, err
		}
		return Times{unit, zone, npy.DecodeFixed[int64](a.dtype, data)}, checkUnit(unit)
	}
	for _, t := range fixedTypes {
		if name == "" && t.dtype.Kind == a.dtype.Kind && t.dtype.Size == a.dtype.Size {
			return t.read(a.dtype, data)
		}
	}
	return nil, fmt.Errorf("the dtype %s %s is not supported", a.dtype, name)
}

func decodeTexts(objects []any, dtype *pickle.Object) (Texts, error) {
	t := Texts{Values: make([]string, len(objects)), NA: usesNA(dtype)}
	for i, v := range objects {
		switch v := v.(type) {
		case string:
			t.Values[i] = v
		case nil, float64, pickle.Global: // None, nan, NA
			t.setMissing(i)
		default:
			return t, fmt.Errorf("element %d is a %s, not a string", i, pyvalue.Name(v))
		}
	}
	return t, nil
}

// usesNA reports whether the missing values of a StringDtype are pandas.NA. If they are nan
// instead, the dtype's second argument is nan.
func usesNA(dtype *pickle.Object) bool {
	if len(dtype.Args) < 2 {
		return true
	}
	_, isNaN := dtype.Args[1].(float64)
	return !isNaN
}

// arrowTexts reads the Arrow array inside a pandas string array. Its pickle has the fields
// type, length, number of nulls, offset, and buffers (validity, offsets and text).
func arrowTexts(o *pickle.Object) (t Texts, err error) {
	state, _ := o.State.(PyDict)
	dtype, _ := dictValue[*pickle.Object](state, "_dtype")
	stored, _ := dictValue[*pickle.Object](state, "_pa_array")
	if dtype == nil || stored == nil || stored.Name() != "_restore_array" || len(stored.Args) != 1 {
		return t, fmt.Errorf("the %s has no Arrow array", o.Name())
	}
	fields, _ := stored.Args[0].(PyTuple)
	if len(fields) != 7 {
		return t, fmt.Errorf("the Arrow array has %d fields, want 7", len(fields))
	}
	arrowType, _ := fields[0].(*pickle.Object)
	length, _ := fields[1].(int64)
	offset, _ := fields[3].(int64)
	buffers, _ := fields[4].([]any)
	if arrowType == nil || len(arrowType.Args) != 1 || len(buffers) != 3 {
		return t, errors.New("the Arrow array does not have a type and three buffers")
	}
	if arrowType.Args[0] != "large_string" {
		return t, fmt.Errorf("the Arrow type %s is not supported", shortText(arrowType.Args[0]))
	}
	valid, offsets, buffer := bufferOf(buffers[0]), bufferOf(buffers[1]), bufferOf(buffers[2])
	t.NA = usesNA(dtype)
	if length == 0 {
		return t, nil
	}
	maxIndex := int64(len(offsets)/8) - 1
	if length < 0 || offset < 0 || offset > maxIndex || length > maxIndex-offset || valid != nil && (offset+length+7)/8 > int64(len(valid)) {
		return t, fmt.Errorf("%d strings from offset %d do not fit in a validity buffer of %d bytes and an offset buffer of %d bytes", length, offset, len(valid), len(offsets))
	}
	offsetAt := func(i int64) uint64 { return binary.LittleEndian.Uint64(offsets[8*i:]) }
	// Copy only a part of the text buffer: a slice of an array has the buffers of the whole array.
	textEnd := min(offsetAt(offset+length), uint64(len(buffer)))
	textStart := min(offsetAt(offset), textEnd)
	text := string(buffer[textStart:textEnd])
	t.Values = make([]string, length)
	for i := range length {
		k := offset + i
		if valid != nil && valid[k/8]>>(k%8)&1 == 0 {
			t.setMissing(int(i))
			continue
		}
		start, end := offsetAt(k), offsetAt(k+1)
		if start < textStart || start > end || end > textEnd || !utf8.ValidString(text[start-textStart:end-textStart]) {
			return t, fmt.Errorf("element %d, bytes %d to %d of %d, is not text", i, start, end, len(buffer))
		}
		t.Values[i] = text[start-textStart : end-textStart]
	}
	return t, nil
}

func bufferOf(v any) []byte {
	if o, ok := v.(*pickle.Object); ok && o.Name() == "py_buffer" && len(o.Args) == 1 {
		return bytesOf(o.Args[0])
	}
	return nil
}

// shortText returns the first 60 bytes of v, or "" unless v is a string or byte slice.
func shortText(v any) string {
	if text, ok := v.(string); ok {
		return text[:min(len(text), 60)]
	}
	b := bytesOf(v)
	return string(b[:min(len(b), 60)])
}

func bytesOf(v any) []byte {
	if b, ok := v.(PyByteArray); ok {
		return b
	}
	b, _ := v.([]byte)
	return b
}

func dictValue[T any](d PyDict, key string) (value T, ok bool) {
	v, _ := d.Get(key)
	value, ok = v.(T)
	return value, ok
}

// arrayOf returns the array or the Texts that a list or an unpickled object describes.
func arrayOf(v any) (any, error) {
	if list, ok := v.([]any); ok {
		return array{dtype: npy.DType{Kind: 'O'}, objects: list}, nil
	}
	o, ok := v.(*pickle.Object)
	if !ok {
		return nil, fmt.Errorf("a %s is not an array", pyvalue.Name(v))
	}
	state, _ := o.State.(PyTuple)
	switch name := o.Name(); {
	case name == "frombuffer" && len(o.Args) == 2: // written by this package, not by pandas
		return numpyArray(o.Args[0], o.Args[1], nil, false)
	case name == "_frombuffer" && len(o.Args) == 4:
		return numpyArray(o.Args[0], o.Args[1], o.Args[2], o.Args[3] == "F")
	case name == "_reconstruct" && len(state) == 5:
		return numpyArray(state[4], state[2], state[1], state[3] == true)
	case name == "__pyx_unpickle_NDArrayBacked" && len(o.Args) > 0 && len(state) > 1:
		if class, _ := o.Args[0].(pickle.Global); class.Name != "Categorical" {
			return withDtype(state[1], state[0])
		}
	case name == "array" && len(o.Args) == 2: // written by this package, not by pandas
		return withDtype(o.Args[0], o.Args[1])
	case name == "ArrowStringArray" || name == "ArrowStringArrayNumpySemantics":
		return arrowTexts(o)
	}
	return nil, fmt.Errorf("%s is not supported", o.Name())
}

// withDtype returns the array that inner describes. dtype is the array's pandas dtype.
func withDtype(inner, dtype any) (any, error) {
	v, err := arrayOf(inner)
	a, ok := v.(array)
	if err != nil || !ok {
		return v, err
	}
	if o, _ := dtype.(*pickle.Object); o != nil && o.Name() != "dtype" {
		a.pandasDtype = o
	}
	return a, nil
}

func numpyArray(data, dtype, shape any, fortran bool) (a array, err error) {
	a.dtype, err = dtypeOfObject(dtype)
	if err != nil {
		return a, err
	}
	if shape != nil {
		a.shape, err = decodeIntegers(shape)
		if err != nil {
			return a, err
		}
	}
	a.fortran, a.data = fortran && len(a.shape) == 2, bytesOf(data)
	a.objects, _ = data.([]any)
	if a.fortran && a.dtype.Kind == 'O' {
		err = errors.New("column-major arrays of objects are not supported")
	}
	return a, err
}

func dtypeOfObject(v any) (npy.DType, error) {
	if o, ok := v.(*pickle.Object); !ok || o.Name() != "dtype" {
		return npy.DType{}, fmt.Errorf("the dtype %s is not supported", dtypeText(v))
	}
	return npy.Parse(dtypeText(v))
}

func dtypeText(v any) string {
	o, ok := v.(*pickle.Object)
	if !ok {
		return pyvalue.Name(v)
	}
	if o.Name() != "dtype" || len(o.Args) == 0 {
		return o.Name()
	}
	text := shortText(o.Args[0])
	// A dtype's state is (version, byte order, …). For times, item 8 is (…, (unit, count, …)).
	state, _ := o.State.(PyTuple)
	if len(state) > 1 {
		text = shortText(state[1]) + text
	}
	if len(state) > 8 {
		if metadata, _ := state[8].(PyTuple); len(metadata) == 2 {
			if unit, _ := metadata[1].(PyTuple); len(unit) > 1 && unit[1] == int64(1) {
				text += "[" + shortText(unit[0]) + "]"
			}
		}
	}
	return text
}

// decodeIntegers returns the integers in a list, a tuple or an array. It rejects negative
// integers.
func decodeIntegers(v any) ([]int, error) {
	if o, isObject := v.(*pickle.Object); isObject {
		values, err := columnValues(arrayOf(o))
		if err != nil {
			return nil, err
		}
		v, err = pyvalue.Canon(values)
		if err != nil {
			return nil, err
		}
	}
	elements, ok := v.([]any)
	if t, isTuple := v.(PyTuple); isTuple {
		elements, ok = t, true
	}
	list := make([]int, len(elements))
	for i, e := range elements {
		n, isInt := e.(int64)
		ok = ok && isInt && n >= 0
		list[i] = int(n)
	}
	if !ok {
		return nil, errors.New("a shape or a placement is not a list of non-negative integers")
	}
	return list, nil
}

func unitAndZoneOf(dtype *pickle.Object) (unit, zone string, err error) {
	var timezone any
	if state, ok := dtype.State.(PyDict); ok {
		unit, _ = dictValue[string](state, "unit")
		timezone, _ = state.Get("tz")
	} else if len(dtype.Args) == 2 { // written by this package, not by pandas
		unit, _ = dtype.Args[0].(string)
		timezone = dtype.Args[1]
	}
	if zone, ok := timezone.(string); ok {
		return unit, zone, nil
	}
	o, _ := timezone.(*pickle.Object)
	if o == nil {
		return "", "", errors.New("the DatetimeTZDtype has no zone")
	}
	argument := any(nil)
	if len(o.Args) > 0 {
		argument = o.Args[0]
	}
	switch name := o.Name(); name {
	case "_UTC":
		return unit, "UTC", nil
	case "_p", "getattr": // _p is from pytz, getattr from zoneinfo
		if zone, ok := argument.(string); ok {
			return unit, zone, nil
		}
	case "timezone":
		if o, ok := argument.(*pickle.Object); ok && o.Name() == "timedelta" && len(o.Args) == 3 {
			days, _ := o.Args[0].(int64)
			seconds, _ := o.Args[1].(int64)
			if seconds%60 != 0 {
				return "", "", fmt.Errorf("time zones with an offset of %d s are not supported", seconds)
			} else if days == 0 && seconds == 0 {
				return unit, "UTC", nil
			}
			epoch := time.Unix(0, 0).In(time.FixedZone("", int(days*24*3600+seconds)))
			return unit, epoch.Format("UTC-07:00"), nil
		}
	}
	return "", "", fmt.Errorf("time zones of type %s are not supported", o.Name())
}

package encode

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/golang/snappy"

	"github.com/go-partd/partd/compress/blosc"
	"github.com/go-partd/partd/frame"
	"github.com/go-partd/partd/internal/pyvalue"
	"github.com/go-partd/partd/internal/pyvalue/npy"
	"github.com/go-partd/partd/internal/pyvalue/pickle"
)

// blocksReader reads one encoded DataFrame. The encoding consists of a pickled list of headers and
// the parts that the headers describe: the columns' names, the index, and blocks of columns.
type blocksReader struct {
	remaining int64 // bytes that may still be decompressed
}

func (r *blocksReader) readFrame(data []byte) (d DataFrame, err error) {
	var contents [][]byte
	for content, err := range frame.Split(data) {
		if err != nil {
			return d, err
		}
		contents = append(contents, content)
	}
	if len(contents) < 3 {
		return d, fmt.Errorf("the data has %d parts, but at least a header, columns and an index are needed", len(contents))
	}
	unpickled, err := unpickle(contents[0])
	if err != nil {
		return d, fmt.Errorf("header: %w", err)
	}
	headers, _ := unpickled.([]any)
	contents = contents[1:]
	if len(headers) != len(contents) {
		return d, fmt.Errorf("the data has %d headers for %d parts", len(headers), len(contents))
	}
	labels, err := r.readIndex(headers[0], contents[0], -1)
	if err != nil {
		return d, fmt.Errorf("columns: %w", err)
	}
	count := lengthOf(labels.Values)
	if count > len(data) {
		return d, fmt.Errorf("%d columns in a DataFrame of only %d bytes", count, len(data))
	}
	d.Columns = make([]Column, count)
	for i := range d.Columns {
		d.Columns[i].Name, err = columnName(labels.Values, i)
		if err != nil {
			return d, err
		}
	}
	for i := 2; i < len(contents); i++ {
		if err := r.readBlock(d.Columns, headers[i], contents[i]); err != nil {
			return d, err
		}
	}
	length := -1
	for _, c := range d.Columns {
		length = d.Rows()
		if c.Values == nil {
			return d, fmt.Errorf("column %v is in no block", c.Name)
		}
	}
	d.Index, err = r.readIndex(headers[1], contents[1], length)
	if err != nil {
		return d, fmt.Errorf("index: %w", err)
	}
	return d.withIndex()
}

// columnValues takes the results of a function that returns a one-dimensional array or Texts. It
// returns the Values of a Column, or the error.
func columnValues(v any, err error) (any, error) {
	if a, ok := v.(array); ok && err == nil {
		return a.column(0, 1)
	}
	return v, err
}

// readBlock sets the values in a block's columns. header is (placement, dtype, shape,
// kind); the placement is the positions of the block's columns.
func (r *blocksReader) readBlock(columns []Column, header any, data []byte) error {
	t, _ := header.(PyTuple)
	if len(t) != 4 {
		t = PyTuple{nil, nil, nil, nil}
	}
	kind, _ := t[3].(PyTuple)
	if len(kind) != 2 {
		return errors.New("the header of a block is not (placement, dtype, shape, kind)")
	}
	positions, err := decodeIntegers(t[0])
	if err != nil {
		return fmt.Errorf("the placement of a block: %w", err)
	}
	if kind[0] == "categorical_type" && len(positions) != 1 {
		return fmt.Errorf("a categorical block has %d columns instead of one", len(positions))
	}
	name := dtypeText(t[1])
	if kind[0] == "categorical_type" {
		name = "category"
	}
	values, err := r.readValues(kind[0], t[1], t[2], data)
	if err != nil && len(positions) == 0 {
		return fmt.Errorf("a block without columns: %w", err)
	}
	for i, position := range positions {
		if position >= len(columns) || columns[position].Values != nil {
			return fmt.Errorf("a block contains column %d of %d, which does not exist or is already in another block", position, len(columns))
		}
		c := &columns[position]
		if a, ok := values.(array); ok && err == nil {
			c.Values, err = a.column(i, len(positions))
		} else {
			c.Values = values
			if err == nil && i > 0 {
				err = errors.New("it shares its values with another column")
			}
		}
		if err == nil && kind[0] == "categorical_type" {
			c.Values, err = r.decodeCategorical(c.Values, kind[1])
		}
		if err != nil {
			return fmt.Errorf("column %v (%s): %w", c.Name, name, err)
		}
	}
	return nil
}

// readValues decodes the data of a block. It returns an array, or the Values of a Column.
func (r *blocksReader) readValues(kind, dtype, shape any, data []byte) (any, error) {
	switch kind {
	case "numpy_type", "categorical_type":
		d, err := dtypeOfObject(dtype)
		if err != nil {
			return nil, err
		}
		sizes, err := decodeIntegers(shape)
		if err != nil {
			return nil, err
		}
		if len(sizes) > 2 {
			return nil, fmt.Errorf("arrays of %d dimensions are not supported", len(sizes))
		}
		return r.readArray(d, sizes, data)
	case "other":
		v, err := unpickle(data)
		if err != nil {
			return nil, err
		}
		return arrayOf(v)
	}
	return nil, fmt.Errorf("blocks of kind %s are not supported", shortText(kind))
}

// decodeCategorical returns a categorical column. The index in orderedAndIndex holds its categories. Many
// columns can share an index, so each decoded copy of it and of the codes counts against r.remaining.
func (r *blocksReader) decodeCategorical(codes, orderedAndIndex any) (c Categorical, err error) {
	t, _ := orderedAndIndex.(PyTuple)
	if len(t) != 2 {
		return c, errors.New("the categories are missing")
	}
	index, err := parseIndex(t[1])
	if err != nil {
		return c, fmt.Errorf("categories: %w", err)
	}
	categoryBytes := 16 * int64(min(lengthOf(index.Values), maxFrameBytes))
	texts, _ := index.Values.(Texts)
	for _, text := range texts.Values {
		categoryBytes += int64(len(text))
	}
	r.remaining -= categoryBytes
	if r.remaining < 0 {
		return c, fmt.Errorf("categories of %d bytes are over the limit", categoryBytes)
	} else if texts.Null != nil {
		return c, errors.New("a category is a missing value")
	}
	if labels, ok := index.Values.(Range); ok {
		index.Values, err = labels.numbers()
	}
	c.Ordered, c.Categories = t[0] == true, index.Values
	if err != nil {
		return c, err
	}
	v := reflect.ValueOf(codes)
	if v.Kind() != reflect.Slice || !reflect.Zero(v.Type().Elem()).CanInt() {
		return c, fmt.Errorf("the codes are %s, not integers", typeName(codes))
	}
	r.remaining -= 4 * int64(v.Len())
	if r.remaining < 0 {
		return c, fmt.Errorf("%d codes are over the limit", v.Len())
	}
	c.Codes = make([]int32, v.Len())
	for i := range c.Codes {
		if e := v.Index(i); e.Int() < -1 || e.Int() >= int64(lengthOf(c.Categories)) {
			return c, fmt.Errorf("element %d has the code %d, but there are %d categories", i, e.Int(), lengthOf(c.Categories))
		}
		c.Codes[i] = int32(v.Index(i).Int())
	}
	return c, nil
}

// readIndex reads an index of the given length, or of any length if length is negative.
func (r *blocksReader) readIndex(header any, data []byte, length int) (c Column, err error) {
	if header == nil {
		v, err := unpickle(data)
		if err != nil {
			return c, err
		}
		return parseIndex(v)
	}
	t, _ := header.(PyTuple)
	if len(t) != 4 || t[3] != nil {
		return c, errors.New("the header of an index is not (class, attributes, dtype, None)")
	}
	attributes, _ := t[1].(PyDict)
	c.Name, _ = attributes.Get("name")
	d, err := dtypeOfObject(t[2])
	if err != nil {
		return c, err
	}
	var shape []int
	if length >= 0 {
		shape = []int{length}
	}
	c.Values, err = columnValues(r.readArray(d, shape, data))
	return c, err
}

// parseIndex returns the index that an unpickled object describes.
func parseIndex(v any) (c Column, err error) {
	o, _ := v.(*pickle.Object)
	if o == nil || len(o.Args) < 2 {
		return c, fmt.Errorf("a %s is not an index", pyvalue.Name(v))
	}
	if o.Name() == "Index" && len(o.Args) == 5 { // written by this package, not by pandas
		values, err := columnValues(withDtype(o.Args[0], o.Args[1]))
		return Column{o.Args[3], values}, err
	}
	class, _ := o.Args[0].(pickle.Global)
	state, ok := o.Args[1].(PyDict)
	if !ok || !strings.HasPrefix(o.Name(), "_new_") {
		return c, fmt.Errorf("%s is not supported", o.Name())
	}
	c.Name, _ = state.Get("name")
	switch class.Name {
	case "RangeIndex":
		var r Range
		for name, number := range map[string]*int64{"start": &r.Start, "stop": &r.Stop, "step": &r.Step} {
			*number, ok = dictValue[int64](state, name)
			if !ok {
				return c, fmt.Errorf("the RangeIndex has no %s", name)
			}
		}
		c.Values = r
	case "Index", "DatetimeIndex", "TimedeltaIndex":
		inner, _ := state.Get("data")
		c.Values, err = columnValues(arrayOf(inner))
	default:
		return c, fmt.Errorf("%s is not supported", class.Name)
	}
	return c, err
}

// columnName returns element i of labels, which are the Values of an index, as the name of
// a column.
func columnName(labels any, i int) (any, error) {
	switch v := labels.(type) {
	case Range:
		return v.Start + int64(i)*v.Step, nil
	case Texts:
		if v.Null != nil && v.Null[i] {
			return nil, nil
		}
		return v.Values[i], nil
	case []any:
		return v[i], checkName(v[i])
	}
	if v := reflect.ValueOf(labels); v.Kind() == reflect.Slice {
		return pyvalue.Canon(v.Index(i).Interface())
	}
	return nil, fmt.Errorf("columns: labels of type %s are not supported", typeName(labels))
}

func (r *blocksReader) readArray(d npy.DType, shape []int, data []byte) (a array, err error) {
	a = array{dtype: d, shape: shape}
	if d.Kind == 'O' {
		a.objects, err = r.readObjects(data)
		return a, err
	}
	size := int64(-1)
	if shape != nil {
		size = int64(d.Size)
	}
	for _, n := range shape {
		if n > 0 && size > max(r.remaining, int64(len(data)))/int64(n) {
			return a, fmt.Errorf("an array of shape %v is over the limit", shape)
		}
		size *= int64(n)
	}
	if n, ok := r.containerLen(data); ok && (size < 0 || n == size) {
		a.data, err = r.decompress(data, n)
		return a, err
	}
	a.data = data
	if size >= 0 && int64(len(data)) != size {
		err = fmt.Errorf("%d bytes, neither plain data of %d bytes nor a Blosc container of them", len(data), size)
	}
	return a, err
}

var containerDecoder = blosc.NewDecoder(maxFrameBytes)

// containerLen returns the decompressed size of data. It returns false unless data is a
// Blosc container of at most r.remaining bytes.
func (r *blocksReader) containerLen(data []byte) (int64, bool) {
	if len(data) < blosc.HeaderLen {
		return 0, false
	}
	n, err := blosc.DecodedLen(data[:blosc.HeaderLen], int64(len(data)), r.remaining)
	return n, err == nil
}

func (r *blocksReader) decompress(data []byte, n int64) ([]byte, error) {
	r.remaining -= n
	return containerDecoder.Append(nil, data)
}

// readObjects reads framed lists of objects. The frames may be compressed together, with
// Blosc or Snappy.
func (r *blocksReader) readObjects(data []byte) (objects []any, err error) {
	if len(data) < frame.HeaderLen || binary.LittleEndian.Uint64(data) != uint64(len(data)-frame.HeaderLen) {
		if n, ok := r.containerLen(data); ok && n > max(64<<20, 22*int64(len(data))) {
			return nil, fmt.Errorf("objects: %d bytes of %d are over the limit", n, len(data))
		} else if ok {
			data, err = r.decompress(data, n)
		} else {
			data, err = r.decodeSnappy(data)
		}
		if err != nil {
			return nil, err
		}
	}
	return decodeLists(data, Python().Decode)
}

// decodeLists concatenates framed lists. decode decodes the content of a frame.
func decodeLists[T any](data []byte, decode func([]byte) ([]T, error)) (joined []T, err error) {
	err = eachPiece(frame.Split(data), decode, func(list []T) bool {
		joined = append(joined, list...)
		return true
	})
	return joined, err
}

func (r *blocksReader) decodeSnappy(data []byte) ([]byte, error) {
	n, err := snappy.DecodedLen(data)
	if err != nil {
		return nil, fmt.Errorf("objects are neither framed nor compressed with Blosc or Snappy: %w", err)
	}
	if int64(n) > min(r.remaining, 22*int64(len(data))) { // Snappy's maximum ratio
		return nil, fmt.Errorf("snappy: %d bytes of %d are over the limit", n, len(data))
	}
	r.remaining -= int64(n)
	return snappy.Decode(nil, data)
}

func unpickle(data []byte) (any, error) { return pickle.DecodeObjects(data, isPandasName) }

// isPandasName reports whether pickles of pandas arrays and indexes use a name. It also returns
// true for some unsupported names: the code that converts the unpickled objects returns a better
// error for them than package pickle.
func isPandasName(module, name string) bool {
	switch module {
	case "numpy", "numpy.core.numeric", "numpy._core.numeric", "numpy.core.multiarray", "numpy._core.multiarray":
		return name == "dtype" || name == "ndarray" || name == "frombuffer" || name == "_frombuffer" || name == "_reconstruct"
	case "pyarrow.lib":
		return name == "_restore_array" || name == "type_for_alias" || name == "py_buffer"
	case "pytz":
		return name == "_p" || name == "_UTC"
	case "zoneinfo", "builtins", "datetime":
		return name == "ZoneInfo" || name == "getattr" || name == "timezone" || name == "timedelta"
	case "pandas._libs.tslibs.offsets": // the frequency of an index
		return true
	}
	if module != "pandas" && !strings.HasPrefix(module, "pandas.") {
		return false
	}
	for _, suffix := range []string{"Index", "Array", "ArrayNumpySemantics", "Dtype", "Categorical"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return name == "array" || name == "NA" || name == "_new_DatetimeIndex" || name == "__pyx_unpickle_NDArrayBacked"
}

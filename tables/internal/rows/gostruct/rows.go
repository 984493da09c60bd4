package gostruct

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables/internal/rows/arrowtype"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

// ReadRows reads a batch's rows, starting at firstRow, into a slice of zero structs. It matches columns by name and
// ignores columns that have no field.
func (s *Struct) ReadRows(batch arrow.RecordBatch, firstRow int, into reflect.Value) error {
	for i, index := range s.index {
		name := s.Schema.Field(i).Name
		columnIndex, err := schema.ColumnIndex(batch.Schema(), name)
		if err != nil {
			return s.AddFieldName(into.Type().Elem(), err)
		}
		set := newSetter(batch.Column(columnIndex))
		for row := range into.Len() {
			if err := set(field(into.Index(row), index), firstRow+row); err != nil {
				return s.AddFieldName(into.Type().Elem(), schema.Errorf(name, "row %d of a batch: %w", firstRow+row+1, err))
			}
		}
	}
	return nil
}

// AddFieldName adds the name of the struct field to err if err is a schema.Error about a field's column. t is the
// struct's type. AddFieldName changes err in place, so err must not be shared.
func (s *Struct) AddFieldName(t reflect.Type, err error) error {
	e, ok := errors.AsType[*schema.Error](err)
	if !ok {
		return err
	}
	for i, index := range s.index {
		if s.Schema.Field(i).Name == e.Column {
			e.Err = fmt.Errorf("field %s of %s: %w", t.FieldByIndex(index).Name, t, e.Err)
		}
	}
	return err
}

// setter sets v, which must be addressable and zero, to the value in a row of a column. A null leaves v unchanged.
type setter func(v reflect.Value, row int) error

func newSetter(column arrow.Array) setter {
	values, index := arrowtype.Values(column)
	values = arrowtype.Storage(values)
	set := newValueSetter(values)
	return func(v reflect.Value, row int) error {
		row = index(row)
		kind := v.Kind()
		isSQLNullType := kind == reflect.Struct && isSQLNull(v.Type())
		switch {
		case row < 0 && !isSQLNullType && kind != reflect.Pointer && kind != reflect.Slice:
			return errors.New("the value is null: make the field a pointer or an sql.Null")
		case row < 0:
			return nil
		case isSQLNullType:
			v.Field(1).SetBool(true) // the fields are the value and Valid
			v = v.Field(0)
		case kind == reflect.Pointer:
			v.Set(reflect.New(v.Type().Elem()))
			v = v.Elem()
		}
		isSet, err := set(v, row)
		if !isSet && err == nil {
			err = fmt.Errorf("%.60s, a %s, is not a %s", values.ValueStr(row), values.DataType(), v.Type())
		}
		return err
	}
}

var durationType = reflect.TypeFor[time.Duration]()

// newValueSetter returns a function that sets v to a value that is not null, or returns false if v has another type.
func newValueSetter(a arrow.Array) func(v reflect.Value, row int) (isSet bool, err error) {
	t := arrowtype.Of(a.DataType())
	switch t.Kind {
	case arrowtype.Integer:
		return integerSetter(t.Ints(a), t.IsUnsigned())
	case arrowtype.Float:
		bits := a.DataType().(arrow.FixedWidthDataType).BitWidth()
		return setIf(func(v reflect.Value) bool { return v.CanFloat() && v.Type().Bits() >= bits }, reflect.Value.SetFloat, t.Floats(a))
	case arrowtype.Bool:
		return setIf(func(v reflect.Value) bool { return v.Kind() == reflect.Bool }, reflect.Value.SetBool, a.(*array.Boolean).Value)
	case arrowtype.Text:
		texts := a.(array.StringLike)
		return setIf(func(v reflect.Value) bool { return v.Kind() == reflect.String }, reflect.Value.SetString,
			func(row int) string { return strings.Clone(texts.Value(row)) })
	case arrowtype.Binary:
		values := a.(interface{ Value(int) []byte })
		return setIf(func(v reflect.Value) bool {
			return v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8
		}, reflect.Value.SetBytes,
			func(row int) []byte { return bytes.Clone(values.Value(row)) })
	case arrowtype.Duration:
		value, unit := t.Ints(a), int64(a.DataType().(*arrow.DurationType).Unit.Multiplier())
		return func(v reflect.Value, row int) (bool, error) {
			n := value(row)
			if v.Type() != durationType || n*unit/unit != n {
				return false, nil
			}
			v.SetInt(n * unit)
			return true, nil
		}
	case arrowtype.Timestamp, arrowtype.Date:
		return setIf(func(v reflect.Value) bool { return v.Type() == timeType }, func(v reflect.Value, t time.Time) { *timeOf(v) = t }, arrowtype.Times(a))
	case arrowtype.Struct:
		return structSetter(a.(*array.Struct))
	case arrowtype.List, arrowtype.Map:
		return listSetter(a.(array.ListLike))
	}
	return func(reflect.Value, int) (bool, error) { return false, nil }
}

func setIf[V any](accepts func(v reflect.Value) bool, set func(v reflect.Value, value V), value func(row int) V) func(v reflect.Value, row int) (bool, error) {
	return func(v reflect.Value, row int) (bool, error) {
		if !accepts(v) {
			return false, nil
		}
		set(v, value(row))
		return true, nil
	}
}

func integerSetter(value func(row int) int64, isUnsigned bool) func(v reflect.Value, row int) (bool, error) {
	return func(v reflect.Value, row int) (bool, error) {
		n := value(row)
		isLarge := isUnsigned && n < 0 // exceeds the largest int64
		switch {
		case v.CanInt() && !isLarge && !v.OverflowInt(n) && v.Type() != durationType:
			v.SetInt(n)
		case v.CanUint() && (n >= 0 || isLarge) && !v.OverflowUint(uint64(n)):
			v.SetUint(uint64(n))
		default:
			return false, nil
		}
		return true, nil
	}
}

func structSetter(a *array.Struct) func(v reflect.Value, row int) (bool, error) {
	typ, setters := a.DataType().(*arrow.StructType), make([]setter, a.NumField())
	for i := range setters {
		setters[i] = newSetter(a.Field(i))
	}
	return func(v reflect.Value, row int) (bool, error) {
		if v.Kind() != reflect.Struct || v.Type() == timeType {
			return false, nil
		}
		s, err := ForType(v.Type())
		if err != nil {
			return false, err
		}
		for i, index := range s.index {
			name := s.Schema.Field(i).Name
			fieldIndex, ok := typ.FieldIdx(name)
			if !ok {
				return false, fmt.Errorf("there is no field %q in %s", name, typ)
			}
			if err := setters[fieldIndex](field(v, index), row); err != nil {
				return false, fmt.Errorf("field %q: %w", name, err)
			}
		}
		return true, nil
	}
}

func listSetter(a array.ListLike) func(v reflect.Value, row int) (bool, error) {
	set := newSetter(a.ListValues())
	return func(v reflect.Value, row int) (bool, error) {
		if v.Kind() != reflect.Slice {
			return false, nil
		}
		start, end := a.ValueOffsets(row)
		n := int(end - start)
		list := reflect.MakeSlice(v.Type(), n, n)
		for i := range n {
			if err := set(list.Index(i), int(start)+i); err != nil {
				return false, fmt.Errorf("element %d: %w", i+1, err)
			}
		}
		v.Set(list)
		return true, nil
	}
}

// Batch converts a slice of structs to a batch. The caller must release it.
func (s *Struct) Batch(rows reflect.Value) (arrow.RecordBatch, error) {
	b := array.NewRecordBuilder(memory.DefaultAllocator, s.Schema)
	defer b.Release()
	b.Reserve(rows.Len())
	for i, index := range s.index {
		appendValue := newAppender(b.Field(i))
		for row := range rows.Len() {
			if err := appendValue(field(rows.Index(row), index)); err != nil {
				return nil, schema.Errorf(s.Schema.Field(i).Name, "row %d: %w", row+1, err)
			}
		}
	}
	return b.NewRecordBatch(), nil
}

// field is v.FieldByIndex, but faster for an index of length one.
func field(v reflect.Value, index []int) reflect.Value {
	if len(index) == 1 {
		return v.Field(index[0])
	}
	return v.FieldByIndex(index)
}

// newAppender returns a function that appends v, which must be addressable, to a builder of its type.
func newAppender(b array.Builder) func(v reflect.Value) error {
	appendValue := newValueAppender(b)
	return func(v reflect.Value) error {
		kind := v.Kind()
		null := (kind == reflect.Pointer || kind == reflect.Slice) && v.IsNil()
		if kind == reflect.Struct && isSQLNull(v.Type()) {
			null, v = !v.Field(1).Bool(), v.Field(0)
		}
		if null {
			b.AppendNull()
			return nil
		}
		if kind == reflect.Pointer {
			v = v.Elem()
		}
		return appendValue(v)
	}
}

func newValueAppender(builder array.Builder) func(v reflect.Value) error {
	t := arrowtype.Of(builder.Type())
	switch t.Kind {
	case arrowtype.List:
		b := builder.(*array.ListBuilder)
		appendElement := newAppender(b.ValueBuilder())
		return func(v reflect.Value) error {
			b.Append(true)
			for i := range v.Len() {
				if err := appendElement(v.Index(i)); err != nil {
					return fmt.Errorf("element %d: %w", i+1, err)
				}
			}
			return nil
		}
	case arrowtype.Struct:
		b := builder.(*array.StructBuilder)
		appenders := make([]func(v reflect.Value) error, b.NumField())
		for i := range appenders {
			appenders[i] = newAppender(b.FieldBuilder(i))
		}
		return func(v reflect.Value) error {
			b.Append(true)
			s, err := ForType(v.Type())
			for i := 0; i < len(appenders) && err == nil; i++ {
				err = appenders[i](field(v, s.index[i]))
			}
			return err
		}
	case arrowtype.Text:
		return appender(builder.(*array.StringBuilder).Append, reflect.Value.String)
	case arrowtype.Binary:
		return appender(t.BytesAppender(builder), reflect.Value.Bytes)
	case arrowtype.Bool:
		return appender(builder.(*array.BooleanBuilder).Append, reflect.Value.Bool)
	case arrowtype.Float:
		return appender(t.FloatAppender(builder), reflect.Value.Float)
	case arrowtype.Integer, arrowtype.Duration:
		if t.IsUnsigned() {
			return appender(t.IntAppender(builder), func(v reflect.Value) int64 { return int64(v.Uint()) })
		}
		return appender(t.IntAppender(builder), reflect.Value.Int)
	}
	add := t.IntAppender(builder)
	return func(v reflect.Value) error {
		n, err := timeValue(*timeOf(v), builder.Type())
		if err == nil {
			add(n)
		}
		return err
	}
}

func appender[V any](add func(V), value func(v reflect.Value) V) func(v reflect.Value) error {
	return func(v reflect.Value) error {
		add(value(v))
		return nil
	}
}

// timeValue returns a time as a value of a timestamp type or of date32.
func timeValue(v time.Time, t arrow.DataType) (int64, error) {
	if t, ok := t.(*arrow.TimestampType); ok {
		timestamp, err := arrow.TimestampFromTime(v, t.Unit)
		if err != nil {
			return 0, fmt.Errorf("%s is out of range for %s; for an unknown time, use a null: a nil pointer or an sql.Null", v, t)
		}
		return int64(timestamp), nil
	}
	year, month, day := v.Date()
	days := time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Unix() / (24 * 60 * 60)
	if int64(int32(days)) != days {
		return 0, fmt.Errorf("%s is out of range for %s", v, t)
	}
	return days, nil
}

// timeOf returns a pointer to an addressable time, which avoids a copy on the heap.
func timeOf(v reflect.Value) *time.Time { return v.Addr().Interface().(*time.Time) }

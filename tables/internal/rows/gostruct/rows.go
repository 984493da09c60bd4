package gostruct

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables/internal/rows/schema"
)

// ReadRows reads a batch's rows, starting at firstRow, into a slice of zero structs. It matches columns by name, and
// ignores columns that have no field.
func (s *Struct) ReadRows(batch arrow.RecordBatch, firstRow int, into reflect.Value) error {
	for i, index := range s.index {
		name := s.Schema.Field(i).Name
		columnIndex, err := schema.ColumnIndex(batch.Schema(), name)
		if err != nil {
			return s.AddFieldName(into.Type().Elem(), err)
		}
		column := batch.Column(columnIndex)
		for row := range into.Len() {
			if err := setValue(field(into.Index(row), index), column, firstRow+row); err != nil {
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

// setValue sets v, which must be addressable and zero, to the value in a row of a column. A null leaves v unchanged.
func setValue(v reflect.Value, column arrow.Array, row int) error {
	kind := v.Kind()
	isSQLNullType := kind == reflect.Struct && isSQLNull(v.Type())
	if column.IsNull(row) {
		if !isSQLNullType && kind != reflect.Pointer && kind != reflect.Slice {
			return errors.New("the value is null: make the field a pointer or an sql.Null")
		}
		return nil
	}
	if isSQLNullType {
		v.Field(1).SetBool(true) // the fields are the value and Valid
		v = v.Field(0)
	} else if kind == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	kind = v.Kind()
	switch a := column.(type) {
	case *array.Int8:
		return setInt(v, int64(a.Value(row)), a)
	case *array.Int16:
		return setInt(v, int64(a.Value(row)), a)
	case *array.Int32:
		return setInt(v, int64(a.Value(row)), a)
	case *array.Int64:
		return setInt(v, a.Value(row), a)
	case *array.Uint8:
		return setInt(v, int64(a.Value(row)), a)
	case *array.Uint16:
		return setInt(v, int64(a.Value(row)), a)
	case *array.Uint32:
		return setInt(v, int64(a.Value(row)), a)
	case *array.Uint64:
		n := a.Value(row)
		if n <= math.MaxInt64 {
			return setInt(v, int64(n), a)
		}
		if v.CanUint() && !v.OverflowUint(n) {
			v.SetUint(n)
			return nil
		}
	case *array.Float32:
		if v.CanFloat() {
			v.SetFloat(float64(a.Value(row)))
			return nil
		}
	case *array.Float64:
		if kind == reflect.Float64 {
			v.SetFloat(a.Value(row))
			return nil
		}
	case *array.Boolean:
		if kind == reflect.Bool {
			v.SetBool(a.Value(row))
			return nil
		}
	case array.StringLike:
		if kind == reflect.String {
			v.SetString(strings.Clone(a.Value(row)))
			return nil
		}
	case interface{ Value(int) []byte }:
		if kind == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes(bytes.Clone(a.Value(row)))
			return nil
		}
	case *array.Duration:
		unit := int64(a.DataType().(*arrow.DurationType).Unit.Multiplier())
		n := int64(a.Value(row))
		if v.Type() == reflect.TypeFor[time.Duration]() && n*unit/unit == n {
			v.SetInt(n * unit)
			return nil
		}
	case *array.Timestamp:
		return setTime(v, a.Value(row).ToTime(a.DataType().(*arrow.TimestampType).Unit), a)
	case *array.Date32:
		return setTime(v, a.Value(row).ToTime(), a)
	case *array.Date64:
		return setTime(v, a.Value(row).ToTime(), a)
	case *array.Dictionary:
		return setValue(v, a.Dictionary(), a.GetValueIndex(row))
	case array.ExtensionArray:
		return setValue(v, a.Storage(), row)
	case *array.Struct:
		if kind == reflect.Struct && v.Type() != timeType {
			return setStruct(v, a, row)
		}
	case array.ListLike:
		if kind == reflect.Slice {
			return setList(v, a, row)
		}
	}
	return fmt.Errorf("%.60s, a %s, is not a %s", column.ValueStr(row), column.DataType(), v.Type())
}

func setInt(v reflect.Value, n int64, column arrow.Array) error {
	switch {
	case v.CanInt() && !v.OverflowInt(n) && v.Type() != reflect.TypeFor[time.Duration]():
		v.SetInt(n)
	case v.CanUint() && n >= 0 && !v.OverflowUint(uint64(n)):
		v.SetUint(uint64(n))
	default:
		return fmt.Errorf("%d, a %s, is not a %s", n, column.DataType(), v.Type())
	}
	return nil
}

func setTime(v reflect.Value, value time.Time, column arrow.Array) error {
	if v.Type() != timeType {
		return fmt.Errorf("%s, a %s, is not a %s", value, column.DataType(), v.Type())
	}
	*timeOf(v) = value
	return nil
}

func setStruct(v reflect.Value, column *array.Struct, row int) error {
	s, err := ForType(v.Type())
	if err != nil {
		return err
	}
	typ := column.DataType().(*arrow.StructType)
	for i, index := range s.index {
		name := s.Schema.Field(i).Name
		fieldIndex, ok := typ.FieldIdx(name)
		if !ok {
			return fmt.Errorf("there is no field %q in %s", name, typ)
		}
		if err := setValue(field(v, index), column.Field(fieldIndex), row); err != nil {
			return fmt.Errorf("field %q: %w", name, err)
		}
	}
	return nil
}

func setList(v reflect.Value, column array.ListLike, row int) error {
	start, end := column.ValueOffsets(row)
	n := int(end - start)
	list := reflect.MakeSlice(v.Type(), n, n)
	for i := range n {
		if err := setValue(list.Index(i), column.ListValues(), int(start)+i); err != nil {
			return fmt.Errorf("element %d: %w", i+1, err)
		}
	}
	v.Set(list)
	return nil
}

// Batch converts a slice of structs to a batch. The caller must release it.
func (s *Struct) Batch(rows reflect.Value) (arrow.RecordBatch, error) {
	b := array.NewRecordBuilder(memory.DefaultAllocator, s.Schema)
	defer b.Release()
	b.Reserve(rows.Len())
	for i, index := range s.index {
		column := b.Field(i)
		for row := range rows.Len() {
			if err := appendValue(column, field(rows.Index(row), index)); err != nil {
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

// appendValue appends v, which must be addressable, to a builder of its type.
func appendValue(builder array.Builder, v reflect.Value) error {
	kind := v.Kind()
	null := (kind == reflect.Pointer || kind == reflect.Slice) && v.IsNil()
	if kind == reflect.Struct && isSQLNull(v.Type()) {
		null, v = !v.Field(1).Bool(), v.Field(0)
	}
	if null {
		builder.AppendNull()
		return nil
	}
	if kind == reflect.Pointer {
		v = v.Elem()
	}
	switch b := builder.(type) {
	case *array.BooleanBuilder:
		b.Append(v.Bool())
	case *array.Int8Builder:
		b.Append(int8(v.Int()))
	case *array.Int16Builder:
		b.Append(int16(v.Int()))
	case *array.Int32Builder:
		b.Append(int32(v.Int()))
	case *array.Int64Builder:
		b.Append(v.Int())
	case *array.DurationBuilder:
		b.Append(arrow.Duration(v.Int()))
	case *array.Uint8Builder:
		b.Append(uint8(v.Uint()))
	case *array.Uint16Builder:
		b.Append(uint16(v.Uint()))
	case *array.Uint32Builder:
		b.Append(uint32(v.Uint()))
	case *array.Uint64Builder:
		b.Append(v.Uint())
	case *array.Float32Builder:
		b.Append(float32(v.Float()))
	case *array.Float64Builder:
		b.Append(v.Float())
	case *array.StringBuilder:
		b.Append(v.String())
	case *array.BinaryBuilder:
		b.Append(v.Bytes())
	case *array.TimestampBuilder:
		timestamp, err := arrow.TimestampFromTime(*timeOf(v), b.Type().(*arrow.TimestampType).Unit)
		if err != nil {
			return fmt.Errorf("%s is out of range for %s; for an unknown time, use a null: a nil pointer or an sql.Null", timeOf(v), b.Type())
		}
		b.Append(timestamp)
	case *array.Date32Builder:
		year, month, day := timeOf(v).Date()
		days := time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Unix() / (24 * 60 * 60)
		if int64(int32(days)) != days {
			return fmt.Errorf("%s is out of range for %s", timeOf(v), b.Type())
		}
		b.Append(arrow.Date32(days))
	case *array.ListBuilder:
		b.Append(true)
		for i := range v.Len() {
			if err := appendValue(b.ValueBuilder(), v.Index(i)); err != nil {
				return fmt.Errorf("element %d: %w", i+1, err)
			}
		}
	case *array.StructBuilder:
		b.Append(true)
		s, err := ForType(v.Type())
		for i := 0; i < b.NumField() && err == nil; i++ {
			err = appendValue(b.FieldBuilder(i), field(v, s.index[i]))
		}
		return err
	}
	return nil
}

// timeOf returns a pointer to an addressable time, which avoids a copy on the heap.
func timeOf(v reflect.Value) *time.Time { return v.Addr().Interface().(*time.Time) }

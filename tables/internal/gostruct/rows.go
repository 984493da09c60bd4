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

	"github.com/go-partd/partd/tables/internal/schema"
)

// Read reads rows of a batch, starting at from, into a slice of zero structs. Columns are matched
// by name; other columns are ignored.
func (s *Struct) Read(batch arrow.RecordBatch, from int, into reflect.Value) error {
	for i, index := range s.index {
		name := s.Schema.Field(i).Name
		at, err := schema.ColumnIndex(batch.Schema(), name)
		if err != nil {
			return err
		}
		column := batch.Column(at)
		for row := range into.Len() {
			if err := set(field(into.Index(row), index), column, from+row); err != nil {
				return schema.Errorf(name, "row %d of a batch: %w", from+row+1, err)
			}
		}
	}
	return nil
}

// set sets an addressable value from a row of a column.
func set(v reflect.Value, column arrow.Array, row int) error {
	kind := v.Kind()
	holder := kind == reflect.Struct && isNull(v.Type())
	if column.IsNull(row) {
		if !holder && kind != reflect.Pointer && kind != reflect.Slice {
			return errors.New("it is null: make the field a pointer or an sql.Null")
		}
		return nil
	}
	if holder {
		v.Field(1).SetBool(true)
		v = v.Field(0)
	} else if kind == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	kind = v.Kind()
	switch a := column.(type) {
	case *array.Int8:
		return setWhole(v, int64(a.Value(row)), a)
	case *array.Int16:
		return setWhole(v, int64(a.Value(row)), a)
	case *array.Int32:
		return setWhole(v, int64(a.Value(row)), a)
	case *array.Int64:
		return setWhole(v, a.Value(row), a)
	case *array.Uint8:
		return setWhole(v, int64(a.Value(row)), a)
	case *array.Uint16:
		return setWhole(v, int64(a.Value(row)), a)
	case *array.Uint32:
		return setWhole(v, int64(a.Value(row)), a)
	case *array.Uint64:
		n := a.Value(row)
		if n <= math.MaxInt64 {
			return setWhole(v, int64(n), a)
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
		return set(v, a.Dictionary(), a.GetValueIndex(row))
	case array.ExtensionArray:
		return set(v, a.Storage(), row)
	case *array.Struct:
		if kind == reflect.Struct && v.Type() != timeType {
			return setStruct(v, a, row)
		}
	case array.ListLike:
		if kind == reflect.Slice {
			return setList(v, a, row)
		}
	}
	return fmt.Errorf("%.60s, a %s, is no %s", column.ValueStr(row), column.DataType(), v.Type())
}

func setWhole(v reflect.Value, n int64, column arrow.Array) error {
	switch {
	case v.CanInt() && !v.OverflowInt(n) && v.Type() != reflect.TypeFor[time.Duration]():
		v.SetInt(n)
	case v.CanUint() && n >= 0 && !v.OverflowUint(uint64(n)):
		v.SetUint(uint64(n))
	default:
		return fmt.Errorf("%d, a %s, is no %s", n, column.DataType(), v.Type())
	}
	return nil
}

// setTime sets a time, in UTC.
func setTime(v reflect.Value, at time.Time, column arrow.Array) error {
	if v.Type() != timeType {
		return fmt.Errorf("%s, a %s, is no %s", at, column.DataType(), v.Type())
	}
	*timeOf(v) = at
	return nil
}

func setStruct(v reflect.Value, column *array.Struct, row int) error {
	s, err := Of(v.Type())
	if err != nil {
		return err
	}
	typ := column.DataType().(*arrow.StructType)
	for i, index := range s.index {
		name := s.Schema.Field(i).Name
		at, ok := typ.FieldIdx(name)
		if !ok {
			return fmt.Errorf("there is no field %q in %s", name, typ)
		}
		if err := set(field(v, index), column.Field(at), row); err != nil {
			return fmt.Errorf("field %q: %w", name, err)
		}
	}
	return nil
}

func setList(v reflect.Value, column array.ListLike, row int) error {
	start, end := column.ValueOffsets(row)
	n := int(end - start)
	all := reflect.MakeSlice(v.Type(), n, n)
	for i := range n {
		if err := set(all.Index(i), column.ListValues(), int(start)+i); err != nil {
			return fmt.Errorf("element %d: %w", i+1, err)
		}
	}
	v.Set(all)
	return nil
}

// Batch converts a slice of the structs to a batch. The caller releases it.
func (s *Struct) Batch(rows reflect.Value) (arrow.RecordBatch, error) {
	b := array.NewRecordBuilder(memory.DefaultAllocator, s.Schema)
	defer b.Release()
	b.Reserve(rows.Len())
	for i, index := range s.index {
		column := b.Field(i)
		for row := range rows.Len() {
			if err := add(column, field(rows.Index(row), index)); err != nil {
				return nil, schema.Errorf(s.Schema.Field(i).Name, "row %d: %w", row+1, err)
			}
		}
	}
	return b.NewRecordBatch(), nil
}

// field is a faster FieldByIndex for an index of length one.
func field(v reflect.Value, index []int) reflect.Value {
	if len(index) == 1 {
		return v.Field(index[0])
	}
	return v.FieldByIndex(index)
}

// add appends an addressable value to a builder of its type.
func add(to array.Builder, v reflect.Value) error {
	kind := v.Kind()
	null := (kind == reflect.Pointer || kind == reflect.Slice) && v.IsNil()
	if kind == reflect.Struct && isNull(v.Type()) {
		null, v = !v.Field(1).Bool(), v.Field(0)
	}
	if null {
		to.AppendNull()
		return nil
	}
	if kind == reflect.Pointer {
		v = v.Elem()
	}
	switch b := to.(type) {
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
		at, err := arrow.TimestampFromTime(*timeOf(v), b.Type().(*arrow.TimestampType).Unit)
		if err != nil {
			return fmt.Errorf("%s is beyond %s; a time that is not known is a null, of a pointer or an sql.Null", timeOf(v), b.Type())
		}
		b.Append(at)
	case *array.Date32Builder:
		year, month, day := timeOf(v).Date()
		days := time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Unix() / (24 * 60 * 60)
		if int64(int32(days)) != days {
			return fmt.Errorf("%s is beyond %s", timeOf(v), b.Type())
		}
		b.Append(arrow.Date32(days))
	case *array.ListBuilder:
		b.Append(true)
		for i := range v.Len() {
			if err := add(b.ValueBuilder(), v.Index(i)); err != nil {
				return fmt.Errorf("element %d: %w", i+1, err)
			}
		}
	case *array.StructBuilder:
		b.Append(true)
		s, err := Of(v.Type())
		for i := 0; i < b.NumField() && err == nil; i++ {
			err = add(b.FieldBuilder(i), field(v, s.index[i]))
		}
		return err
	}
	return nil
}

// timeOf returns an addressable time value without a copy on the heap.
func timeOf(v reflect.Value) *time.Time { return v.Addr().Interface().(*time.Time) }

package gostruct

import (
	"fmt"
	"reflect"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables/internal/schema"
)

// Batch returns rows, a slice of the structs, as a batch, which the caller releases.
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

// field is FieldByIndex, which takes longer for an index of one.
func field(v reflect.Value, index []int) reflect.Value {
	if len(index) == 1 {
		return v.Field(index[0])
	}
	return v.FieldByIndex(index)
}

// add adds an addressable value to a builder of its type.
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

// timeOf returns the time that an addressable value is, without a copy on the heap.
func timeOf(v reflect.Value) *time.Time { return v.Addr().Interface().(*time.Time) }

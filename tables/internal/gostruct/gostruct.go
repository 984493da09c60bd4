// Package gostruct converts Go structs to columns, and columns to structs.
//
// It replaces arrow-go's arreflect, which (in v18.8.0) turns a nested time into a struct without
// fields and an sql.Null into a struct of two, refuses named types, and reads nulls as zeros.
package gostruct

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables/internal/schema"
)

// deepest limits nesting, because recursive types have no end.
const deepest = 32

var timeType = reflect.TypeFor[time.Time]()

// Struct is a struct type whose exported fields are columns.
type Struct struct {
	Schema *arrow.Schema
	index  [][]int // field index of each column
}

var known sync.Map // *Struct by reflect.Type

// Of returns the Struct of a type. Its error names a field that cannot be a column.
func Of(t reflect.Type) (*Struct, error) {
	if s, ok := known.Load(t); ok {
		return s.(*Struct), nil
	}
	s, err := of(t, deepest)
	if err == nil {
		known.Store(t, s)
	}
	return s, err
}

func of(t reflect.Type, depth int) (*Struct, error) {
	if t.Kind() != reflect.Struct || t == timeType || isNull(t) {
		return nil, fmt.Errorf("rows are structs, and %s is none", t)
	}
	s := &Struct{}
	fields, err := s.add(t, nil, depth)
	if err != nil {
		return nil, err
	}
	s.Schema = arrow.NewSchema(fields, nil)
	for _, f := range fields {
		if len(s.Schema.FieldIndices(f.Name)) > 1 {
			return nil, schema.Errorf(f.Name, "two fields of %s are this column", t)
		}
	}
	if len(fields) == 0 {
		return nil, fmt.Errorf("%s has no exported field, so that its rows have no column", t)
	}
	return s, nil
}

// add returns the columns of a struct that is at an index of the whole struct.
func (s *Struct) add(t reflect.Type, at []int, depth int) (columns []arrow.Field, err error) {
	for i := range t.NumField() {
		f := t.Field(i)
		tag, tagged := f.Tag.Lookup("arrow")
		index := append(at[:len(at):len(at)], i)
		if f.Anonymous && !tagged && f.Type.Kind() == reflect.Struct && f.Type != timeType && !isNull(f.Type) {
			within, err := s.add(f.Type, index, depth)
			if err != nil {
				return nil, err
			}
			columns = append(columns, within...)
			continue
		}
		if !f.IsExported() || tag == "-" {
			continue
		}
		name, text, _ := strings.Cut(tag, ",")
		name = cmp.Or(name, f.Name)
		c := arrow.Field{Name: name}
		if c.Type, c.Nullable, err = columnOf(f.Type, strings.TrimSpace(text), depth); err != nil {
			return nil, schema.Errorf(name, "field %s of %s: %w", f.Name, t, err)
		}
		columns, s.index = append(columns, c), append(s.index, index)
	}
	return columns, nil
}

// columnOf returns the column type of a Go type, and reports whether it is nullable. A tag may
// choose the column type of times.
func columnOf(t reflect.Type, tag string, depth int) (typ arrow.DataType, nullable bool, err error) {
	if depth == 0 {
		return nil, false, errors.New("its types are too deep within each other, or without end")
	}
	switch kind := t.Kind(); {
	case kind == reflect.Pointer || isNull(t):
		var of reflect.Type
		if kind == reflect.Pointer {
			of = t.Elem()
		} else {
			of = t.Field(0).Type
		}
		typ, nullable, err = columnOf(of, tag, depth-1)
		if err == nil && nullable {
			err = fmt.Errorf("%s has more than one null", t)
		}
		return typ, true, err
	case kind == reflect.Slice && t.Elem().Kind() != reflect.Uint8:
		item := arrow.Field{Name: "item"}
		if item.Type, item.Nullable, err = columnOf(t.Elem(), tag, depth-1); err != nil {
			return nil, false, err
		}
		return arrow.ListOfField(item), true, nil
	case t == timeType && tag != "":
		if typ, err = schema.Parse(tag); err == nil && typ.ID() != arrow.TIMESTAMP && typ.ID() != arrow.DATE32 {
			err = fmt.Errorf("a time is no %s", typ)
		}
		return typ, false, err
	case tag != "":
		return nil, false, fmt.Errorf("its tag has the type %s, and only times take one", tag)
	case t == timeType: // few other programs read Iceberg's nanoseconds
		return arrow.FixedWidthTypes.Timestamp_us, false, nil
	case t == reflect.TypeFor[time.Duration]():
		return arrow.FixedWidthTypes.Duration_ns, false, nil
	case kind == reflect.Slice:
		return arrow.BinaryTypes.Binary, true, nil
	case kind == reflect.Struct:
		s, err := of(t, depth-1)
		if err != nil {
			return nil, false, err
		}
		return arrow.StructOf(s.Schema.Fields()...), false, nil
	case plain[kind] == nil:
		return nil, false, fmt.Errorf("%s is no type of a column", t)
	}
	return plain[t.Kind()], false, nil
}

var plain = map[reflect.Kind]arrow.DataType{
	reflect.Bool: arrow.FixedWidthTypes.Boolean, reflect.String: arrow.BinaryTypes.String,
	reflect.Float32: arrow.PrimitiveTypes.Float32, reflect.Float64: arrow.PrimitiveTypes.Float64,
	reflect.Int: arrow.PrimitiveTypes.Int64, reflect.Int8: arrow.PrimitiveTypes.Int8, reflect.Int16: arrow.PrimitiveTypes.Int16,
	reflect.Int32: arrow.PrimitiveTypes.Int32, reflect.Int64: arrow.PrimitiveTypes.Int64,
	reflect.Uint: arrow.PrimitiveTypes.Uint64, reflect.Uint8: arrow.PrimitiveTypes.Uint8, reflect.Uint16: arrow.PrimitiveTypes.Uint16,
	reflect.Uint32: arrow.PrimitiveTypes.Uint32, reflect.Uint64: arrow.PrimitiveTypes.Uint64,
}

// isNull reports whether a type is a nullable value of database/sql, such as sql.Null[T] or
// sql.NullString, with a value and Valid.
func isNull(t reflect.Type) bool {
	return t.PkgPath() == "database/sql" && t.Kind() == reflect.Struct && t.NumField() == 2 && t.Field(1).Name == "Valid"
}

// Package gostruct converts Go structs to columns and columns to structs.
//
// It replaces arrow-go's arreflect. In v18.8.0, arreflect rejects named types and reads nulls as zeros. It
// converts a nested time to a struct without fields, and an sql.Null to a struct with two fields.
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

	"github.com/go-partd/partd/tables/internal/rows/schema"
)

// maxDepth limits nesting, because a recursive type would be infinitely deep.
const maxDepth = 32

var timeType = reflect.TypeFor[time.Time]()

// Struct is a Go struct type whose exported fields are columns.
type Struct struct {
	Schema *arrow.Schema
	index  [][]int // index of each column's field, for reflect's FieldByIndex
}

var structs sync.Map // *Struct by reflect.Type

// ForType returns the Struct of a type. If a field cannot be a column, the error names the field.
func ForType(t reflect.Type) (*Struct, error) {
	if s, ok := structs.Load(t); ok {
		return s.(*Struct), nil
	}
	s, err := parseStruct(t, maxDepth)
	if err != nil {
		return s, err
	}
	structs.Store(t, s)
	return s, nil
}

func parseStruct(t reflect.Type, depth int) (*Struct, error) {
	if t.Kind() != reflect.Struct || t == timeType || isSQLNull(t) {
		return nil, fmt.Errorf("rows must be structs, but %s is not a struct", t)
	}
	s := &Struct{}
	fields, err := s.addFields(t, nil, depth)
	if err != nil {
		return nil, err
	}
	s.Schema = arrow.NewSchema(fields, nil)
	for _, f := range fields {
		if len(s.Schema.FieldIndices(f.Name)) > 1 {
			return nil, schema.Errorf(f.Name, "two fields of %s have this column name", t)
		}
	}
	if len(fields) == 0 {
		return nil, fmt.Errorf("%s has no exported fields, so its rows would have no columns", t)
	}
	return s, nil
}

// addFields returns the columns for struct type t. index is the path from the outermost struct to t, as in reflect's
// FieldByIndex.
func (s *Struct) addFields(t reflect.Type, index []int, depth int) (columns []arrow.Field, err error) {
	for i := range t.NumField() {
		f := t.Field(i)
		tag, hasTag := f.Tag.Lookup("arrow")
		fieldIndex := append(index[:len(index):len(index)], i)
		if f.Anonymous && !hasTag && f.Type.Kind() == reflect.Struct && f.Type != timeType && !isSQLNull(f.Type) {
			embedded, err := s.addFields(f.Type, fieldIndex, depth)
			if err != nil {
				return nil, err
			}
			columns = append(columns, embedded...)
			continue
		}
		if !f.IsExported() || tag == "-" {
			continue
		}
		name, text, _ := strings.Cut(tag, ",")
		name = cmp.Or(name, f.Name)
		c := arrow.Field{Name: name}
		c.Type, c.Nullable, err = columnOf(f.Type, strings.TrimSpace(text), depth)
		if err != nil {
			return nil, schema.Errorf(name, "field %s of %s: %w", f.Name, t, err)
		}
		columns, s.index = append(columns, c), append(s.index, fieldIndex)
	}
	return columns, nil
}

// columnOf returns the column type for a Go type, and whether it is nullable. For times, tag can name the
// column type.
func columnOf(t reflect.Type, tag string, depth int) (typ arrow.DataType, nullable bool, err error) {
	if depth == 0 {
		return nil, false, errors.New("its types are nested too deeply, or recursive")
	}
	kind := t.Kind()
	switch {
	case kind == reflect.Pointer || isSQLNull(t):
		var elem reflect.Type
		if kind == reflect.Pointer {
			elem = t.Elem()
		} else {
			elem = t.Field(0).Type
		}
		typ, nullable, err = columnOf(elem, tag, depth-1)
		if err == nil && nullable {
			err = fmt.Errorf("%s can be null at two levels, such as nil and a pointer to nil: use a type with only one kind of null", t)
		}
		return typ, true, err
	case kind == reflect.Slice && t.Elem().Kind() != reflect.Uint8:
		item := arrow.Field{Name: "item"}
		item.Type, item.Nullable, err = columnOf(t.Elem(), tag, depth-1)
		if err != nil {
			return nil, false, err
		}
		return arrow.ListOfField(item), true, nil
	case t == timeType && tag != "":
		typ, err = schema.Parse(tag)
		if err == nil && typ.ID() != arrow.TIMESTAMP && typ.ID() != arrow.DATE32 {
			err = fmt.Errorf("a time cannot be stored as %s", typ)
		}
		return typ, false, err
	case tag != "":
		return nil, false, fmt.Errorf("its tag names the type %s, but only a time may have a type in its tag", tag)
	case t == timeType: // microseconds, because few other programs read Iceberg's nanoseconds
		return arrow.FixedWidthTypes.Timestamp_us, false, nil
	case t == reflect.TypeFor[time.Duration]():
		return arrow.FixedWidthTypes.Duration_ns, false, nil
	case kind == reflect.Slice:
		return arrow.BinaryTypes.Binary, true, nil
	case kind == reflect.Struct:
		s, err := parseStruct(t, depth-1)
		if err != nil {
			return nil, false, err
		}
		return arrow.StructOf(s.Schema.Fields()...), false, nil
	case basicTypes[kind] == nil:
		return nil, false, fmt.Errorf("%s cannot be the type of a column", t)
	}
	return basicTypes[t.Kind()], false, nil
}

var basicTypes = map[reflect.Kind]arrow.DataType{
	reflect.Bool: arrow.FixedWidthTypes.Boolean, reflect.String: arrow.BinaryTypes.String,
	reflect.Float32: arrow.PrimitiveTypes.Float32, reflect.Float64: arrow.PrimitiveTypes.Float64,
	reflect.Int: arrow.PrimitiveTypes.Int64, reflect.Int8: arrow.PrimitiveTypes.Int8, reflect.Int16: arrow.PrimitiveTypes.Int16,
	reflect.Int32: arrow.PrimitiveTypes.Int32, reflect.Int64: arrow.PrimitiveTypes.Int64,
	reflect.Uint: arrow.PrimitiveTypes.Uint64, reflect.Uint8: arrow.PrimitiveTypes.Uint8, reflect.Uint16: arrow.PrimitiveTypes.Uint16,
	reflect.Uint32: arrow.PrimitiveTypes.Uint32, reflect.Uint64: arrow.PrimitiveTypes.Uint64,
}

// isSQLNull reports whether t is a nullable type in database/sql, such as sql.Null[T] or sql.NullString: a struct with
// two fields, a value and Valid.
func isSQLNull(t reflect.Type) bool {
	return t.PkgPath() == "database/sql" && t.Kind() == reflect.Struct && t.NumField() == 2 && t.Field(1).Name == "Valid"
}

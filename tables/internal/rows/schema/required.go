package schema

import (
	"errors"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables/internal/rows/arrowtype"
)

// hasRequired reports whether t contains a field that cannot be null, such as a map key.
func hasRequired(t arrow.DataType) bool {
	nested, ok := arrowtype.Unwrap(t).(arrow.NestedType)
	if !ok {
		return false
	}
	for _, f := range nested.Fields() {
		if !f.Nullable || hasRequired(f.Type) {
			return true
		}
	}
	return false
}

// checkRequired returns an error that names a null field if t forbids a null in column a. a must have a type that
// tables store (see StoredSchema).
func checkRequired(column string, a arrow.Array, t arrow.DataType) error {
	if !hasForbiddenNull(a, t) {
		return nil
	}
	for i := range a.Len() {
		if path := nullField(column, a, t, i); path != "" {
			return &Error{column, errors.New("field " + strconv.Quote(path) + " is null in row " + strconv.Itoa(i+1) + " of a batch, but must not be null")}
		}
	}
	return nil
}

// CheckNestedNulls returns an error that names a nested field that is null but must not be. Parquet's writer would move
// the values of such fields to other rows (arrow-go 18.8).
func CheckNestedNulls(rows arrow.RecordBatch) error {
	for i, f := range rows.Schema().Fields() {
		if err := checkRequired(f.Name, rows.Column(i), f.Type); err != nil {
			return err
		}
	}
	return nil
}

// hasForbiddenNull reports whether a has a null in a nested field that cannot be null in t. Nulls under a null parent
// count too.
func hasForbiddenNull(a arrow.Array, t arrow.DataType) bool {
	for i, child := range arrowtype.Children(a) {
		if f := arrowtype.Unwrap(t).(arrow.NestedType).Fields()[i]; !f.Nullable && child.NullN() > 0 || hasForbiddenNull(child, f.Type) {
			return true
		}
	}
	return false
}

// nullField returns the path of a field that is null in row i but must not be, or "" if there is none.
func nullField(path string, a arrow.Array, t arrow.DataType, i int) string {
	if a.IsNull(i) {
		return ""
	}
	nullInChild := func(name string, a arrow.Array, f arrow.Field, i int) string {
		if !f.Nullable && a.IsNull(i) {
			return path + name
		}
		return nullField(path+name, a, f.Type, i)
	}
	if list, ok := a.(array.ListLike); ok {
		name := ".element"
		if a.DataType().ID() == arrow.MAP {
			name = ""
		}
		for start, end := list.ValueOffsets(i); start < end; start++ {
			if nullPath := nullInChild(name, list.ListValues(), arrowtype.Unwrap(t).(arrow.ListLikeType).ElemField(), int(start)); nullPath != "" {
				return nullPath
			}
		}
		return ""
	}
	for k, field := range arrowtype.Children(a) {
		f := arrowtype.Unwrap(t).(arrow.NestedType).Fields()[k]
		if nullPath := nullInChild("."+f.Name, field, f, i); nullPath != "" {
			return nullPath
		}
	}
	return ""
}

// WithNullableFields returns a type whose nested fields, except map keys, can be null.
func WithNullableFields(t arrow.DataType) arrow.DataType {
	return rebuild(t, func(f arrow.Field) arrow.Field {
		f.Type, f.Nullable = WithNullableFields(f.Type), true
		return f
	}, func(t arrow.DataType) arrow.DataType { return t })
}

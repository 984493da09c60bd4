package schema

import "github.com/apache/arrow-go/v18/arrow"

// meanings says what a type's values mean, for types whose stored type does not show it. Durations, for example, are
// stored as int64.
var meanings = map[arrow.Type]string{
	arrow.DURATION: "duration",
	arrow.TIME32:   "time of day",
	arrow.TIME64:   "time of day",
}

// CanPut reports whether values of one type can be put into a column of another. The stored types must be compatible,
// and the meaning must be the same, even within nested types. A [Caster] rejects individual values that the column's
// type cannot represent exactly.
func CanPut(from, to arrow.DataType) bool {
	a, err := StoredType(from)
	b, err2 := StoredType(to)
	promotes := CanPromote(a, b) && (arrow.IsFloating(a.ID()) || !arrow.IsFloating(b.ID()))
	return err == nil && err2 == nil && (Alike(a, b) || promotes) && sameMeaning(from, to)
}

func sameMeaning(from, to arrow.DataType) bool {
	from, to = Unwrap(from), Unwrap(to)
	if meanings[from.ID()] != meanings[to.ID()] {
		return false
	}
	a, ok := from.(arrow.NestedType)
	if !ok {
		return true
	}
	for i, f := range a.Fields() {
		if !sameMeaning(f.Type, to.(arrow.NestedType).Fields()[i].Type) {
			return false
		}
	}
	return true
}

// Unwrap returns the type of a column's values, without encodings and extensions. It does not change nested types.
func Unwrap(t arrow.DataType) arrow.DataType {
	for {
		switch wrapper := t.(type) {
		case *arrow.DictionaryType:
			t = wrapper.ValueType
		case *arrow.RunEndEncodedType:
			t = wrapper.Encoded()
		case arrow.ExtensionType:
			t = wrapper.StorageType()
		default:
			return t
		}
	}
}

// Restore replaces stored types with original types, at every level of nesting, where keep returns true for the
// original type.
func Restore(stored, original arrow.DataType, keep func(arrow.DataType) bool) arrow.DataType {
	original = Unwrap(original)
	if keep(original) {
		return original
	}
	switch original := original.(type) {
	case *arrow.StructType:
		fields := append([]arrow.Field(nil), stored.(*arrow.StructType).Fields()...)
		for i := range fields {
			fields[i].Type = Restore(fields[i].Type, original.Field(i).Type, keep)
		}
		return arrow.StructOf(fields...)
	case *arrow.MapType:
		m := stored.(*arrow.MapType)
		return arrow.MapOf(Restore(m.KeyType(), original.KeyType(), keep), Restore(m.ItemType(), original.ItemType(), keep))
	case arrow.ListLikeType:
		element := stored.(*arrow.ListType).ElemField()
		element.Type = Restore(element.Type, original.Elem(), keep)
		return arrow.ListOfField(element)
	}
	return stored
}

// IsDuration reports whether t is a duration.
func IsDuration(t arrow.DataType) bool { return t.ID() == arrow.DURATION }

package schema

import "github.com/apache/arrow-go/v18/arrow"

// kinds contains the types whose meaning differs from that of their stored type. For example, integers and
// durations are both stored as int64. Other types mean the same as their stored type.
var kinds = map[arrow.Type]string{
	arrow.DURATION: "duration",
	arrow.TIME32:   "time of day",
	arrow.TIME64:   "time of day",
}

// Fits reports whether values of one type may be put into a column of another. Both types must have the same
// meaning, also within lists, structs and maps, and their stored types must fit. A [Caster] refuses values that
// the column's type cannot represent exactly.
func Fits(from, to arrow.DataType) bool {
	a, err := StoredType(from)
	b, err2 := StoredType(to)
	promotes := Promotes(a, b) && (arrow.IsFloating(a.ID()) || !arrow.IsFloating(b.ID()))
	return err == nil && err2 == nil && (Alike(a, b) || promotes) && sameKind(from, to)
}

// sameKind reports whether values of two types with the same stored type mean the same.
func sameKind(from, to arrow.DataType) bool {
	from, to = unwrapped(from), unwrapped(to)
	if kinds[from.ID()] != kinds[to.ID()] {
		return false
	}
	a, ok := from.(arrow.NestedType)
	if !ok {
		return true
	}
	for i, f := range a.Fields() {
		if !sameKind(f.Type, to.(arrow.NestedType).Fields()[i].Type) {
			return false
		}
	}
	return true
}

// unwrapped returns a type without encodings and extensions.
func unwrapped(t arrow.DataType) arrow.DataType {
	t = logical(t)
	if extension, ok := t.(arrow.ExtensionType); ok {
		return unwrapped(extension.StorageType())
	}
	return t
}

// Restore returns a stored type with the parts of the original type that keep selects.
func Restore(stored, original arrow.DataType, keep func(arrow.DataType) bool) arrow.DataType {
	original = unwrapped(original)
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

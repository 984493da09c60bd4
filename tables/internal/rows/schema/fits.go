package schema

import (
	"slices"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables/internal/rows/arrowtype"
)

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
	if err != nil || err2 != nil {
		return false
	}
	promotes := CanPromote(a, b) && (arrow.IsFloating(a.ID()) || !arrow.IsFloating(b.ID()))
	return (Alike(a, b) || promotes) && sameMeaning(from, to)
}

func sameMeaning(from, to arrow.DataType) bool {
	from, to = arrowtype.Unwrap(from), arrowtype.Unwrap(to)
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

// Restore replaces stored types with original types, at every level of nesting, where keep returns true for the
// original type.
func Restore(stored, original arrow.DataType, keep func(arrow.DataType) bool) arrow.DataType {
	original = arrowtype.Unwrap(original)
	if keep(original) {
		return original
	}
	fields, originals := slices.Clone(arrowtype.Fields(stored)), arrowtype.Fields(original)
	if originals == nil {
		return stored
	}
	for i := range fields {
		fields[i].Type = Restore(fields[i].Type, originals[i].Type, keep)
	}
	return arrowtype.WithFields(stored, fields)
}

// IsDuration reports whether t is a duration.
func IsDuration(t arrow.DataType) bool { return t.ID() == arrow.DURATION }

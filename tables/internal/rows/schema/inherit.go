package schema

import (
	"slices"

	"github.com/apache/iceberg-go"
)

// inherit gives the field f the ID, defaults and documentation of the field old, whose rows it replaces. So files that
// another program wrote for old can still be appended. inherit returns false if f is required and old is not, or if the
// type of old cannot be promoted to the type of f.
func inherit(f, old iceberg.NestedField) (iceberg.NestedField, bool) {
	t, ok := inheritType(f.Type, old.Type)
	if !ok || f.Required && !old.Required {
		return f, false
	}
	old.Type, old.Required = t, f.Required
	return old, true
}

// inheritFields applies inherit to fields that old has under the same names. anyInherited says whether any field
// inherited an ID.
func inheritFields(fields, old []iceberg.NestedField) (inherited []iceberg.NestedField, anyInherited bool) {
	inherited = slices.Clone(fields)
	for i, f := range fields {
		k := slices.IndexFunc(old, func(o iceberg.NestedField) bool { return o.Name == f.Name })
		if k >= 0 {
			var ok bool
			inherited[i], ok = inherit(f, old[k])
			anyInherited = anyInherited || ok
		}
	}
	return inherited, anyInherited
}

// inheritType returns t with the IDs of nested fields in old. It returns false if old cannot become t.
func inheritType(t, old iceberg.Type) (iceberg.Type, bool) {
	switch t := t.(type) {
	case *iceberg.StructType:
		if old, ok := old.(*iceberg.StructType); ok {
			fields, anyInherited := inheritFields(t.FieldList, old.FieldList)
			return &iceberg.StructType{FieldList: fields}, anyInherited
		}
	case *iceberg.ListType:
		if old, ok := old.(*iceberg.ListType); ok {
			element, ok := inherit(t.ElementField(), old.ElementField())
			return &iceberg.ListType{ElementID: element.ID, Element: element.Type, ElementRequired: element.Required}, ok
		}
	case *iceberg.MapType:
		if old, ok := old.(*iceberg.MapType); ok {
			key, _ := inheritType(t.KeyType, old.KeyType)
			value, ok := inherit(t.ValueField(), old.ValueField())
			inherited := &iceberg.MapType{KeyID: old.KeyID, KeyType: key, ValueID: value.ID, ValueType: value.Type, ValueRequired: value.Required}
			return inherited, ok && key.Equals(old.KeyType) // Iceberg does not allow any change of a key
		}
	}
	return t, promotes(old, t)
}

// promotes reports whether Iceberg lets a column's type change from one type to another. It returns true for equal types.
func promotes(from, to iceberg.Type) bool {
	switch from.(type) {
	case iceberg.Int32Type, iceberg.Float32Type, iceberg.DecimalType:
		if _, err := iceberg.PromoteType(from, to); err == nil {
			return true
		}
	}
	return from.Equals(to)
}

package schema

import (
	"github.com/apache/arrow-go/v18/parquet"
	pqschema "github.com/apache/arrow-go/v18/parquet/schema"
)

// withReadableTypes returns a Parquet file's schema in a form that arrow-go reads correctly: JSON and enums are strings, and
// every list has three levels. By the format's backward-compatibility rules, a repeated group whose only field is repeated is
// itself the element; arrow-go would take the field as the element. A required group around the element prevents this, and
// changes neither the columns nor their levels.
func withReadableTypes(s *pqschema.Schema) (*pqschema.Schema, error) {
	root, err := readableNode(s.Root())
	if err != nil || root == pqschema.Node(s.Root()) {
		return s, err
	}
	return pqschema.NewSchema(root.(*pqschema.GroupNode)), nil
}

// readableNode applies withReadableTypes to one node. It returns n if nothing changes.
func readableNode(n pqschema.Node) (pqschema.Node, error) {
	group, ok := n.(*pqschema.GroupNode)
	if !ok {
		switch n.LogicalType().(type) {
		case pqschema.JSONLogicalType, pqschema.EnumLogicalType:
			return pqschema.NewPrimitiveNodeLogical(n.Name(), n.RepetitionType(), pqschema.StringLogicalType{}, parquet.Types.ByteArray, 0, n.FieldID())
		}
		return n, nil
	}
	fields, changed := make(pqschema.FieldList, group.NumFields()), false
	for i := range fields {
		var err error
		if fields[i], err = readableNode(group.Field(i)); err != nil {
			return nil, err
		}
		changed = changed || fields[i] != group.Field(i)
	}
	if len(fields) == 1 && isList(group) && hasRepeatedField(fields[0]) {
		inner := fields[0].(*pqschema.GroupNode)
		element, err := groupNode(inner, "element", parquet.Repetitions.Required, pqschema.FieldList{inner.Field(0)})
		if err != nil {
			return nil, err
		}
		if fields[0], err = pqschema.NewGroupNode("list", parquet.Repetitions.Repeated, pqschema.FieldList{element}, -1); err != nil {
			return nil, err
		}
		changed = true
	}
	if !changed {
		return n, nil
	}
	return groupNode(group, group.Name(), group.RepetitionType(), fields)
}

// ReadableByID reports whether a reader that finds fields by ID, and reads only three-level lists, finds all values of a field.
func ReadableByID(n pqschema.Node) bool {
	group, ok := n.(*pqschema.GroupNode)
	repeats := n.RepetitionType() == parquet.Repetitions.Repeated
	if !ok || repeats || n.FieldID() < 0 {
		return !repeats && n.FieldID() >= 0
	}
	fields := group
	if list := isList(group); list || group.LogicalType().Equals(pqschema.MapLogicalType{}) {
		if fields, ok = group.Field(0).(*pqschema.GroupNode); !ok || list && (fields.NumFields() != 1 || fields.Name() == "array" || fields.Name() == group.Name()+"_tuple") {
			return false
		}
	}
	for i := range fields.NumFields() {
		if !ReadableByID(fields.Field(i)) {
			return false
		}
	}
	return true
}

func isList(n pqschema.Node) bool { return n.LogicalType().Equals(pqschema.NewListLogicalType()) }

func hasRepeatedField(n pqschema.Node) bool {
	group, ok := n.(*pqschema.GroupNode)
	return ok && group.NumFields() == 1 && group.RepetitionType() == parquet.Repetitions.Repeated &&
		group.Field(0).RepetitionType() == parquet.Repetitions.Repeated
}

func groupNode(n *pqschema.GroupNode, name string, r parquet.Repetition, fields pqschema.FieldList) (*pqschema.GroupNode, error) {
	if n.LogicalType().IsNone() {
		return pqschema.NewGroupNode(name, r, fields, n.FieldID())
	}
	return pqschema.NewGroupNodeLogical(name, r, fields, n.LogicalType(), n.FieldID())
}

//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package database

import (
	"cmp"
	"slices"
)

// from checks a table or a join in a FROM clause. where are conditions of the WHERE clause that apply to its rows.
func (c *keyChecker) from(node map[string]any, tables map[string]*relation, where []map[string]any) *relation {
	renamed, alias := listField(node, "column_name_alias"), fold(stringField(node, "alias"))
	switch stringField(node, "type") {
	case "EMPTY":
		return &relation{}
	case "TABLE_FUNCTION", "EXPRESSION_LIST": // a function such as unnest, or VALUES
		return unknown().as(alias, nil)
	case "SUBQUERY":
		return c.query(mapField(mapField(node, "subquery"), "node"), tables).as(alias, renamed)
	case "JOIN":
		return c.join(node, tables, where)
	case "BASE_TABLE":
		name := fold(stringField(node, "table_name"))
		table := cmp.Or(tables[name], c.inputs[name])
		if table != nil && stringField(node, "schema_name") == "" && node["at_clause"] == nil {
			return table.as(cmp.Or(alias, name), renamed)
		}
		c.refuse(node, "the table %q is no input: pass it as an input, with its key columns", stringField(node, "table_name"))
	}
	c.refuse(node, "%s after FROM is not proved: select from the inputs", stringField(node, "type"))
	return unknown()
}

// join checks a join. Two inputs must be joined by equality of all key columns, in ON, in USING, or, for inner joins, in
// WHERE.
func (c *keyChecker) join(node map[string]any, tables map[string]*relation, where []map[string]any) *relation {
	j := &keyedJoin{kind: stringField(node, "join_type")}
	ref := stringField(node, "ref_type")
	if j.kind != "INNER" || ref == "ASOF" { // WHERE applies after the join, which can depend on the other rows
		where = nil
	}
	j.left, j.right = c.from(mapField(node, "left"), tables, where), c.from(mapField(node, "right"), tables, where)
	for _, column := range listField(node, "using_columns") {
		name, _ := column.(string)
		j.using = append(j.using, fold(name))
	}
	if ref == "ASOF" && len(j.using) > 0 { // the last column is compared by >=
		j.last = j.using[len(j.using)-1]
	}
	keys := j.equalKeys(append(conjuncts(node["condition"]), where...))
	isKnown := slices.Contains([]string{"REGULAR", "CROSS", "ASOF"}, ref) && slices.Contains([]string{"INNER", "LEFT", "RIGHT", "FULL", "SEMI", "ANTI"}, j.kind)
	hasAllLeft, hasAllRight := j.kind != "INNER" && j.kind != "RIGHT", j.kind == "RIGHT" || j.kind == "FULL"
	switch {
	case !isKnown:
		c.refuse(node, "a %s %s join is not proved: use JOIN with equality of the key columns %s in ON or USING", ref, j.kind, c.missing(0))
	case j.left.hasInput && j.right.hasInput && keys != c.all:
		c.refuse(node, "the join can combine rows of different keys: add equality of the key columns %s as plain columns to ON or USING, connected by AND; an outer join leaves NULL in the keys of one side", c.missing(keys))
	case !j.left.hasInput && j.right.hasInput && hasAllLeft, j.left.hasInput && !j.right.hasInput && hasAllRight:
		c.refuse(node, "each part would have the unmatched rows of the side that reads no input: use an inner join, or an outer join that keeps the rows of the input")
	}
	return j.result()
}

type keyedJoin struct {
	kind        string
	left, right *relation
	using       []string // columns of USING
	last        string   // the last column of USING in an ASOF join, which is not compared for equality
}

// equalKeys returns the key columns that are equal in the rows that the join combines.
func (j *keyedJoin) equalKeys(conditions []map[string]any) (keys keySet) {
	equate := func(first, second []string) {
		firstLeft, _ := j.left.find(first)
		secondRight, _ := j.right.find(second)
		keys |= firstLeft & secondRight
	}
	for _, name := range j.using {
		if name != j.last {
			equate([]string{name}, []string{name})
		}
	}
	for _, condition := range conditions {
		first, second := namesOf(mapField(condition, "left")), namesOf(mapField(condition, "right"))
		isEquality := slices.Contains([]string{"COMPARE_EQUAL", "COMPARE_NOT_DISTINCT_FROM"}, stringField(condition, "type"))
		if isEquality && len(first) > 0 && len(second) > 0 {
			equate(first, second)
			equate(second, first)
		}
	}
	return keys
}

// result returns the columns of the join. The side of an outer join that can be NULL loses its keys. A column of USING
// has the values of the side that cannot be NULL, or, in a full join, of the side that is not NULL.
func (j *keyedJoin) result() *relation {
	hasLeftKeys, hasRightKeys := j.kind != "RIGHT" && j.kind != "FULL", j.kind == "INNER" || j.kind == "RIGHT"
	r := &relation{
		visible: clone(j.left.visible, hasLeftKeys), qualified: clone(j.left.qualified, hasLeftKeys), hasInput: j.left.hasInput || j.right.hasInput,
	}
	for _, name := range j.using {
		l, o := indexOf(j.left.visible, name), indexOf(j.right.visible, name)
		switch {
		case l < 0:
		case name == j.last:
			r.visible[l].keys = 0
		case o >= 0 && j.kind == "RIGHT":
			r.visible[l].keys = j.right.visible[o].keys
		case o >= 0 && j.kind == "FULL":
			r.visible[l].keys = j.left.visible[l].keys & j.right.visible[o].keys
		}
	}
	if j.kind == "SEMI" || j.kind == "ANTI" {
		return r
	}
	for _, column := range clone(j.right.visible, hasRightKeys) {
		if !slices.Contains(j.using, column.name) {
			r.visible = append(r.visible, column)
		}
	}
	r.qualified = append(r.qualified, clone(j.right.qualified, hasRightKeys)...)
	return r
}

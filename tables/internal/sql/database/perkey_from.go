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
	kind, ref := stringField(node, "join_type"), stringField(node, "ref_type")
	if kind != "INNER" || ref == "ASOF" { // WHERE applies after the join, which can depend on the other rows
		where = nil
	}
	left, right := c.from(mapField(node, "left"), tables, where), c.from(mapField(node, "right"), tables, where)
	var using []string
	for _, column := range listField(node, "using_columns") {
		name, _ := column.(string)
		name = fold(name)
		if !slices.Contains(using, name) { // DuckDB removes duplicates
			using = append(using, name)
		}
	}
	equal, kinds := using, []string{"INNER", "LEFT", "RIGHT", "FULL", "SEMI", "ANTI"}
	if ref == "ASOF" {
		using = slices.Concat(c.excludeNulls(node, left, right, using), using)
		equal = using[:max(0, len(using)-1)] // the last column is compared by >=
		kinds = kinds[:2]                    // ASOF joins of other kinds never end if the left side has no rows (DuckDB 1.5.6)
	}
	keys := equalKeys(left, right, equal, append(conjuncts(node["condition"]), where...))
	isKnown := slices.Contains([]string{"REGULAR", "CROSS", "ASOF"}, ref) && slices.Contains(kinds, kind)
	// Whether a row of the left or the right side can have a result row in each part. In an ASOF join, a row of the left
	// side can have one with the nearest row of each part.
	dependsLeft, dependsRight := kind != "INNER" && kind != "RIGHT" || ref == "ASOF", kind == "RIGHT" || kind == "FULL"
	switch {
	case !isKnown:
		c.refuse(node, "a %s %s join is not proved: use JOIN with equality of the key columns %s in ON or USING", ref, kind, c.missing(0))
	case left.hasInput && right.hasInput && keys != c.all:
		c.refuse(node, "the join can combine rows of different keys: add equality of the key columns %s as plain columns to ON or USING, connected by AND; an outer join leaves NULL in the keys of one side", c.missing(keys))
	case !left.hasInput && right.hasInput && dependsLeft, left.hasInput && !right.hasInput && dependsRight:
		c.refuse(node, "the rows of the side that reads no input would have results in each part: use an inner join, or an outer join that keeps the rows of the input")
	}
	return joined(kind, left, right, using, equal)
}

// equalKeys returns the key columns that are equal in the rows that a join combines.
func equalKeys(left, right *relation, equal []string, conditions []map[string]any) (keys keySet) {
	equate := func(first, second []string) {
		leftKeys, _ := left.find(first)
		rightKeys, _ := right.find(second)
		keys |= leftKeys & rightKeys
	}
	for _, name := range equal {
		equate([]string{name}, []string{name})
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

// joined returns the result of a join. The side of an outer join that can be NULL loses its keys. A column of USING has
// the values of the side that cannot be NULL, or, in a full join, of the side that is not NULL.
func joined(kind string, left, right *relation, using, equal []string) *relation {
	hasLeftKeys, hasRightKeys := kind != "RIGHT" && kind != "FULL", kind == "INNER" || kind == "RIGHT"
	r := &relation{visible: clone(left.visible, hasLeftKeys), qualified: clone(left.qualified, hasLeftKeys), hasInput: left.hasInput || right.hasInput}
	for _, name := range using {
		column := indexOf(r.visible, name)
		if column < 0 {
			continue
		}
		leftKeys := left.visible[column].keys
		rightKeys, _ := right.find([]string{name})
		switch {
		case !slices.Contains(equal, name):
			leftKeys = 0
		case kind == "RIGHT":
			leftKeys = rightKeys
		case kind == "FULL":
			leftKeys &= rightKeys
		}
		r.visible[column].keys = leftKeys
	}
	if kind == "SEMI" || kind == "ANTI" {
		return r
	}
	for _, column := range clone(right.visible, hasRightKeys) {
		if !slices.Contains(using, column.name) {
			r.visible = append(r.visible, column)
		}
	}
	r.qualified = append(r.qualified, clone(right.qualified, hasRightKeys)...)
	return r
}

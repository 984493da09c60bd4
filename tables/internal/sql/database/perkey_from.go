//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package database

import (
	"cmp"
	"slices"
)

// from checks a table or a join in a FROM clause. where are conditions of the WHERE clause that apply to its rows.
func (c *keyChecker) from(node map[string]any, tables map[string]*relation, where []any) *relation {
	if node["sample"] != nil {
		c.refuse(node, "TABLESAMPLE would choose rows of each part: leave it out, or filter by a hash, as in WHERE hash(…) %% 10 = 0")
	}
	renamed := listField(node, "column_name_alias")
	alias := fold(stringField(node, "alias"))
	switch nodeType := stringField(node, "type"); nodeType {
	case "EMPTY":
		return &relation{}
	case "BASE_TABLE":
		name := fold(stringField(node, "table_name"))
		return c.table(node, name, tables).as(cmp.Or(alias, name), renamed)
	case "SUBQUERY":
		return c.query(mapField(mapField(node, "subquery"), "node"), tables, false).as(alias, renamed)
	case "JOIN":
		return c.join(node, tables, where)
	case "TABLE_FUNCTION", "EXPRESSION_LIST": // a function such as unnest, or VALUES
		e := &expressions{c: c, scope: constant()}
		e.walk(node["function"], nil)
		e.walk(node["values"], nil)
		return constant().as(alias, nil)
	case "PIVOT":
		c.refuse(node, "PIVOT and UNPIVOT are not proved: use GROUP BY with FILTER, or unnest")
	default:
		c.refuse(node, "%s after FROM is not proved: select from the inputs", nodeType)
	}
	return constant()
}

// table returns the common table expression or the input with a name.
func (c *keyChecker) table(node map[string]any, name string, tables map[string]*relation) *relation {
	isQualified := stringField(node, "schema_name") != "" || stringField(node, "catalog_name") != ""
	switch {
	case node["at_clause"] != nil:
		c.refuse(node, "inputs have no versions: leave out AT")
	case isQualified || tables[name] == nil && c.inputs[name] == nil:
		c.refuse(node, "the table %q is no input: pass it as an input, with its key columns", stringField(node, "table_name"))
	case tables[name] != nil:
		return tables[name]
	default:
		return c.inputs[name]
	}
	return constant()
}

// join checks a join. Two inputs must be joined by equality of all key columns, in ON, in USING, or, for inner joins, in
// WHERE.
func (c *keyChecker) join(node map[string]any, tables map[string]*relation, where []any) *relation {
	kind, ref := stringField(node, "join_type"), stringField(node, "ref_type")
	isAsOf := ref == "ASOF"
	if kind != "INNER" || isAsOf { // WHERE applies after the join, which can depend on the other rows
		where = nil
	}
	left := c.from(mapField(node, "left"), tables, where)
	right := c.from(mapField(node, "right"), tables, where)
	j := &keyedJoin{kind: kind, left: left, right: right}
	for _, column := range listField(node, "using_columns") {
		name, _ := column.(string)
		j.using = append(j.using, fold(name))
	}
	if ref == "NATURAL" {
		for _, column := range left.visible {
			if right.visible.index(column.name) >= 0 {
				j.using = append(j.using, column.name)
			}
		}
	}
	if isAsOf && len(j.using) > 0 { // the last column is compared by >=
		j.last = j.using[len(j.using)-1]
	}
	result := j.result()
	e := &expressions{c: c, scope: &relation{
		visible: slices.Concat(left.visible, right.visible), qualified: slices.Concat(left.qualified, right.qualified), hasInput: result.hasInput,
	}}
	e.walk(node["condition"], nil)

	keys := j.equalKeys(append(conjuncts(node["condition"]), where...))
	isUnknown := ref == "NATURAL" && (left.visible.hasUnknown() || right.visible.hasUnknown())
	isRefKnown := slices.Contains([]string{"REGULAR", "CROSS", "NATURAL", "ASOF"}, ref)
	isKindKnown := slices.Contains([]string{"INNER", "LEFT", "RIGHT", "FULL", "SEMI", "ANTI"}, kind)
	switch {
	case ref == "POSITIONAL":
		c.refuse(node, "a positional join combines rows by their positions in a part: join by the key columns %s", c.missing(0))
	case !isRefKnown || !isKindKnown || isUnknown:
		c.refuse(node, "a %s %s join is not proved: use JOIN … ON", ref, kind)
	case left.hasInput && right.hasInput:
		if keys != c.all {
			c.refuse(node, "the join can combine rows of different keys: add equality of the key columns %s as plain columns to ON or USING, connected by AND; an outer join leaves NULL in the keys of one side", c.missing(keys))
		}
	case left.isConstant() && right.hasInput && kind != "INNER" && kind != "RIGHT", left.hasInput && right.isConstant() && (kind == "RIGHT" || kind == "FULL"):
		c.refuse(node, "each part would have the unmatched rows of the side that reads no input: use an inner join, or an outer join that keeps the rows of the input")
	}
	return result
}

type keyedJoin struct {
	kind        string
	left, right *relation
	using       []string // columns of USING
	last        string   // the last column of USING in an ASOF join, which is not compared for equality
}

// equalKeys returns the key columns that are equal in the rows that the join combines.
func (j *keyedJoin) equalKeys(conditions []any) (keys keySet) {
	for _, name := range j.using {
		l, r := j.left.visible.index(name), j.right.visible.index(name)
		if name != j.last && l >= 0 && r >= 0 {
			keys |= j.left.visible[l].keys & j.right.visible[r].keys
		}
	}
	for _, condition := range conditions {
		comparison, _ := condition.(map[string]any)
		comparisonType := stringField(comparison, "type")
		first, second := namesOf(comparison["left"]), namesOf(comparison["right"])
		if len(first) == 0 || len(second) == 0 || comparisonType != "COMPARE_EQUAL" && comparisonType != "COMPARE_NOT_DISTINCT_FROM" {
			continue
		}
		firstLeft, _ := j.left.find(first)
		secondRight, _ := j.right.find(second)
		firstRight, _ := j.right.find(first)
		secondLeft, _ := j.left.find(second)
		keys |= firstLeft&secondRight | firstRight&secondLeft
	}
	return keys
}

// result returns the columns of the join. The side of an outer join that can be NULL loses its keys. A column of USING
// has the values of the side that cannot be NULL, or, in a full join, of the side that is not NULL.
func (j *keyedJoin) result() *relation {
	leftKeys, rightKeys := keepKeys, keepKeys
	if j.kind == "RIGHT" || j.kind == "FULL" {
		leftKeys = noKeys
	}
	if j.kind != "INNER" && j.kind != "RIGHT" {
		rightKeys = noKeys
	}
	r := &relation{hasInput: j.left.hasInput || j.right.hasInput}
	for _, column := range j.left.visible {
		other := j.right.visible.index(column.name)
		isMerged := other >= 0 && slices.Contains(j.using, column.name)
		switch {
		case isMerged && column.name == j.last:
			column.keys = 0
		case isMerged && j.kind == "FULL":
			column.keys &= j.right.visible[other].keys
		case isMerged && j.kind == "RIGHT":
			column.keys = j.right.visible[other].keys
		case !isMerged:
			column.keys = leftKeys(&column)
		}
		r.visible = append(r.visible, column)
	}
	r.qualified = j.left.qualified.with(leftKeys)
	if j.kind == "SEMI" || j.kind == "ANTI" {
		return r
	}
	for _, column := range j.right.visible {
		if !slices.Contains(j.using, column.name) {
			column.keys = rightKeys(&column)
			r.visible = append(r.visible, column)
		}
	}
	r.qualified = append(r.qualified, j.right.qualified.with(rightKeys)...)
	return r
}

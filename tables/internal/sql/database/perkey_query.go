//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package database

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
)

// query checks a query with its common table expressions. tables are the results of the enclosing ones, by folded name.
func (c *keyChecker) query(node map[string]any, tables map[string]*relation, isTop bool) *relation {
	for _, e := range listField(mapField(node, "cte_map"), "map") {
		entry, _ := e.(map[string]any)
		value := mapField(entry, "value")
		result := c.query(mapField(mapField(value, "query"), "node"), tables, false)
		name := fold(stringField(entry, "key"))
		tables = maps.Clone(tables)
		if tables == nil {
			tables = map[string]*relation{}
		}
		tables[name] = result.as(name, listField(value, "aliases"))
	}
	for _, m := range listField(node, "modifiers") {
		modifier, _ := m.(map[string]any)
		switch stringField(modifier, "type") {
		case "LIMIT_MODIFIER", "LIMIT_PERCENT_MODIFIER":
			c.refuse(modifier, "LIMIT and OFFSET would apply to each part: leave them out, or limit the rows of each key with QUALIFY row_number() OVER (PARTITION BY %s ORDER BY …) <= n", c.missing(0))
		case "ORDER_MODIFIER":
			if isTop {
				c.refuse(modifier, "ORDER BY would sort each part: leave it out, and use --sort-by to sort the result. If SELECT DISTINCT ON needs it, use a subquery: SELECT * FROM (SELECT DISTINCT ON … ORDER BY …)")
			}
		}
	}
	switch stringField(node, "type") {
	case "SELECT_NODE":
		return c.selection(node, tables)
	case "SET_OPERATION_NODE":
		return c.setOperation(node, tables)
	case "RECURSIVE_CTE_NODE":
		c.refuse(node, "a recursive query is not proved: leave out WITH RECURSIVE")
	default:
		c.refuse(node, "a query of type %s is not proved: use SELECT", stringField(node, "type"))
	}
	return constant()
}

// setOperation checks UNION and similar operations. Except for UNION ALL, they compare complete rows.
func (c *keyChecker) setOperation(node map[string]any, tables map[string]*relation) *relation {
	operation := stringField(node, "setop_type")
	var result *relation
	for _, child := range listField(node, "children") {
		query, _ := child.(map[string]any)
		r := c.query(query, tables, false)
		if r.isConstant() {
			c.refuse(query, "each part would have the rows of this SELECT, which reads no input: leave it out, or join it with an input")
		}
		isKnown := true
		r = &relation{hasInput: r.hasInput, visible: r.visible.with(func(column *keyedColumn) keySet {
			isKnown = isKnown && !column.isUnknown
			if !isKnown {
				return 0
			}
			return column.keys
		})}
		switch {
		case result == nil:
			result = r
		case operation == "UNION_BY_NAME":
			result.visible = unionByName(result.visible, r.visible)
		default:
			position := -1
			result.visible = result.visible.with(func(column *keyedColumn) keySet {
				position++
				if position >= len(r.visible) {
					return 0
				}
				return column.keys & r.visible[position].keys
			})
		}
	}
	if result == nil {
		return constant()
	}
	isUnionAll := node["setop_all"] == true && (operation == "UNION" || operation == "UNION_BY_NAME")
	if keys := result.visible.keys(); !isUnionAll && keys != c.all {
		c.refuse(node, "%s compares rows of different keys: select the key columns %s as plain columns, at the same positions in each SELECT, or use UNION ALL", operation, c.missing(keys))
	}
	for _, m := range listField(node, "modifiers") {
		e := &expressions{c: c, scope: result, isOrder: true}
		e.walk(m, nil)
	}
	return result
}

func unionByName(left, right columnList) columnList {
	result := left.with(func(column *keyedColumn) keySet {
		if i := right.index(column.name); i >= 0 {
			return column.keys & right[i].keys
		}
		return 0
	})
	for _, column := range right.with(noKeys) {
		if column.name == "" || left.index(column.name) < 0 {
			result = append(result, column)
		}
	}
	return result
}

// keys returns the key columns that are among the columns.
func (l columnList) keys() (keys keySet) {
	for i := range l {
		keys |= l[i].keys
	}
	return keys
}

// selection checks a SELECT.
func (c *keyChecker) selection(node map[string]any, tables map[string]*relation) *relation {
	if node["sample"] != nil {
		c.refuse(node["sample"], "USING SAMPLE would choose rows of each part: leave it out, or filter by a hash, as in WHERE hash(…) %% 10 = 0")
	}
	from := c.from(mapField(node, "from_table"), tables, conjuncts(node["where_clause"]))
	e := &expressions{c: c, scope: from, list: listField(node, "select_list")}
	e.expand()
	for _, key := range []string{"select_list", "where_clause", "group_expressions", "having", "qualify"} {
		e.walk(node[key], nil)
	}
	modifiers := listField(node, "modifiers")
	for _, m := range modifiers {
		order := *e
		order.isOrder = true
		order.walk(m, nil)
		e.hasAggregate = e.hasAggregate || order.hasAggregate
	}
	result := &relation{hasInput: from.hasInput, visible: e.items.with(keepKeys)}
	if from.isConstant() {
		return result
	}
	c.checkGroups(node, e)
	for _, m := range modifiers {
		modifier, _ := m.(map[string]any)
		if stringField(modifier, "type") != "DISTINCT_MODIFIER" {
			continue
		}
		targets := listField(modifier, "distinct_on_targets")
		keys := e.items.keys()
		if len(targets) > 0 {
			e.isOrder = true
			keys = e.keysOf(targets)
		}
		if keys != c.all {
			c.refuse(append(targets, node["select_list"]), "DISTINCT compares rows of different keys: include the key columns %s as plain columns", c.missing(keys))
		}
	}
	return result
}

// checkGroups refuses a SELECT with aggregates or GROUP BY unless each group has one key.
func (c *keyChecker) checkGroups(node map[string]any, e *expressions) {
	groups, sets := listField(node, "group_expressions"), listField(node, "group_sets")
	groupsAll := stringField(node, "aggregate_handling") == "FORCE_AGGREGATES"
	keys := e.keysOf(groups)
	if groupsAll {
		keys = e.items.keys()
	}
	position := append(slices.Clone(groups), node["select_list"])
	switch {
	case len(sets) > 1:
		c.refuse(position, "GROUPING SETS, ROLLUP and CUBE have groups of several keys: use GROUP BY with the key columns %s", c.missing(0))
	case len(sets) == 0 && !groupsAll && !e.hasAggregate && node["having"] == nil:
	case len(groups) == 0 && !groupsAll:
		c.refuse(node["select_list"], "without GROUP BY, an aggregate has a result for each part: add GROUP BY %s", c.missing(0))
	case keys != c.all:
		c.refuse(position, "a group of GROUP BY can have rows of several keys: group by the key columns %s as plain columns, without expressions or COLLATE", c.missing(keys))
	}
}

// conjuncts returns the conditions that AND connects.
func conjuncts(condition any) []any {
	node, ok := condition.(map[string]any)
	switch {
	case !ok:
		return nil
	case stringField(node, "type") != "CONJUNCTION_AND":
		return []any{node}
	}
	var conditions []any
	for _, child := range listField(node, "children") {
		conditions = append(conditions, conjuncts(child)...)
	}
	return conditions
}

// namesOf returns the folded parts of a column's name, or nil if a node is not a plain column.
func namesOf(node any) (names []string) {
	column, _ := node.(map[string]any)
	for _, part := range listField(column, "column_names") {
		name, _ := part.(string)
		names = append(names, fold(name))
	}
	return names
}

// positionOf returns the position in the select list to which a constant in GROUP BY or DISTINCT ON refers, or 0.
func positionOf(node any) int {
	constant, _ := node.(map[string]any)
	number, _ := mapField(constant, "value")["value"].(json.Number)
	position, err := strconv.Atoi(string(number))
	if err != nil || stringField(constant, "class") != "CONSTANT" {
		return 0
	}
	return position
}

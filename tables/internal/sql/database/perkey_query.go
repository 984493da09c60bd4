//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package database

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// query checks a query with its common table expressions. tables are those of the enclosing queries, by folded name.
func (c *keyChecker) query(node map[string]any, tables map[string]*relation) *relation {
	tables = maps.Clone(tables)
	if tables == nil {
		tables = map[string]*relation{}
	}
	for _, entry := range mapsField(mapField(node, "cte_map"), "map") {
		value, name := mapField(entry, "value"), fold(stringField(entry, "key"))
		tables[name] = c.query(mapField(mapField(value, "query"), "node"), tables).as(name, listField(value, "aliases"))
	}
	switch stringField(node, "type") {
	case "SELECT_NODE":
		return c.selection(node, tables)
	case "SET_OPERATION_NODE":
		return c.setOperation(node, tables)
	}
	c.refuse(node, "a query of type %s is not proved: use SELECT", stringField(node, "type"))
	return unknown()
}

// setOperation checks UNION and similar operations. Except for UNION ALL, they compare complete rows.
func (c *keyChecker) setOperation(node map[string]any, tables map[string]*relation) *relation {
	operation := stringField(node, "setop_type")
	var result []keyedColumn
	for i, child := range mapsField(node, "children") {
		r := c.query(child, tables)
		if !r.hasInput {
			c.refuse(child, "each part would have the rows of this SELECT, which reads no input: leave it out, or join it with an input")
		}
		columns := upToUnknown(r.visible)
		if i == 0 {
			result = clone(columns, true)
		}
		for position := range result {
			if position < len(columns) {
				result[position].keys &= columns[position].keys
			} else {
				result[position].keys = 0
			}
		}
	}
	if operation == "UNION_BY_NAME" {
		result = unknown().visible
	}
	isUnionAll := node["setop_all"] == true && strings.HasPrefix(operation, "UNION")
	if keys := keysOf(result); !isUnionAll && keys != c.all {
		c.refuse(node, "%s compares rows of different keys: select the key columns %s as plain columns, at the same positions in each SELECT, or use UNION ALL", operation, c.missing(keys))
	}
	return &relation{visible: result, hasInput: true}
}

// selection is a SELECT.
type selection struct {
	*keyChecker
	from  *relation
	items []keyedColumn // the select list
}

func (c *keyChecker) selection(node map[string]any, tables map[string]*relation) *relation {
	s := &selection{keyChecker: c, from: c.from(mapField(node, "from_table"), tables, conjuncts(node["where_clause"]))}
	for _, key := range []string{"select_list", "where_clause", "group_expressions", "having", "qualify", "modifiers"} {
		eachNode(node[key], s.hide)
	}
	for _, item := range mapsField(node, "select_list") {
		s.items = append(s.items, s.expand(item)...)
	}
	if s.from.hasInput {
		hasAggregate := false
		for _, key := range []string{"select_list", "where_clause", "having", "qualify", "modifiers"} {
			eachNode(node[key], func(e map[string]any) {
				class := stringField(e, "class")
				hasAggregate = hasAggregate || class == "FUNCTION" && c.functions[fold(stringField(e, "function_name"))].IsAggregate
				if class == "WINDOW" {
					s.checkWindow(e, key == "modifiers")
				}
			})
		}
		s.checkGroups(node, hasAggregate)
		s.checkDistinct(node)
	}
	return &relation{visible: s.items, hasInput: s.from.hasInput}
}

// hide excludes hidden columns from * in an expression.
func (s *selection) hide(node map[string]any) {
	table, names := fold(stringField(node, "relation_name")), namesOf(node)
	for _, column := range s.from.qualified {
		excluded := listField(node, "exclude_list")
		switch {
		case !column.isHidden || slices.Contains(excluded, any(column.name)):
		case stringField(node, "class") == "STAR" && (table == "" || table == column.table):
			node["exclude_list"] = append(excluded, column.name)
		case len(names) == 1 && names[0] == column.table && indexOf(s.from.visible, names[0]) < 0:
			s.refuse(node, asOfUsing, "a whole row, as "+names[0]+",")
		}
	}
}

func (s *selection) checkWindow(node map[string]any, aliasFirst bool) {
	keys := keySet(0)
	for _, partition := range mapsField(node, "partitions") {
		keys |= s.columnKeys(partition, aliasFirst)
	}
	if keys != s.all {
		s.refuse(node, "a window of %s can have rows of several keys: add the key columns %s to PARTITION BY as plain columns, without expressions or COLLATE", stringField(node, "function_name"), s.missing(keys))
	}
}

// checkGroups refuses a SELECT with aggregates or GROUP BY unless each group has one key.
func (s *selection) checkGroups(node map[string]any, hasAggregate bool) {
	groups, sets := listField(node, "group_expressions"), listField(node, "group_sets")
	groupsAll := stringField(node, "aggregate_handling") == "FORCE_AGGREGATES"
	keys := s.positionalKeys(groups, false)
	if groupsAll {
		keys = keysOf(s.items)
	}
	nodes := append(slices.Clone(groups), node["select_list"])
	switch {
	case len(sets) > 1:
		s.refuse(nodes, "GROUPING SETS, ROLLUP and CUBE have groups of several keys: use GROUP BY with the key columns %s", s.missing(0))
	case len(sets) == 0 && !groupsAll && !hasAggregate && node["having"] == nil:
	case len(groups) == 0 && !groupsAll:
		s.refuse(nodes, "without GROUP BY, an aggregate has a result for each part: add GROUP BY %s", s.missing(0))
	case keys != s.all:
		s.refuse(nodes, "a group of GROUP BY can have rows of several keys: group by the key columns %s as plain columns, without expressions or COLLATE", s.missing(keys))
	}
}

func (s *selection) checkDistinct(node map[string]any) {
	for _, modifier := range mapsField(node, "modifiers") {
		targets := listField(modifier, "distinct_on_targets")
		keys := s.positionalKeys(targets, true)
		if len(targets) == 0 {
			keys = keysOf(s.items)
		}
		if stringField(modifier, "type") == "DISTINCT_MODIFIER" && keys != s.all {
			s.refuse(append(targets, node["select_list"]), "DISTINCT compares rows of different keys: include the key columns %s as plain columns", s.missing(keys))
		}
	}
}

// positionalKeys returns the key columns that are among the expressions of GROUP BY or DISTINCT ON, which can be
// positions in the select list.
func (s *selection) positionalKeys(nodes []any, aliasFirst bool) (keys keySet) {
	for _, n := range nodes {
		node, _ := n.(map[string]any)
		constant := mapField(node, "value")
		number, _ := constant["value"].(json.Number)
		position, err := strconv.Atoi(string(number))
		isInteger := err == nil && stringField(mapField(constant, "type"), "id") == "INTEGER" // 0.1 is the number 1 of type DECIMAL
		if isInteger && position > 0 && position <= len(upToUnknown(s.items)) {
			keys |= s.items[position-1].keys
		}
		keys |= s.columnKeys(node, aliasFirst)
	}
	return keys
}

// columnKeys returns the key columns that are equal to an expression. If the expression is not a plain column, there
// are none. DuckDB looks for a name among the columns of FROM first or, if aliasFirst is true, in the select list
// first.
func (s *selection) columnKeys(node map[string]any, aliasFirst bool) keySet {
	names := namesOf(node)
	if len(names) == 0 {
		return 0
	}
	keys, isColumn := s.from.find(names)
	if len(names) > 1 || isColumn && !aliasFirst {
		return keys
	}
	for _, item := range s.items {
		switch {
		case item.isUnknown: // it may have the same name
			keys, isColumn = 0, true
		case item.name != names[0]:
		case !isColumn:
			keys, isColumn = item.keys, true
		default: // DuckDB may choose any of them
			keys &= item.keys
		}
	}
	return keys
}

// expand returns the columns of an item of the select list.
func (s *selection) expand(item map[string]any) []keyedColumn {
	names, alias := namesOf(item), fold(stringField(item, "alias"))
	switch {
	case stringField(item, "class") == "STAR":
		return s.star(item)
	case len(names) > 0:
		keys, _ := s.from.find(names)
		return []keyedColumn{{name: cmp.Or(alias, names[len(names)-1]), keys: keys}}
	}
	isWide := false // whether the item can become several columns
	eachNode(item, func(node map[string]any) {
		isWide = isWide || stringField(node, "class") == "STAR" || fold(stringField(node, "function_name")) == "unnest"
	})
	return []keyedColumn{{name: alias, isUnknown: isWide}}
}

// star returns the columns of * or of table.*.
func (s *selection) star(node map[string]any) (columns []keyedColumn) {
	columns = clone(s.from.visible, true)
	if table := fold(stringField(node, "relation_name")); table != "" {
		columns = slices.DeleteFunc(clone(s.from.qualified, true), func(c keyedColumn) bool { return c.table != table })
	}
	changes := len(listField(node, "qualified_exclude_list")) + len(listField(node, "rename_list")) + len(listField(node, "replace_list"))
	if len(columns) == 0 || changes > 0 || node["columns"] == true || node["expr"] != nil { // the fields of a struct, COLUMNS, or other columns
		return unknown().visible
	}
	for _, excluded := range listField(node, "exclude_list") {
		name, _ := excluded.(string)
		columns = slices.DeleteFunc(columns, func(c keyedColumn) bool { return c.name == fold(name) && !c.isUnknown })
	}
	return columns
}

// conjuncts returns the conditions that AND connects.
func conjuncts(condition any) (conditions []map[string]any) {
	node, _ := condition.(map[string]any)
	if stringField(node, "type") != "CONJUNCTION_AND" {
		return []map[string]any{node}
	}
	for _, child := range listField(node, "children") {
		conditions = append(conditions, conjuncts(child)...)
	}
	return conditions
}

// namesOf returns the folded parts of a column's name, or nil if a node is not a plain column.
func namesOf(node map[string]any) (names []string) {
	for _, part := range listField(node, "column_names") {
		name, _ := part.(string)
		names = append(names, fold(name))
	}
	return names
}

//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package database

import (
	"maps"
	"slices"
	"strings"
)

// expressions checks the expressions of a SELECT, or of a part of a FROM clause.
type expressions struct {
	c            *keyChecker
	scope        *relation  // the tables of FROM; nil in a macro
	list         []any      // the select list
	items        columnList // the select list, after expand
	isOrder      bool       // whether names refer to the select list first, as in ORDER BY and DISTINCT ON
	hasAggregate bool
	call         map[string]any // the call of the macro that contains the expressions, or nil
}

// walk checks a subtree. locals are the parameters of the enclosing lambda functions.
func (e *expressions) walk(node any, locals []string) {
	switch node := node.(type) {
	case []any:
		for _, child := range node {
			e.walk(child, locals)
		}
	case map[string]any:
		switch stringField(node, "class") {
		case "SUBQUERY":
			e.refuse(node, "a subquery in an expression would see the rows of one part: use a join by the key columns %s, such as SEMI JOIN or ANTI JOIN for IN, EXISTS and NOT EXISTS", e.c.missing(0))
		case "PARAMETER":
			e.refuse(node, "parameters are not available: write the value into the statement")
		case "POSITIONAL_REFERENCE":
			e.refuse(node, "a column by position is not proved: write its name")
		case "COLUMN_REF":
			e.checkColumn(node, locals)
		case "FUNCTION":
			e.checkFunction(node)
		case "WINDOW":
			e.checkWindow(node, locals)
		case "LAMBDA":
			lhs := mapField(node, "lhs")
			for _, parameter := range append(listField(lhs, "children"), lhs) {
				locals = append(slices.Clone(locals), namesOf(parameter)...)
			}
		}
		for _, key := range slices.Sorted(maps.Keys(node)) {
			e.walk(node[key], locals)
		}
	}
}

// refuse refuses the statement because of an expression.
func (e *expressions) refuse(node any, format string, args ...any) {
	if e.call != nil {
		node = e.call
	}
	e.c.refuse(node, format, args...)
}

// timeNames are functions that DuckDB calls without parentheses if no column has the name.
var timeNames = []string{"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"}

const notConstant = "the value of %s can differ between the parts: write it as a constant, or leave it out"

func (e *expressions) checkColumn(node map[string]any, locals []string) {
	names := namesOf(node)
	exists := len(names) == 0 || slices.Contains(locals, names[0])
	if e.scope != nil {
		_, found := e.scope.find(names)
		exists = exists || found || e.scope.isConstant() || e.isAlias(names[0])
	}
	isTime := len(names) == 1 && slices.Contains(timeNames, names[0]) && !slices.Contains(locals, names[0])
	switch {
	case isTime && (e.scope == nil || e.scope.visible.index(names[0]) < 0):
		e.refuse(node, notConstant, names[0])
	case exists || e.scope == nil:
	case names[len(names)-1] == "rowid":
		e.refuse(node, "rowid is the number of a row in its part: leave it out")
	default:
		e.refuse(node, "no table of this SELECT has the column %s, and references to an outer query are not proved: use a join by the key columns %s", strings.Join(names, "."), e.c.missing(0))
	}
}

func (e *expressions) checkWindow(node map[string]any, locals []string) {
	if e.scope != nil && e.scope.isConstant() {
		return
	}
	partitions := listField(node, "partitions")
	keys := keySet(0)
	if len(locals) == 0 {
		for _, partition := range partitions {
			keys |= e.columnKeys(partition)
		}
	}
	if keys != e.c.all {
		e.refuse(append(partitions, node), "a window of %s can have rows of several keys: add the key columns %s to PARTITION BY as plain columns, without expressions or COLLATE", stringField(node, "function_name"), e.c.missing(keys))
	}
}

// keysOf returns the key columns that are among the expressions of GROUP BY or DISTINCT ON.
func (e *expressions) keysOf(nodes []any) (keys keySet) {
	for _, node := range nodes {
		i := positionOf(node) - 1
		switch {
		case i < 0:
			keys |= e.columnKeys(node)
		case i < len(e.items) && !e.items[:i].hasUnknown():
			keys |= e.items[i].keys
		}
	}
	return keys
}

// columnKeys returns the key columns that are equal to an expression. They are none unless it is a plain column.
func (e *expressions) columnKeys(node any) keySet {
	names := namesOf(node)
	if len(names) == 0 || e.scope == nil {
		return 0
	}
	keys, isColumn := e.scope.find(names)
	if len(names) > 1 || isColumn && !e.isOrder {
		return keys
	}
	for _, item := range e.aliased(names[0]) {
		if !isColumn {
			keys, isColumn = item.keys, true
		}
		keys &= item.keys // whichever of them DuckDB means
	}
	return keys
}

// aliased returns the items of the select list with a name.
func (e *expressions) aliased(name string) (items columnList) {
	for _, item := range e.items {
		if item.name == name {
			items = append(items, item)
		}
	}
	return items
}

// isAlias reports whether an item of the select list has the alias.
func (e *expressions) isAlias(name string) bool {
	return slices.ContainsFunc(e.list, func(node any) bool {
		item, _ := node.(map[string]any)
		return fold(stringField(item, "alias")) == name
	})
}

// expand sets items.
func (e *expressions) expand() {
	for _, node := range e.list {
		item, _ := node.(map[string]any)
		if stringField(item, "class") == "STAR" {
			e.items = append(e.items, e.star(item)...)
			continue
		}
		names := namesOf(item)
		column := keyedColumn{name: fold(stringField(item, "alias"))}
		switch {
		case len(names) > 0:
			column.keys, _ = e.scope.find(names)
			if column.name == "" {
				column.name = names[len(names)-1]
			}
		case isWide(item):
			column.isUnknown = true
		default:
			column.isExpression = column.name == ""
		}
		e.items = append(e.items, column)
	}
}

// isWide reports whether an item of the select list can become several columns.
func isWide(node any) bool {
	switch node := node.(type) {
	case []any:
		return slices.ContainsFunc(node, isWide)
	case map[string]any:
		return stringField(node, "class") == "STAR" || fold(stringField(node, "function_name")) == "unnest" ||
			slices.ContainsFunc(slices.Collect(maps.Values(node)), isWide)
	}
	return false
}

// star returns the columns of * or of table.*.
func (e *expressions) star(node map[string]any) (columns columnList) {
	columns = e.scope.visible
	if table := fold(stringField(node, "relation_name")); table != "" {
		columns = nil
		for _, column := range e.scope.qualified {
			if column.table == table {
				columns = append(columns, column)
			}
		}
	}
	isComplex := node["columns"] == true || node["expr"] != nil || len(listField(node, "qualified_exclude_list")) > 0
	if len(columns) == 0 || isComplex { // a struct, or COLUMNS
		return columnList{{isUnknown: true}}
	}
	columns = columns.with(keepKeys)
	for _, r := range listField(node, "replace_list") {
		replaced, _ := r.(map[string]any)
		for i := range columns {
			if columns[i].name == fold(stringField(replaced, "key")) {
				columns[i].keys = 0
			}
		}
	}
	for _, r := range listField(node, "rename_list") {
		renamed, _ := r.(map[string]any)
		for i := range columns {
			if columns[i].name == fold(stringField(mapField(renamed, "key"), "column")) {
				columns[i].name, columns[i].keys = fold(stringField(renamed, "value")), 0
			}
		}
	}
	return slices.DeleteFunc(columns, func(column keyedColumn) bool {
		return slices.ContainsFunc(listField(node, "exclude_list"), func(excluded any) bool {
			name, _ := excluded.(string)
			return fold(name) == column.name
		})
	})
}

//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package database

import (
	"regexp"
	"strings"
)

// keySet is a set of key columns: bit i is set for the i-th one.
type keySet uint64

// relation describes the rows of a table, a join or a query. Each of its rows is computed from rows of one key, so that
// the row's part is known, unless the relation is constant.
type relation struct {
	visible   columnList // the columns of *; if a join has USING, its columns appear once
	qualified columnList // the columns that table.column can name; nil for the result of a query
	hasInput  bool       // whether rows of an input contribute
}

type columnList []keyedColumn

// keyedColumn is a column. Its value equals each key column in keys, in each row.
type keyedColumn struct {
	table, name string // folded; the name is "" if no name is known to refer to the column
	keys        keySet

	isUnknown    bool // the entry stands for any number of columns with unknown names
	isExpression bool // the name is DuckDB's text of an expression
}

// isConstant reports whether the relation is the same in each part. A constant relation can depend on the current row of
// a table before it in the same FROM clause.
func (r *relation) isConstant() bool { return !r.hasInput }

// constant is a constant relation with unknown columns.
func constant() *relation { return &relation{visible: columnList{{isUnknown: true}}} }

// index returns the index of the only column with a name, or -1.
func (l columnList) index(name string) int {
	found := -1
	for i := range l {
		if l[i].name == name && name != "" {
			if found >= 0 {
				return -1 // ambiguous; DuckDB refuses the statement
			}
			found = i
		}
	}
	return found
}

func (l columnList) hasUnknown() bool {
	for i := range l {
		if l[i].isUnknown {
			return true
		}
	}
	return false
}

// with returns the columns with the keys that f returns.
func (l columnList) with(f func(*keyedColumn) keySet) columnList {
	columns := make(columnList, len(l))
	for i := range l {
		columns[i] = l[i]
		columns[i].keys = f(&l[i])
	}
	return columns
}

func keepKeys(c *keyedColumn) keySet { return c.keys }

func noKeys(*keyedColumn) keySet { return 0 }

// find resolves a column name with its qualifiers, as DuckDB does. exists is true if the name can refer to anything in
// the relation.
func (r *relation) find(names []string) (keys keySet, exists bool) {
	first := names[0]
	if len(names) == 1 {
		if i := r.visible.index(first); i >= 0 {
			return r.visible[i].keys, true
		}
	}
	for i := range r.qualified {
		column := &r.qualified[i]
		isNamed := len(names) > 1 && column.name == names[1] && column.name != ""
		switch {
		case column.table != first:
		case isNamed && len(names) == 2:
			return column.keys, true
		case isNamed || len(names) == 1: // a field of a column, or the whole row
			exists = true
		}
	}
	for i := range r.visible {
		exists = exists || r.visible[i].name == first || r.visible[i].isUnknown // ambiguous, or a field of a column
	}
	return 0, exists
}

// plainName matches names that are not the text of an expression, such as null, 1 or sum(a).
var plainName = regexp.MustCompile(`^[a-z_][a-z0-9_.]*$`)

// as returns the result of a query, or an input, as a table in a FROM clause, whose first columns can have other names.
func (r *relation) as(alias string, names []any) *relation {
	table := &relation{hasInput: r.hasInput}
	seen := map[string]bool{}
	var duplicates []string
	isKnown, hasExpression := true, false
	for i, column := range r.visible {
		isKnown = isKnown && !column.isUnknown
		hasExpression = hasExpression || column.isExpression
		if hasExpression && !plainName.MatchString(column.name) { // the name can belong to the expression
			column.name = ""
		}
		if i < len(names) {
			name, _ := names[i].(string)
			column.name = fold(name)
		}
		if seen[column.name] {
			duplicates = append(duplicates, column.name)
		}
		seen[column.name] = true
		column.table = alias
		table.visible = append(table.visible, column)
		if !isKnown { // an unknown column can have any name, and shift the new names
			table.visible[i].name, table.visible[i].keys = "", 0
		}
	}
	// DuckDB renames the second column "a" to "a_1" or a similar name, which can then belong to another column.
	for _, name := range duplicates {
		isFirst := true
		for i := range table.visible {
			column := &table.visible[i]
			if column.name == name && isFirst {
				isFirst = false
			} else if name != "" && (column.name == name || strings.HasPrefix(column.name, name+"_")) {
				column.name = ""
			}
		}
	}
	table.qualified = table.visible
	return table
}

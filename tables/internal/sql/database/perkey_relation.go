//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package database

import (
	"regexp"
	"slices"
)

// keySet is a set of key columns: bit i represents the i-th key column.
type keySet uint64

// relation describes the rows of a table, a join or a query. If it has rows of an input, it is per key: each of its
// rows comes from input rows of a single key. Otherwise, its rows are the same in each part, but can depend on the
// current row of a table before it in the same FROM clause.
type relation struct {
	visible   []keyedColumn // the columns of *; if a join has USING, its columns appear once
	qualified []keyedColumn // the columns that table.column can name; nil for the result of a query
	hasInput  bool
}

// keyedColumn is a column whose value in each row equals that of every key column in keys.
type keyedColumn struct {
	table, name string // case-folded; the name is "" if it is not known
	keys        keySet
	isUnknown   bool // whether the entry stands for any number of columns with unknown names
	isHidden    bool // whether the column was added to an ASOF join and is not in the statement
}

// unknown is a relation without inputs and with unknown columns.
func unknown() *relation { return &relation{visible: []keyedColumn{{isUnknown: true}}} }

// indexOf returns the index of the column with the given name, or -1 if there is none or more than one. DuckDB refuses
// ambiguous names.
func indexOf(columns []keyedColumn, name string) int {
	hasName := func(c keyedColumn) bool { return c.name == name && name != "" }
	i := slices.IndexFunc(columns, hasName)
	if i >= 0 && slices.ContainsFunc(columns[i+1:], hasName) {
		return -1
	}
	return i
}

// keysOf returns the key columns that are among the columns.
func keysOf(columns []keyedColumn) (keys keySet) {
	for _, column := range columns {
		keys |= column.keys
	}
	return keys
}

// clone copies columns. If keepKeys is false, the copies have no keys.
func clone(columns []keyedColumn, keepKeys bool) []keyedColumn {
	columns = slices.Clone(columns)
	for i := range columns {
		if !keepKeys {
			columns[i].keys = 0
		}
	}
	return columns
}

// upToUnknown returns the columns whose positions are known, and the next entry.
func upToUnknown(columns []keyedColumn) []keyedColumn {
	if i := slices.IndexFunc(columns, func(c keyedColumn) bool { return c.isUnknown }); i >= 0 {
		return columns[:i+1]
	}
	return columns
}

// find resolves the parts of a column's name, as DuckDB does. exists is true if the name can refer to anything in the
// relation.
func (r *relation) find(names []string) (keys keySet, exists bool) {
	if len(names) == 2 {
		for _, column := range r.qualified {
			if column.table == names[0] && column.name == names[1] {
				return column.keys, true
			}
		}
		return 0, true
	}
	if i := indexOf(r.visible, names[0]); i >= 0 && len(names) == 1 {
		return r.visible[i].keys, true
	}
	return 0, slices.ContainsFunc(slices.Concat(r.visible, r.qualified), func(c keyedColumn) bool {
		return c.name == names[0] || c.table == names[0] || c.isUnknown
	})
}

var (
	// expressionText matches names that DuckDB can give to an expression, such as sum(a), 1 or null.
	expressionText = regexp.MustCompile(`[()\[{'"]|^[-0-9]|^null$| collate `)
	numberedName   = regexp.MustCompile(`_[0-9]+$`)
)

// as returns r, an input or the result of a query, as a table in a FROM clause. names lists new names for its first
// columns.
func (r *relation) as(alias string, names []any) *relation {
	columns := clone(upToUnknown(r.visible), true)
	count := map[string]int{}
	hasDuplicate := false
	for i := range columns {
		column := &columns[i]
		column.table = alias
		if i < len(names) {
			name, _ := names[i].(string)
			column.name = fold(name)
		}
		count[column.name]++
		hasDuplicate = hasDuplicate || count[column.name] > 1
		if count[column.name] > 1 || r.qualified == nil && expressionText.MatchString(column.name) {
			column.name = ""
		}
	}
	for i := range columns { // DuckDB renames the second column "a" to "a_1" or a similar name, and then the real "a_1"
		if hasDuplicate && numberedName.MatchString(columns[i].name) {
			columns[i].name = ""
		}
	}
	return &relation{visible: columns, qualified: columns, hasInput: r.hasInput}
}

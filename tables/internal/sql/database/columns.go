//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package database

import (
	"maps"
	"slices"
	"strings"
)

// columnRefs collects the column names in a statement, so that views can omit the other columns. DuckDB opens
// a reader for each column of a view in each row group, even for columns that the statement does not use.
//
// There is one set of names for the whole statement, including its subqueries. Each view keeps every column
// whose name is in the set, so every name refers to the same column as it would with complete views.
type columnRefs struct {
	names      map[string]bool // column names; like all names here, they are in lower case
	qualifiers map[string]bool // first parts of qualified names: tables or struct columns
	aliases    map[string]bool // table aliases
	usesAll    bool            // the statement can use columns that it does not name
}

// add adds the columns that a node of the parse tree names. The caller must add the node's children.
func (c *columnRefs) add(node map[string]any) {
	switch stringField(node, "class") {
	case "COLUMN_REF":
		parts, _ := node["column_names"].([]any)
		for i, part := range parts {
			name, _ := part.(string)
			if i == 0 && len(parts) > 1 {
				addName(&c.qualifiers, name)
			} else {
				addName(&c.names, name)
			}
		}
	case "FUNCTION":
		// a.upper() means upper(a), but the parser reads a as a schema; in t.a.upper(), it reads t as a catalog
		if schema := stringField(node, "schema"); schema != "" && schema != "main" {
			addName(&c.names, schema)
			if catalog := stringField(node, "catalog"); catalog != "" {
				addName(&c.qualifiers, catalog)
			}
		}
	case "STAR", "POSITIONAL_REFERENCE":
		c.usesAll = true
	case "":
		c.addTable(node)
	}
}

func (c *columnRefs) addTable(node map[string]any) {
	nodeType := stringField(node, "type")
	if nodeType == "SHOW_REF" || nodeType == "PIVOT" || stringField(node, "ref_type") == "NATURAL" {
		c.usesAll = true
	}
	if !slices.Contains(tableRefs, nodeType) {
		return
	}
	if alias := stringField(node, "alias"); alias != "" {
		addName(&c.aliases, alias)
	}
	renamed, _ := node["column_name_alias"].([]any)
	c.usesAll = c.usesAll || len(renamed) > 0 && nodeType != "SUBQUERY" // FROM t AS u(a, b) renames columns by position
	using, _ := node["using_columns"].([]any)
	for _, column := range using {
		name, _ := column.(string)
		addName(&c.names, name)
	}
}

func addName(set *map[string]bool, name string) {
	if *set == nil {
		*set = map[string]bool{}
	}
	(*set)[strings.ToLower(name)] = true
}

// assign sets Columns and AllColumns of each name. All nodes must have been added.
func (c *columnRefs) assign(names []Name) {
	for _, n := range names {
		addName(&c.aliases, n.Table)
	}
	var wholeRows []string
	for alias := range c.aliases {
		if c.names[alias] { // a table's alias that is used like a column means the whole row
			wholeRows = append(wholeRows, alias)
		}
	}
	c.usesAll = c.usesAll || len(wholeRows) > 0
	for name := range c.qualifiers {
		addName(&c.names, name)
	}
	columns := slices.Sorted(maps.Keys(c.names))
	for i := range names {
		names[i].Columns, names[i].AllColumns, names[i].WholeRows = columns, c.usesAll, wholeRows
		if c.usesAll {
			names[i].Columns = nil
		}
	}
}

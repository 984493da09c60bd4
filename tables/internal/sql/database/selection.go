//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package database

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/go-partd/partd/tables/internal/sql/sqlwrite"
)

// Selection is a statement that only selects columns of one table or counts its rows. A scan of the table can answer it
// without DuckDB.
type Selection struct {
	Columns   []string   // columns of the result, in upper or lower case; nil means all columns
	CountsAll bool       // the result is the number of all rows
	Where     []Equality // all must hold; at most 16

	parameters int // number of parameters in Where
}

// Equality is a condition that a column equals a literal or, if IsParameter is set, a parameter. The parameters of a
// Selection are $1, $2 and so on, in the order of their conditions.
type Equality struct {
	Column      string // in upper or lower case
	IsParameter bool
	Literal     sqlwrite.Literal
}

// CutLiterals removes the literals from the conditions and returns them, in order.
func (s *Selection) CutLiterals() (literals []sqlwrite.Literal) {
	for i, e := range s.Where {
		if !e.IsParameter {
			literals = append(literals, e.Literal)
			s.Where[i].Literal = sqlwrite.Literal{}
		}
	}
	return literals
}

// Nodes that the parse tree of a Selection can have, as JSON, without the fields that fieldsOf returns. A statement
// with other nodes is not a Selection.
const (
	selectNode      = `{"aggregate_handling":"STANDARD_HANDLING","cte_map":{"map":[]},"group_expressions":[],"group_sets":[],"having":null,"modifiers":[],"qualify":null,"sample":null,"type":"SELECT_NODE"}`
	tableNode       = `{"at_clause":null,"column_name_alias":[],"sample":null,"type":"BASE_TABLE"}`
	starNode        = `{"alias":"","class":"STAR","columns":false,"exclude_list":[],"expr":null,"qualified_exclude_list":[],"relation_name":"","rename_list":[],"replace_list":[],"type":"STAR"}`
	countNode       = `{"catalog":"","children":[],"class":"FUNCTION","distinct":false,"export_state":false,"filter":null,"function_name":"count_star","is_operator":false,"order_bys":{"orders":[],"type":"ORDER_MODIFIER"},"schema":"","type":"FUNCTION"}`
	columnNode      = `{"class":"COLUMN_REF","type":"COLUMN_REF"}`
	conjunctionNode = `{"alias":"","class":"CONJUNCTION","type":"CONJUNCTION_AND"}`
	equalityNode    = `{"alias":"","class":"COMPARISON","type":"COMPARE_EQUAL"}`
	parameterNode   = `{"alias":"","class":"PARAMETER","type":"VALUE_PARAMETER"}`
	constantNode    = `{"alias":"","class":"CONSTANT","type":"VALUE_CONSTANT"}`
	valueNode       = `{"is_null":false,"type":{"id":%q,"type_info":null}}`
)

// fieldsOf returns the fields of a node, or nil if the node is not a JSON object. ok is true if all fields, except the
// position and those in names, are equal to want, which is JSON with sorted keys.
func fieldsOf(node any, want string, names ...string) (fields map[string]any, ok bool) {
	fields, _ = node.(map[string]any)
	others := maps.Clone(fields)
	for _, name := range names {
		delete(others, name)
	}
	delete(others, "query_location")
	text, err := json.Marshal(others)
	return fields, err == nil && string(text) == want
}

// selectionOf returns the Selection of a statement's parse tree, or nil if the statement does more than a Selection
// can describe.
func selectionOf(tree any) *Selection {
	statement, isStatement := fieldsOf(tree, "{}", "node", "named_param_map")
	query, isSelect := fieldsOf(statement["node"], selectNode, "select_list", "from_table", "where_clause")
	from, isTable := fieldsOf(query["from_table"], tableNode, "alias", "table_name", "schema_name", "catalog_name")
	results, _ := query["select_list"].([]any)
	if !isStatement || !isSelect || !isTable || len(results) == 0 {
		return nil
	}
	qualifier := from["alias"] // the name that qualifies columns: the alias, or else the table's name
	if qualifier == "" {
		qualifier = from["table_name"]
	}
	where := query["where_clause"]
	s := &Selection{}
	_, isStar := fieldsOf(results[0], starNode)
	_, isCount := fieldsOf(results[0], countNode, "alias")
	switch {
	case len(results) == 1 && isStar:
	case len(results) == 1 && isCount && where == nil:
		s.CountsAll = true
	default:
		for _, r := range results {
			column, ok := columnOf(r, qualifier)
			if !ok {
				return nil
			}
			s.Columns = append(s.Columns, column)
		}
	}
	if where != nil && !s.addConditions(where, qualifier) {
		return nil
	}
	return s
}

// columnOf returns the name of the column that a node refers to. ok is false if the node is not a plain column of the
// table.
func columnOf(node, qualifier any) (column string, ok bool) {
	fields, ok := fieldsOf(node, columnNode, "alias", "column_names")
	names, _ := fields["column_names"].([]any)
	ok = ok && (len(names) == 1 || len(names) == 2 && names[0] == qualifier)
	if ok {
		column, ok = names[len(names)-1].(string)
	}
	return column, ok
}

// addConditions adds the conditions in node to s. It returns false if node has a condition that a Selection cannot
// describe.
func (s *Selection) addConditions(node, qualifier any) bool {
	if fields, ok := fieldsOf(node, conjunctionNode, "children"); ok {
		children, _ := fields["children"].([]any)
		return !slices.ContainsFunc(children, func(child any) bool { return !s.addConditions(child, qualifier) })
	}
	sides, ok := fieldsOf(node, equalityNode, "left", "right")
	if !ok {
		return false
	}
	if column, isColumn := columnOf(sides["left"], qualifier); isColumn {
		return s.addCondition(column, sides["right"])
	}
	column, isColumn := columnOf(sides["right"], qualifier)
	return isColumn && s.addCondition(column, sides["left"])
}

func (s *Selection) addCondition(column string, value any) bool {
	const maxConditions = 16
	if len(s.Where) == maxConditions {
		return false
	}
	e := Equality{Column: column}
	if fields, ok := fieldsOf(value, parameterNode, "identifier"); ok {
		e.IsParameter = true
		s.Where = append(s.Where, e)
		s.parameters++
		return fields["identifier"] == strconv.Itoa(s.parameters)
	}
	constant, isConstant := fieldsOf(value, constantNode, "value")
	for _, typ := range []string{"VARCHAR", "INTEGER", "BIGINT"} {
		if fields, ok := fieldsOf(constant["value"], fmt.Sprintf(valueNode, typ), "value"); ok && isConstant {
			e.Literal = sqlwrite.Literal{Offset: offsetOf(value.(map[string]any)), Value: fmt.Sprint(fields["value"]), IsText: typ == "VARCHAR"}
			s.Where = append(s.Where, e)
			return true
		}
	}
	return false
}

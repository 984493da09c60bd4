//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package database

import (
	"encoding/json"
	"regexp"
	"strings"
)

// refusedNodes maps each kind of node that PerKey refuses anywhere in a statement, given as class and type, to the
// reason. KEYS stands for the key columns.
var refusedNodes = map[string]string{
	" LIMIT_MODIFIER":                           "LIMIT and OFFSET would apply to each part: leave them out, or limit the rows of each key with QUALIFY row_number() OVER (PARTITION BY KEYS ORDER BY …) <= n",
	" LIMIT_PERCENT_MODIFIER":                   "LIMIT and OFFSET would apply to each part: leave them out",
	" PIVOT":                                    "PIVOT and UNPIVOT are not proved: use GROUP BY with FILTER, or unnest",
	"SUBQUERY SUBQUERY":                         "a subquery in an expression would see the rows of one part: join by the key columns KEYS, with SEMI JOIN or ANTI JOIN for IN, EXISTS and NOT EXISTS",
	"PARAMETER VALUE_PARAMETER":                 "parameters are not available: write the value into the statement",
	"POSITIONAL_REFERENCE POSITIONAL_REFERENCE": "a column by its position is not proved: write its name",
}

// checkNode refuses nodes that can have another result in a part, wherever they are in the statement.
func (c *keyChecker) checkNode(node map[string]any) {
	kind := stringField(node, "class") + " " + stringField(node, "type")
	if reason, isRefused := refusedNodes[kind]; isRefused {
		c.refuse(node, "%s", strings.ReplaceAll(reason, "KEYS", c.missing(0)))
	}
	if node["sample"] != nil {
		c.refuse(node, "SAMPLE would choose rows of each part: leave it out, or filter by a hash, as in WHERE hash(…) %% 10 = 0")
	}
	switch stringField(node, "class") {
	case "FUNCTION":
		name := fold(stringField(node, "function_name"))
		f, exists := c.functions[name]
		// DuckDB does not declare some functions as volatile. With two arguments, age does not use the current time.
		isTime := currentTime.MatchString(name) && (name != "age" || len(listField(node, "children")) < 2)
		if f.IsVolatile || isTime || !exists {
			c.refuse(node, "the result of %s() can differ between the parts: write a constant, or leave it out", name)
		}
	case "COLUMN_REF":
		names := namesOf(node)
		name, isColumn := strings.Join(names[max(0, len(names)-1):], ""), false
		for _, input := range c.inputs {
			isColumn = isColumn || indexOf(input.visible, name) >= 0
		}
		if !isColumn && partNames.MatchString(name) {
			c.refuse(node, "%s is not a column of the inputs, and can differ between the parts: write a constant, or leave it out", name)
		}
	}
}

// partNames matches the name of a column that DuckDB adds to tables and names that DuckDB treats as function calls if
// no column has them.
var partNames = regexp.MustCompile(`^(rowid|current_(date|time|timestamp)|local(time|timestamp))$`)

// function describes all functions with a name.
type function struct {
	IsAggregate, IsVolatile bool
	Macros                  []string // definitions, if the functions are macros
}

// calledName matches possible function calls in a macro's definition.
var calledName = regexp.MustCompile(`\w+"?\(|\bcurrent_\w+`)

// functionTable returns DuckDB's functions by folded name. It assumes that a macro has the properties of the functions
// that it calls.
func (d *Database) functionTable() (map[string]function, error) {
	if d.functions != nil {
		return d.functions, nil
	}
	text, err := d.textOf(`SELECT json_group_object(name, f)::VARCHAR FROM (
		SELECT lower(function_name) AS name, {
			IsAggregate: bool_or(function_type = 'aggregate'), IsVolatile: coalesce(bool_or(stability <> 'CONSISTENT'), false),
			Macros: list(macro_definition) FILTER (macro_definition IS NOT NULL)
		} AS f
		FROM duckdb_functions() WHERE list_contains(string_split($1, ' '), function_type) GROUP BY ALL)`, "scalar aggregate macro table")
	if err != nil {
		return nil, err
	}
	functions := map[string]function{}
	if err := json.Unmarshal(text, &functions); err != nil {
		return nil, err
	}
	functions["error"] = function{} // not volatile, because it has no result that could differ
	functions["vector_type"] = function{IsVolatile: true}
	for range 3 { // macros call macros at most 3 levels deep
		for name, f := range functions {
			for _, called := range calledName.FindAllString(strings.Join(f.Macros, " "), -1) {
				g := functions[strings.TrimRight(called, `"(`)]
				f.IsAggregate = f.IsAggregate || g.IsAggregate
				f.IsVolatile = f.IsVolatile || g.IsVolatile || partNames.MatchString(called)
			}
			functions[name] = f
		}
	}
	d.functions = functions
	return functions, nil
}

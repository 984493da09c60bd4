//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package database

import (
	"encoding/json"
	"errors"
)

// function describes all functions with a name.
type function struct {
	IsAggregate, IsVolatile bool
	Macros                  []string // definitions, if the functions are macros
}

// functionOf returns the functions with a folded name.
func (d *Database) functionOf(name string) (f function, exists bool, err error) {
	if d.functions == nil {
		text, err := d.textOf(`SELECT json_group_object(name, f)::VARCHAR FROM (
			SELECT lower(function_name) AS name, {
				IsAggregate: bool_or(function_type = 'aggregate'),
				IsVolatile: coalesce(bool_or(stability <> 'CONSISTENT'), false),
				Macros: list(macro_definition) FILTER (macro_definition IS NOT NULL)
			} AS f
			FROM duckdb_functions() WHERE list_contains(string_split($1, ' '), function_type) GROUP BY ALL)`, "scalar aggregate macro")
		if err == nil {
			err = json.Unmarshal(text, &d.functions)
		}
		if err != nil {
			return f, false, err
		}
	}
	f, exists = d.functions[name]
	return f, exists, nil
}

// checkFunction checks a function call, but not its arguments.
func (e *expressions) checkFunction(node map[string]any) {
	name := fold(stringField(node, "function_name"))
	f, exists, err := e.c.d.functionOf(name)
	// DuckDB does not declare these as volatile. With two arguments, age does not use the current time.
	isVolatile := name == "vector_type" || currentTime.MatchString(name) && (name != "age" || len(listField(node, "children")) < 2)
	switch {
	case err != nil:
		e.c.err = errors.Join(e.c.err, err)
	case name == "unnest" || name == "error": // error has no value that could differ
	case isVolatile || f.IsVolatile:
		e.refuse(node, notConstant, name+"()")
	case !exists:
		e.refuse(node, "the function %q is not known", name)
	case f.Macros != nil:
		e.checkMacro(node, name, f.Macros)
	}
	e.hasAggregate = e.hasAggregate || f.IsAggregate || e.c.macros[name]
}

// checkMacro checks the definitions of a macro.
func (e *expressions) checkMacro(node map[string]any, name string, definitions []string) {
	if _, isChecked := e.c.macros[name]; isChecked {
		return
	}
	e.c.macros[name] = false
	macro := &expressions{c: e.c, call: node}
	if e.call != nil {
		macro.call = e.call
	}
	for _, definition := range definitions {
		text, err := e.c.d.parse("SELECT " + definition)
		var tree struct{ Statements any }
		if err == nil {
			err = json.Unmarshal(text, &tree)
		}
		if err != nil || tree.Statements == nil {
			e.refuse(node, "the function %q is not proved", name)
			return
		}
		macro.walk(tree.Statements, nil)
	}
	e.c.macros[name] = macro.hasAggregate
}

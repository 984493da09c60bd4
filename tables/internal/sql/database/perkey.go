//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package database

import (
	"fmt"
	"slices"
	"strings"

	"github.com/go-partd/partd/tables/internal/sql/sqltext"
)

// KeyedInput is an input of a statement that runs once for each part of its inputs' rows. Rows of all inputs with equal
// values of By are in the same part.
type KeyedInput struct {
	Name    string
	Columns []string // all columns, in order
	By      []string // key columns; as many in each input
}

// ErrNotPerKey is the error of a statement that can have another result if it runs once for each part.
var ErrNotPerKey = sqltext.ErrNotPerKey

// PerKey checks that a statement has the same rows, in any order, whether it runs once for all rows or once for each
// part. Otherwise, it returns an error that wraps ErrNotPerKey and gives the reason. columns are the columns of each
// input that the statement can use, including the key columns; nil means all columns. They are also returned with
// ErrNotPerKey.
//
// PerKey proves that the parts' results together are the result, and does not look for a counterexample: it refuses
// everything that it does not know. Results that DuckDB chooses freely, such as the order of list(v), are not compared.
func (d *Database) PerKey(sql string, inputs []KeyedInput) (columns [][]string, err error) {
	p, err := d.perKey(sql, inputs)
	return p.Columns, p.error(sql, err)
}

// perKey is the result of PerKey in a form that a process can send.
type perKey struct {
	Columns [][]string
	Refusal string // "" if the statement is per key
	Offset  int    // of the refused part of the statement, in bytes; -1 if unknown
}

func (p *perKey) error(sql string, err error) error {
	if err != nil || p.Refusal == "" {
		return err
	}
	return sqltext.ErrorAt(sql, p.Offset, fmt.Errorf("%w: %s", ErrNotPerKey, p.Refusal))
}

func (d *Database) perKey(sql string, inputs []KeyedInput) (p perKey, err error) {
	names, tree, err := d.parseNames(sql)
	if err != nil {
		return p, err
	}
	c := &keyChecker{d: d, inputs: map[string]*relation{}, isNamed: map[string]bool{}, macros: map[string]bool{}}
	for _, n := range names {
		c.isNamed[fold(n.Table)] = true
	}
	for i := range inputs {
		p.Columns = append(p.Columns, usedColumns(&inputs[i], names))
		c.addInput(&inputs[i])
	}
	if explainLength(sql) > 0 {
		c.refuse(nil, "EXPLAIN shows the plan of a single part: leave it out")
	}
	statement, _ := tree.(map[string]any)
	query, _ := statement["node"].(map[string]any)
	if result := c.query(query, nil, true); result.isConstant() {
		c.refuse(query, "the result has the same rows in each part: select from an input")
	}
	p.Refusal, p.Offset = c.refusal, c.offset
	return p, c.err
}

// usedColumns returns the columns of an input that a statement can use, or nil for all columns.
func usedColumns(input *KeyedInput, names []Name) []string {
	columns := []string{}
	for _, c := range input.Columns {
		isKey := slices.ContainsFunc(input.By, func(by string) bool { return fold(by) == fold(c) })
		if isKey || len(names) > 0 && slices.Contains(names[0].Columns, strings.ToLower(c)) { // all names have the same columns
			columns = append(columns, c)
		}
	}
	if len(names) > 0 && names[0].AllColumns || len(columns) == len(input.Columns) {
		return nil
	}
	return columns
}

// keyChecker checks one statement. It continues after the first refusal, which it keeps.
type keyChecker struct {
	d       *Database
	inputs  map[string]*relation // by folded name
	isNamed map[string]bool      // whether the statement names a table
	keys    []string             // the key columns, as messages show them
	all     keySet               // all key columns
	refusal string
	offset  int
	macros  map[string]bool // whether a macro contains an aggregate
	err     error           // an error of DuckDB
}

// refuse records why the statement is not per key, at the start of a node.
func (c *keyChecker) refuse(node any, format string, args ...any) {
	if c.refusal == "" {
		c.refusal, c.offset = fmt.Sprintf(format, args...), startOf(node)
	}
}

// addInput adds an input, whose i-th key column corresponds to the i-th of the other inputs.
func (c *keyChecker) addInput(input *KeyedInput) {
	const maxKeys = 64 // of a keySet
	name, r := fold(input.Name), &relation{hasInput: true}
	if c.inputs[name] != nil {
		c.refuse(nil, "two inputs have the name %q: rename one of them", name)
	}
	if len(input.By) == 0 || len(input.By) > maxKeys || len(c.inputs) > 0 && len(input.By) != len(c.keys) {
		c.refuse(nil, "input %q has %d key columns: name as many for each input, at least 1 and at most %d", input.Name, len(input.By), maxKeys)
	}
	c.inputs[name] = r
	if !c.isNamed[name] {
		c.refuse(nil, "the statement does not use the input %q: leave the input out, or select from it", input.Name)
	}
	for _, column := range input.Columns {
		column = fold(column)
		if r.visible.index(column) >= 0 {
			c.refuse(nil, "input %q has two columns with the name %q, apart from case: rename one of them", input.Name, column)
		}
		r.visible = append(r.visible, keyedColumn{name: column})
	}
	for i, by := range input.By {
		column := r.visible.index(fold(by))
		if column < 0 {
			c.refuse(nil, "input %q has no column %q", input.Name, by)
			continue
		}
		key := keySet(1) << i
		r.visible[column].keys |= key
		c.all |= key
		if i == len(c.keys) {
			c.keys = append(c.keys, by)
		} else if i < len(c.keys) && !strings.Contains(" "+c.keys[i]+" ", " "+by+" ") {
			c.keys[i] += " or " + by
		}
	}
}

// missing returns the names of the key columns that are not in a set.
func (c *keyChecker) missing(keys keySet) string {
	var names []string
	for i, name := range c.keys {
		if keys>>i&1 == 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// startOf returns the lowest offset of a node and its children in the statement, or -1.
func startOf(node any) int {
	start := -1
	include := func(offset int) {
		if offset >= 0 && (start < 0 || offset < start) {
			start = offset
		}
	}
	switch node := node.(type) {
	case []any:
		for _, child := range node {
			include(startOf(child))
		}
	case map[string]any:
		include(offsetOf(node))
		for _, child := range node {
			include(startOf(child))
		}
	}
	return start
}

// fold returns a name in lower case, as DuckDB compares names: only A to Z are converted.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, name)
}

func listField(node map[string]any, key string) []any {
	list, _ := node[key].([]any)
	return list
}

func mapField(node map[string]any, key string) map[string]any {
	m, _ := node[key].(map[string]any)
	return m
}

//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package database

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-partd/partd/tables/internal/sql/sqltext"
)

// KeyedInput is an input of a statement that runs once for each part of its inputs' rows. Rows of all inputs with equal
// values of By are in the same part.
type KeyedInput struct {
	Name    string
	Columns []string // all columns, in order
	By      []string // key columns; the same number in each input
}

// PerKey checks that a statement has the same rows, in any order, whether it runs once for all rows or once for each
// part. Otherwise, it returns an error that wraps sqltext.ErrNotPerKey and gives the reason. columns are the columns of
// each input that the statement can use, including the key columns; nil means all columns. They are also returned with
// that error.
//
// PerKey proves that the parts' results together are the result for all rows. It does not look for a counterexample: it
// refuses everything that it cannot prove. Results that DuckDB chooses freely, such as the order of list(v), are not
// compared.
//
// perKey is the statement to run for each part. It is sql, unless DuckDB's result for sql would depend on the size of a
// part.
func (d *Database) PerKey(sql string, inputs []KeyedInput) (perKey string, columns [][]string, err error) {
	names, tree, err := d.parseNames(sql)
	if err != nil {
		return "", nil, err
	}
	c := &keyChecker{db: d, inputs: map[string]*relation{}}
	c.functions, err = d.functionTable()
	if err != nil {
		return "", nil, err
	}
	for i := range inputs {
		columns = append(columns, usedColumns(&inputs[i], names))
		c.addInput(&inputs[i])
		if !slices.ContainsFunc(names, func(n Name) bool { return fold(n.Table) == fold(inputs[i].Name) }) {
			c.refuse(nil, "the statement does not use the input %q: leave the input out, or select from it", inputs[i].Name)
		}
	}
	if explainLength(sql) > 0 {
		c.refuse(nil, "EXPLAIN shows the plan of a single part: leave it out")
	}
	eachNode(tree, c.checkNode)
	statement, _ := tree.(map[string]any)
	query := mapField(statement, "node")
	for _, modifier := range mapsField(query, "modifiers") {
		if stringField(modifier, "type") == "ORDER_MODIFIER" {
			c.refuse(modifier, "ORDER BY would sort each part: leave it out, and use --sort-by to sort the result. If SELECT DISTINCT ON needs it, use a subquery: SELECT * FROM (SELECT DISTINCT ON … ORDER BY …)")
		}
	}
	if result := c.query(query, nil); !result.hasInput {
		c.refuse(query, "each part would have the same rows: select from an input")
	}
	perKey = sql
	if c.numAsOf > 0 {
		perKey = c.textOf(tree)
	}
	if c.refusal == "" {
		return perKey, columns, nil
	}
	return "", columns, sqltext.ErrorAt(sql, c.offset, fmt.Errorf("%w: %s", sqltext.ErrNotPerKey, c.refusal))
}

// usedColumns returns the columns of an input that a statement can use, or nil for all columns.
func usedColumns(input *KeyedInput, names []Name) []string {
	columns := []string{}
	for _, column := range input.Columns {
		isKey := slices.ContainsFunc(input.By, func(by string) bool { return fold(by) == fold(column) })
		if isKey || len(names) > 0 && slices.Contains(names[0].Columns, strings.ToLower(column)) { // all names have the same columns
			columns = append(columns, column)
		}
	}
	if len(names) > 0 && names[0].AllColumns {
		return nil
	}
	return columns
}

// keyChecker checks one statement. It continues after the first refusal, which it keeps.
type keyChecker struct {
	db        *Database
	numAsOf   int // number of ASOF joins so far
	functions map[string]function
	inputs    map[string]*relation // by folded name
	keys      []string             // the key columns, as messages show them
	all       keySet               // all key columns
	refusal   string
	offset    int
}

// refuse records why the statement is not per key, at the first position in nodes.
func (c *keyChecker) refuse(nodes any, format string, args ...any) {
	if c.refusal != "" {
		return
	}
	c.refusal, c.offset = fmt.Sprintf(format, args...), -1
	eachNode(nodes, func(node map[string]any) {
		if offset := offsetOf(node); c.offset < 0 || offset >= 0 && offset < c.offset {
			c.offset = offset
		}
	})
}

const maxKeys = 64 // number of bits of a keySet

// addInput adds an input. Its i-th key column corresponds to the i-th key column of each other input.
func (c *keyChecker) addInput(input *KeyedInput) {
	if n := len(input.By); n == 0 || n > maxKeys || len(c.inputs) > 0 && n != len(c.keys) || c.inputs[fold(input.Name)] != nil {
		c.refuse(nil, "input %q has %d key columns: give each input its own name, and the same number of key columns, at least 1 and at most %d", input.Name, n, maxKeys)
		return
	}
	r := &relation{hasInput: true}
	for _, column := range input.Columns {
		r.visible = append(r.visible, keyedColumn{name: fold(column)})
	}
	r.qualified = r.visible
	c.inputs[fold(input.Name)] = r
	c.all = 1<<len(input.By) - 1
	for i, by := range input.By {
		if column := indexOf(r.visible, fold(by)); column >= 0 {
			r.visible[column].keys |= 1 << i
		} else {
			c.refuse(nil, "input %q has no column %q, or two that differ only in case", input.Name, by)
		}
		if i == len(c.keys) {
			c.keys = append(c.keys, by)
		} else if !slices.Contains(strings.Split(c.keys[i], " or "), by) {
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

// eachNode calls f for each object of a parse tree.
func eachNode(node any, f func(map[string]any)) {
	switch node := node.(type) {
	case []any:
		for _, child := range node {
			eachNode(child, f)
		}
	case map[string]any:
		f(node)
		for _, key := range slices.Sorted(maps.Keys(node)) {
			eachNode(node[key], f)
		}
	}
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

// mapsField returns the objects in a list.
func mapsField(node map[string]any, key string) (list []map[string]any) {
	for _, item := range listField(node, key) {
		m, _ := item.(map[string]any)
		list = append(list, m)
	}
	return list
}

// holdingAggregates lists aggregates that keep all values of a group, or all distinct ones, at several times their size.
var holdingAggregates = []string{"list", "array_agg", "histogram", "mode", "entropy"}

// MemoryFactor returns a rough estimate, from 1 to 8, of a statement's memory relative to that of one with simple
// aggregates. An aggregate with ORDER BY needs the most: in each group of more than 16 rows, it has room for 2,048.
func (d *Database) MemoryFactor(sql string) (factor int64, err error) {
	_, tree, err := d.parseNames(sql)
	factor = 1
	eachNode(tree, func(node map[string]any) {
		switch {
		case len(listField(mapField(node, "order_bys"), "orders")) > 0:
			factor += 7
		case stringField(node, "class") == "FUNCTION" && (node["distinct"] == true || slices.Contains(holdingAggregates, fold(stringField(node, "function_name")))):
			factor++
		}
	})
	return min(factor, 8), err
}

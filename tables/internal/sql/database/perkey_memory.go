//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package database

import "slices"

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

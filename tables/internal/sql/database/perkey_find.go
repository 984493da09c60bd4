//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package database

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/go-partd/partd/tables/internal/sql/sqltext"
)

// FindKeys sets By of each input to the largest key for which PerKey accepts a statement, because rows with a larger key
// can be divided more finely. canBeKey reports whether columns, one of each input, have types that can be compared. If
// there is no key, FindKeys returns an error that wraps sqltext.ErrNotPerKey.
//
// PerKey treats each position of the key on its own, so FindKeys can try one position after the other.
func (d *Database) FindKeys(sql string, inputs []KeyedInput, canBeKey func(columns []string) bool) error {
	const maxTries = 256
	names, tree, err := d.parseNames(sql)
	if err != nil {
		return err
	}
	group := equalNames(tree)
	refusal := fmt.Errorf("%w: it has no columns, one of each input, that could be the key", sqltext.ErrNotPerKey)
	for _, isCompared := range []bool{true, false} { // UNION ALL and EXCEPT compare no columns by name
		positions := [][]string{nil} // each consists of one column of each input
		for i := range inputs {
			inputs[i].By = nil
			used, longer := usedColumns(&inputs[i], names), [][]string(nil)
			if used == nil {
				used = inputs[i].Columns
			}
			for _, position := range positions {
				for _, column := range used {
					if i == 0 || !isCompared || group(column) == group(position[0]) {
						longer = append(longer, append(slices.Clip(position), column))
					}
				}
			}
			positions = longer[:min(len(longer), maxTries)]
		}
		positions = slices.DeleteFunc(positions, func(position []string) bool { return !canBeKey(position) })
		err := d.extendKeys(sql, inputs, positions)
		if err == nil || !errors.Is(err, sqltext.ErrNotPerKey) {
			return err
		}
		if isCompared && len(positions) > 0 {
			refusal = err
		}
	}
	return refusal
}

// extendKeys extends the keys of the inputs by each position with which the statement is still per key. If there is no
// such position, it returns the reason.
func (d *Database) extendKeys(sql string, inputs []KeyedInput, positions [][]string) (refusal error) {
	keys := make([][]string, len(inputs))
	for _, position := range positions {
		isTaken := len(keys[0]) == maxKeys
		for i := range inputs {
			isTaken = isTaken || slices.Contains(keys[i], position[i])
			inputs[i].By = append(slices.Clip(keys[i]), position[i])
		}
		if isTaken {
			continue
		}
		_, _, err := d.PerKey(sql, inputs)
		switch {
		case err == nil:
			for i := range inputs {
				keys[i] = inputs[i].By
			}
		case !errors.Is(err, sqltext.ErrNotPerKey):
			return err
		case refusal == nil:
			refusal = fmt.Errorf("with the key %q: %w", position[0], err)
		}
	}
	for i := range inputs {
		inputs[i].By = keys[i]
	}
	if keys[0] != nil {
		return nil
	}
	return cmp.Or(refusal, error(sqltext.ErrNotPerKey))
}

// equalNames returns a function that maps column names to groups. Names are in one group if a statement compares
// columns of these names for equality or if they differ only in case.
func equalNames(tree any) (group func(name string) string) {
	groups := map[string]string{}
	group = func(name string) string { return cmp.Or(groups[fold(name)], fold(name)) }
	eachNode(tree, func(node map[string]any) {
		left, right := namesOf(mapField(node, "left")), namesOf(mapField(node, "right"))
		if len(left) == 0 || len(right) == 0 {
			return
		}
		first, second := group(left[len(left)-1]), group(right[len(right)-1])
		groups[first], groups[second] = first, first
		for name, of := range groups {
			if of == second {
				groups[name] = first
			}
		}
	})
	return group
}

package main

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"github.com/zeebo/xxh3"
)

// answer is what two outputs must share to be the same rows, in any order: the number of
// rows, the sum of hashes of all that is exact, and the numbers that are not.
type answer struct {
	rows, exact uint64
	inexact     []inexact
}

// inexact is the numbers of a row that are right to a billionth, with the hash of the rest.
type inexact struct {
	row uint64
	x   [3]float64
}

// addGroup adds a row of a grouping: the hash of its keys, and its aggregates, which are not a
// number where they are missing.
func (q *question) addGroup(a *answer, keys uint64, aggregates []float64) {
	row, n := inexact{row: keys}, 0
	for i, x := range aggregates {
		switch name, _, _ := strings.Cut(q.aggregates[i], "("); {
		case name == "sum" && math.IsNaN(x): // of nothing: 0 in polars, missing in SQL
			row.row = mixed(row.row ^ exact(0))
		case slices.Contains([]string{"sum", "min", "max", "count", "largest2"}, name):
			row.row = mixed(row.row ^ exact(x))
		default:
			row.x[n] = x
			n++
		}
	}
	a.rows++
	a.exact += mixed(row.row)
	if n > 0 {
		a.inexact = append(a.inexact, row)
	}
}

// addJoined adds a row of a join: the hashes of what x has and of what the other table has.
func (a *answer) addJoined(x, other uint64) {
	a.rows++
	a.exact += mixed(x ^ mixed(other))
}

// exact is a number that has six digits after the point at most, so that its last bit does not count.
func exact(x float64) uint64 { return uint64(int64(math.Round(1e6 * x))) }

// hashCells hashes fields; a number is the same however it is written.
func hashCells(cells [][]byte) (h uint64) {
	for _, c := range cells {
		if x, err := number(c); len(c) > 0 && c[0] <= '9' && err == nil {
			h = mixed(h ^ exact(x))
		} else {
			h = mixed(h ^ xxh3.Hash(c))
		}
	}
	return h
}

// number is not a number where there is none.
func number(field []byte) (float64, error) {
	if len(field) == 0 {
		return math.NaN(), nil
	}
	return strconv.ParseFloat(string(field), 64)
}

// eachRow calls use with the fields of each row of a file with a header.
func eachRow(path string, use func(cells [][]byte) error) error {
	var cells [][]byte
	header := true
	return eachLineOf(path, func(line []byte) error {
		if header {
			header = false
			return nil
		}
		cells = cells[:0]
		for more := true; more; {
			var c []byte
			c, line, more = separated(line, ',')
			cells = append(cells, c)
		}
		return use(cells)
	})
}

// read reads an output.
func (q *question) read(in *input, out string) (*answer, error) {
	a, ofX := &answer{}, len(in.tables[0].columns)
	columns := len(q.keys) + len(q.aggregates)
	if q.right != "" {
		columns = ofX + len(in.tables[1].columns) - 1
	}
	numbers := make([]float64, len(q.aggregates))
	err := eachRow(result(out), func(cells [][]byte) (err error) {
		if q.largest() && len(cells) == ofX { // partd writes the whole row
			cells = [][]byte{cells[5], cells[8]}
		}
		if len(cells) != columns {
			return fmt.Errorf("wrong output: %d columns, not %d: %q", len(cells), columns, cells)
		}
		if q.right != "" {
			a.addJoined(hashCells(cells[:ofX]), hashCells(cells[ofX:]))
			return nil
		}
		for i, c := range cells[len(q.keys):] {
			if numbers[i], err = number(c); err != nil {
				return fmt.Errorf("wrong output: %q: %w", cells, err)
			}
		}
		q.addGroup(a, hashCells(cells[:len(q.keys)]), numbers)
		return nil
	})
	return a, err
}

// check compares an output with the answer that is found here.
func (q *question) check(in *input, out string) (err error) {
	if in.answer == nil {
		if in.answer, err = q.answer(in); err != nil {
			return err
		}
		debug.FreeOSMemory() // the others need it
	}
	got, err := q.read(in, out)
	if err != nil {
		return err
	}
	want := in.answer
	if got.rows != want.rows {
		return fmt.Errorf("wrong output: %d rows, not %d", got.rows, want.rows)
	}
	if got.exact != want.exact {
		return errors.New("wrong output: keys, whole numbers or decimals differ")
	}
	for _, a := range []*answer{got, want} {
		slices.SortFunc(a.inexact, func(a, b inexact) int { return cmp.Compare(a.row, b.row) })
	}
	for i, w := range want.inexact {
		for c, x := range got.inexact[i].x {
			if !near(x, w.x[c]) {
				return fmt.Errorf("wrong output: %v, not %v", x, w.x[c])
			}
		}
	}
	return nil
}

// near reports whether two numbers are the same to a billionth. An r² of almost nothing has
// digits that its sums have lost.
func near(x, want float64) bool {
	return math.IsNaN(x) && math.IsNaN(want) || math.Abs(x-want) <= 1e-9*math.Abs(want)+1e-12
}

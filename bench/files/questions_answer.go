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

// answer is a digest of rows that does not depend on their order.
type answer struct {
	rows        uint64
	sixDecimals uint64 // sum of the hashes of exact fields; numbers are rounded to six decimals
	inexact     []inexact
}

// inexact holds the numbers of a row that may differ by a relative error of 1e-9.
type inexact struct {
	row uint64 // hash of the row's other fields
	x   [3]float64
}

// addGroup adds a row of a grouping: the hash of its keys, and its aggregates, which are NaN
// if missing.
func (q *question) addGroup(a *answer, keys uint64, aggregates []float64) {
	row, n := inexact{row: keys}, 0
	for i, x := range aggregates {
		switch name, _, _ := strings.Cut(q.aggregates[i], "("); {
		case name == "sum" && math.IsNaN(x): // SQL returns NULL as the sum of no values, but polars returns 0
			row.row = mix(row.row ^ sixDecimals(0))
		case slices.Contains([]string{"sum", "min", "max", "count", "largest2"}, name):
			row.row = mix(row.row ^ sixDecimals(x))
		default:
			row.x[n] = x
			n++
		}
	}
	a.rows++
	a.sixDecimals += mix(row.row)
	if n > 0 {
		a.inexact = append(a.inexact, row)
	}
}

// addJoined adds a row of a join: the hashes of the fields from x and from the other table.
func (a *answer) addJoined(x, other uint64) {
	a.rows++
	a.sixDecimals += mix(x ^ mix(other))
}

// sixDecimals rounds a number to six decimals, to ignore differences in the last bits.
func sixDecimals(x float64) uint64 { return uint64(int64(math.Round(1e6 * x))) }

// hashCells hashes fields. Different spellings of a number have the same hash.
func hashCells(cells [][]byte) (h uint64) {
	for _, c := range cells {
		if x, err := number(c); len(c) > 0 && c[0] <= '9' && err == nil {
			h = mix(h ^ sixDecimals(x))
		} else {
			h = mix(h ^ xxh3.Hash(c))
		}
	}
	return h
}

// number parses a number. It returns NaN for an empty field.
func number(field []byte) (float64, error) {
	if len(field) == 0 {
		return math.NaN(), nil
	}
	return strconv.ParseFloat(string(field), 64)
}

// eachRow calls handle with the fields of each row of a file, except its header. The fields are
// valid only until handle returns.
func eachRow(path string, handle func(cells [][]byte) error) error {
	var cells [][]byte
	return eachLineOf(path, true, func(line []byte) error {
		cells = cells[:0]
		for hasMore := true; hasMore; {
			var c []byte
			c, line, hasMore = cutField(line, ',')
			cells = append(cells, c)
		}
		return handle(cells)
	})
}

func (q *question) read(src *input, outDir string) (*answer, error) {
	a, xColumns := &answer{}, len(src.tables[0].columns)
	columns := len(q.keys) + len(q.aggregates)
	if q.right != "" {
		columns = xColumns + len(src.tables[1].columns) - 1
	}
	numbers := make([]float64, len(q.aggregates))
	err := eachRow(resultPath(outDir), func(cells [][]byte) (err error) {
		if q.hasLargest() && len(cells) == xColumns { // partd writes whole rows
			cells = [][]byte{cells[5], cells[8]}
		}
		if len(cells) != columns {
			return fmt.Errorf("wrong output: %d columns, want %d: %q", len(cells), columns, cells)
		}
		if q.right != "" {
			a.addJoined(hashCells(cells[:xColumns]), hashCells(cells[xColumns:]))
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

func (q *question) check(src *input, outDir string) (err error) {
	if src.answer == nil {
		if src.answer, err = q.computeAnswer(src); err != nil {
			return err
		}
		debug.FreeOSMemory() // the contenders need the memory
	}
	got, err := q.read(src, outDir)
	if err != nil {
		return err
	}
	want := src.answer
	if got.rows != want.rows {
		return fmt.Errorf("wrong output: %d rows, want %d", got.rows, want.rows)
	}
	if got.sixDecimals != want.sixDecimals {
		return errors.New("wrong output: keys, whole numbers or decimals differ")
	}
	for _, a := range []*answer{got, want} {
		slices.SortFunc(a.inexact, func(a, b inexact) int { return cmp.Compare(a.row, b.row) })
	}
	for i, w := range want.inexact {
		for c, x := range got.inexact[i].x {
			if !almostEqual(x, w.x[c]) {
				return fmt.Errorf("wrong output: got the number %v, want %v", x, w.x[c])
			}
		}
	}
	return nil
}

// almostEqual reports whether the relative difference of two numbers is at most 1e-9. It also
// accepts a small absolute difference, because the sums for an r² near 0 lose digits.
func almostEqual(x, want float64) bool {
	return math.IsNaN(x) && math.IsNaN(want) || math.Abs(x-want) <= 1e-9*math.Abs(want)+1e-12
}

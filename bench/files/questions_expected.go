package main

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/zeebo/xxh3"
)

// computeAnswer computes the correct answer, by the simplest method.
func (q *question) computeAnswer(src *input) (a *answer, err error) {
	a = &answer{}
	if q.right == "" {
		return a, q.groupedAnswer(src.tables[0], a)
	}
	// Keys of the right table are unique, so a map from keys to rows suffices.
	otherRows := make(map[uint64]uint64, src.tables[1].rows)
	joinColumn := slices.Index(src.tables[1].columns, q.joinColumn)
	if err := eachRow(src.tables[1].path, func(cells [][]byte) error {
		key := xxh3.Hash(cells[joinColumn])
		otherRows[key] = hashCells(slices.Delete(cells, joinColumn, joinColumn+1))
		return nil
	}); err != nil {
		return nil, err
	}
	emptyRow := hashCells(make([][]byte, len(src.tables[1].columns)-1))
	joinColumn = slices.Index(src.tables[0].columns, q.joinColumn)
	return a, eachRow(src.tables[0].path, func(cells [][]byte) error {
		key := cells[joinColumn]
		x := hashCells(slices.Insert(slices.Delete(cells, joinColumn, joinColumn+1), 0, key))
		if other, ok := otherRows[xxh3.Hash(key)]; ok && len(key) > 0 {
			a.addJoined(x, other)
		} else if q.joinKind == "left" {
			a.addJoined(x, emptyRow)
		}
		return nil
	})
}

// measuredRow holds the columns of a row that a grouping needs.
type measuredRow struct {
	keys uint64   // hash of the keys
	v    [3]int32 // v1, v2 and v3, multiplied by scales so that sums are exact
}

const missingValue = math.MinInt32

var scales = [3]float64{1, 1, 1e4} // v3 has four decimals

func (q *question) groupedAnswer(t *table, a *answer) error {
	rows := make([]measuredRow, 0, t.rows)
	keys := make([][]byte, len(q.keys))
	err := eachRow(t.path, func(cells [][]byte) error {
		for i, k := range q.keys {
			keys[i] = cells[slices.Index(t.columns, k)]
		}
		row := measuredRow{keys: hashCells(keys)}
		for i, c := range cells[6:] {
			x, err := number(c)
			row.v[i] = int32(math.Round(x * scales[i]))
			if math.IsNaN(x) {
				row.v[i] = missingValue
			}
			if err != nil {
				return err
			}
		}
		rows = append(rows, row)
		return nil
	})
	slices.SortFunc(rows, func(a, b measuredRow) int { return cmp.Compare(a.keys, b.keys) })
	values := make([]float64, len(q.aggregates))
	for len(rows) > 0 {
		group := rows
		if end := slices.IndexFunc(rows, func(r measuredRow) bool { return r.keys != rows[0].keys }); end > 0 {
			group = rows[:end]
		}
		rows = rows[len(group):]
		if q.hasLargest() {
			v3 := columnOf(group, 2)
			slices.Sort(v3)
			for _, v := range v3[max(0, len(v3)-2):] {
				q.addGroup(a, group[0].keys, []float64{v})
			}
			continue
		}
		for i, text := range q.aggregates {
			values[i] = aggregateOf(text, group)
		}
		q.addGroup(a, group[0].keys, values)
	}
	return err
}

// columnOf returns the values of v1, v2 or v3 (i is 0, 1 or 2) that are not missing.
func columnOf(group []measuredRow, i int) (values []float64) {
	for _, r := range group {
		if r.v[i] != missingValue {
			values = append(values, float64(r.v[i])/scales[i])
		}
	}
	return values
}

// aggregateOf computes an aggregate of a group. text is, for example, "mean(v1)".
func aggregateOf(text string, group []measuredRow) float64 {
	name, arguments, _ := strings.Cut(text, "(")
	switch name {
	case "count":
		return float64(len(group))
	case "regr_r2":
		group = slices.DeleteFunc(slices.Clone(group), func(r measuredRow) bool { return r.v[0] == missingValue || r.v[1] == missingValue })
		x, y := columnOf(group, 0), columnOf(group, 1)
		xx, yy, xy := scaledProducts(x, x), scaledProducts(y, y), scaledProducts(x, y)
		if xx > 0 && yy == 0 {
			return 1 // as in the SQL standard; polars and DataFusion return no value here
		}
		return xy * xy / (xx * yy)
	}
	c := int(arguments[1] - '1')
	x := columnOf(group, c)
	if len(x) == 0 {
		return math.NaN()
	}
	sum, n := 0.0, float64(len(x))
	for _, v := range x {
		sum += math.Round(v * scales[c])
	}
	sum /= scales[c]
	switch name {
	case "sum":
		return sum
	case "mean":
		return sum / n
	case "min":
		return slices.Min(x)
	case "max":
		return slices.Max(x)
	case "median":
		slices.Sort(x)
		return (x[(len(x)-1)/2] + x[len(x)/2]) / 2
	}
	return math.Sqrt(scaledProducts(x, x) / (n * (n - 1))) // stddev; NaN for one value
}

// scaledProducts returns len(x) times the sum of (x[i]-mean(x)) * (y[i]-mean(y)).
func scaledProducts(x, y []float64) (sum float64) {
	n, sumX, sumY := float64(len(x)), 0.0, 0.0
	for i := range x {
		sumX, sumY = sumX+x[i], sumY+y[i]
	}
	for i := range x {
		sum += (x[i]*n - sumX) * (y[i]*n - sumY)
	}
	return sum / n
}

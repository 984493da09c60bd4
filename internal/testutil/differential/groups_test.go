package differential

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// aggregateSpec is a requested aggregate.
type aggregateSpec struct {
	function    string
	text        string // the aggregate as written in --agg
	col, second int    // indexes of columns; functions of y and x read x from second
	fraction    float64
}

// aggregates picks random aggregates of the input's columns.
func (r *run) aggregates(in *input) []aggregateSpec {
	all := []aggregateSpec{{function: "records", text: "count"}} // count without a column counts records
	add := func(allowed []bool, pairs bool, funcs ...string) {
		for _, f := range funcs {
			a := aggregateSpec{function: f, col: r.IntN(len(in.names)), second: r.IntN(len(in.names)), fraction: pick(r, 0, 0.25, 0.5, 0.9, 0.123, 1)}
			if r.maybe(0.6) || allowed != nil && (!allowed[a.col] || pairs && !allowed[a.second]) {
				continue
			}
			name, order, ordered := strings.Cut(f, ":")
			switch {
			case f == "quantile":
				a.text = fmt.Sprintf("quantile(%s,%v)", r.fieldName(in, a.col), a.fraction)
			case pairs:
				a.text = fmt.Sprintf("%s(%s,%s)", f, r.fieldName(in, a.col), r.fieldName(in, a.second))
			case ordered:
				a.text = fmt.Sprintf("%s(%s:%s)", name, r.fieldName(in, a.col), order)
			default:
				a.text = fmt.Sprintf("%s(%s)", f, r.fieldName(in, a.col))
			}
			all = append(all, a)
		}
	}
	add(nil, false, "count", "first", "last", "any", "distinct", "list", "mode", "min:b", "max:b")
	add(in.numeric, false, "sum", "mean", "min", "max", "median", "quantile")
	// Floats round wide integers and so change their differences: deviations cannot be compared.
	approximate := make([]bool, len(in.names))
	for i := range approximate {
		approximate[i] = in.numeric[i] && !in.wide[i]
	}
	add(approximate, false, "stddev", "stddev_pop", "var", "var_pop")
	add(approximate, true, "corr", "covar", "covar_pop", "regr_slope", "regr_intercept", "regr_r2")
	add(in.booleans, false, "bool_and", "bool_or")
	return all
}

// groupRows aggregates the rows by group, and sorts the groups by key.
func groupRows(in *input, cols []int, all []aggregateSpec, typed bool) (rows [][]cell) {
	groups := map[string][][]cell{}
	var keys []string
	for _, row := range in.rows {
		key := keyOf(row, cols, typed)
		if groups[key] == nil {
			keys = append(keys, key)
		}
		groups[key] = append(groups[key], row)
	}
	slices.Sort(keys)
	for _, key := range keys {
		group := groups[key]
		var row []cell
		for _, c := range cols {
			row = append(row, group[0][c])
		}
		for _, a := range all {
			var column, second []cell
			for _, member := range group {
				column, second = append(column, member[a.col]), append(second, member[a.second])
			}
			row = append(row, a.compute(column, second))
		}
		rows = append(rows, row)
	}
	return rows
}

// firstPerGroup returns the first n rows of each group, in the order of the groups.
func firstPerGroup(rows [][]cell, cols []int, n int, typed bool) (first [][]cell) {
	counts := map[string]int{}
	for _, row := range rows {
		if key := keyOf(row, cols, typed); counts[key] < n {
			counts[key]++
			first = append(first, row)
		}
	}
	slices.SortStableFunc(first, func(a, b []cell) int { return strings.Compare(keyOf(a, cols, typed), keyOf(b, cols, typed)) })
	return first
}

// limitToTop limits the job to the first n groups in the order of an aggregate. It selects an
// aggregate whose results are exact, so that the model and partd agree on the order.
func (j *job) limitToTop(r *run, keys int, all []aggregateSpec, n int) {
	var exact []int
	for i, a := range all {
		if a.function == "list" {
			return
		}
		if slices.Contains([]string{"records", "count", "distinct", "first", "last", "any", "mode", "min", "max", "min:b", "max:b", "bool_and", "bool_or"}, a.function) {
			exact = append(exact, i)
		}
	}
	aggregate, sign := pick(r, exact...), -1
	sortColumn := pick(r, j.names[keys+aggregate], quote(j.names[keys+aggregate]))
	if r.maybe(0.4) {
		sortColumn, sign = sortColumn+":asc", 1
	}
	j.args = append(j.args, "--top", fmt.Sprint(n))
	if aggregate > 0 || sign > 0 || r.maybe(0.5) {
		j.args = append(j.args, "--top-by", sortColumn)
	}
	groups := j.rows
	j.unlimitedRows = groups // the output format must be able to hold every group, because partd may choose any of several tied groups
	j.rows = func(typed bool) [][]cell {
		rows := groups(typed)
		slices.SortStableFunc(rows, func(a, b []cell) int {
			x, y := a[keys+aggregate], b[keys+aggregate]
			if x.number && y.number {
				return sign * ratOf(x).Cmp(ratOf(y))
			}
			return sign * strings.Compare(x.text, y.text) // a missing value has no text
		})
		return rows[:min(n, len(rows))]
	}
}

func numberCell(text string) cell { return cell{text: text, number: true, bare: true} }

// floatCell returns the expected cell for a float result. A whole number is compared as a float too.
func floatCell(f, scale float64) cell {
	return cell{text: strconv.FormatFloat(f, 'g', -1, 64), number: true, bare: true, rounded: true, scale: scale}
}

func (a aggregateSpec) compute(all, second []cell) cell {
	nonempty := slices.DeleteFunc(slices.Clone(all), func(c cell) bool { return c.text == "" })
	switch a.function {
	case "records":
		return numberCell(fmt.Sprint(len(all)))
	case "count":
		return numberCell(fmt.Sprint(len(nonempty)))
	case "distinct":
		return numberCell(fmt.Sprint(len(countTexts(nonempty))))
	case "first":
		return all[0]
	case "last":
		return all[len(all)-1]
	case "list":
		return cell{list: all}
	case "corr", "covar", "covar_pop", "regr_slope", "regr_intercept", "regr_r2":
		return a.computePairs(all, second)
	}
	if len(nonempty) == 0 {
		return cell{missing: true}
	}
	compareTexts := func(a, b cell) int { return strings.Compare(a.text, b.text) }
	compareNumbers := func(a, b cell) int { return ratOf(a).Cmp(ratOf(b)) }
	switch a.function {
	case "any":
		return nonempty[0]
	case "mode":
		n := countTexts(nonempty)
		return slices.MinFunc(nonempty, func(a, b cell) int {
			if d := n[b.text] - n[a.text]; d != 0 {
				return d
			}
			return compareTexts(a, b)
		})
	case "bool_and", "bool_or":
		isTrue := func(c cell) bool { return slices.Contains([]string{"true", "T", "on"}, c.text) }
		anyTrue := slices.ContainsFunc(nonempty, isTrue)
		every := !slices.ContainsFunc(nonempty, func(c cell) bool { return !isTrue(c) })
		return cell{text: fmt.Sprint(every || a.function == "bool_or" && anyTrue), bare: true}
	case "min:b":
		return slices.MinFunc(nonempty, compareTexts)
	case "max:b":
		return slices.MaxFunc(nonempty, compareTexts)
	case "min":
		return extremeCell(slices.MinFunc(nonempty, compareNumbers), nonempty)
	case "max":
		return extremeCell(slices.MaxFunc(nonempty, compareNumbers), nonempty)
	case "median":
		return quantileOf(nonempty, 0.5)
	case "quantile":
		return quantileOf(nonempty, a.fraction)
	}
	return a.numericAggregate(nonempty)
}

// extremeCell returns the expected cell for a minimum or maximum, whose text depends only on the set of the values: it
// is that of an integer if one of the values equal to c is written as an integer, and otherwise that of a float.
func extremeCell(c cell, all []cell) cell {
	c.number, c.bare, c.exactText = true, true, true
	f, _ := ratOf(c).Float64()
	text, _ := json.Marshal(f + 0) // turns -0 into 0; a finite float has a text
	isEqual := func(x cell) bool { return !strings.ContainsAny(x.text, ".e") && ratOf(x).Cmp(ratOf(c)) == 0 }
	if slices.ContainsFunc(all, isEqual) {
		text = []byte(ratOf(c).RatString())
	}
	c.text = string(text)
	return c
}

func countTexts(list []cell) map[string]int {
	n := map[string]int{}
	for _, c := range list {
		n[c.text]++
	}
	return n
}

func quantileOf(list []cell, fraction float64) cell {
	slices.SortFunc(list, func(a, b cell) int { return ratOf(a).Cmp(ratOf(b)) })
	i, weight := math.Modf(fraction * float64(len(list)-1))
	low := ratOf(list[int(i)])
	high := ratOf(list[min(int(i)+1, len(list)-1)])
	value := new(big.Rat).Sub(high, low)
	value.Mul(value, new(big.Rat).SetFloat64(weight)).Add(value, low)
	if weight == 0 {
		c := numberCell(value.RatString())
		c.rounded = new(big.Rat).Abs(value).Cmp(big.NewRat(1<<53, 1)) > 0 && strings.ContainsAny(list[int(i)].text, ".e")
		return c
	}
	// In floats, the difference of low and high is rounded. If low and high nearly cancel in the
	// result, the rounding error dominates, so the tolerance depends on both.
	c := numberCell(value.RatString())
	for _, x := range []*big.Rat{low, high} {
		f, _ := x.Float64()
		c.scale = max(c.scale, math.Abs(f))
	}
	c.rounded = c.scale > 1<<51
	return c
}

// sumOrMeanCell returns the expected cell for x, a sum or a mean of numbers with the given sum. If
// sum exceeds 2^53, partd's float result is only approximate.
func sumOrMeanCell(x, sum *big.Rat) cell {
	c := numberCell(x.RatString())
	c.rounded = new(big.Rat).Abs(sum).Cmp(big.NewRat(1<<53, 1)) > 0
	return c
}

func (a aggregateSpec) numericAggregate(list []cell) cell {
	s := momentsOf(list, list)
	switch a.function {
	case "sum":
		if slices.ContainsFunc(list, func(c cell) bool { return strings.ContainsAny(c.text, ".e") }) {
			return sumOrMeanCell(s.x, s.x)
		}
		return numberCell(s.x.RatString())
	case "mean":
		return sumOrMeanCell(new(big.Rat).Quo(s.x, s.n), s.x)
	}
	n := float64(len(list))
	if !strings.HasSuffix(a.function, "_pop") {
		n--
	}
	if n == 0 {
		return cell{missing: true}
	}
	variance, _ := s.xx.Float64()
	variance /= n
	if strings.HasPrefix(a.function, "var") {
		return floatCell(variance, 0)
	}
	return floatCell(math.Sqrt(variance), 0)
}

// moments are sums over pairs of numbers x and y: the count, the numbers, and the products of their
// deviations from the means.
type moments struct{ n, x, y, xx, yy, xy *big.Rat }

func momentsOf(ys, xs []cell) moments {
	m := moments{new(big.Rat), new(big.Rat), new(big.Rat), new(big.Rat), new(big.Rat), new(big.Rat)}
	mul := func(a, b *big.Rat) *big.Rat { return new(big.Rat).Mul(a, b) }
	for i := range xs {
		if xs[i].text == "" || ys[i].text == "" {
			continue
		}
		x, y := ratOf(xs[i]), ratOf(ys[i])
		m.n.Add(m.n, big.NewRat(1, 1))
		m.x.Add(m.x, x)
		m.y.Add(m.y, y)
		m.xx.Add(m.xx, mul(x, x))
		m.yy.Add(m.yy, mul(y, y))
		m.xy.Add(m.xy, mul(x, y))
	}
	if m.n.Sign() == 0 {
		return m
	}
	m.xx.Sub(m.xx, new(big.Rat).Quo(mul(m.x, m.x), m.n))
	m.yy.Sub(m.yy, new(big.Rat).Quo(mul(m.y, m.y), m.n))
	m.xy.Sub(m.xy, new(big.Rat).Quo(mul(m.x, m.y), m.n))
	return m
}

func (a aggregateSpec) computePairs(ys, xs []cell) cell {
	m := momentsOf(ys, xs)
	n, _ := m.n.Float64()
	xx, _ := m.xx.Float64()
	yy, _ := m.yy.Float64()
	xy, _ := m.xy.Float64()
	x, _ := m.x.Float64()
	y, _ := m.y.Float64()
	root := math.Sqrt(xx) * math.Sqrt(yy)
	switch {
	case a.function == "covar_pop" && n > 0:
		return floatCell(xy/n, root/n)
	case a.function == "covar" && n > 1:
		return floatCell(xy/(n-1), root/n)
	case strings.HasPrefix(a.function, "covar"), xx == 0, a.function == "corr" && yy == 0:
		return cell{missing: true}
	case a.function == "corr":
		return floatCell(xy/root, 1)
	case a.function == "regr_slope":
		return floatCell(xy/xx, math.Sqrt(yy/xx))
	case a.function == "regr_intercept":
		return floatCell((y-xy/xx*x)/n, math.Abs(y/n)+math.Sqrt(yy/xx)*math.Abs(x/n))
	case yy == 0:
		return floatCell(1, 0)
	}
	return floatCell(xy*xy/xx/yy, 1)
}

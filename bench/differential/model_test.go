package main

import (
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// job is a command with what it should write.
type job struct {
	args  []string
	names []string // of the columns written
	rows  func(typed bool) [][]cell
}

// fits tells whether a format without quotes can hold the rows.
func (j *job) fits(format string, noHeader bool) bool {
	for _, row := range j.rows(false) {
		if len(row) == 1 && row[0].text == "" && noHeader {
			return false
		}
		for _, c := range row {
			if strings.ContainsAny(c.text, "\t\n\r") || format == "text" && (c.text == "" || strings.ContainsAny(c.text, " \x00")) || c.list != nil {
				return false
			}
		}
	}
	return true
}

func (r *run) plan(command string, in *input) *job {
	cols, by := r.columns(in)
	j := &job{args: []string{command, "--by", strings.Join(by, ",")}, names: in.names}
	n := 1 + r.IntN(50)
	switch command {
	case "sort", "top":
		rows := r.sorted(in, cols, by, command == "top")
		j.args[2] = strings.Join(by, ",")
		if command == "top" {
			j.args = append(j.args, "-n", fmt.Sprint(n))
			rows = rows[:min(n, len(rows))]
		}
		j.rows = func(bool) [][]cell { return rows }
	case "distinct":
		whole := r.maybe(0.3)
		if whole {
			j.args = j.args[:1]
		}
		j.rows = func(typed bool) (rows [][]cell) {
			seen := map[string]bool{}
			for i, row := range in.rows {
				key := in.raw[i]
				if !whole {
					key = keyOf(row, cols, typed)
				}
				if !seen[key] {
					rows = append(rows, row)
				}
				seen[key] = true
			}
			return rows
		}
	case "frequent":
		j.args = []string{"top", "--frequent", j.args[2], "-n", fmt.Sprint(n)}
		j.names = append(pickAll(in.names, cols), "count")
		j.rows = func(typed bool) [][]cell {
			rows := grouped(in, cols, []string{"count"}, []int{0}, typed)
			slices.SortStableFunc(rows, func(a, b []cell) int { return value(b[len(cols)]).Cmp(value(a[len(cols)])) })
			return rows[:min(n, len(rows))]
		}
	case "group":
		funcs, of := []string{"count"}, []int{0}
		j.names = append(pickAll(in.names, cols), "count")
		list := []string{"count"}
		for _, f := range []string{"count", "sum", "mean", "min", "max", "stddev", "first", "last", "distinct", "list", "min:b", "max:b"} {
			col := r.IntN(len(in.names))
			if r.maybe(0.4) || slices.Contains([]string{"sum", "mean", "min", "max", "stddev"}, f) && !in.numeric[col] {
				continue
			}
			name, order, _ := strings.Cut(f, ":")
			text := in.names[col]
			if order != "" {
				text += ":" + order
			}
			funcs, of = append(funcs, f), append(of, col)
			list = append(list, name+"("+text+")")
		}
		j.names = append(j.names, list[1:]...)
		j.args = append(j.args, "--agg", strings.Join(list, ","))
		j.rows = func(typed bool) [][]cell { return grouped(in, cols, funcs, of, typed) }
	}
	return j
}

func pickAll(names []string, cols []int) (picked []string) {
	for _, c := range cols {
		picked = append(picked, names[c])
	}
	return picked
}

// keyOf returns what tells the fields of a row from others, and orders them.
func keyOf(row []cell, cols []int, typed bool) string {
	var b strings.Builder
	for _, c := range cols {
		kind := 1
		switch {
		case !typed:
		case row[c].missing:
			kind = 0
		case row[c].bare:
			kind = 2
		}
		fmt.Fprintf(&b, "%s\x00\x01%d", strings.ReplaceAll(row[c].text, "\x00", "\x00\xff"), kind)
	}
	return b.String()
}

// sorted sorts the rows, by an order that it adds to by.
func (r *run) sorted(in *input, cols []int, by []string, down bool) [][]cell {
	var compare []func(a, b []cell) int
	for i, col := range cols {
		sign := 1
		if down {
			sign = -1
		}
		numeric := in.numeric[col] && r.maybe(0.7)
		if numeric {
			by[i] += ":n"
		}
		if r.maybe(0.5) {
			sign = -sign
			by[i] += map[int]string{1: ":asc", -1: ":desc"}[sign]
		}
		compare = append(compare, func(a, b []cell) int {
			x, y := a[col], b[col]
			if numeric && x.text != "" && y.text != "" {
				return sign * value(x).Cmp(value(y))
			}
			return sign * strings.Compare(x.text, y.text) // a missing value has no text
		})
	}
	rows := slices.Clone(in.rows)
	slices.SortStableFunc(rows, func(a, b []cell) int {
		for _, c := range compare {
			if d := c(a, b); d != 0 {
				return d
			}
		}
		return 0
	})
	return rows
}

func value(c cell) *big.Rat {
	v, ok := new(big.Rat).SetString(c.text)
	if !ok {
		panic("the model made " + strconv.Quote(c.text) + " for a number")
	}
	return v
}

// grouped aggregates the rows, and orders the groups.
func grouped(in *input, cols []int, funcs []string, of []int, typed bool) (rows [][]cell) {
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
		for i, f := range funcs {
			var column []cell
			for _, member := range group {
				column = append(column, member[of[i]])
			}
			if f == "count" && i == 0 {
				row = append(row, cell{text: fmt.Sprint(len(group)), number: true, bare: true})
				continue
			}
			row = append(row, aggregate(f, column))
		}
		rows = append(rows, row)
	}
	return rows
}

func aggregate(f string, all []cell) cell {
	number := func(text string) cell { return cell{text: text, number: true, bare: true} }
	there := slices.DeleteFunc(slices.Clone(all), func(c cell) bool { return c.text == "" })
	switch f {
	case "count":
		return number(fmt.Sprint(len(there)))
	case "distinct":
		different := map[string]bool{}
		for _, c := range there {
			different[c.text] = true
		}
		return number(fmt.Sprint(len(different)))
	case "first":
		return all[0]
	case "last":
		return all[len(all)-1]
	case "list":
		return cell{list: all}
	}
	if len(there) == 0 || f == "stddev" && len(there) == 1 {
		return cell{missing: true}
	}
	text := func(a, b cell) int { return strings.Compare(a.text, b.text) }
	numeric := func(a, b cell) int { return value(a).Cmp(value(b)) }
	switch f {
	case "min:b":
		return slices.MinFunc(there, text)
	case "max:b":
		return slices.MaxFunc(there, text)
	case "min":
		return number(slices.MinFunc(there, numeric).text)
	case "max":
		return number(slices.MaxFunc(there, numeric).text)
	}
	sum, squares, n := new(big.Rat), new(big.Rat), new(big.Rat).SetInt64(int64(len(there)))
	for _, c := range there {
		sum.Add(sum, value(c))
		squares.Add(squares, new(big.Rat).Mul(value(c), value(c)))
	}
	mean := new(big.Rat).Quo(sum, n)
	switch f {
	case "sum":
		return number(sum.RatString())
	case "mean":
		return number(mean.RatString())
	}
	spread := squares.Sub(squares, new(big.Rat).Mul(sum, mean))
	variance, _ := spread.Quo(spread, n.Sub(n, big.NewRat(1, 1))).Float64()
	return number(strconv.FormatFloat(math.Sqrt(variance), 'g', -1, 64))
}

// same compares rows.
func same(got, want [][]cell, json bool) error {
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || len(got[i]) != len(want[i]) {
			return fmt.Errorf("%d rows, want %d; they differ at row %d", len(got), len(want), i+1)
		}
		for k := range want[i] {
			if !equal(got[i][k], want[i][k], json) {
				return fmt.Errorf("row %d, field %d is %+v, want %+v", i+1, k+1, got[i][k], want[i][k])
			}
		}
	}
	return nil
}

// equal compares a cell with what it should be: numbers to 1e-9 of them, and
// integers exactly.
func equal(got, want cell, json bool) bool {
	switch {
	case json && want.list != nil:
		return slices.EqualFunc(got.list, want.list, func(a, b cell) bool { return equal(a, b, true) })
	case want.list != nil:
		want.text = joined(want.list)
	case want.number && got.text != "":
		x, okX := new(big.Rat).SetString(got.text)
		y, okY := new(big.Rat).SetString(want.text)
		if !okX || !okY || json && !got.bare {
			return false
		}
		a, _ := x.Float64()
		b, _ := y.Float64()
		return x.Cmp(y) == 0 || !(y.IsInt() && x.IsInt()) && math.Abs(a-b) <= 1e-9*max(math.Abs(a), math.Abs(b), 1e-3)
	}
	return got.text == want.text && (!json || got.missing == want.missing && got.bare == want.bare)
}

// joined is a list as csv has it.
func joined(list []cell) string {
	var texts []string
	for _, c := range list {
		if strings.ContainsAny(c.text, ";\"\n\r") {
			c.text = `"` + strings.ReplaceAll(c.text, `"`, `""`) + `"`
		}
		texts = append(texts, c.text)
	}
	return strings.Join(texts, ";")
}

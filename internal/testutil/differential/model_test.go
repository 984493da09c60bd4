package differential

import (
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// job is a command with its expected output.
type job struct {
	args          []string
	names         []string // the output's columns
	width         int      // number of columns to write without --columns; 0 means all
	rows          func(typed bool) [][]cell
	unlimitedRows func(typed bool) [][]cell // rows without the limit; nil if the job has no limit
}

// canHold reports whether the output format can hold the rows.
func (j *job) canHold(format string, noHeader bool) bool {
	rows := j.unlimitedRows
	if rows == nil {
		rows = j.rows
	}
	for _, row := range rows(false) {
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
	cols, byFields := r.pickColumns(in)
	j := &job{args: []string{command, "--by", strings.Join(byFields, ",")}, names: in.names, width: in.width}
	n := 1 + r.IntN(50)
	switch command {
	case "sort", "top":
		rows := r.sortRows(in, cols, byFields, command == "top")
		j.args[2] = strings.Join(byFields, ",")
		if command == "top" {
			j.args = append(j.args, "-n", fmt.Sprint(n))
			rows = rows[:min(n, len(rows))]
		}
		j.rows = func(bool) [][]cell { return rows }
	case "per":
		groups, names := cols, slices.Clone(byFields)
		rows := r.sortRows(in, cols, byFields, true) // extends byFields
		if r.maybe(0.7) {                            // otherwise, group by the sort keys
			groups, names = r.pickColumns(in)
		}
		j.args = []string{"top", "--by", strings.Join(byFields, ","), "--per", strings.Join(names, ","), "-n", fmt.Sprint(n)}
		j.rows = func(typed bool) [][]cell { return firstPerGroup(rows, groups, n, typed) }
	case "distinct":
		wholeRecord := r.maybe(0.3)
		if wholeRecord {
			j.args = j.args[:1]
		}
		j.rows = func(typed bool) (rows [][]cell) {
			return firstOfKeys(in.rows, func(i int) string {
				if wholeRecord {
					return in.raw[i]
				}
				return keyOf(in.rows[i], cols, typed)
			})
		}
	case "frequent":
		j.args = []string{"top", "--frequent", j.args[2], "-n", fmt.Sprint(n)}
		j.names, j.width = append(pickAll(in.names, cols), "count"), 0
		j.rows = func(typed bool) [][]cell {
			rows := groupRows(in, cols, []aggregateSpec{{function: "records"}}, typed)
			slices.SortStableFunc(rows, func(a, b []cell) int { return ratOf(b[len(cols)]).Cmp(ratOf(a[len(cols)])) })
			return rows[:min(n, len(rows))]
		}
	case "group":
		specs := r.aggregates(in)
		j.names, j.width = pickAll(in.names, cols), 0
		for _, a := range specs {
			j.names = append(j.names, a.text)
		}
		j.args = append(j.args, "--agg", strings.Join(j.names[len(cols):], ","))
		j.rows = func(typed bool) [][]cell { return groupRows(in, cols, specs, typed) }
		if r.maybe(0.3) {
			j.limitToTop(r, len(cols), specs, n)
		}
	}
	return j
}

// firstOfKeys returns the first row of each key. keyOf returns the key of row i.
func firstOfKeys(rows [][]cell, keyOf func(i int) string) (first [][]cell) {
	seen := map[string]bool{}
	for i, row := range rows {
		if key := keyOf(i); !seen[key] {
			seen[key] = true
			first = append(first, row)
		}
	}
	return first
}

// filterRows removes some of the input's rows, and returns the condition for the others.
func (r *run) filterRows(in *input) string {
	c := r.IntN(len(in.names))
	column := quote(in.names[c])
	if c >= in.width {
		column = in.names[c]
	}
	condition, keeps := column+" is not null", func(c cell) bool { return c.text != "" }
	// A part of a date need not be one, and partd refuses to compare it with a date.
	isPartOfDate := c >= in.width && in.dates[in.parts[c-in.width].col]
	if r.maybe(0.5) && len(in.rows) > 0 && !isPartOfDate {
		text := strings.ReplaceAll(pick(r, in.rows...)[c].text, "\x00", "") // arguments cannot contain NUL
		condition = column + " is null or not " + column + " > '" + strings.ReplaceAll(text, "'", "''") + "'"
		keeps = func(c cell) bool { return c.text <= text }
	}
	var rows [][]cell
	var raw []string
	for i, row := range in.rows {
		if keeps(row[c]) {
			rows, raw = append(rows, row), append(raw, in.raw[i])
		}
	}
	lacksMember := func(row []cell) bool { return slices.ContainsFunc(row, func(c cell) bool { return c.missing }) }
	if len(rows) == 0 || lacksMember(rows[0]) { // the first record must have all columns
		return column + " is null or " + column + " is not null"
	}
	in.rows, in.raw = rows, raw
	return condition
}

// selectColumns limits the job to some of its columns.
func (j *job) selectColumns(r *run) {
	order := r.Perm(len(j.names))[:1+r.IntN(len(j.names))]
	list := pickAll(j.names, order)
	for i, c := range order {
		if j.width == 0 || c < j.width {
			list[i] = quote(list[i])
		}
	}
	j.args = append(j.args, "--columns", strings.Join(list, ","))
	j.limitColumns(order)
}

// limitColumns limits the expected rows to some columns.
func (j *job) limitColumns(order []int) {
	limit := func(rows func(bool) [][]cell) func(bool) [][]cell {
		return func(typed bool) (limited [][]cell) {
			for _, row := range rows(typed) {
				var cells []cell
				for _, c := range order {
					cells = append(cells, row[c])
				}
				limited = append(limited, cells)
			}
			return limited
		}
	}
	j.names, j.rows = pickAll(j.names, order), limit(j.rows)
	if j.unlimitedRows != nil {
		j.unlimitedRows = limit(j.unlimitedRows)
	}
}

func pickAll(names []string, cols []int) (chosen []string) {
	for _, c := range cols {
		chosen = append(chosen, names[c])
	}
	return chosen
}

// keyOf encodes fields of a row as a text, which differs for different fields and sorts like them.
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

// sortRows returns the rows sorted by the columns. It picks the order of each column at random,
// and appends the order to the column's name in byFields.
func (r *run) sortRows(in *input, cols []int, byFields []string, descending bool) [][]cell {
	var compare []func(a, b []cell) int
	for i, col := range cols {
		sign := 1
		if descending {
			sign = -1
		}
		numeric := in.numeric[col] && r.maybe(0.7)
		if numeric {
			byFields[i] += ":n"
		}
		if r.maybe(0.5) {
			sign = -sign
			byFields[i] += map[int]string{1: ":asc", -1: ":desc"}[sign]
		}
		compare = append(compare, func(a, b []cell) int {
			x, y := a[col], b[col]
			if numeric && x.text != "" && y.text != "" {
				return sign * ratOf(x).Cmp(ratOf(y))
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

func ratOf(c cell) *big.Rat {
	v, ok := new(big.Rat).SetString(c.text)
	if !ok {
		panic("the model computed " + strconv.Quote(c.text) + ", which is not a number")
	}
	return v
}

// compareRows returns an error that describes the first difference of rows, or nil.
func compareRows(got, want [][]cell, json bool) error {
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

// equal reports whether a cell has the expected value. Integers must be equal; other numbers
// may differ by 1e-9 of their value, or of the values that they were computed from.
func equal(got, want cell, json bool) bool {
	switch {
	case json && want.list != nil:
		return slices.EqualFunc(got.list, want.list, func(a, b cell) bool { return equal(a, b, true) })
	case want.list != nil:
		want.text = joinList(want.list)
	case want.number && !want.exactText && got.text != "":
		x, okX := new(big.Rat).SetString(got.text)
		y, okY := new(big.Rat).SetString(want.text)
		if !okX || !okY || json && !got.bare {
			return false
		}
		a, _ := x.Float64()
		b, _ := y.Float64()
		return x.Cmp(y) == 0 || (want.rounded || !(y.IsInt() && x.IsInt())) && math.Abs(a-b) <= 1e-9*max(math.Abs(a), math.Abs(b), want.scale, 1e-3)
	}
	return got.text == want.text && (!json || got.missing == want.missing && got.bare == want.bare)
}

// joinList formats a list as in CSV output.
func joinList(list []cell) string {
	var texts []string
	for _, c := range list {
		if strings.ContainsAny(c.text, ";\"\n\r") {
			c.text = `"` + strings.ReplaceAll(c.text, `"`, `""`) + `"`
		}
		texts = append(texts, c.text)
	}
	return strings.Join(texts, ";")
}

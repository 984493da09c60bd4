package differential

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// join compares partd's join of two random tables with the model's, regardless of the order of rows.
func (r *run) join(flags []string) error {
	format := pick(r, "csv", "csv", "tsv", "jsonl", "text")
	nameless := format == "text" || format != "jsonl" && r.maybe(0.2)
	newSide := func(rows int) *input {
		in := r.table(format, nameless, rows)
		for in.noHeader != nameless { // a TSV with one column always has a header
			in = r.table(format, nameless, rows)
		}
		r.addParts(in)
		return in
	}
	left := newSide(pick(r, 1, 5, 50, 1000))
	if !nameless {
		format = pick(r, "csv", "tsv", "jsonl")
	}
	right := newSide(pick(r, 1, 5, 50, 300))
	kind, matchEmpty := pick(r, "inner", "left", "right", "full", "semi", "anti"), r.maybe(0.3)
	n := min(1+r.IntN(2), len(left.names), len(right.names))
	leftColumns, rightColumns := r.Perm(len(left.names))[:n], r.Perm(len(right.names))[:n]
	var conditions []string
	for i := range n {
		pair := r.fieldName(left, leftColumns[i])
		if left.names[leftColumns[i]] != right.names[rightColumns[i]] || r.maybe(0.3) {
			pair += "=" + r.fieldName(right, rightColumns[i])
			if slices.Contains(left.names, pair) && slices.Contains(right.names, pair) {
				pair = quote(left.names[leftColumns[i]]) + "=" + quote(right.names[rightColumns[i]])
			}
		}
		conditions = append(conditions, pair)
	}
	if left.malformed || right.malformed {
		flags = append(flags, "--skip-bad")
	}
	if matchEmpty {
		flags = append(flags, "--match-empty")
	}
	if nameless && left.format != "text" {
		flags = append(flags, "--no-header")
	}
	names, want := joinModel(left, right, leftColumns, rightColumns, kind, matchEmpty)
	if r.maybe(0.3) && len(want) < 3000 {
		// Make the sides larger than memory. If they are compressed, partd learns their size only while reading.
		r.widen(left)
		if r.maybe(0.7) {
			r.widen(right)
		}
		names, want = joinModel(left, right, leftColumns, rightColumns, kind, matchEmpty)
	}
	if err := r.write(left, "left", 1); err != nil {
		return err
	}
	if err := r.write(right, "right", 1); err != nil {
		return err
	}
	outFormat := "csv"
	if !nameless && r.maybe(0.5) {
		outFormat = "jsonl"
	}
	output := "out." + outFormat + pick(r, "", ".zst")
	args := append(append([]string{"join", "--on", strings.Join(conditions, ","), "--how", kind}, flags...), "--to-format", outFormat, "-o", output, left.files[0], right.files[0])
	if _, err := r.partd(args...); err != nil {
		return err
	}
	got, err := r.read(output, outFormat, names, !nameless)
	if err != nil {
		return err
	}
	for _, rows := range [][][]cell{got, want} {
		slices.SortFunc(rows, func(a, b []cell) int {
			return slices.CompareFunc(a, b, func(x, y cell) int {
				if d := strings.Compare(x.text, y.text); d != 0 || outFormat == "csv" {
					return d
				}
				return cmp.Compare(fmt.Sprint(x.missing, x.bare), fmt.Sprint(y.missing, y.bare))
			})
		})
	}
	return compareRows(got, want, outFormat == "jsonl")
}

// widen lengthens one value of each row.
func (r *run) widen(in *input) {
	long := strings.Repeat("x", pick(r, 5_000, 20_000)) // a record may have a two-hundredth of 16 MiB, and each field in --on counts again
	for _, row := range in.rows {
		i := r.IntN(in.width)
		if c := &row[i]; !c.bare && !c.missing && c.text != "" && !in.dates[i] {
			c.text += long
		}
	}
	in.cutParts()
}

// joinModel returns the column names and the rows of a join.
func joinModel(left, right *input, leftColumns, rightColumns []int, kind string, matchEmpty bool) (names []string, rows [][]cell) {
	otherColumns := func(in *input, keys []int) (cols []int) {
		for i := range in.width {
			if !slices.Contains(keys, i) {
				cols = append(cols, i)
			}
		}
		return cols
	}
	row := func(l, r []cell) {
		row := l[:min(len(l), left.width)]
		if kind != "semi" && kind != "anti" {
			row = nil
			for i := range leftColumns {
				if l != nil {
					row = append(row, l[leftColumns[i]])
				} else {
					row = append(row, r[rightColumns[i]])
				}
			}
			for _, c := range otherColumns(left, leftColumns) {
				if l == nil {
					row = append(row, cell{missing: true})
				} else {
					row = append(row, l[c])
				}
			}
			for _, c := range otherColumns(right, rightColumns) {
				if r == nil {
					row = append(row, cell{missing: true})
				} else {
					row = append(row, r[c])
				}
			}
		}
		rows = append(rows, row)
	}
	names = left.names[:left.width]
	if kind != "semi" && kind != "anti" {
		names = append(pickAll(left.names, leftColumns), pickAll(left.names, otherColumns(left, leftColumns))...)
		for _, name := range pickAll(right.names, otherColumns(right, rightColumns)) {
			for slices.Contains(names, name) {
				name += "_right"
			}
			names = append(names, name)
		}
	}
	haveEqualKeys := func(l, r []cell) bool {
		for i := range leftColumns {
			if l[leftColumns[i]].text != r[rightColumns[i]].text || l[leftColumns[i]].text == "" && !matchEmpty {
				return false
			}
		}
		return true
	}
	matchedRight := map[int]bool{} // right rows that match a left row
	for _, l := range left.rows {
		matched := false
		for i, r := range right.rows {
			if !haveEqualKeys(l, r) {
				continue
			}
			if matched, matchedRight[i] = true, true; kind != "semi" && kind != "anti" {
				row(l, r)
			}
		}
		if kind == "semi" && matched || !matched && (kind == "left" || kind == "full" || kind == "anti") {
			row(l, nil)
		}
	}
	for i, r := range right.rows {
		if !matchedRight[i] && (kind == "right" || kind == "full") {
			row(nil, r)
		}
	}
	return names, rows
}

package differential

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// oddNames are names that a list of fields could take for something else: an order, a part, a pair or an alias.
var oddNames = []string{
	"a", "a:n", "a:n:desc", "a:b", "b", "a=b", "b=a", "c:asc", "day(a)", "prefix(a,1)", `prefix("a",1)`, "sum(q)", "a as b", "x AS y",
	"b c", "d,e", `f"g`, `"h"`, "ü", "h:i", "j.k", "true", "and",
}

// part is a part of a column. It is a further column of an input's rows.
type part struct {
	col int
	cut func(text string) string
}

func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

var (
	special = regexp.MustCompile(`[,"=(]| as | AS |:(n|b|asc|desc)$`)
	word    = regexp.MustCompile(`^[\pL_][\pL\pN_]*$`)
)

// fieldName returns a column's name on the command line, or the text of a part.
func (r *run) fieldName(in *input, col int) string {
	name := in.names[col]
	switch {
	case col >= in.width:
		return name
	case in.isNumbered():
		return pick(r, name, quote(name))
	case special.MatchString(name) || in.hasLonger(name):
		return quote(name)
	}
	return pick(r, name, name, quote(name))
}

// hasLonger reports whether the name with an order could be another column's name.
func (in *input) hasLonger(name string) bool {
	return slices.ContainsFunc(in.names, func(other string) bool { return strings.HasPrefix(other, name+":") })
}

// addParts adds parts of columns to the input's columns.
func (r *run) addParts(in *input) {
	for range pick(r, 0, 0, 1, 2) {
		col := r.IntN(in.width)
		name := quote(in.names[col])
		if in.isNumbered() || word.MatchString(in.names[col]) && in.names[col] != "and" && in.names[col] != "true" {
			name = pick(r, name, in.names[col])
		}
		text, cut := r.part(name, in.dates[col])
		if !in.dates[col] && r.maybe(0.3) {
			inner, outer := cut, cut
			text, outer = r.part(text, false)
			cut = func(text string) string { return outer(inner(text)) }
		}
		if slices.Contains(in.names, text) {
			continue
		}
		in.parts, in.names = append(in.parts, part{col, cut}), append(in.names, text)
		for _, list := range []*[]bool{&in.numeric, &in.wide, &in.booleans, &in.dates} {
			*list = append(*list, false)
		}
	}
	in.cutParts()
}

// part returns a random part of a column, and its function.
func (r *run) part(column string, isDate bool) (text string, cut func(text string) string) {
	separator, n := pick(r, ".", "/", "1", " ", "v", "'"), 1+r.IntN(3)
	quoted := "'" + strings.ReplaceAll(separator, "'", "''") + "'"
	cutAt := func(text string, n int) (before, after string) {
		pieces := strings.Split(text, separator)
		if n < 0 {
			n += len(pieces)
		}
		if n <= 0 || n >= len(pieces) {
			return text, ""
		}
		return strings.Join(pieces[:n], separator), strings.Join(pieces[n:], separator)
	}
	switch kind := r.IntN(4); {
	case isDate && kind == 0:
		return "day(" + column + ")", func(text string) string { return text[:min(len(text), len("2026-01-31"))] }
	case isDate && kind == 1:
		return "month( " + column + " )", func(text string) string { return text[:min(len(text), len("2026-01"))] }
	case kind < 2:
		return fmt.Sprintf("prefix(%s,%d)", column, n), func(text string) string {
			if utf8.RuneCountInString(text) <= n {
				return text
			}
			return string([]rune(text)[:n])
		}
	case kind == 2:
		n = pick(r, n, -n)
		return fmt.Sprintf("before(%s, %s, %d)", column, quoted, n), func(text string) string { before, _ := cutAt(text, n); return before }
	}
	return fmt.Sprintf("after(%s,%s)", column, quoted), func(text string) string { _, after := cutAt(text, 1); return after }
}

// cutParts computes the parts of all rows.
func (in *input) cutParts() {
	for i, row := range in.rows {
		row = row[:in.width:in.width]
		for _, p := range in.parts {
			row = append(row, cell{text: p.cut(row[p.col].text), missing: row[p.col].missing})
		}
		in.rows[i] = row
	}
}

// spellJSON replaces some characters of JSON by escapes.
func (r *run) spellJSON(text []byte) string {
	if r.maybe(0.7) {
		return string(text)
	}
	return strings.NewReplacer("Ä", `\u00c4`, "ü", `\u00FC`, "/", `\/`).Replace(string(text))
}

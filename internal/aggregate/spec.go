// Package aggregate computes what partd group offers: counts, sums, means,
// extremes and deviations of numbers written as text. Integers are exact,
// floating-point sums are compensated, and states of parts can be merged.
package aggregate

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-partd/partd/internal/nearest"
)

// Func is what is computed.
type Func uint8

// The functions.
const (
	Count    Func = iota + 1 // records, or values that are not missing
	Sum                      // of numbers
	Mean                     // of numbers
	Min                      // the least number, or the first text in the order of bytes
	Max                      // the greatest number, or the last text in the order of bytes
	Stddev                   // sample standard deviation of numbers
	First                    // value, in the order of the input
	Last                     // value, in the order of the input
	Distinct                 // how many different values
	List                     // all values, in the order of the input
)

// Names lists the functions.
const Names = "count, sum(x), mean(x), min(x), max(x), stddev(x), first(x), last(x), distinct(x), list(x)"

var funcs = map[string]Func{
	"count": Count, "sum": Sum, "mean": Mean, "min": Min, "max": Max, "stddev": Stddev,
	"first": First, "last": Last, "distinct": Distinct, "list": List,
	"avg": Mean, "count_distinct": Distinct, // as in SQL
}

// Numeric reports whether a function takes numbers.
func (s Spec) Numeric() bool {
	switch s.Func {
	case Sum, Mean, Stddev:
		return true
	case Min, Max:
		return !s.Bytes
	}
	return false
}

// Spec is one result that is asked for.
type Spec struct {
	Func  Func
	Field string // the name or number of a field; "" for count
	Bytes bool   // Min and Max compare bytes, not numbers
	Text  string // as it was written: the name of the result
}

// Parse reads a list of results between commas, as in "count,sum(x)". The text
// in parentheses is a field; min(x:b) and max(x:b) compare bytes.
func Parse(list string) ([]Spec, error) {
	var specs []Spec
	for rest := list; ; {
		rest = strings.TrimLeft(rest, " ")
		i := strings.IndexAny(rest, "(,")
		if i < 0 {
			i = len(rest)
		}
		s := Spec{Text: strings.TrimRight(rest[:i], " ")}
		f, ok := funcs[s.Text]
		if !ok {
			hint := nearest.Hint(s.Text, slices.Sorted(maps.Keys(funcs)))
			return nil, fmt.Errorf("there is no aggregate %q in %q%s: there are %s", s.Text, list, hint, Names)
		}
		s.Func = f
		if i < len(rest) && rest[i] == '(' {
			n := closing(rest[i+1:])
			if n < 0 {
				return nil, fmt.Errorf("the parenthesis of %q is not closed", rest)
			}
			s.Field, s.Text = rest[i+1:i+1+n], rest[:i+n+2]
			i += n + 2
		}
		switch field, isBytes := strings.CutSuffix(s.Field, ":b"); {
		case s.Field == "" && (f != Count || strings.HasSuffix(s.Text, ")")):
			return nil, fmt.Errorf("%s needs a field, as in %s(x)", s.Text, strings.TrimSuffix(s.Text, "()"))
		case isBytes && (f == Min || f == Max):
			s.Field, s.Bytes = field, true
		}
		specs = append(specs, s)
		rest = strings.TrimLeft(rest[i:], " ")
		if rest == "" {
			return specs, nil
		}
		if rest[0] != ',' {
			return nil, fmt.Errorf("a comma is missing before %q in %q", rest, list)
		}
		rest = rest[1:]
	}
}

// closing finds the parenthesis that ends a field: one with a comma or nothing
// after it, as a name may hold parentheses.
func closing(text string) int {
	for i := range len(text) {
		if text[i] == ')' {
			if after := strings.TrimLeft(text[i+1:], " "); after == "" || after[0] == ',' {
				return i
			}
		}
	}
	return -1
}

// Kept reports whether the values themselves are needed, not numbers made of them.
func (s Spec) Kept() bool {
	switch s.Func {
	case First, Last, List:
		return true
	case Min, Max:
		return s.Bytes
	}
	return false
}

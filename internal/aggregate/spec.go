// Package aggregate computes the aggregates of partd group: counts, sums, means, extremes,
// deviations, regressions and quantiles of numbers written as text. Integers are exact,
// sums of floats are compensated, and partial states can be merged.
package aggregate

import (
	"encoding/csv"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/go-partd/partd/internal/nearest"
)

// Func is an aggregate function.
type Func uint8

// The functions.
const (
	Count         Func = iota + 1 // records, or values that are not missing
	Sum                           // of numbers
	Mean                          // of numbers
	Min                           // the smallest number, or the first text in the order of bytes
	Max                           // the largest number, or the last text in the order of bytes
	Stddev                        // sample standard deviation of numbers
	StddevPop                     // standard deviation of a whole population
	Var                           // sample variance of numbers
	VarPop                        // variance of a whole population
	Quantile                      // continuous quantile of numbers
	Mode                          // the most frequent value
	Corr                          // correlation of two numbers
	Covar                         // sample covariance of two numbers
	CovarPop                      // covariance of a whole population
	RegrSlope                     // slope of the regression line through pairs of numbers
	RegrIntercept                 // intercept of that line
	RegrR2                        // share of the variance that the line explains
	BoolAnd                       // whether all values are true
	BoolOr                        // whether any value is true
	First                         // the first value in input order
	Last                          // the last value in input order
	Any                           // a value that is not missing: the first one
	Distinct                      // the number of distinct values
	List                          // all values in input order
)

// Names lists the functions, for messages and help.
const Names = "count, sum(x), mean(x), min(x), max(x), stddev(x), stddev_pop(x), var(x), var_pop(x), median(x), quantile(x,0.9), mode(x), " +
	"corr(y,x), covar(y,x), covar_pop(y,x), regr_slope(y,x), regr_intercept(y,x), regr_r2(y,x), bool_and(x), bool_or(x), " +
	"first(x), last(x), any(x), distinct(x), list(x)"

var funcs = map[string]Func{
	"count": Count, "sum": Sum, "mean": Mean, "min": Min, "max": Max,
	"stddev": Stddev, "stddev_pop": StddevPop, "var": Var, "var_pop": VarPop,
	"median": Quantile, "quantile": Quantile, "mode": Mode,
	"corr": Corr, "covar": Covar, "covar_pop": CovarPop,
	"regr_slope": RegrSlope, "regr_intercept": RegrIntercept, "regr_r2": RegrR2,
	"bool_and": BoolAnd, "bool_or": BoolOr,
	"first": First, "last": Last, "any": Any, "distinct": Distinct, "list": List,
	// Other names, from SQL:
	"avg": Mean, "count_distinct": Distinct, "stddev_samp": Stddev, "variance": Var, "var_samp": Var, "covar_samp": Covar,
	"quantile_cont": Quantile, "any_value": Any, "every": BoolAnd,
}

// Numeric reports whether a function needs numbers.
func (s Spec) Numeric() bool {
	switch s.Func {
	case Sum, Mean, Stddev, StddevPop, Var, VarPop, Quantile:
		return true
	case Min, Max:
		return !s.Bytes
	}
	return s.OfPairs()
}

// OfPairs reports whether a function needs pairs of numbers from two fields.
func (s Spec) OfPairs() bool { return s.Func >= Corr && s.Func <= RegrR2 }

// Boolean reports whether a function needs true and false.
func (s Spec) Boolean() bool { return s.Func == BoolAnd || s.Func == BoolOr }

// Spec is a requested result.
type Spec struct {
	Func     Func
	Field    string  // the name or number of a field; "" for count
	Second   string  // the second field of a function of pairs
	Fraction float64 // for Quantile
	Bytes    bool    // Min and Max compare bytes, not numbers
	Text     string  // the text of the spec, which is the name of the result
}

// Parse parses a comma-separated list of results, such as "count,sum(x)". The text in
// parentheses is a field. min(x:b) and max(x:b) compare bytes. The arguments of functions
// with several arguments are separated by commas, like a line of CSV.
func Parse(list string) ([]Spec, error) {
	var specs []Spec
	for rest := list; ; {
		rest = strings.TrimLeft(rest, " ")
		i := strings.IndexAny(rest, "(,")
		if i < 0 {
			i = len(rest)
		}
		s := Spec{Text: strings.TrimRight(rest[:i], " ")}
		name := s.Text
		f, ok := funcs[name]
		if !ok {
			hint := nearest.Hint(name, slices.Sorted(maps.Keys(funcs)))
			return nil, fmt.Errorf("there is no aggregate %q in %q%s: use %s", name, list, hint, Names)
		}
		s.Func = f
		if i < len(rest) && rest[i] == '(' {
			n := closingParen(rest[i+1:])
			if n < 0 {
				return nil, fmt.Errorf("the closing parenthesis of %q is missing", rest)
			}
			s.Field, s.Text = rest[i+1:i+1+n], rest[:i+n+2]
			i += n + 2
		}
		field, isBytes := strings.CutSuffix(s.Field, ":b")
		switch {
		case f == Quantile && name != "median", s.OfPairs():
			if err := s.split(name); err != nil {
				return nil, err
			}
		case s.Field == "" && (f != Count || strings.HasSuffix(s.Text, ")")):
			return nil, fmt.Errorf("%s needs a field, as in %s(x)", s.Text, name)
		case name == "median":
			s.Fraction = 0.5
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

// split separates the arguments of a function with two arguments.
func (s *Spec) split(name string) error {
	r := csv.NewReader(strings.NewReader(s.Field))
	r.LazyQuotes, r.TrimLeadingSpace = true, true
	args, err := r.Read()
	if s.Func == Quantile && (err != nil || len(args) != 2) {
		return fmt.Errorf("%s needs a field and a fraction, as in %s(x,0.9); quote a name with a comma", s.Text, name)
	}
	if err != nil || len(args) != 2 || args[0] == "" || args[1] == "" {
		return fmt.Errorf("%s needs two fields, as in %s(y,x); quote a name with a comma", s.Text, name)
	}
	s.Field = args[0]
	if s.OfPairs() {
		s.Second = args[1]
		return nil
	}
	s.Fraction, err = strconv.ParseFloat(args[1], 64)
	if err != nil || !(s.Fraction >= 0 && s.Fraction <= 1) {
		return fmt.Errorf("%s: the fraction must be a number from 0 to 1, not %q", s.Text, args[1])
	}
	return nil
}

// closingParen returns the index of the parenthesis that ends a field. A name may contain
// parentheses, so this is the first one followed by a comma or by nothing.
func closingParen(text string) int {
	for i := range len(text) {
		if text[i] == ')' {
			if after := strings.TrimLeft(text[i+1:], " "); after == "" || after[0] == ',' {
				return i
			}
		}
	}
	return -1
}

// Kept reports whether the function needs the values themselves, not only numbers computed
// from them.
func (s Spec) Kept() bool {
	switch s.Func {
	case First, Last, Any, List:
		return true
	case Min, Max:
		return s.Bytes
	}
	return false
}

// Ranked reports whether the function needs all values in sorted order.
func (s Spec) Ranked() bool { return s.Func == Quantile || s.Func == Mode }

// Package aggregate computes the aggregates of the command "partd group". Sums of integers are
// exact, sums of floats are compensated, and partial states can be merged.
package aggregate

import (
	"encoding/csv"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/go-partd/partd/internal/base/textfmt"
)

// Func is an aggregate function.
type Func uint8

// The functions.
const (
	Count         Func = iota + 1 // number of records, or of values that are not missing
	Sum                           // sum of numbers
	Mean                          // mean of numbers
	Min                           // smallest number, or first text in byte order
	Max                           // largest number, or last text in byte order
	Stddev                        // sample standard deviation of numbers
	StddevPop                     // population standard deviation
	Var                           // sample variance
	VarPop                        // population variance
	Quantile                      // continuous quantile of numbers
	Mode                          // most frequent value
	Corr                          // correlation of two numbers
	Covar                         // sample covariance of two numbers
	CovarPop                      // population covariance
	RegrSlope                     // slope of the regression line through pairs of numbers
	RegrIntercept                 // intercept of that line
	RegrR2                        // coefficient of determination, R²
	BoolAnd                       // true if all values are true
	BoolOr                        // true if any value is true
	First                         // first value in input order
	Last                          // last value in input order
	Any                           // first value that is not missing
	Distinct                      // number of distinct values
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
	// Aliases from SQL:
	"avg": Mean, "count_distinct": Distinct, "stddev_samp": Stddev, "variance": Var, "var_samp": Var, "covar_samp": Covar,
	"quantile_cont": Quantile, "any_value": Any, "every": BoolAnd,
}

// NeedsNumbers reports whether a function needs numbers.
func (s Spec) NeedsNumbers() bool {
	switch s.Func {
	case Sum, Mean, Stddev, StddevPop, Var, VarPop, Quantile:
		return true
	case Min, Max:
		return !s.Bytes
	}
	return s.IsPaired()
}

// IsPaired reports whether a function needs pairs of numbers from two fields.
func (s Spec) IsPaired() bool { return s.Func >= Corr && s.Func <= RegrR2 }

// NeedsBooleans reports whether a function needs values that are true or false.
func (s Spec) NeedsBooleans() bool { return s.Func == BoolAnd || s.Func == BoolOr }

// Spec is a requested aggregate.
type Spec struct {
	Func     Func
	Field    string  // name or number of a field; "" for a count of records
	Second   string  // second field, for a function of pairs of values
	Fraction float64 // for Quantile, from 0 to 1
	Bytes    bool    // Min and Max compare bytes, not numbers
	Text     string  // the spec as the user wrote it; it names the output column
}

// Parse parses a comma-separated list of aggregates, such as "count,sum(x)". The text in
// parentheses is a field or, for some functions, two arguments in CSV format. min(x:b) and
// max(x:b) compare bytes.
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
			hint := textfmt.Hint(name, slices.Sorted(maps.Keys(funcs)))
			return nil, fmt.Errorf("unknown aggregate %q in %q%s: use %s", name, list, hint, Names)
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
		case f == Quantile && name != "median", s.IsPaired():
			if err := s.splitArguments(name); err != nil {
				return nil, err
			}
		case s.Field == "" && (f != Count || strings.HasSuffix(s.Text, ")")):
			return nil, fmt.Errorf("%s needs a field, for example %s(x)", s.Text, name)
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

// splitArguments splits s.Field, which holds two arguments. name is the function's name.
func (s *Spec) splitArguments(name string) error {
	r := csv.NewReader(strings.NewReader(s.Field))
	r.LazyQuotes, r.TrimLeadingSpace = true, true
	args, err := r.Read()
	if s.Func == Quantile && (err != nil || len(args) != 2) {
		return fmt.Errorf("%s needs a field and a fraction, for example %s(x,0.9); quote a name that contains a comma", s.Text, name)
	}
	if err != nil || len(args) != 2 || args[0] == "" || args[1] == "" {
		return fmt.Errorf("%s needs two fields, for example %s(y,x); quote a name that contains a comma", s.Text, name)
	}
	s.Field = args[0]
	if s.IsPaired() {
		s.Second = args[1]
		return nil
	}
	s.Fraction, err = strconv.ParseFloat(args[1], 64)
	if err != nil || !(s.Fraction >= 0 && s.Fraction <= 1) {
		return fmt.Errorf("%s: the fraction must be a number from 0 to 1, not %q", s.Text, args[1])
	}
	return nil
}

// closingParen returns the index of the parenthesis that ends the arguments, or -1. A field name
// can contain parentheses, so the parenthesis that ends the arguments must precede a comma or the
// end.
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

// StoresValues reports whether the function must keep values of a group. Other functions keep only
// numbers computed from the values.
func (s Spec) StoresValues() bool {
	switch s.Func {
	case First, Last, Any, List:
		return true
	case Min, Max:
		return s.Bytes
	}
	return false
}

// NeedsSorting reports whether the function needs all values in sorted order.
func (s Spec) NeedsSorting() bool { return s.Func == Quantile || s.Func == Mode }

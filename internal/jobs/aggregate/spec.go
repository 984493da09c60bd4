// Package aggregate computes the aggregates of the command "partd group". Sums of integers are
// exact, sums of floats are compensated, and partial states can be merged.
package aggregate

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/go-partd/partd/internal/base/textfmt"
	"github.com/go-partd/partd/internal/base/where"
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
	Text     string  // the spec as the user wrote it, without "as" and the name after it
	Name     string  // name of the output column

	IsQuoted, IsSecondQuoted bool // Field or Second was quoted, so it is a column name even if it looks like a part
}

// Parse parses a comma-separated list of aggregates, such as "count,sum(x) as total". An argument in double quotes is
// the name of a column. min(x:b) and max(x:b) compare bytes.
func Parse(list string) ([]Spec, error) {
	var specs []Spec
	for rest, more := list, true; more; {
		rest = strings.TrimLeft(rest, " ")
		name := rest
		if i := strings.IndexAny(rest, "(, "); i >= 0 {
			name = rest[:i]
		}
		f, ok := funcs[name]
		if !ok {
			hint := textfmt.Hint(name, slices.Sorted(maps.Keys(funcs)))
			return nil, fmt.Errorf("unknown aggregate %q in %q%s: use %s", name, list, hint, Names)
		}
		s, after := Spec{Func: f}, rest[len(name):]
		var args []argument
		if call, ok := strings.CutPrefix(strings.TrimLeft(after, " "), "("); ok {
			args, after, ok = cutArguments(call, s.IsPaired() || f == Quantile && name != "median")
			if !ok {
				return nil, fmt.Errorf("the closing parenthesis of %q is missing, or neither a comma nor as NAME follows it", rest)
			}
		}
		s.Text = rest[:len(rest)-len(after)]
		if err := s.setArguments(name, args); err != nil {
			return nil, err
		}
		element, alias, next, hasNext, err := where.CutElement(after)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.Text, err)
		}
		element = strings.TrimLeft(element, " ")
		if element != "" {
			return nil, fmt.Errorf("a comma is missing before %q in %q", element, list)
		}
		s.Name = cmp.Or(alias, s.Text)
		specs = append(specs, s)
		rest, more = next, hasNext
	}
	return specs, nil
}

// argument is an argument of a function.
type argument struct {
	text              string
	isQuoted, isBytes bool // isBytes: ":b" follows the quoted name or the part, such as before(x, '/')
}

// cutArguments cuts arguments and the closing parenthesis from the beginning of text. Unless splitsCommas is set, there is
// only one argument, which can contain commas. It returns false if the parenthesis is missing.
func cutArguments(text string, splitsCommas bool) (args []argument, rest string, ok bool) {
	for rest = "," + text; strings.HasPrefix(rest, ","); {
		var arg argument
		arg, rest = cutArgument(rest[1:], splitsCommas)
		args = append(args, arg)
	}
	rest, ok = strings.CutPrefix(rest, ")")
	return args, rest, ok
}

// cutArgument cuts an argument and the spaces after it. It returns rest = "" if the closing parenthesis is missing.
func cutArgument(text string, splitsCommas bool) (arg argument, rest string) {
	isEnd := func() bool {
		rest = strings.TrimLeft(rest, " ")
		return strings.HasPrefix(rest, ")") || splitsCommas && strings.HasPrefix(rest, ",")
	}
	trimmed := strings.TrimLeft(text, " ")
	arg.text, rest, arg.isQuoted = where.CutQuoted(trimmed)
	if arg.isQuoted {
		rest, arg.isBytes = strings.CutPrefix(rest, ":b")
		if isEnd() {
			return arg, rest
		}
	}
	var part *where.Part
	part, rest, _ = where.ParsePart(trimmed)
	if part != nil {
		rest, arg.isBytes = strings.CutPrefix(rest, ":b")
		arg.text = part.Text
		if isEnd() {
			return arg, rest
		}
	}
	if splitsCommas {
		text = trimmed
	}
	end := closingParen(text)
	if end < 0 {
		return argument{}, ""
	}
	if comma := strings.IndexByte(text[:end], ','); splitsCommas && comma >= 0 {
		end = comma
	}
	return argument{text: text[:end]}, text[end:]
}

// setArguments sets the fields of s that depend on the arguments. name is the function's name.
func (s *Spec) setArguments(name string, args []argument) error {
	isPair := len(args) == 2 && args[0].text != "" && args[1].text != ""
	switch {
	case s.Func == Quantile && name == "median":
		s.Fraction = 0.5
	case s.Func == Quantile && !isPair:
		return fmt.Errorf("%s needs a field and a fraction, for example %s(x,0.9); quote a name that contains a comma", s.Text, name)
	case s.Func == Quantile:
		var err error
		s.Fraction, err = strconv.ParseFloat(args[1].text, 64)
		if err != nil || !(s.Fraction >= 0 && s.Fraction <= 1) {
			return fmt.Errorf("%s: the fraction must be a number from 0 to 1, not %q", s.Text, args[1].text)
		}
	case s.IsPaired() && !isPair:
		return fmt.Errorf("%s needs two fields, for example %s(y,x); quote a name that contains a comma", s.Text, name)
	case s.IsPaired():
		s.Second, s.IsSecondQuoted = args[1].text, args[1].isQuoted
	}
	if len(args) == 0 && s.Func == Count {
		return nil
	}
	if len(args) == 0 || args[0].text == "" {
		return fmt.Errorf("%s needs a field, for example %s(x)", s.Text, name)
	}
	s.Field, s.IsQuoted, s.Bytes = args[0].text, args[0].isQuoted, args[0].isBytes
	comparesBytes := s.Func == Min || s.Func == Max
	if field, isBytes := strings.CutSuffix(s.Field, ":b"); isBytes && !s.IsQuoted && comparesBytes {
		s.Field, s.Bytes = field, true
	}
	if s.Bytes && !comparesBytes {
		return fmt.Errorf("%s: only min and max accept :b", s.Text)
	}
	return nil
}

// closingParen returns the index of the parenthesis that ends the arguments, or -1. A field name
// can contain parentheses, so the parenthesis that ends the arguments must precede a comma, " as " or the
// end.
func closingParen(text string) int {
	for i := range len(text) {
		if text[i] == ')' {
			if after := strings.TrimLeft(text[i+1:], " "); after == "" || after[0] == ',' || where.IndexAs(text[i+1:]) == 0 {
				return i
			}
		}
	}
	return -1
}

// StoresValues reports whether the function must keep values in a group. Other functions keep only
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

package transform

import (
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strings"

	"github.com/go-partd/partd/tables"
)

// rule is an offset of pandas as bins are made of it. A fixed one is so many
// nanoseconds. The others count days or months of the calendar: from every place
// that is anchor modulo period, each n periods.
type rule struct {
	text   string
	nanos  int64 // 0: not fixed
	months bool  // counts months, not days
	period int64 // 1, 7 days of a week; 1, 3, 12 months
	anchor int64
	n      int64
	end    bool // bins have the name of their last day, and hold it
}

// length is that of a bin, in days or months.
func (r *rule) length() int64 { return r.period * r.n }

// maxMultiple bounds how many periods a bin of the calendar has.
const maxMultiple = 1_000_000

var (
	fixedUnits = map[string]int64{
		"ns": 1, "N": 1, "us": 1e3, "U": 1e3, "ms": 1e6, "L": 1e6, "s": 1e9, "S": 1e9,
		"min": 60e9, "T": 60e9, "h": 3600e9, "H": 3600e9,
	}
	calendarUnits = map[string]rule{
		"D": {period: 1}, "W": {period: 7, end: true},
		"ME": {months: true, period: 1, end: true}, "M": {months: true, period: 1, end: true}, "MS": {months: true, period: 1},
		"QE": {months: true, period: 3, end: true}, "Q": {months: true, period: 3, end: true}, "QS": {months: true, period: 3},
		"YE": {months: true, period: 12, end: true}, "Y": {months: true, period: 12, end: true}, "A": {months: true, period: 12, end: true},
		"YS": {months: true, period: 12}, "AS": {months: true, period: 12},
	}
	// Day 0 was a Thursday.
	weekdays   = []string{"THU", "FRI", "SAT", "SUN", "MON", "TUE", "WED"}
	monthNames = []string{"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"}

	part = regexp.MustCompile(`^\s*([0-9]*(?:\.[0-9]+)?)\s*([A-Za-z]+)(?:-([A-Z]+))?\s*`)
)

// parseRule reads an offset: a number and a unit, or several with a fixed length,
// as 1h30min.
func parseRule(text string) (*rule, error) {
	wrong := func(why string) error {
		return &tables.ArgumentError{Err: fmt.Errorf("rule %.40q: %s; there are ns, us, ms, s, min, h, D, W, ME, MS, QE, QS, YE and YS with a number before them, as in 10s or 2W-FRI", text, why)}
	}
	sum, total := new(big.Rat), int64(0)
	for rest := text; rest != "" || text == ""; {
		m := part.FindStringSubmatch(rest)
		if m == nil || len(m[1]) > 20 {
			return nil, wrong("it is no offset")
		}
		number, unit, anchor := m[1], m[2], m[3]
		if number == "" {
			number = "1"
		}
		n, ok := new(big.Rat).SetString(number)
		if !ok || n.Sign() <= 0 {
			return nil, wrong("the number must be more than 0")
		}
		if r, ok := calendarUnits[unit]; ok {
			if rest != text || len(m[0]) != len(rest) {
				return nil, wrong(unit + " cannot be added to others")
			}
			if !n.IsInt() || n.Cmp(big.NewRat(maxMultiple, 1)) > 0 {
				return nil, wrong(fmt.Sprintf("the number before %s must be a whole one up to %d", unit, maxMultiple))
			}
			r.text, r.n = text, n.Num().Int64()
			if err := r.setAnchor(unit, anchor); err != nil {
				return nil, wrong(err.Error())
			}
			return &r, nil
		}
		nanos, ok := fixedUnits[unit]
		if !ok || anchor != "" {
			return nil, wrong("there is no unit " + strings.TrimSpace(m[0][len(m[1]):]))
		}
		sum.Add(sum, n.Mul(n, big.NewRat(nanos, 1)))
		if !sum.IsInt() || !sum.Num().IsInt64() {
			return nil, wrong("it is no whole number of nanoseconds below 292 years")
		}
		total, rest = sum.Num().Int64(), rest[len(m[0]):]
	}
	return &rule{text: text, nanos: total}, nil
}

// setAnchor takes what stands behind the unit, or pandas' default.
func (r *rule) setAnchor(unit, name string) error {
	names, byDefault := monthNames, "DEC"
	switch {
	case r.period == 7:
		names, byDefault = weekdays, "SUN"
	case r.period == 1:
		if name != "" {
			return fmt.Errorf("%s takes no -%s", unit, name)
		}
		return nil
	case !r.end:
		byDefault = "JAN"
	}
	if name == "" {
		name = byDefault
	}
	at := slices.Index(names, name)
	if at < 0 {
		return fmt.Errorf("behind %s- stands one of %s", unit, strings.Join(names, " "))
	}
	r.anchor = int64(at) % r.period
	return nil
}

package transform

import (
	"cmp"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-partd/partd/tables"
)

// rule is an offset of pandas as bins are made of it. A fixed one is so many
// nanoseconds. The others count the places of a grid: from every one that is anchor
// modulo period, each n periods.
type rule struct {
	text  string
	nanos int64 // 0: not fixed
	grid
	period int64 // 1, 7 days of a week; 1, 3, 6, 12 months
	anchor int64
	n      int64
}

// length is that of a bin, in places.
func (r *rule) length() int64 { return r.period * r.n }

// maxMultiple bounds how many periods a bin of the calendar has.
const maxMultiple = 1_000_000

var (
	fixedUnits = map[string]int64{
		"ns": 1, "N": 1, "us": 1e3, "U": 1e3, "ms": 1e6, "L": 1e6, "s": 1e9, "S": 1e9,
		"min": 60e9, "T": 60e9, "h": 3600e9, "H": 3600e9,
	}
	calendarUnits = map[string]rule{
		"D": {period: 1}, "W": {period: 7, grid: grid{end: true}}, "B": {period: 1, grid: grid{weekdays: true}},
		"ME": months(1, true, lastDay), "MS": months(1, false, firstDay), "SME": months(1, false, fixedDay(15), lastDay), "SMS": months(1, false, firstDay, fixedDay(15)),
		"QE": months(3, true, lastDay), "QS": months(3, false, firstDay), "YE": months(12, true, lastDay), "YS": months(12, false, firstDay),
		"BME": months(1, true, lastBusiness), "BMS": months(1, false, firstBusiness), "BQE": months(3, true, lastBusiness), "BQS": months(3, false, firstBusiness),
		"BYE": months(12, true, lastBusiness), "BYS": months(12, false, firstBusiness),
		// Their bins begin with their label, as pandas has it.
		"CBME": months(1, false, lastBusiness), "HYE": months(6, false, lastDay), "BHYE": months(6, false, lastBusiness),
		"HYS": months(6, false, firstDay), "BHYS": months(6, false, firstBusiness),
	}
	// sameUnits are other names, most of which pandas had once. Without holidays, which
	// nobody can give, the custom ones are those of business days.
	sameUnits = map[string]string{
		"d": "D", "w": "W", "b": "B", "C": "B", "CBMS": "BMS", "M": "ME", "Q": "QE", "Y": "YE", "A": "YE", "AS": "YS", "SM": "SME",
		"BM": "BME", "CBM": "CBME", "BQ": "BQE", "BY": "BYE", "BA": "BYE", "BAS": "BYS",
	}
	// Day 0 was a Thursday.
	weekdays   = []string{"THU", "FRI", "SAT", "SUN", "MON", "TUE", "WED"}
	monthNames = []string{"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"}

	part = regexp.MustCompile(`^\s*([0-9]*(?:\.[0-9]+)?)\s*([A-Za-z]+)(?:-([A-Z0-9]+))?\s*`)
)

func months(period int64, end bool, marks ...mark) rule {
	return rule{grid: grid{marks: marks, end: end}, period: period}
}

// parseRule reads an offset: a number and a unit, or several with a fixed length,
// as 1h30min.
func parseRule(text string) (*rule, error) {
	wrong := func(why string) error {
		return &tables.ArgumentError{Err: fmt.Errorf("rule %.40q: %s; there are ns, us, ms, s, min, h, D, B, W, ME, MS, SME, SMS, QE, QS, HYE, HYS, YE, YS, those of business days from BME to BYS, with a number before them, as in 10s or 2W-FRI", text, why)}
	}
	sum, total := new(big.Rat), int64(0)
	for rest := text; rest != "" || text == ""; {
		m := part.FindStringSubmatch(rest)
		if m == nil || len(m[1]) > 20 {
			return nil, wrong("it is no offset")
		}
		unit, anchor := m[2], m[3]
		n, ok := new(big.Rat).SetString(cmp.Or(m[1], "1"))
		if !ok || n.Sign() <= 0 {
			return nil, wrong("the number must be more than 0")
		}
		if r, ok := calendarUnits[cmp.Or(sameUnits[unit], unit)]; ok {
			if rest != text || len(m[0]) != len(rest) {
				return nil, wrong(unit + " cannot be added to others")
			}
			if !n.IsInt() || n.Cmp(big.NewRat(maxMultiple, 1)) > 0 {
				return nil, wrong(fmt.Sprintf("the number before %s must be a whole one up to %d", unit, maxMultiple))
			}
			r.text, r.n = text, n.Num().Int64()
			if err := r.setAnchor(cmp.Or(sameUnits[unit], unit), anchor); err != nil {
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
	case len(r.marks) > 1: // of which one has a day that may be chosen, 15 without
		return r.setDay(unit, name)
	case r.period == 7:
		names, byDefault = weekdays, "SUN"
	case r.period == 1:
		if name != "" {
			return fmt.Errorf("%s takes no -%s", unit, name)
		}
		return nil
	case strings.HasSuffix(unit, "S"):
		byDefault = "JAN"
	}
	at := slices.Index(names, cmp.Or(name, byDefault))
	if at < 0 {
		return fmt.Errorf("behind %s- stands one of %s", unit, strings.Join(names, " "))
	}
	r.anchor = int64(at) % r.period
	return nil
}

// setDay takes the day of the month that is no end of it: SME-20, SMS-20.
func (r *rule) setDay(unit, name string) error {
	at := slices.Index([]string{"SME", "SMS"}, unit)
	d, err := strconv.ParseInt(cmp.Or(name, "15"), 10, 64)
	if err != nil || d < 1+int64(at) || d > 27 {
		return fmt.Errorf("behind %s- stands a day of %d to 27", unit, 1+at)
	}
	r.marks = slices.Clone(r.marks)
	r.marks[at] = fixedDay(d)
	return nil
}

// grid numbers the days where bins of the calendar begin, or end. Each such place holds the
// days from its own up to the next one, or with end those behind the one before.
type grid struct {
	weekdays bool   // places are Mondays to Fridays
	marks    []mark // places are one or two days of each month; none: all days
	end      bool
}

// mark is a day of a month that has n days and begins with weekday w, of which 0 is Monday.
type mark struct {
	day func(n, w int64) int64
	sql string // the same, of {n} and {w}
}

var (
	firstDay      = fixedDay(1)
	lastDay       = mark{func(n, _ int64) int64 { return n }, "{n}"}
	firstBusiness = mark{func(_, w int64) int64 { return max(1, (8-w)*(w/5)) }, "CASE WHEN {w} >= 5 THEN 8 - {w} ELSE 1 END"}
	lastBusiness  = mark{func(n, w int64) int64 { return n - max((w+n-1)%7-4, 0) }, "{n} - greatest(({w} + {n} - 1) % 7 - 4, 0)"}
)

func fixedDay(d int64) mark {
	return mark{func(_, _ int64) int64 { return d }, fmt.Sprint(d)}
}

// month is what a mark goes by, for the month that is so many behind January 1970.
func month(m int64) (first, n, w int64) {
	begin := time.Date(1970, time.January, 1, 0, 0, 0, 0, time.UTC).AddDate(0, int(m), 0)
	first = floorDiv(begin.Unix(), day)
	return first, int64(begin.AddDate(0, 1, -1).Day()), (int64(begin.Weekday()) + 6) % 7
}

// place is the number of the place that holds a day, of those since 1970.
func (g *grid) place(d int64) int64 {
	switch {
	case g.weekdays:
		week := floorDiv(d+3, 7)
		return week*5 + min(d+3-week*7, 4)
	case g.marks == nil:
		return d
	}
	date := time.Unix(d*day, 0).UTC()
	m := int64(date.Year()-1970)*12 + int64(date.Month()) - 1
	_, n, w := month(m)
	p, in, first := m*int64(len(g.marks)), int64(date.Day()), g.marks[0].day(n, w)
	switch {
	case !g.end && in < first:
		p--
	case g.end && in > first, len(g.marks) > 1 && in >= g.marks[1].day(n, w):
		p++
	}
	return p
}

// dayOf is the day of a place.
func (g *grid) dayOf(p int64) int64 {
	switch {
	case g.weekdays:
		week := floorDiv(p, 5)
		return week*7 + p - week*5 - 3
	case g.marks == nil:
		return p
	}
	m := floorDiv(p, int64(len(g.marks)))
	first, n, w := month(m)
	return first + g.marks[p-m*int64(len(g.marks))].day(n, w) - 1
}

// sql is the place of a day, but for a difference that is returned, too. The day is an
// expression for days since day0, and not negative, as division rounds to 0.
func (g *grid) sql(days string, day0 int64) (expression string, more int64) {
	switch {
	case g.weekdays:
		week := floorDiv(day0+3, 7)
		return fmt.Sprintf("((%[1]s + %[2]d) // 7 * 5 + least((%[1]s + %[2]d) %% 7, 4))", days, day0+3-week*7), week * 5
	case g.marks == nil:
		return days, day0
	}
	date := fmt.Sprintf("(DATE '1970-01-01' + (%s + (%d))::INTEGER)", days, day0)
	ofDate := strings.NewReplacer("{n}", "day(last_day("+date+"))", "{w}", fmt.Sprintf("((isodow(%[1]s) - day(%[1]s) + 35) %% 7)", date))
	is := func(comparison string, m mark) string {
		return fmt.Sprintf("(day(%s) %s (%s))::INTEGER", date, comparison, ofDate.Replace(m.sql))
	}
	expression = fmt.Sprintf("((year(%[1]s) - 1970) * 12 + month(%[1]s) - 1) * %[2]d", date, len(g.marks))
	switch {
	case g.end:
		expression += " + " + is(">", g.marks[0])
	default:
		expression += " - " + is("<", g.marks[0])
	}
	if len(g.marks) > 1 {
		expression += " + " + is(">=", g.marks[1])
	}
	return expression, 0
}

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

// rule is a pandas offset, which determines the bins. A fixed offset is a number of nanoseconds. A calendar offset
// counts positions on a grid of days: a bin has n × period positions, and its first position equals anchor modulo
// period.
type rule struct {
	text  string
	nanos int64 // length of a bin; 0 for a calendar offset
	grid
	period int64 // length of the unit in positions, for example 7 for a week or 3 for a quarter
	anchor int64
	n      int64 // the number before the unit
}

// binLength returns the length of a bin in positions.
func (r *rule) binLength() int64 { return r.period * r.n }

// maxMultiple is the largest number before a calendar unit.
const maxMultiple = 1_000_000

var (
	fixedUnits = map[string]int64{
		"ns": 1, "N": 1, "us": 1e3, "U": 1e3, "ms": 1e6, "L": 1e6, "s": 1e9, "S": 1e9,
		"min": 60e9, "T": 60e9, "h": 3600e9, "H": 3600e9,
	}
	calendarUnits = map[string]rule{
		"D": {period: 1}, "W": {period: 7, grid: grid{labelsAtEnd: true}}, "B": {period: 1, grid: grid{onlyWeekdays: true}},
		"ME": months(1, true, lastDay), "MS": months(1, false, firstDay), "SME": months(1, false, fixedDay(15), lastDay), "SMS": months(1, false, firstDay, fixedDay(15)),
		"QE": months(3, true, lastDay), "QS": months(3, false, firstDay), "YE": months(12, true, lastDay), "YS": months(12, false, firstDay),
		"BME": months(1, true, lastBusiness), "BMS": months(1, false, firstBusiness), "BQE": months(3, true, lastBusiness), "BQS": months(3, false, firstBusiness),
		"BYE": months(12, true, lastBusiness), "BYS": months(12, false, firstBusiness),
		// In pandas, bins of these units begin at their label, although that day is at the end of a period.
		"CBME": months(1, false, lastBusiness), "HYE": months(6, false, lastDay), "BHYE": months(6, false, lastBusiness),
		"HYS": months(6, false, firstDay), "BHYS": months(6, false, firstBusiness),
	}
	// unitAliases maps other names, mostly from older pandas versions. Custom business days count as business days,
	// because a rule cannot list holidays.
	unitAliases = map[string]string{
		"d": "D", "w": "W", "b": "B", "C": "B", "CBMS": "BMS", "M": "ME", "Q": "QE", "Y": "YE", "A": "YE", "AS": "YS", "SM": "SME",
		"BM": "BME", "CBM": "CBME", "BQ": "BQE", "BY": "BYE", "BA": "BYE", "BAS": "BYS",
	}
	// The list starts with Thursday, the weekday of 1 January 1970.
	weekdays   = []string{"THU", "FRI", "SAT", "SUN", "MON", "TUE", "WED"}
	monthNames = []string{"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"}

	offsetPattern = regexp.MustCompile(`^\s*([0-9]*(?:\.[0-9]+)?)\s*([A-Za-z]+)(?:-([A-Z0-9]+))?\s*`)
)

// months returns the rule for a unit that is period months long. If end is true, a bin's label is at the end of the
// bin.
func months(period int64, end bool, marks ...mark) rule {
	return rule{grid: grid{marks: marks, labelsAtEnd: end}, period: period}
}

// parseRule parses an offset: a number and a unit, or a sum of such offsets with fixed units, such as 1h30min.
func parseRule(text string) (*rule, error) {
	invalid := func(reason string) error {
		return &tables.ArgumentError{Err: fmt.Errorf("rule %.40q: %s; use ns, us, ms, s, min, h, D, B, W, ME, MS, SME, SMS, QE, QS, HYE, HYS, YE, YS, or those for business days from BME to BYS, after a number, such as 10s or 2W-FRI", text, reason)}
	}
	sum, total := new(big.Rat), int64(0)
	for rest := text; rest != "" || text == ""; {
		m := offsetPattern.FindStringSubmatch(rest)
		if m == nil || len(m[1]) > 20 {
			return nil, invalid("it does not consist of numbers and units")
		}
		unit, anchor := m[2], m[3]
		n, ok := new(big.Rat).SetString(cmp.Or(m[1], "1"))
		if !ok || n.Sign() <= 0 {
			return nil, invalid("the number must be more than 0")
		}
		if r, ok := calendarUnits[cmp.Or(unitAliases[unit], unit)]; ok {
			if rest != text || len(m[0]) != len(rest) {
				return nil, invalid(unit + " cannot be combined with other units")
			}
			if !n.IsInt() || n.Cmp(big.NewRat(maxMultiple, 1)) > 0 {
				return nil, invalid(fmt.Sprintf("the number before %s must be an integer up to %d", unit, maxMultiple))
			}
			r.text, r.n = text, n.Num().Int64()
			if err := r.setAnchor(cmp.Or(unitAliases[unit], unit), anchor); err != nil {
				return nil, invalid(err.Error())
			}
			return &r, nil
		}
		nanos, ok := fixedUnits[unit]
		if !ok || anchor != "" {
			return nil, invalid("unknown unit " + strings.TrimSpace(m[0][len(m[1]):]))
		}
		sum.Add(sum, n.Mul(n, big.NewRat(nanos, 1)))
		if !sum.IsInt() || !sum.Num().IsInt64() {
			return nil, invalid("it must be a whole number of nanoseconds, below 292 years")
		}
		total, rest = sum.Num().Int64(), rest[len(m[0]):]
	}
	return &rule{text: text, nanos: total}, nil
}

// setAnchor applies the suffix of a unit, such as FRI in W-FRI. Without a suffix, it applies pandas' default.
func (r *rule) setAnchor(unit, name string) error {
	names, defaultName := monthNames, "DEC"
	switch {
	case len(r.marks) > 1: // for SME and SMS, the suffix is one of the two days in the month
		return r.setDay(unit, name)
	case r.period == 7:
		names, defaultName = weekdays, "SUN"
	case r.period == 1:
		if name != "" {
			return fmt.Errorf("%s has no variant -%s", unit, name)
		}
		return nil
	case strings.HasSuffix(unit, "S"):
		defaultName = "JAN"
	}
	index := slices.Index(names, cmp.Or(name, defaultName))
	if index < 0 {
		return fmt.Errorf("%s- must be followed by one of %s", unit, strings.Join(names, " "))
	}
	r.anchor = int64(index) % r.period
	return nil
}

// setDay applies the suffix of SME or SMS, such as 20 in SME-20: a day of the month on which bins begin or end.
func (r *rule) setDay(unit, name string) error {
	index := slices.Index([]string{"SME", "SMS"}, unit)
	d, err := strconv.ParseInt(cmp.Or(name, "15"), 10, 64)
	if err != nil || d < 1+int64(index) || d > 27 {
		return fmt.Errorf("%s- must be followed by a day from %d to 27", unit, 1+index)
	}
	r.marks = slices.Clone(r.marks)
	r.marks[index] = fixedDay(d)
	return nil
}

// grid numbers the days on which calendar bins may begin or end; the numbers are called positions. A position covers
// the days from its own day to the day before the next position. With labelsAtEnd, it instead covers the days after the
// previous position, up to its own day.
type grid struct {
	onlyWeekdays bool   // positions are the days from Monday to Friday
	marks        []mark // selects the one or two days of each month that are positions; nil means every day
	labelsAtEnd  bool   // a bin's label is the bin's last day
}

// mark selects a day in a month. The month has n days, and its first day is weekday w (0 is Monday).
type mark struct {
	day func(n, w int64) int64
	sql string // SQL for the same day, using {n} and {w}
}

var (
	firstDay = fixedDay(1)
	lastDay  = mark{func(n, _ int64) int64 { return n }, "{n}"}
	// w/5 is 1 on weekends and 0 on other days
	firstBusiness = mark{func(_, w int64) int64 { return max(1, (8-w)*(w/5)) }, "CASE WHEN {w} >= 5 THEN 8 - {w} ELSE 1 END"}
	lastBusiness  = mark{func(n, w int64) int64 { return n - max((w+n-1)%7-4, 0) }, "{n} - greatest(({w} + {n} - 1) % 7 - 4, 0)"}
)

func fixedDay(d int64) mark {
	return mark{func(_, _ int64) int64 { return d }, fmt.Sprint(d)}
}

// month describes the month that is m months after January 1970: first is its first day (in days since 1970), n the
// number of its days, and w the weekday of its first day.
func month(m int64) (first, n, w int64) {
	begin := time.Date(1970, time.January, 1, 0, 0, 0, 0, time.UTC).AddDate(0, int(m), 0)
	first = floorDiv(begin.Unix(), day)
	return first, int64(begin.AddDate(0, 1, -1).Day()), (int64(begin.Weekday()) + 6) % 7
}

// positionOf returns the position that covers day d, counted in days since 1970.
func (g *grid) positionOf(d int64) int64 {
	switch {
	case g.onlyWeekdays:
		week := floorDiv(d+3, 7)
		return week*5 + min(d+3-week*7, 4)
	case g.marks == nil:
		return d
	}
	date := time.Unix(d*day, 0).UTC()
	m := int64(date.Year()-1970)*12 + int64(date.Month()) - 1
	_, n, w := month(m)
	p, dayOfMonth, first := m*int64(len(g.marks)), int64(date.Day()), g.marks[0].day(n, w)
	switch {
	case !g.labelsAtEnd && dayOfMonth < first:
		p--
	case g.labelsAtEnd && dayOfMonth > first, len(g.marks) > 1 && dayOfMonth >= g.marks[1].day(n, w):
		p++
	}
	return p
}

// dayOf returns the day of position p.
func (g *grid) dayOf(p int64) int64 {
	switch {
	case g.onlyWeekdays:
		week := floorDiv(p, 5)
		return week*7 + p - week*5 - 3
	case g.marks == nil:
		return p
	}
	m := floorDiv(p, int64(len(g.marks)))
	first, n, w := month(m)
	return first + g.marks[p-m*int64(len(g.marks))].day(n, w) - 1
}

// sql returns an SQL expression and a constant, whose sum is the position of a day. days is an SQL expression for the
// days since day0, which must not be negative, because SQL's division rounds toward 0.
func (g *grid) sql(days string, day0 int64) (expression string, constant int64) {
	switch {
	case g.onlyWeekdays:
		week := floorDiv(day0+3, 7)
		return fmt.Sprintf("((%[1]s + %[2]d) // 7 * 5 + least((%[1]s + %[2]d) %% 7, 4))", days, day0+3-week*7), week * 5
	case g.marks == nil:
		return days, day0
	}
	date := fmt.Sprintf("(DATE '1970-01-01' + (%s + (%d))::INTEGER)", days, day0)
	ofDate := strings.NewReplacer("{n}", "day(last_day("+date+"))", "{w}", fmt.Sprintf("((isodow(%[1]s) - day(%[1]s) + 35) %% 7)", date))
	compare := func(comparison string, m mark) string {
		return fmt.Sprintf("(day(%s) %s (%s))::INTEGER", date, comparison, ofDate.Replace(m.sql))
	}
	expression = fmt.Sprintf("((year(%[1]s) - 1970) * 12 + month(%[1]s) - 1) * %[2]d", date, len(g.marks))
	switch {
	case g.labelsAtEnd:
		expression += " + " + compare(">", g.marks[0])
	default:
		expression += " - " + compare("<", g.marks[0])
	}
	if len(g.marks) > 1 {
		expression += " + " + compare(">=", g.marks[1])
	}
	return expression, 0
}

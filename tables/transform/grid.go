package transform

import (
	"fmt"
	"strings"
	"time"
)

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

package formats

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
)

// moment is a date or a time that was parsed from a text.
type moment struct {
	days       int64 // days since 1970-01-01
	seconds    int64 // seconds since midnight, minus the UTC offset
	nanos      int64
	digits     int  // number of fractional digits
	hasClock   bool // the text has a time of day
	hasOffset  bool // the text has a UTC offset
	isComplete bool // the time of day, if any, has seconds, and the offset, if any, is Z or has a colon
}

func parseDigits(s []byte, n int) (v int64, rest []byte, ok bool) {
	if len(s) < n {
		return 0, s, false
	}
	for _, c := range s[:n] {
		if c < '0' || c > '9' {
			return 0, s, false
		}
		v = v*10 + int64(c-'0')
	}
	return v, s[n:], true
}

// parseMoment parses a date, optionally followed by T or a space, a time of day, and a UTC offset. The year has at
// least four digits and can be negative.
func parseMoment(s []byte) (m moment, ok bool) {
	rest, negative := bytes.CutPrefix(s, []byte("-"))
	width := bytes.IndexByte(rest, '-')
	if width < 4 || width > 7 || len(rest) < width+6 || rest[width+3] != '-' {
		return m, false
	}
	year, _, ok1 := parseDigits(rest, width)
	month, _, ok2 := parseDigits(rest[width+1:], 2)
	day, rest, ok3 := parseDigits(rest[width+4:], 2)
	if negative {
		year = -year
	}
	date := time.Date(int(year), time.Month(month), int(day), 0, 0, 0, 0, time.UTC)
	exists := day > 0 && day <= 28 && month > 0 && month <= 12 || date.Day() == int(day) && date.Month() == time.Month(month)
	if !ok1 || !ok2 || !ok3 || !exists {
		return m, false
	}
	m.days, m.isComplete = date.Unix()/secondsPerDay, true
	if len(rest) == 0 {
		return m, true
	}
	if rest[0] != 'T' && rest[0] != ' ' {
		return m, false
	}
	rest, ok = m.readClock(rest[1:])
	if !ok {
		return m, false
	}
	return m, len(rest) == 0 || m.readOffset(rest)
}

const secondsPerDay = 24 * 60 * 60

// readClock parses a time of day, such as 23:59, 23:59:59 or 23:59:59.999.
func (m *moment) readClock(s []byte) (rest []byte, ok bool) {
	m.hasClock = true
	hour, s, ok := parseDigits(s, 2)
	if !ok || hour > 23 || len(s) == 0 || s[0] != ':' {
		return s, false
	}
	minute, s, ok := parseDigits(s[1:], 2)
	if !ok || minute > 59 {
		return s, false
	}
	m.seconds = hour*3600 + minute*60
	if len(s) == 0 || s[0] != ':' {
		m.isComplete = false
		return s, true
	}
	second, s, ok := parseDigits(s[1:], 2)
	if !ok || second > 59 {
		return s, false
	}
	m.seconds += second
	if len(s) == 0 || s[0] != '.' {
		return s, true
	}
	s = s[1:]
	for unit := int64(1e8); len(s) > 0 && s[0] >= '0' && s[0] <= '9'; unit /= 10 {
		if unit == 0 && s[0] != '0' {
			return s, false // No type can represent so many digits.
		}
		m.nanos += int64(s[0]-'0') * unit
		m.digits++
		s = s[1:]
	}
	return s, m.digits > 0
}

// readOffset parses Z, or an offset such as +01, +0100, +01:00 or +01:00:30.
func (m *moment) readOffset(s []byte) (ok bool) {
	m.hasOffset = true
	if string(s) == "Z" {
		return true
	}
	sign := int64(1)
	if s[0] == '-' {
		sign = -1
	} else if s[0] != '+' {
		return false
	}
	s = s[1:]
	colons := len(s) > 2 && s[2] == ':'
	var parts [3]int64
	n := 0
	for ; n < len(parts) && len(s) > 0; n++ {
		if colons && n > 0 {
			s = s[1:]
		}
		parts[n], s, ok = parseDigits(s, 2)
		if !ok || len(s) > 0 && colons != (s[0] == ':') {
			return false
		}
	}
	m.seconds -= sign * (parts[0]*3600 + parts[1]*60 + parts[2])
	m.isComplete = m.isComplete && colons && n == 2
	return n > 0 && len(s) == 0 && parts[0] < 24 && parts[1] < 60 && parts[2] < 60
}

// ticks returns the moment in units since 1970. It returns false if that is not a whole number or overflows an int64.
func (m *moment) ticks(unit arrow.TimeUnit) (int64, bool) {
	nanos := int64(unit.Multiplier())
	seconds, fraction := m.days*secondsPerDay+m.seconds, m.nanos/nanos
	perSecond := int64(time.Second) / nanos
	v := seconds*perSecond + fraction // If this overflows, the code below detects it.
	floor := v / perSecond
	if v%perSecond < 0 {
		floor--
	}
	return v, m.nanos%nanos == 0 && floor == seconds && v-floor*perSecond == fraction
}

// parseTimestamp parses a timestamp that is a whole number of units. The text must have a UTC offset if and only if
// hasZone is true.
func parseTimestamp(s []byte, unit arrow.TimeUnit, hasZone bool) (int64, bool) {
	m, ok := parseMoment(s)
	if !ok || m.hasOffset != hasZone {
		return 0, false
	}
	return m.ticks(unit)
}

func parseDate32(s []byte) (int64, bool) {
	m, ok := parseMoment(s)
	return m.days, ok && m.seconds == 0 && m.nanos == 0 && !m.hasOffset && m.days == int64(int32(m.days))
}

func parseClock(s []byte, unit arrow.TimeUnit) (int64, bool) {
	var m moment
	rest, ok := m.readClock(s)
	if !ok || len(rest) > 0 {
		return 0, false
	}
	return m.ticks(unit)
}

// parseDuration parses an integer with a unit, such as 1500ms. If there is no unit, the column's unit applies.
func parseDuration(s []byte, unit arrow.TimeUnit) (int64, bool) {
	number, inputUnit := bytes.TrimRight(s, "smun"), unit
	if len(number) < len(s) {
		unitIndex := slices.Index(unitNames, string(s[len(number):]))
		inputUnit = arrow.TimeUnit(unitIndex)
		if unitIndex < 0 {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(string(number), 10, 64)
	if err != nil {
		return 0, false
	}
	if inputUnit >= unit {
		ratio := int64(unit.Multiplier() / inputUnit.Multiplier())
		return n / ratio, n%ratio == 0
	}
	ratio := int64(inputUnit.Multiplier() / unit.Multiplier())
	return n * ratio, n <= math.MaxInt64/ratio && n >= math.MinInt64/ratio
}

var unitNames = []string{"s", "ms", "us", "ns"}

// appendClock appends a time of day with all digits of its unit. Hours can exceed 23.
func appendClock(out []byte, v int64, unit arrow.TimeUnit) []byte {
	if v < 0 {
		out, v = append(out, '-'), -v
	}
	perSecond := int64(time.Second / unit.Multiplier())
	out = fmt.Appendf(out, "%02d:%02d:%02d", v/perSecond/3600, v/perSecond/60%60, v/perSecond%60)
	if digits := 3 * int(unit); digits > 0 {
		out = fmt.Appendf(out, ".%0*d", digits, v%perSecond)
	}
	return out
}

// appendTime appends a time with as many fractional digits as it needs and, if hasZone is true, the UTC offset.
func appendTime(out []byte, t time.Time, hasZone bool) []byte {
	layout := "2006-01-02T15:04:05.999999999"
	if _, offset := t.Zone(); hasZone && offset%60 != 0 {
		layout += "Z07:00:00"
	} else if hasZone {
		layout += "Z07:00"
	}
	return t.AppendFormat(out, layout)
}

package where

import (
	"bytes"
	"fmt"
	"time"
)

// Time is a point in time.
type Time struct{ Seconds, Nanos int64 } // since 1970 in UTC

// ParseTime parses a date or time in the syntax of expressions. hasOffset reports whether the text has
// an offset from UTC. If not, the result is the text's date and time in UTC.
func ParseTime(text string) (_ time.Time, hasOffset bool, err error) {
	t, hasOffset, ok := scanTime([]byte(text))
	if !ok {
		return time.Time{}, false, fmt.Errorf("'%.60s' is not a date or time: write, for example, '2026-01-31' or '2026-01-31 23:59:59.999'", text)
	}
	return time.Unix(t.Seconds, t.Nanos).UTC(), hasOffset, nil
}

// TimeOf is like ParseTime, but does not report offsets. It returns false if the text is not a date or time.
func TimeOf(text []byte) (Time, bool) {
	t, _, ok := scanTime(text)
	return t, ok
}

// scanTime scans a date, which may be followed by a time of day: T or a space, hours, minutes and optionally seconds,
// which may have decimals. The offset from UTC is Z or hours and minutes.
func scanTime(text []byte) (t Time, hasOffset, ok bool) {
	days, rest, ok := cutDate(text)
	if !ok {
		return t, false, false
	}
	t.Seconds = int64(days) * 86400
	if len(rest) > 0 && (rest[0] == 'T' || rest[0] == ' ') {
		var seconds int
		clock := rest[1:]
		if rest[0] == ' ' {
			clock = bytes.TrimLeft(clock, " ")
		}
		seconds, t.Nanos, rest, ok = cutClock(clock)
		if !ok {
			return t, false, false
		}
		t.Seconds += int64(seconds)
	}
	switch {
	case len(rest) == 0:
		return t, false, true
	case len(rest) == 1 && rest[0] == 'Z':
		return t, true, true
	case len(rest) != len("+07:00") || rest[0] != '+' && rest[0] != '-' || rest[3] != ':':
		return t, false, false
	}
	h, okH := twoDigits(rest[1:])
	m, okM := twoDigits(rest[4:])
	east := int64(h*3600 + m*60)
	if rest[0] == '-' {
		east = -east
	}
	t.Seconds -= east
	return t, true, okH && okM && h <= 24 && m <= 60 // the limits of package time
}

// cutClock cuts a time of day such as 23:59:59.999 from the beginning of text. Seconds and their decimals can be
// missing, and an hour can have one digit.
func cutClock(text []byte) (seconds int, nanos int64, rest []byte, ok bool) {
	if len(text) < len("9:05") || !isDigit(text[0]) {
		return 0, 0, text, false
	}
	h, text := int(text[0]-'0'), text[1:]
	if isDigit(text[0]) {
		h, text = 10*h+int(text[0]-'0'), text[1:]
	}
	if len(text) < len(":05") || text[0] != ':' {
		return 0, 0, text, false
	}
	m, ok := twoDigits(text[1:])
	text = text[3:]
	if !ok || h > 23 || m > 59 || len(text) < len(":09") || text[0] != ':' {
		return h*3600 + m*60, 0, text, ok && h <= 23 && m <= 59
	}
	s, ok := twoDigits(text[1:])
	text = text[3:]
	if len(text) > 1 && (text[0] == '.' || text[0] == ',') && isDigit(text[1]) {
		digits := 0
		for text = text[1:]; len(text) > 0 && isDigit(text[0]); text = text[1:] {
			if digits < 9 {
				nanos, digits = 10*nanos+int64(text[0]-'0'), digits+1
			}
		}
		for ; digits < 9; digits++ {
			nanos *= 10
		}
	}
	return h*3600 + m*60 + s, nanos, text, ok && s <= 59
}

// cutDate cuts a date such as 2026-01-31 from the beginning of text. It returns the number of days since 1970 and the
// rest of text.
func cutDate(text []byte) (days int, rest []byte, ok bool) {
	if len(text) < len("2006-01-02") || text[4] != '-' || text[7] != '-' {
		return 0, text, false
	}
	century, okC := twoDigits(text)
	year, okY := twoDigits(text[2:])
	month, okM := twoDigits(text[5:])
	day, okD := twoDigits(text[8:])
	year += 100 * century
	isLeap := year%4 == 0 && (year%100 != 0 || year%400 == 0)
	if !okC || !okY || !okM || !okD || month < 1 || month > 12 || day < 1 || day > monthDays[month-1] && !(month == 2 && day == 29 && isLeap) {
		return 0, text, false
	}
	// Count years from March, so that the leap day is the last of its year.
	y, m := year, month-3
	if m < 0 {
		y, m = y-1, m+12
	}
	days = 365*y + floorDiv(y, 4) - floorDiv(y, 100) + floorDiv(y, 400) + (153*m+2)/5 + day - 1 - 719468
	return days, text[10:], true
}

var monthDays = [12]int{31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}

func floorDiv(a, b int) int {
	if a < 0 {
		return -((b - 1 - a) / b)
	}
	return a / b
}

func twoDigits(text []byte) (int, bool) {
	return int(text[0]-'0')*10 + int(text[1]-'0'), isDigit(text[0]) && isDigit(text[1])
}

func isDigit(c byte) bool { return c-'0' <= 9 }

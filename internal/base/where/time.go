package where

import (
	"fmt"
	"time"
)

// ParseTime parses a date or time in the syntax of expressions, and reports whether the text has an offset from
// UTC. Without an offset, the result has the text's date and time in UTC.
func ParseTime(text string) (at time.Time, offset bool, err error) {
	for _, layout := range []string{"2006-01-02", "2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02T15:04"} {
		if at, err = time.Parse(layout, text); err == nil {
			return at, false, nil
		}
		if at, err = time.Parse(layout+"Z07:00", text); err == nil {
			return at, true, nil
		}
	}
	return at, false, fmt.Errorf("'%.60s' is not a date or time: write, for example, '2026-01-31' or '2026-01-31 23:59:59.999'", text)
}

// Time is a moment.
type Time struct{ Seconds, Nanos int64 } // since 1970 in UTC

// TimeOf is a faster ParseTime. It returns false if the text is not a date or time.
func TimeOf(text []byte) (Time, bool) {
	if t, ok := fastTime(text); ok {
		return t, true
	}
	at, _, err := ParseTime(string(text))
	return Time{at.Unix(), int64(at.Nanosecond())}, err == nil
}

// fastTime parses a date, optionally with a time of day in whole seconds.
func fastTime(text []byte) (Time, bool) {
	days, rest, ok := cutDate(text)
	if t := rest; len(t) == len(" 23:59:59") && ok && (t[0] == ' ' || t[0] == 'T') && t[3] == ':' && t[6] == ':' {
		h, okH := twoDigits(t[1:])
		m, okM := twoDigits(t[4:])
		s, okS := twoDigits(t[7:])
		return Time{Seconds: int64(days)*86400 + int64(h*3600+m*60+s)}, okH && okM && okS && h < 24 && m < 60 && s < 60
	}
	return Time{Seconds: int64(days) * 86400}, ok && len(rest) == 0
}

// cutDate cuts a date such as 2026-01-31 from the beginning of text. It returns the number of days since 1970, and the
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

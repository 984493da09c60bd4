package filter

import (
	"fmt"
	"math/big"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
)

// timeValue converts a text to the units as which a column of dates or times is
// compared, not rounded.
func timeValue(l literal, t, as arrow.DataType) (*big.Rat, error) {
	switch as := as.(type) {
	case *arrow.Date32Type:
		return since1970(l, big.NewRat(1, 24*60*60), true)
	case *arrow.TimestampType:
		return since1970(l, perSecond(as.Unit), as.TimeZone != "" || t.ID() == arrow.DATE64)
	case *arrow.Time64Type:
		return sinceMidnight(l, as.Unit)
	}
	return sinceMidnight(l, arrow.Nanosecond) // as Iceberg has no such times, they are whole numbers
}

func perSecond(u arrow.TimeUnit) *big.Rat { return big.NewRat(int64(time.Second/u.Multiplier()), 1) }

// since1970 converts dates and times of day. Without an offset they are UTC, or
// of the column's own unnamed zone, for which one with an offset means nothing.
func since1970(l literal, units *big.Rat, zoned bool) (*big.Rat, error) {
	at, offset, err := ParseTime(l.text)
	switch {
	case err != nil:
		return nil, err
	case offset && !zoned:
		return nil, fmt.Errorf("%s has an offset from UTC, and the column has no zone: leave it out", l)
	}
	seconds := big.NewRat(at.Unix(), 1)
	seconds.Add(seconds, big.NewRat(int64(at.Nanosecond()), 1e9))
	return seconds.Mul(seconds, units), nil
}

// ParseTime parses a date or time as expressions write it, and reports whether the text
// gives an offset from UTC. Without an offset, it is taken as UTC.
func ParseTime(text string) (at time.Time, offset bool, err error) {
	for _, layout := range []string{"2006-01-02", "2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02T15:04"} {
		if at, err = time.Parse(layout, text); err == nil {
			return at, false, nil
		}
		if at, err = time.Parse(layout+"Z07:00", text); err == nil {
			return at, true, nil
		}
	}
	return at, false, fmt.Errorf("'%.60s' is no date or time: write '2026-01-31', or '2026-01-31 23:59:59.999'", text)
}

func sinceMidnight(l literal, u arrow.TimeUnit) (*big.Rat, error) {
	for _, layout := range []string{"15:04:05", "15:04"} {
		if at, err := time.Parse(layout, l.text); err == nil {
			midnight := time.Date(at.Year(), at.Month(), at.Day(), 0, 0, 0, 0, time.UTC)
			nanos := big.NewRat(int64(at.Sub(midnight)), 1e9)
			return nanos.Mul(nanos, perSecond(u)), nil
		}
	}
	return nil, fmt.Errorf("%.60s is no time of day: write '23:59:59.999'", l)
}

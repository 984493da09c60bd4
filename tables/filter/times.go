package filter

import (
	"fmt"
	"math/big"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
)

// timeValue returns what converts a text to a number of a column's units, not
// rounded; nil if the column holds no dates or times.
func timeValue(t arrow.DataType) func(literal) (*big.Rat, error) {
	switch t := t.(type) {
	case *arrow.Date32Type:
		return since1970(big.NewRat(1, 24*60*60), true)
	case *arrow.Date64Type:
		return since1970(big.NewRat(1000, 1), true)
	case *arrow.TimestampType:
		return since1970(perSecond(t.Unit), t.TimeZone != "")
	case *arrow.Time32Type:
		return sinceMidnight(t.Unit)
	case *arrow.Time64Type:
		return sinceMidnight(t.Unit)
	}
	return nil
}

func perSecond(u arrow.TimeUnit) *big.Rat { return big.NewRat(int64(time.Second/u.Multiplier()), 1) }

// since1970 converts dates and times of day. Without an offset they are UTC, or
// of the column's own unnamed zone, for which one with an offset means nothing.
func since1970(units *big.Rat, zoned bool) func(literal) (*big.Rat, error) {
	return func(l literal) (*big.Rat, error) {
		for _, layout := range []string{"2006-01-02", "2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02T15:04"} {
			at, err := time.Parse(layout, l.text)
			if err != nil {
				if at, err = time.Parse(layout+"Z07:00", l.text); err != nil {
					continue
				}
				if !zoned {
					return nil, fmt.Errorf("%s has an offset from UTC, and the column has no zone: leave it out", l)
				}
			}
			seconds := big.NewRat(at.Unix(), 1)
			seconds.Add(seconds, big.NewRat(int64(at.Nanosecond()), 1e9))
			return seconds.Mul(seconds, units), nil
		}
		return nil, fmt.Errorf("%.60s is no date or time: write '2026-01-31', or '2026-01-31 23:59:59.999'", l)
	}
}

func sinceMidnight(u arrow.TimeUnit) func(literal) (*big.Rat, error) {
	return func(l literal) (*big.Rat, error) {
		for _, layout := range []string{"15:04:05", "15:04"} {
			if at, err := time.Parse(layout, l.text); err == nil {
				midnight := time.Date(at.Year(), at.Month(), at.Day(), 0, 0, 0, 0, time.UTC)
				nanos := big.NewRat(int64(at.Sub(midnight)), 1e9)
				return nanos.Mul(nanos, perSecond(u)), nil
			}
		}
		return nil, fmt.Errorf("%.60s is no time of day: write '23:59:59.999'", l)
	}
}

package npy

import (
	"fmt"
	"math"
	"time"
)

// nanoseconds are the units of times and durations that have a fixed length.
var nanoseconds = map[string]int64{
	"ns": 1,
	"us": 1e3,
	"ms": 1e6,
	"s":  1e9,
	"m":  60e9,
	"h":  3600e9,
	"D":  24 * 3600e9,
	"W":  7 * 24 * 3600e9,
}

// notATime is NumPy's NaT, which stands for no time.
const notATime = math.MinInt64

// The times that nanoseconds since 1970 can count.
var (
	firstTime = time.Unix(0, notATime+1)
	lastTime  = time.Unix(0, math.MaxInt64)
)

// AppendTimes appends times in nanoseconds. The zero time.Time is NaT. Times
// before 1677 and after 2262 are an error: 64 bits do not count so far.
func AppendTimes(dst []byte, d DType, v []time.Time) ([]byte, error) {
	counts := make([]int64, len(v))
	for i, t := range v {
		switch {
		case t.IsZero():
			counts[i] = notATime
		case t.Before(firstTime) || t.After(lastTime):
			return dst, fmt.Errorf("element %d, %v: nanoseconds count from %v to %v only", i, t, firstTime.UTC(), lastTime.UTC())
		default:
			counts[i] = t.UnixNano()
		}
	}
	return AppendFixed(dst, d, counts), nil
}

// Times returns the times that data is, in UTC. NaT is the zero time.Time.
func Times(d DType, data []byte) ([]time.Time, error) {
	counts := Fixeds[int64](d, data)
	v := make([]time.Time, len(counts))
	unit := nanoseconds[d.Unit]
	for i, n := range counts {
		if n == notATime {
			continue
		}
		if unit >= 1e9 {
			seconds := unit / 1e9
			// Beyond this, time.Time itself cannot tell years apart.
			if limit := int64(1<<55) / seconds; n > limit || n < -limit {
				return nil, fmt.Errorf("element %d: %d%s is not a time that can be represented", i, n, d.Unit)
			}
			v[i] = time.Unix(n*seconds, 0).UTC()
			continue
		}
		perSecond := 1e9 / unit
		v[i] = time.Unix(n/perSecond, n%perSecond*unit).UTC()
	}
	return v, nil
}

// Durations returns the durations that data is. One that nanoseconds cannot
// count is an error, and so is NaT.
func Durations(d DType, data []byte) ([]time.Duration, error) {
	v := Fixeds[time.Duration](d, data)
	unit := nanoseconds[d.Unit]
	for i, n := range v {
		if n == notATime {
			return nil, fmt.Errorf("element %d: NaT is not a duration", i)
		}
		if limit := math.MaxInt64 / unit; int64(n) > limit || int64(n) < -limit {
			return nil, fmt.Errorf("element %d: %d%s is more than nanoseconds can hold", i, int64(n), d.Unit)
		}
		v[i] = n * time.Duration(unit)
	}
	return v, nil
}

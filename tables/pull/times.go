package pull

import (
	"errors"
	"math"
	"sort"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

func isTime(t arrow.DataType) bool {
	return t.ID() == arrow.TIMESTAMP || t.ID() == arrow.DATE32
}

// timeColumn returns the first column that is a timestamp or a date.
func timeColumn(s *arrow.Schema) (int, error) {
	for i, f := range s.Fields() {
		if isTime(f.Type) {
			return i, nil
		}
	}
	return 0, errors.New("it has no time column: one of its columns must be a timestamp or a date32")
}

var errNoTime = errors.New("the time column has a null: each row needs a time")

// timeAt returns a time of a column in its unit.
func timeAt(times arrow.Array, row int) int64 {
	if days, ok := times.(*array.Date32); ok {
		return int64(days.Value(row))
	}
	return int64(times.(*array.Timestamp).Value(row))
}

// firstFrom returns the first row of a sorted column whose time is not before another.
func firstFrom(times arrow.Array, from int64) int {
	return sort.Search(times.Len(), func(i int) bool { return timeAt(times, i) >= from })
}

// bounds returns the first and the last time of a range in the unit of a column.
func bounds(m *manifest, from, to time.Time) (lo, hi int64) {
	lo, hi = math.MinInt64, math.MaxInt64
	t := m.schema.Field(m.time).Type
	if !from.IsZero() {
		lo = tick(from, t)
	}
	if !to.IsZero() {
		if hi = tick(to, t); hi > math.MinInt64 {
			hi--
		}
	}
	return lo, hi
}

// tick returns the first time of a type that is not before t, or the nearest that
// there is.
func tick(t time.Time, of arrow.DataType) int64 {
	seconds, nanos := t.Unix(), int64(t.Nanosecond())
	ts, ok := of.(*arrow.TimestampType)
	if !ok {
		const day = 24 * 60 * 60
		days := seconds / day
		if rest := seconds % day; rest > 0 || rest == 0 && nanos > 0 {
			days++
		}
		return days
	}
	each := int64(ts.Unit.Multiplier()) // nanoseconds
	per := int64(time.Second) / each
	switch {
	case seconds >= math.MaxInt64/per:
		return math.MaxInt64
	case seconds <= math.MinInt64/per:
		return math.MinInt64
	}
	return seconds*per + (nanos+each-1)/each
}

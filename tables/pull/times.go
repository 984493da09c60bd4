package pull

import (
	"errors"
	"math"
	"sort"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables/internal/series"
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

// firstFrom returns the first row of a sorted column whose time is not before another.
func firstFrom(times arrow.Array, from int64) int {
	return sort.Search(times.Len(), func(i int) bool { return series.TimeAt(times, i) >= from })
}

// bounds returns the first and the last time of a range in the unit of a column.
func bounds(m *manifest, from, to time.Time) (lo, hi int64) {
	lo, hi = math.MinInt64, math.MaxInt64
	t := m.schema.Field(m.time).Type
	if !from.IsZero() {
		lo = series.Tick(from, t)
	}
	if !to.IsZero() {
		if hi = series.Tick(to, t); hi > math.MinInt64 {
			hi--
		}
	}
	return lo, hi
}

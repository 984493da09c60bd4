package series

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/rows/sorted"
)

// boundsFilter returns a condition for rows whose times lie within bounds, or nil if all rows match.
func (s *Series) boundsFilter(b *sorted.Bounds, columns *arrow.Schema) (*filter.Expr, error) {
	if b == nil {
		return nil, nil
	}
	var to time.Time
	if b.Highest < math.MaxInt64 {
		to = s.time(b.Highest + 1)
	}
	return TimeRange(columns, s.Names[0], s.time(b.Lowest), to)
}

// time converts n, in the time column's unit, to a time. It returns the zero time if no condition can express the
// result.
func (s *Series) time(n int64) time.Time {
	t := s.timeType()
	if t.ID() == arrow.DATE32 && n > math.MaxInt32 {
		return time.Time{}
	}
	converted := timeOf(n, t)
	if converted.Year() < 1 || converted.Year() > 9999 {
		return time.Time{}
	}
	return converted
}

// timeOf converts v, in the unit of timeType, to a time.
func timeOf(v int64, timeType arrow.DataType) time.Time {
	if t, ok := timeType.(*arrow.TimestampType); ok {
		return arrow.Timestamp(v).ToTime(t.Unit)
	}
	return arrow.Date32(v).ToTime()
}

func (s *Series) timeType() arrow.DataType {
	return s.def.Stored.Field(s.def.Stored.FieldIndices(s.Names[0])[0]).Type
}

// FileStarts returns the lowest times of the files, in ascending order, without duplicates and without the first one.
func (s *Series) FileStarts(ctx context.Context) (times []time.Time, err error) {
	files, err := s.Files(ctx)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if f.Bounds == nil {
			continue
		}
		if start := s.time(f.Bounds.Lowest); !start.IsZero() {
			times = append(times, start)
		}
	}
	slices.SortFunc(times, time.Time.Compare)
	times = slices.CompactFunc(times, time.Time.Equal)
	return times[min(1, len(times)):], nil
}

// BatchBounds returns the bounds of the times in sorted rows, or nil if there are no rows or a time is null.
func (s *Series) BatchBounds(batch arrow.RecordBatch) *sorted.Bounds {
	times := batch.Column(batch.Schema().FieldIndices(s.Names[0])[0])
	if times.Len() == 0 || times.NullN() > 0 {
		return nil
	}
	return &sorted.Bounds{Lowest: TimeAt(times, 0), Highest: TimeAt(times, times.Len()-1)}
}

// TimeAt returns a row's time as a number in the column's unit. For a null, which only other programs write, it returns
// the lowest int64.
func TimeAt(times arrow.Array, row int) int64 {
	if times.IsNull(row) {
		return math.MinInt64
	}
	if days, ok := times.(*array.Date32); ok {
		return int64(days.Value(row))
	}
	return int64(times.(*array.Timestamp).Value(row))
}

package series

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/sorted"
)

// within returns the condition for times within bounds, of columns; nil for all.
func (s *Series) within(b *sorted.Bounds, columns *arrow.Schema) (*filter.Expr, error) {
	if b == nil {
		return nil, nil
	}
	from, ok := s.time(b.Lowest)
	if !ok {
		from = time.Time{}
	}
	var to time.Time
	if b.Highest < math.MaxInt64 {
		if to, ok = s.time(b.Highest + 1); !ok {
			to = time.Time{}
		}
	}
	return TimeRange(columns, s.Names[0], from, to)
}

// time returns a time that a file has as a number. It reports whether conditions can say
// it.
func (s *Series) time(n int64) (at time.Time, ok bool) {
	switch t := s.timeType().(type) {
	case *arrow.TimestampType:
		at = arrow.Timestamp(n).ToTime(t.Unit)
	default:
		if n > math.MaxInt32 {
			return at, false
		}
		at = arrow.Date32(n).ToTime()
	}
	return at, at.Year() >= 1 && at.Year() <= 9999 && !at.IsZero()
}

// timeType returns the type in which the times are stored.
func (s *Series) timeType() arrow.DataType {
	return s.def.Stored.Field(s.def.Stored.FieldIndices(s.Names[0])[0]).Type
}

// Begins returns the times at which files begin, each once, but for the first of them.
func (s *Series) Begins(ctx context.Context) (times []time.Time, err error) {
	files, err := s.Files(ctx)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if f.Bounds == nil {
			continue
		}
		if at, ok := s.time(f.Bounds.Lowest); ok {
			times = append(times, at)
		}
	}
	slices.SortFunc(times, time.Time.Compare)
	times = slices.CompactFunc(times, time.Time.Equal)
	return times[min(1, len(times)):], nil
}

// BatchBounds returns those of the times of sorted rows, at least one.
func (s *Series) BatchBounds(batch arrow.RecordBatch) *sorted.Bounds {
	times := batch.Column(batch.Schema().FieldIndices(s.Names[0])[0])
	if times.Len() == 0 || times.NullN() > 0 {
		return nil
	}
	return &sorted.Bounds{Lowest: TimeAt(times, 0), Highest: TimeAt(times, times.Len()-1)}
}

// TimeAt returns a value of a time column; nulls, which somebody else may have put,
// come first.
func TimeAt(times arrow.Array, row int) int64 {
	if times.IsNull(row) {
		return math.MinInt64
	}
	if days, ok := times.(*array.Date32); ok {
		return int64(days.Value(row))
	}
	return int64(times.(*array.Timestamp).Value(row))
}

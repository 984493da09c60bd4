package series

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables/internal/definition"
)

// autoPartition chooses the periods for rows between two times, and returns the reason.
func autoPartition(first, last time.Time) (p definition.Partition, why string) {
	span := fmt.Sprintf("the rows are from %s to %s, which is ", first.UTC().Format(time.DateOnly), last.UTC().Format(time.DateOnly))
	switch {
	case last.Before(first.AddDate(1, 0, 0)):
		return definition.PartitionMonth, span + "less than a year"
	case last.Before(first.AddDate(3, 0, 0)):
		return definition.PartitionQuarter, span + "less than three years"
	}
	return definition.PartitionYear, span + "three years or more"
}

// Cut decides where the files of a table with a time column end. A nil Cut never ends a file.
type Cut struct {
	By          definition.Partition
	column      int // index of the time column
	timeType    arrow.DataType
	first, last int64 // the lowest and highest time seen so far, if any
	seen        bool
}

// NewCut returns the cut for the table's current state, or nil if its files are not divided by time.
func (s *Series) NewCut(ctx context.Context) (*Cut, error) {
	if !s.def.Settings.Cuts() {
		return nil, nil
	}
	c := &Cut{By: s.def.Settings.Partition, column: s.keys(s.def.Stored)[0], timeType: s.timeType()}
	if c.By != definition.PartitionAuto {
		return c, nil
	}
	files, err := s.Files(ctx)
	for _, f := range files {
		if f.Bounds != nil {
			c.see(f.Bounds.Lowest)
			c.see(f.Bounds.Highest)
		}
	}
	return c, err
}

// see includes a time in the choice of periods.
func (c *Cut) see(v int64) {
	if !c.seen {
		c.first, c.last, c.seen = v, v, true
	}
	c.first, c.last = min(c.first, v), max(c.last, v)
}

// Chosen returns the periods and the reason for them.
func (c *Cut) Chosen() (definition.Partition, string) {
	if c.By != definition.PartitionAuto {
		return c.By, "it was asked for"
	}
	if !c.seen {
		return definition.PartitionMonth, "there are no rows yet"
	}
	return autoPartition(c.time(c.first), c.time(c.last))
}

func (c *Cut) time(v int64) time.Time {
	if c.timeType.ID() == arrow.DATE32 {
		return arrow.Date32(v).ToTime()
	}
	return arrow.Timestamp(v).ToTime(c.timeType.(*arrow.TimestampType).Unit)
}

// Tick returns the first value of a time type that is not before t, or the nearest value that the type can
// represent.
func Tick(t time.Time, timeType arrow.DataType) int64 {
	seconds, nanos := t.Unix(), int64(t.Nanosecond())
	ts, ok := timeType.(*arrow.TimestampType)
	if !ok {
		const day = 24 * 60 * 60
		days := seconds / day
		if rest := seconds % day; rest > 0 || rest == 0 && nanos > 0 {
			days++
		}
		return days
	}
	unitNanos := int64(ts.Unit.Multiplier()) // nanoseconds per unit
	perSecond := int64(time.Second) / unitNanos
	switch {
	case seconds >= math.MaxInt64/perSecond:
		return math.MaxInt64
	case seconds <= math.MinInt64/perSecond:
		return math.MinInt64
	}
	return seconds*perSecond + (nanos+unitNanos-1)/unitNanos
}

// end returns the first value after the period that contains v, or the maximum if the period does not end.
func (c *Cut) end(v int64) int64 {
	if c != nil && v > math.MinInt64 {
		by, _ := c.Chosen()
		if end := Tick(by.Next(c.time(v)), c.timeType); end > v {
			return end
		}
	}
	return math.MaxInt64 // also if the year exceeds the calendar
}

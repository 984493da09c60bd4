package series

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables/internal/definition"
)

// autoPartition chooses the periods for rows between two times, and says why.
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

// Cut says where the files of a table with a time column end. A nil Cut is nowhere.
type Cut struct {
	By          definition.Partition
	column      int // the time column
	of          arrow.DataType
	first, last int64 // the lowest and highest time that was seen, if any was
	some        bool
}

// NewCut returns the cut of the table as it is; nil if its files are not cut.
func (s *Series) NewCut(ctx context.Context) (*Cut, error) {
	if !s.def.Settings.Cuts() {
		return nil, nil
	}
	c := &Cut{By: s.def.Settings.Partition, column: s.keys(s.def.Stored)[0], of: s.timeType()}
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

// see takes a time into account for the choice of periods.
func (c *Cut) see(v int64) {
	if !c.some {
		c.first, c.last, c.some = v, v, true
	}
	c.first, c.last = min(c.first, v), max(c.last, v)
}

// Chosen returns the periods, and why they are.
func (c *Cut) Chosen() (definition.Partition, string) {
	if c.By != definition.PartitionAuto {
		return c.By, "it was asked for"
	}
	if !c.some {
		return definition.PartitionMonth, "there are no rows yet"
	}
	return autoPartition(c.time(c.first), c.time(c.last))
}

func (c *Cut) time(v int64) time.Time {
	if c.of.ID() == arrow.DATE32 {
		return arrow.Date32(v).ToTime()
	}
	return arrow.Timestamp(v).ToTime(c.of.(*arrow.TimestampType).Unit)
}

// Tick returns the first time of a type, as a number, that is not before t, or the nearest
// that there is.
func Tick(t time.Time, of arrow.DataType) int64 {
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

// end returns the first value after the period that a time is in. The last period
// does not end.
func (c *Cut) end(v int64) int64 {
	if c != nil && v > math.MinInt64 {
		by, _ := c.Chosen()
		if end := Tick(by.Next(c.time(v)), c.of); end > v {
			return end
		}
	}
	return math.MaxInt64 // or of a time in a year that a calendar does not have
}

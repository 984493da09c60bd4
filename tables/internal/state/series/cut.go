package series

import (
	"context"
	"fmt"
	"math"
	"sort"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/state/definition"
)

// autoPartition chooses the length of the periods for rows from first to last. reason explains the choice.
func autoPartition(first, last time.Time) (p definition.Partition, reason string) {
	span := fmt.Sprintf("the rows are from %s to %s, which is ", first.UTC().Format(time.DateOnly), last.UTC().Format(time.DateOnly))
	switch {
	case last.Before(first.AddDate(1, 0, 0)):
		return definition.PartitionMonth, span + "less than a year"
	case last.Before(first.AddDate(3, 0, 0)):
		return definition.PartitionQuarter, span + "less than three years"
	}
	return definition.PartitionYear, span + "three years or more"
}

// Cutter determines the times at which a table's files end. A nil Cutter never ends a file.
type Cutter struct {
	By              definition.Partition
	column          int // index of the time column
	timeType        arrow.DataType
	lowest, highest int64 // lowest and highest time, if hasTimes
	hasTimes        bool
}

// NewCutter returns a Cutter for the table's current state, or nil if its files are not divided by time.
func (s *Series) NewCutter(ctx context.Context) (*Cutter, error) {
	if !s.def.Settings.HasPeriods() {
		return nil, nil
	}
	c := &Cutter{By: s.def.Settings.Partition, column: s.keys(s.def.Stored)[0], timeType: s.timeType()}
	if c.By != definition.PartitionAuto {
		return c, nil
	}
	files, err := s.Files(ctx)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if f.Bounds != nil {
			c.include(f.Bounds.Lowest)
			c.include(f.Bounds.Highest)
		}
	}
	return c, nil
}

// include extends the range of times, on which the length of automatic periods depends, to tick.
func (c *Cutter) include(tick int64) {
	if !c.hasTimes {
		c.lowest, c.highest = tick, tick
		c.hasTimes = true
	}
	c.lowest = min(c.lowest, tick)
	c.highest = max(c.highest, tick)
}

// Periods returns the length of the periods and the reason for it.
func (c *Cutter) Periods() (definition.Partition, string) {
	if c.By != definition.PartitionAuto {
		return c.By, "it is set in the table's settings"
	}
	if !c.hasTimes {
		return definition.PartitionMonth, "the table has no rows yet"
	}
	return autoPartition(timeOf(c.lowest, c.timeType), timeOf(c.highest, c.timeType))
}

// CeilTicks converts t to the unit of a time type. It rounds up. If the type cannot represent t, it returns the type's
// nearest value.
func CeilTicks(t time.Time, timeType arrow.DataType) int64 {
	seconds, nanos := t.Unix(), int64(t.Nanosecond())
	timestampType, ok := timeType.(*arrow.TimestampType)
	if !ok {
		const day = 24 * 60 * 60
		days := seconds / day
		if remainder := seconds % day; remainder > 0 || remainder == 0 && nanos > 0 {
			days++
		}
		return days
	}
	unitNanos := int64(timestampType.Unit.Multiplier())
	perSecond := int64(time.Second) / unitNanos
	switch {
	case seconds >= math.MaxInt64/perSecond:
		return math.MaxInt64
	case seconds <= math.MinInt64/perSecond:
		return math.MinInt64
	}
	return seconds*perSecond + (nanos+unitNanos-1)/unitNanos
}

// periodEnd returns the first time after the period that contains tick. If the period has no end, it returns the
// highest int64.
func (c *Cutter) periodEnd(tick int64) int64 {
	if c != nil && tick > math.MinInt64 {
		period, _ := c.Periods()
		if end := CeilTicks(period.NextStart(timeOf(tick, c.timeType)), c.timeType); end > tick {
			return end
		}
	}
	return math.MaxInt64 // There are no periods, or the end is out of range.
}

// nextPeriod returns a Counter that counts rows up to the end of the period in which rows begins. rows must be sorted
// by time. Automatic periods can grow as rows are read.
func (c *Cutter) nextPeriod(rows arrow.RecordBatch) batches.Counter {
	if c == nil {
		return batches.AllRows
	}
	firstTick := TimeAt(rows.Column(c.column), 0)
	if firstTick > math.MinInt64 {
		c.include(firstTick)
	}
	end := c.periodEnd(firstTick)
	if end == math.MaxInt64 {
		return batches.AllRows
	}
	return func(b arrow.RecordBatch) (n int64, complete bool) {
		times := b.Column(c.column)
		n = int64(sort.Search(times.Len(), func(i int) bool { return TimeAt(times, i) >= end }))
		return n, n < b.NumRows()
	}
}

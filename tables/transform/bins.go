package transform

import (
	"fmt"
	"math"
	"math/bits"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
)

const (
	day = 24 * 60 * 60 // seconds

	// maxBins limits the rows in a result, most of which could be empty bins.
	maxBins = 1 << 30
	// maxShifts limits how often a zone's UTC offset may change within a table. The limit suffices for 5,000
	// years of daylight saving time.
	maxShifts = 10_000
)

// bins assigns times to the bins of a rule. Bin 0 contains the first time; earlier times are invalid. A time is the
// number of time units, such as microseconds, since 1970.
type bins struct {
	*rule
	zone        *time.Location // UTC if the times have no zone
	second      int64          // one second in time units, for example 1e6 if the unit is a microsecond
	labelSecond int64          // one second in the unit of the labels; 0 if labels are days

	origin             int64   // start of bin 0: a time for fixed bins, or a position (see grid) for calendar bins
	day0               int64   // local day of the first time, in days since 1970
	shifts             []shift // UTC offsets of the zone; the first is the offset at the first time
	shiftsEnd          int64   // first time that shifts does not cover
	hasWideDifferences bool    // the difference between two times may overflow int64
}

// shift is a UTC offset and the time until which it applies.
type shift struct{ until, offset int64 }

// start sets bin 0 so that it contains first, the earliest time, and prepares for times up to at least last.
func (b *bins) start(first, last int64) error {
	b.shiftsEnd = math.MaxInt64
	b.hasWideDifferences = uint64(last-first) > math.MaxInt64/2
	local := first + b.offset(first)
	b.day0 = floorDiv(local, day*b.second)
	if b.nanos > 0 {
		midnight, ok := b.startOfDay(b.day0, b.second)
		if !ok {
			return b.labelError()
		}
		b.origin = first - (first-midnight)%b.fixedBinLength()
		return b.checkCount(b.binIndex(last))
	}
	position := b.positionOf(b.day0)
	b.origin = floorDiv(position-b.anchor, b.period)*b.period + b.anchor
	if b.labelsAtEnd && b.origin != position {
		b.origin += b.period
	}
	if err := b.checkCount(b.binIndex(last)); err != nil {
		return err
	}
	return b.findShifts(first, last)
}

// binIndex returns the index of the bin that contains t. t must not precede the first time.
func (b *bins) binIndex(t int64) int64 {
	if b.nanos > 0 {
		n := uint64(t-b.origin) / uint64(b.fixedBinLength()) // unsigned, because the difference may exceed int64
		return int64(min(n, math.MaxInt64))
	}
	local := floorDiv(t, b.second) + b.offset(t)/b.second
	return (b.positionOf(floorDiv(local, day)) - b.origin + b.roundUp()) / b.binLength()
}

// sameBinUntil returns a time end such that all times in [t, end) are in the same bin. For calendar bins, end is at the
// next midnight or change in the UTC offset.
func (b *bins) sameBinUntil(t int64) int64 {
	if b.nanos > 0 {
		remaining := b.fixedBinLength() - int64(uint64(t-b.origin)%uint64(b.fixedBinLength()))
		if t > math.MaxInt64-remaining {
			return math.MaxInt64
		}
		return t + remaining
	}
	second, offset := floorDiv(t, b.second), b.offset(t)/b.second
	end := (floorDiv(second+offset, day)+1)*day - offset
	if _, shift := time.Unix(second, 0).In(b.zone).ZoneBounds(); !shift.IsZero() {
		end = min(end, shift.Unix())
	}
	return saturatingMul(end, b.second)
}

func (b *bins) checkCount(n int64) error {
	if n > maxBins {
		return fmt.Errorf("rule %q needs more than %d bins for these times: use a rule with longer bins", b.text, maxBins)
	}
	return nil
}

// fixedBinLength returns the length of a bin in time units.
func (b *bins) fixedBinLength() int64 { return b.nanos / (1e9 / b.second) }

// offset returns the zone's UTC offset at t, in the unit of the times.
func (b *bins) offset(t int64) int64 {
	_, offset := time.Unix(floorDiv(t, b.second), 0).In(b.zone).Zone()
	return int64(offset) * b.second
}

// findShifts records the changes in the zone's UTC offset from first until a year after last. The additional year is
// for rows that are put before the SQL statement runs.
func (b *bins) findShifts(first, last int64) error {
	b.shifts = b.shifts[:0]
	minEnd := floorDiv(last, b.second) + 366*day
	for second := floorDiv(first, b.second); ; {
		_, end := time.Unix(second, 0).In(b.zone).ZoneBounds()
		next := end.Unix()
		s := shift{math.MaxInt64, b.offset(second * b.second)}
		if !end.IsZero() {
			if next <= second { // In future years, the zone database can repeat an earlier transition.
				next = second + day
			}
			s.until = saturatingMul(next, b.second)
		}
		if n := len(b.shifts); n > 0 && b.shifts[n-1].offset == s.offset {
			b.shifts[n-1].until = s.until
		} else {
			b.shifts = append(b.shifts, s)
		}
		if end.IsZero() || next > minEnd {
			b.shiftsEnd = s.until
			return nil
		}
		second = next
		if len(b.shifts) > maxShifts {
			return fmt.Errorf("rule %q: the UTC offset of %s changes more than %d times between the first time and the last", b.text, b.zone, maxShifts)
		}
	}
}

// sql returns an SQL expression for the index of the bin that contains t, which is an SQL expression for a time.
func (b *bins) sql(t string) string {
	if b.hasWideDifferences {
		t += "::HUGEINT"
	}
	if b.nanos > 0 {
		return fmt.Sprintf("((%s - (%d)) // %d)::BIGINT", t, b.origin, b.fixedBinLength())
	}
	local := fmt.Sprintf("%s + (%d)", t, b.shifts[len(b.shifts)-1].offset)
	if len(b.shifts) > 1 {
		var w strings.Builder
		fmt.Fprintf(&w, "%s + CASE", t)
		for _, s := range b.shifts[:len(b.shifts)-1] {
			fmt.Fprintf(&w, " WHEN %s < %d THEN %d", t, s.until, s.offset)
		}
		fmt.Fprintf(&w, " ELSE %d END", b.shifts[len(b.shifts)-1].offset)
		local = w.String()
	}
	days := fmt.Sprintf("(%s - (%d)) // %d", local, b.day0*day*b.second, day*b.second)
	position, constant := b.grid.sql(days, b.day0)
	return fmt.Sprintf("((%s + (%d)) // %d)::BIGINT", position, constant-b.origin+b.roundUp(), b.binLength())
}

// roundUp returns the number to add before dividing by binLength, so that the division rounds up if labelsAtEnd is set.
func (b *bins) roundUp() int64 {
	if b.labelsAtEnd {
		return b.binLength() - 1
	}
	return 0
}

// labelOf returns a bin's label, in the unit of the labels.
func (b *bins) labelOf(bin int64) (int64, error) {
	if b.nanos > 0 {
		label, err := b.labelTime(bin)
		return floorDiv(label, b.second/b.labelSecond), err
	}
	d := b.dayOf(b.origin + bin*b.binLength())
	if b.labelSecond == 0 {
		return d, nil
	}
	label, ok := b.startOfDay(d, b.labelSecond)
	if !ok {
		return 0, b.labelError()
	}
	return label, nil
}

// isAbsent reports whether a bin is a day that the zone skipped, such as 2011-12-30 in Samoa. Such a bin has no times,
// and would have the next bin's label.
func (b *bins) isAbsent(bin int64) bool {
	if b.nanos > 0 || b.zone == time.UTC {
		return false
	}
	label, err := b.labelOf(bin)
	next, nextErr := b.labelOf(bin + 1)
	return err == nil && nextErr == nil && label == next
}

// labelTime returns a bin's label as a time.
func (b *bins) labelTime(bin int64) (int64, error) {
	start, ok := b.origin+bin*b.fixedBinLength(), true
	if b.nanos == 0 {
		start, ok = b.startOfDay(b.dayOf(b.origin+bin*b.binLength()), b.second)
	}
	if !ok || b.nanos > 0 && start < b.origin {
		return 0, b.labelError()
	}
	return start, nil
}

func (b *bins) labelError() error {
	return fmt.Errorf("rule %q: the label of a bin is outside the range of timestamps", b.text)
}

// startOfDay returns the time at which day d begins in the zone. Its unit is given by second, the number of units per
// second. If midnight occurs twice, startOfDay returns the first one. If clocks skip midnight, it returns the time of
// that change. It returns false if the result overflows.
func (b *bins) startOfDay(d, second int64) (int64, bool) {
	midnight := d * day
	zoned := func(approximate int64) time.Time {
		_, offset := time.Unix(approximate, 0).In(b.zone).Zone()
		return time.Unix(midnight-int64(offset), 0).In(b.zone)
	}
	begin, later := zoned(midnight-day), zoned(midnight+day)
	isMidnight := func(t time.Time) bool {
		_, offset := t.Zone()
		return t.Unix()+int64(offset) == midnight
	}
	if !isMidnight(begin) {
		if isMidnight(later) {
			begin = later
		} else {
			begin, _ = begin.ZoneBounds()
		}
	}
	s := begin.Unix()
	return s * second, saturatingMul(s, second) == s*second
}

// saturatingMul returns s*by, or the closest int64 if that overflows.
func saturatingMul(s, by int64) int64 {
	hi, lo := bits.Mul64(uint64(max(s, -s)), uint64(by))
	switch {
	case hi == 0 && lo <= math.MaxInt64:
		return s * by
	case s < 0:
		return math.MinInt64
	}
	return math.MaxInt64
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// newBins returns bins for a time column of type t, and the type of their labels.
func newBins(r *rule, t arrow.DataType) (_ *bins, _ arrow.DataType, err error) {
	b := &bins{rule: r, zone: time.UTC, second: 1e6}
	label := &arrow.TimestampType{Unit: arrow.Second}
	switch t := t.(type) {
	case *arrow.Date32Type:
		if r.nanos == 0 {
			return b, t, nil
		}
	case *arrow.Date64Type:
		label.Unit = arrow.Millisecond
	case *arrow.TimestampType:
		label = &arrow.TimestampType{Unit: t.Unit, TimeZone: t.TimeZone}
		b.zone, err = t.GetZone()
		if err != nil {
			return nil, nil, fmt.Errorf("time zone %q: %w", t.TimeZone, err)
		}
	default:
		return nil, nil, fmt.Errorf("it has type %s; want a timestamp or date column", t)
	}
	for r.nanos%int64(label.Unit.Multiplier()) != 0 { // a bin length that is finer than the times needs finer labels
		label.Unit++
	}
	b.labelSecond = int64(time.Second / label.Unit.Multiplier())
	if b.labelSecond > b.second {
		b.second = b.labelSecond
	}
	return b, label, nil
}

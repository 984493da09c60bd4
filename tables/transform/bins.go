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

	// maxBins bounds the rows of a result, most of which could be empty bins.
	maxBins = 1 << 30
	// maxShifts bounds the changes of a zone's offset within a table: 5,000 years
	// of summer times.
	maxShifts = 10_000
)

// bins numbers the bins of a rule from 0 on, for times that are not before a
// first one. Times are whole numbers of a unit since 1970.
type bins struct {
	*rule
	zone   *time.Location // UTC where times have none
	second int64          // a second in the unit of the times
	label  int64          // a second in the unit of the labels; 0: they are days

	origin int64   // where bin 0 begins: a time, or a place
	day0   int64   // the day of the first time
	shifts []shift // of the zone from the first time on
	until  int64   // the first time for which shifts does not hold
	wide   bool    // differences of times may be beyond int64
}

// shift is an offset of the local time, in the unit of the times.
type shift struct{ until, offset int64 }

// start sets where bins begin, from the earliest and about the latest time.
func (b *bins) start(first, last int64) error {
	b.until = math.MaxInt64
	b.wide = uint64(last-first) > math.MaxInt64/2
	local := first + b.offset(first)
	b.day0 = floorDiv(local, day*b.second)
	if b.nanos > 0 {
		midnight, ok := b.instant(b.day0, b.second)
		if !ok {
			return b.beyond()
		}
		b.origin = first - (first-midnight)%b.step()
		return b.count(b.number(last))
	}
	at := b.place(b.day0)
	b.origin = floorDiv(at-b.anchor, b.period)*b.period + b.anchor
	if b.end && b.origin != at {
		b.origin += b.period
	}
	if err := b.count(b.number(last)); err != nil {
		return err
	}
	return b.findShifts(first, last)
}

// number is that of the bin of a time that is not before the first one.
func (b *bins) number(t int64) int64 {
	if b.nanos > 0 {
		n := uint64(t-b.origin) / uint64(b.step()) // of which nanoseconds of 292 years are more than int64 holds
		return int64(min(n, math.MaxInt64))
	}
	local := floorDiv(t, b.second) + b.offset(t)/b.second
	return (b.place(floorDiv(local, day)) - b.origin + b.over()) / b.length()
}

// through is a time up to before which those from a time on are in the same bin, as far as
// that is known without effort: for days, those of the same day and offset.
func (b *bins) through(t int64) int64 {
	if b.nanos > 0 {
		left := b.step() - int64(uint64(t-b.origin)%uint64(b.step()))
		if t > math.MaxInt64-left {
			return math.MaxInt64
		}
		return t + left
	}
	second, offset := floorDiv(t, b.second), b.offset(t)/b.second
	end := (floorDiv(second+offset, day)+1)*day - offset
	if _, shift := time.Unix(second, 0).In(b.zone).ZoneBounds(); !shift.IsZero() {
		end = min(end, shift.Unix())
	}
	return saturated(end, b.second)
}

func (b *bins) count(n int64) error {
	if n > maxBins {
		return fmt.Errorf("rule %q makes more than %d bins of these times: take a longer one", b.text, maxBins)
	}
	return nil
}

// step is the length of a fixed bin.
func (b *bins) step() int64 { return b.nanos / (1e9 / b.second) }

// offset is that of the local time.
func (b *bins) offset(at int64) int64 {
	_, offset := time.Unix(floorDiv(at, b.second), 0).In(b.zone).Zone()
	return int64(offset) * b.second
}

// findShifts follows the zone to a year behind last, so that rows that are put
// meanwhile fit, too.
func (b *bins) findShifts(first, last int64) error {
	b.shifts = b.shifts[:0]
	to := floorDiv(last, b.second) + 366*day
	for at := floorDiv(first, b.second); ; {
		_, end := time.Unix(at, 0).In(b.zone).ZoneBounds()
		next := end.Unix()
		s := shift{math.MaxInt64, b.offset(at * b.second)}
		if !end.IsZero() {
			if next <= at { // as at the ends of some years to come
				next = at + day
			}
			s.until = saturated(next, b.second)
		}
		if n := len(b.shifts); n > 0 && b.shifts[n-1].offset == s.offset {
			b.shifts[n-1].until = s.until
		} else {
			b.shifts = append(b.shifts, s)
		}
		if end.IsZero() || next > to {
			b.until = s.until
			return nil
		}
		if at = next; len(b.shifts) > maxShifts {
			return fmt.Errorf("rule %q: from the first time to the last the clocks of %s change more than %d times", b.text, b.zone, maxShifts)
		}
	}
}

// sql is the number of the bin of a time, which is the expression t.
func (b *bins) sql(t string) string {
	if b.wide {
		t += "::HUGEINT"
	}
	if b.nanos > 0 {
		return fmt.Sprintf("((%s - (%d)) // %d)::BIGINT", t, b.origin, b.step())
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
	place, more := b.grid.sql(days, b.day0)
	return fmt.Sprintf("((%s + (%d)) // %d)::BIGINT", place, more-b.origin+b.over(), b.length())
}

// over is what makes a division round up where bins end with their label.
func (b *bins) over() int64 {
	if b.end {
		return b.length() - 1
	}
	return 0
}

// labelOf is the label of a bin, in its units.
func (b *bins) labelOf(bin int64) (int64, error) {
	if b.nanos > 0 {
		at, err := b.begin(bin)
		return floorDiv(at, b.second/b.label), err
	}
	d := b.dayOf(b.origin + bin*b.length())
	if b.label == 0 {
		return d, nil
	}
	at, ok := b.instant(d, b.label)
	if !ok {
		return 0, b.beyond()
	}
	return at, nil
}

// begin is the time of a bin's label.
func (b *bins) begin(bin int64) (int64, error) {
	at, ok := b.origin+bin*b.step(), true
	if b.nanos == 0 {
		at, ok = b.instant(b.dayOf(b.origin+bin*b.length()), b.second)
	}
	if !ok || b.nanos > 0 && at < b.origin {
		return 0, b.beyond()
	}
	return at, nil
}

func (b *bins) beyond() error {
	return fmt.Errorf("rule %q: the label of a bin is beyond what a timestamp can hold", b.text)
}

// instant is when a day begins in the zone: at midnight, at the first of two, or
// where clocks go over it, then.
func (b *bins) instant(d, second int64) (int64, bool) {
	midnight := d * day
	zoned := func(near int64) time.Time {
		_, offset := time.Unix(near, 0).In(b.zone).Zone()
		return time.Unix(midnight-int64(offset), 0).In(b.zone)
	}
	at, after := zoned(midnight-day), zoned(midnight+day)
	isMidnight := func(t time.Time) bool {
		_, offset := t.Zone()
		return t.Unix()+int64(offset) == midnight
	}
	if !isMidnight(at) {
		if isMidnight(after) {
			at = after
		} else {
			at, _ = at.ZoneBounds()
		}
	}
	s := at.Unix()
	return s * second, saturated(s, second) == s*second
}

// saturated multiplies, up to the ends of what there is.
func saturated(s, by int64) int64 {
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

// newBins returns bins for a column of times, and the type of their labels.
func newBins(r *rule, t arrow.DataType) (*bins, arrow.DataType, error) {
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
		var err error
		if b.zone, err = t.GetZone(); err != nil {
			return nil, nil, fmt.Errorf("the time zone %q: %w", t.TimeZone, err)
		}
	default:
		return nil, nil, fmt.Errorf("it has type %s: a timestamp or a date is needed", t)
	}
	for r.nanos%int64(label.Unit.Multiplier()) != 0 { // a rule finer than the times needs finer labels
		label.Unit++
	}
	if b.label = int64(time.Second / label.Unit.Multiplier()); b.label > b.second {
		b.second = b.label
	}
	return b, label, nil
}

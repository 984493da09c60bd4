package filter_test

import (
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/filter"
)

// TestZones checks that text without an offset is in the column's time zone, that text with an offset is not, and that
// a time at which clocks change is refused.
func TestZones(t *testing.T) {
	matches := func(zone string, unit arrow.TimeUnit, utc, text string) (bool, error) {
		typ := &arrow.TimestampType{Unit: unit, TimeZone: zone}
		schema := arrow.NewSchema([]arrow.Field{{Name: "at", Type: typ}}, nil)
		at := must.Get(time.Parse(time.RFC3339, utc))(t)
		value := must.Get(arrow.TimestampFromTime(at, unit))(t)
		b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
		b.Field(0).(*array.TimestampBuilder).Append(value)
		e := must.Get(filter.Parse(text))(t)
		rows, err := e.Filter(t.Context(), b.NewRecordBatch())
		if err != nil {
			return false, err
		}
		return rows.NumRows() == 1, nil
	}
	for _, unit := range []arrow.TimeUnit{arrow.Second, arrow.Millisecond, arrow.Microsecond, arrow.Nanosecond} {
		for _, c := range []struct{ zone, utc, text string }{
			{"America/New_York", "2026-01-05T14:30:00Z", "at = '2026-01-05 09:30'"},
			{"America/New_York", "2026-07-06T13:30:00Z", "at = '2026-07-06T09:30:00'"},
			{"America/New_York", "2026-01-05T05:00:00Z", "at = '2026-01-05'"},
			{"America/New_York", "2026-01-05T14:30:00Z", "at between '2026-01-05 09:30' and '2026-01-05 09:30'"},
			{"America/New_York", "2026-01-05T14:30:00Z", "at in ('2026-01-05 09:30')"},
			{"America/New_York", "2026-01-05T14:30:00Z", "'2026-01-05 09:29:59.999' < at"},
			{"America/New_York", "2026-01-05T14:30:00Z", "at = '2026-01-05 14:30Z'"},
			{"America/New_York", "2026-01-05T14:30:00Z", "at = '2026-01-05 15:30+01:00'"},
			{"America/New_York", "2026-11-01T05:30:00Z", "at = '2026-11-01 01:30-04:00'"},
			{"America/New_York", "2026-11-01T06:30:00Z", "at = '2026-11-01 01:30-05:00'"},
			{"America/New_York", "2026-11-01T04:59:59Z", "at = '2026-11-01 00:59:59'"},
			{"America/New_York", "2026-11-01T07:00:00Z", "at = '2026-11-01 02:00'"},
			{"America/New_York", "2026-03-08T07:00:00Z", "at = '2026-03-08 03:00'"},
			{"America/New_York", "2026-03-08T06:59:00Z", "at = '2026-03-08 01:59'"},
			{"+05:30", "2026-01-05T04:00:00Z", "at = '2026-01-05 09:30'"},
			{"Pacific/Kiritimati", "2026-01-04T19:30:00Z", "at = '2026-01-05 09:30'"},
			{"UTC", "2026-01-05T09:30:00Z", "at = '2026-01-05 09:30'"},
			{"", "2026-01-05T09:30:00Z", "at = '2026-01-05 09:30'"},
		} {
			if ok, err := matches(c.zone, unit, c.utc, c.text); err != nil || !ok {
				t.Errorf("%s in zone %q, unit %s: %s: %t, error %v, want true", c.utc, c.zone, unit, c.text, ok, err)
			}
		}
		for _, zone := range []string{"America/New_York", "+05:30", ""} { // a time.Time is a moment in every column
			at := time.Date(2026, 11, 1, 5, 30, 0, 0, time.UTC)
			if ok, err := matches(zone, unit, at.Format(time.RFC3339), filter.Eq("at", at).String()); err != nil || !ok {
				t.Errorf("zone %q: %s: %t, error %v, want true", zone, filter.Eq("at", at), ok, err)
			}
		}
	}
	for text, want := range map[string]string{
		"at > '2026-11-01 01:30'": "occurs 2 times in the column's time zone America/New_York", "at > '2026-03-08 02:30'": "occurs 0 times",
		"at between '2026-01-01' and '2026-11-01 01:00'": "occurs 2 times", "at in ('2026-03-08 02:00')": "occurs 0 times",
	} {
		if _, err := matches("America/New_York", arrow.Microsecond, "2026-01-01T00:00:00Z", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %s", text, err, want)
		}
	}
	if _, err := matches("Nowhere/None", arrow.Microsecond, "2026-01-01T00:00:00Z", "at > '2026-01-01'"); err == nil || !strings.Contains(err.Error(), "Nowhere/None") {
		t.Errorf("an unknown zone: error %v", err)
	}
}

package series

import (
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables/internal/state/definition"
)

func TestPeriods(t *testing.T) {
	day := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	for partition, want := range map[definition.Partition]string{
		definition.PartitionDay: "2024-03-01", definition.PartitionMonth: "2024-03-01", definition.PartitionQuarter: "2024-04-01", definition.PartitionYear: "2025-01-01",
	} {
		lastMoment := time.Date(2024, 2, 29, 23, 59, 59, 999, time.UTC)
		for _, zone := range []*time.Location{time.UTC, time.FixedZone("", 5*3600), time.FixedZone("", -5*3600)} {
			if got := partition.NextStart(lastMoment.In(zone)).Format(time.DateOnly); got != want {
				t.Errorf("%[2]s.NextStart(%[1]s) = %[3]s, want %[4]s", lastMoment, partition, got, want)
			}
		}
	}
	if got := definition.PartitionQuarter.NextStart(time.Date(1969, 12, 31, 0, 0, 0, 0, time.UTC)); !got.Equal(time.Unix(0, 0)) {
		t.Errorf("NextStart of the last quarter of 1969 = %v, want 1970-01-01", got)
	}
	for _, typ := range []arrow.DataType{arrow.FixedWidthTypes.Date32, arrow.FixedWidthTypes.Timestamp_s, arrow.FixedWidthTypes.Timestamp_us, arrow.FixedWidthTypes.Timestamp_ns} {
		c := &Cutter{By: definition.PartitionMonth, timeType: typ}
		for _, v := range []int64{-1 << 63, -1 << 31, -1, 0, 1, 1<<31 - 1, 1<<63 - 1} {
			if typ.ID() == arrow.DATE32 {
				v = int64(int32(v))
			}
			if end := c.periodEnd(v); end <= v && v < 1<<63-1 {
				t.Errorf("%s: periodEnd(%d) = %d, want a later time", typ, v, end)
			}
		}
		if want := time.Date(1950, 5, 1, 0, 0, 0, 0, time.UTC); !timeOf(CeilTicks(want, typ), typ).Equal(want) {
			t.Errorf("%s: the tick of %s is the time %s, want the same time", typ, want, timeOf(CeilTicks(want, typ), typ))
		}
	}
	for days, want := range map[int]definition.Partition{0: definition.PartitionMonth, 365: definition.PartitionMonth, 366: definition.PartitionQuarter, 3*365 + 1: definition.PartitionYear, 9999: definition.PartitionYear} {
		if partition, reason := autoPartition(day, day.AddDate(0, 0, days)); partition != want || !strings.Contains(reason, "2024-01-01") {
			t.Errorf("%d days: autoPartition chose %s because %s", days, partition, reason)
		}
	}
}

package series

import (
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/filter"
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

// TestTrimTail checks that trimTail keeps the only block with a matching row, even if the row is the first or last of
// its block.
func TestTrimTail(t *testing.T) {
	columns := arrow.NewSchema([]arrow.Field{{Name: "t", Type: arrow.FixedWidthTypes.Timestamp_us}}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, columns)
	const rows = 2*trimBlockRows + 10
	for i := range rows {
		b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(i))
	}
	tail := b.NewRecordBatch()
	s := &Series{Order: &definition.Order{Names: []string{"t"}}}
	for _, row := range []int64{0, 1, trimBlockRows - 1, trimBlockRows, 2*trimBlockRows - 1, 2 * trimBlockRows, rows - 1} {
		e := must.Get(filter.Compare(columns.Field(0), "=", filter.TimeText(time.UnixMicro(row))))(t)
		where := must.Get(e.Bind(columns))(t)
		got := s.BatchBounds(s.trimTail(tail, where))
		start := row / trimBlockRows * trimBlockRows
		if got == nil || got.Lowest != start || got.Highest != min(start+trimBlockRows, rows)-1 {
			t.Errorf("for row %d, trimTail kept the rows %v, want the block that begins at %d", row, got, start)
		}
	}
}

// file returns a File of 100 bytes with the given bounds. It is sorted, and has the given number of null times.
func (s *Series) file(t *testing.T, lowest, highest uint64, nulls int64) *File {
	t.Helper()
	b := must.Get(iceberg.NewDataFileBuilder(*iceberg.UnpartitionedSpec, iceberg.EntryContentData, "data/file", iceberg.ParquetFile, nil, nil, nil, 1, 100))(t)
	id := s.IDs[0]
	encode := func(v uint64) map[int][]byte { return map[int][]byte{id: binary.LittleEndian.AppendUint64(nil, v)} }
	b.LowerBoundValues(encode(lowest)).UpperBoundValues(encode(highest)).NullValueCounts(map[int]int64{id: nulls}).SortOrderID(s.Sort)
	return s.File(table.FileScanTask{File: b.Build()})
}

// TestGroups checks which large sorted files a compaction merges.
func TestGroups(t *testing.T) {
	s := &Series{Order: &definition.Order{IDs: []int{1}, Sort: 1}}
	if s.file(t, 0, 1, 0).Bounds == nil || s.file(t, 0, 1, 1).Bounds != nil {
		t.Error("a file must have bounds only if no time is null")
	}
	stale := s.file(t, 0, 1, 0)
	stale.Stale = true
	first, second := s.file(t, 10, 20, 0), s.file(t, 0, 10, 0)
	for name, c := range map[string]struct {
		files []*File
		want  int
	}{
		"one file":       {[]*File{first}, 0},
		"one stale file": {[]*File{stale}, 1},
		"a file that ends at the first time of a later file":    {[]*File{second, first}, 0},
		"a file that ends at the first time of an earlier file": {[]*File{first, second}, 1},
	} {
		groups := s.Groups(nil, c.files, 100)
		if len(groups) != c.want || c.want > 0 && len(groups[0]) != len(c.files) {
			t.Errorf("%s: Groups returned %v, want %d groups with all files", name, groups, c.want)
		}
	}
}

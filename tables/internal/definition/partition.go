package definition

import (
	"fmt"
	"slices"
	"time"
)

// The periods by which files are cut. "" is PartitionNone. Periods are those of UTC.
const (
	PartitionNone    Partition = "none"
	PartitionAuto    Partition = "auto" // by months, quarters or years, as long as the rows' time is
	PartitionDay     Partition = "day"
	PartitionMonth   Partition = "month"
	PartitionQuarter Partition = "quarter"
	PartitionYear    Partition = "year"
)

// CheckPartition refuses periods that there are not.
func (s Settings) CheckPartition() error {
	all := []Partition{"", PartitionNone, PartitionAuto, PartitionDay, PartitionMonth, PartitionQuarter, PartitionYear}
	if !slices.Contains(all, s.Partition) {
		return fmt.Errorf("there is no partition %q: there are %q", s.Partition, all[1:])
	}
	if s.Cuts() && s.Time == "" {
		return fmt.Errorf("the partition by %s needs a time column", s.Partition)
	}
	return nil
}

// Cuts reports whether files are cut by periods.
func (s Settings) Cuts() bool { return s.Partition != "" && s.Partition != PartitionNone }

// Next returns the beginning of the period after the one that a time is in.
func (p Partition) Next(t time.Time) time.Time {
	year, month, day := t.UTC().Date()
	switch p {
	case PartitionDay:
		return date(year, month, day+1)
	case PartitionMonth:
		return date(year, month+1, 1)
	case PartitionQuarter:
		return date(year, month-(month-1)%3+3, 1)
	}
	return date(year+1, 1, 1)
}

func date(year int, month time.Month, day int) time.Time {
	return time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
}

package commit

import (
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/state/tail"
)

// Properties of snapshots. The times are in milliseconds since 1970.
const (
	rowsFrom    = "partd.rows-from"    // time of the snapshot's oldest change, if it contains rows from the tail
	rowsUntil   = "partd.rows-until"   // time of the newest row in a fold
	putVersions = "partd.put-versions" // other versions that the snapshot's puts returned, separated by commas
)

// change is a snapshot that became current. first and last are the times of the oldest and the newest change in it, in
// milliseconds since 1970.
type change struct {
	snapshot    *table.Snapshot
	first, last int64
}

// changes returns a table's unexpired snapshots in the order in which they became current.
func changes(meta table.Metadata) (all []change) {
	var previous *table.Snapshot
	newest := int64(math.MinInt64)
	for entry := range meta.SnapshotLogs() {
		s := meta.SnapshotByID(entry.SnapshotID)
		if s == nil {
			previous = nil
			continue
		}
		c := change{s, entry.TimestampMs, entry.TimestampMs}
		if s.TimestampMs == entry.TimestampMs { // if the times differ, a rollback made the snapshot current again
			from, ok := number(s, rowsFrom)
			c.last = TimeOf(s).UnixMilli() // backdate changes the snapshot's own time
			c.first = c.last
			// The time of the first change is unknown if snapshots in between have expired.
			if len(all) > 0 && s.ParentSnapshotID != nil && (previous == nil || *s.ParentSnapshotID != previous.SnapshotID) {
				from, ok = newest+1, true
			}
			if ok {
				c.first = min(from, c.last)
			}
		}
		previous, newest = s, max(newest, c.last)
		all = append(all, c)
	}
	return all
}

// SnapshotAt returns the snapshot that contains exactly the rows that readers saw at the given moment. If no snapshot
// does, before and after are the nearest moments that have a snapshot; a zero time means that there is no such moment.
// oldest is the time of the oldest row that is only in the tail, or zero.
func SnapshotAt(meta table.Metadata, moment, oldest time.Time) (s *table.Snapshot, before, after time.Time) {
	all := changes(meta)
	end := int64(math.MaxInt64) // the first millisecond with a later change
	if !oldest.IsZero() {
		end = oldest.UnixMilli()
	}
	starts := make([]int64, len(all)) // the first millisecond at which readers saw all changes up to the snapshot
	for i, c := range all {
		starts[i] = c.last
		if i > 0 {
			starts[i] = max(starts[i], starts[i-1])
		}
	}
	at := moment.UnixMilli()
	for i, c := range slices.Backward(all) {
		switch {
		case starts[i] >= end:
		case at >= end:
			return nil, time.UnixMilli(end - 1).UTC(), after
		case at >= starts[i]:
			return c.snapshot, before, after
		default:
			after = time.UnixMilli(starts[i]).UTC()
		}
		end = min(end, c.first)
	}
	return nil, before, after
}

// TimeOf returns the time of the newest change that a snapshot contains, in UTC.
func TimeOf(s *table.Snapshot) time.Time {
	until, ok := number(s, rowsUntil)
	if !ok {
		until = s.TimestampMs
	}
	return time.UnixMilli(until).UTC()
}

// lastChange returns the time of a table's newest change.
func lastChange(meta table.Metadata) time.Time {
	newest := time.UnixMilli(meta.LastUpdatedMillis())
	if s := meta.CurrentSnapshot(); s != nil {
		newest = latest(newest, TimeOf(s))
	}
	return newest
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func millis(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }

// number returns a snapshot's property as a number. ok is false if the snapshot lacks the property.
func number(s *table.Snapshot, property string) (n int64, ok bool) {
	n, err := strconv.ParseInt(icecat.SummaryOf(s)[property], 10, 64)
	return n, err == nil
}

// afterAllPuts is later than every put.
var afterAllPuts = time.Unix(1<<40, 0)

// maxMoments is the maximum number of snapshots that a read of a past moment adds.
const maxMoments = 50

// foldPart contains the rows of consecutive puts, which get one snapshot. The last part has all remaining rows,
// whatever its field Rows says.
type foldPart struct {
	tail.Span
	files []iceberg.DataFile
}

// divide divides the puts to fold, so that the table can be read as of the given moment. Each put gets a snapshot, so
// that other moments can be read later. If there are more than maxMoments puts, there are only two parts: the puts up
// to the moment and the later ones.
func divide(puts []tail.Span, moment time.Time) (parts []foldPart) {
	for i, p := range puts {
		isMoment := i > 0 && p.First.After(moment) && !puts[i-1].First.After(moment)
		if i == 0 || isMoment || len(puts) <= maxMoments && moment != afterAllPuts {
			parts = append(parts, foldPart{Span: p})
			continue
		}
		last := &parts[len(parts)-1]
		last.Rows, last.Last = last.Rows+p.Rows, p.Last
	}
	return parts
}

// properties returns the properties with the times of the part's snapshot.
func (p *foldPart) properties() iceberg.Properties {
	return iceberg.Properties{rowsFrom: millis(p.First), rowsUntil: millis(p.Last)}
}

// backdate returns the time for the part's snapshot, in milliseconds since 1970: the time of the newest row, but at
// least a second ago if possible, and not before previous. DuckDB needs the earlier time, because it ignores snapshots
// that are newer than its transaction. The transaction begins before DuckDB loads the table, and loading the table
// folds the tail.
func (p *foldPart) backdate(now, previous int64) int64 {
	timestamp := p.Last
	if latest := time.Now().Add(-time.Second); timestamp.After(latest) {
		timestamp = latest
	}
	return min(now, max(timestamp.UnixMilli(), p.First.UnixMilli(), previous))
}

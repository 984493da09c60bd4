package tables

import (
	"context"
	"fmt"
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/icecat"
)

// Versions returns the versions that there are, oldest first.
func (t *Table) Versions(ctx context.Context) ([]VersionInfo, error) {
	return look(ctx, t, "list the versions of", func(v *view) (all []VersionInfo, _ error) {
		for _, s := range v.t.Metadata().Snapshots() {
			i := VersionInfo{Version: Version(s.SequenceNumber), Time: time.UnixMilli(s.TimestampMs).UTC()}
			if s.Summary != nil {
				i.Operation = string(s.Summary.Operation)
			}
			i.Rows, _, _ = icecat.Totals(&s)
			i.Current = i.Version == versionOf(v.t.Metadata())
			all = append(all, i)
		}
		return all, nil
	})
}

// versionOf returns the number of a table's current snapshot.
func versionOf(meta table.Metadata) Version {
	if s := meta.CurrentSnapshot(); s != nil {
		return Version(s.SequenceNumber)
	}
	return 0
}

// snapshotOf returns the snapshot of a version.
func snapshotOf(meta table.Metadata, v Version) (*table.Snapshot, error) {
	for _, s := range meta.Snapshots() {
		if Version(s.SequenceNumber) == v {
			return &s, nil
		}
	}
	return nil, fmt.Errorf("version %d, which may have expired: %w", v, ErrNotFound)
}

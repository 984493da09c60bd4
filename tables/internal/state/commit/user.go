package commit

import (
	"context"
	"maps"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/files/icecat"
)

// UserProperty is the property of a snapshot's summary that names the user whose call to a server made the version.
// Only withUser sets it.
const UserProperty = "partd.user"

type callerKey struct{}

type caller struct {
	name     string
	mayAudit bool
}

// WithCaller returns a context for a call to a server. name is the user's name, or "" if it has none. mayAudit reports
// whether the user may know who made versions.
func WithCaller(ctx context.Context, name string, mayAudit bool) context.Context {
	return context.WithValue(ctx, callerKey{}, caller{name, mayAudit})
}

// MayAudit reports whether the caller may know who made versions. Without a server, everyone may, because they can read
// the files.
func MayAudit(ctx context.Context) bool {
	c, ok := ctx.Value(callerKey{}).(caller)
	return !ok || c.mayAudit
}

// UserOf returns the name of the user who made a version, or "" if it is unknown.
func UserOf(s *table.Snapshot) string { return icecat.SummaryOf(s)[UserProperty] }

// WithoutUsers returns meta without the names of users, for callers who may not know them.
func WithoutUsers(meta table.Metadata) (table.Metadata, error) {
	return nameUsers(meta, func(*table.Snapshot) string { return "" })
}

// withUser returns meta with the caller's name in the attempt's last snapshot, unless FoldTail added that one: other
// users may have put the tail's rows. Readers see no state between the attempt's snapshots. Names that other programs
// wrote are removed.
func (a *Attempt) withUser(ctx context.Context, meta table.Metadata) (table.Metadata, error) {
	c, _ := ctx.Value(callerKey{}).(caller)
	all := meta.Snapshots()
	return nameUsers(meta, func(s *table.Snapshot) string {
		switch {
		case a.initial != nil && a.initial.SnapshotByID(s.SnapshotID) != nil:
			return UserOf(s)
		case a.tailSnapshot != nil && s.SnapshotID == *a.tailSnapshot:
			return ""
		case s.SnapshotID == all[len(all)-1].SnapshotID:
			return c.name
		}
		return ""
	})
}

// nameUsers returns meta with each snapshot's user set to the result of name.
func nameUsers(meta table.Metadata, name func(*table.Snapshot) string) (table.Metadata, error) {
	snapshots, changed := meta.Snapshots(), false
	for i := range snapshots {
		s := &snapshots[i]
		user := name(s)
		if s.Summary == nil || user == UserOf(s) {
			continue
		}
		properties := iceberg.Properties{}
		maps.Copy(properties, s.Summary.Properties)
		properties[UserProperty] = user
		if user == "" {
			delete(properties, UserProperty)
		}
		s.Summary, changed = &table.Summary{Operation: s.Summary.Operation, Properties: properties}, true
	}
	if !changed {
		return meta, nil
	}
	return EditMetadata(meta, map[string]any{"snapshots": snapshots})
}

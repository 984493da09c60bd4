package tables

import (
	"context"
	"time"

	"github.com/go-partd/partd/tables/internal/state/definition"
)

// MaintenanceState describes the maintenance of a table by this Store.
type MaintenanceState struct {
	Files         int       `json:"files"`            // data files
	SmallFiles    int       `json:"small_files"`      // data files that are smaller than three quarters of their target size
	Versions      int       `json:"versions"`         // versions that can be read
	MetadataBytes int64     `json:"metadata_bytes"`   // size of the table's metadata, which every commit writes again
	UnusedBytes   int64     `json:"unused_bytes"`     // size of files that nothing needs, when they were last looked for
	Last          time.Time `json:"last,omitzero"`    // when files were last merged or versions expired
	Next          time.Time `json:"next,omitzero"`    // if the last attempt failed, when the next one is due
	Reason        string    `json:"reason,omitempty"` // why the table needs maintenance and does not get it
}

// Maintenance returns the state of the table's maintenance.
func (t *Table) Maintenance(ctx context.Context) (state MaintenanceState, err error) {
	defer wrapError(&err, "describe the maintenance of", t.Bucket().Name(), t.Name())
	n, err := t.checkUnpinned()
	if err != nil {
		return state, err
	}
	s := t.store()
	cur, err := s.cat.Load(ctx, n.Namespace, n.Name)
	if err != nil {
		return state, notFound(ctx, s.cat, n, err)
	}
	if state.MetadataBytes, err = s.cat.MetadataSize(ctx, n.Namespace, n.Name); err != nil {
		return state, notFound(ctx, s.cat, n, err)
	}
	settings, err := definition.SettingsOf(cur.Metadata())
	if err != nil {
		return state, err
	}
	state.Versions = len(cur.Metadata().Snapshots())
	if state.Files, state.SmallFiles, err = countFiles(ctx, cur); err != nil {
		return state, err
	}
	m := s.keeper
	m.mu.Lock()
	defer m.mu.Unlock()
	state.UnusedBytes = m.unused[s.cat.TableDir(cur.Location())]
	if m.err != nil {
		state.Reason = s.withoutDir(m.err.Error())
	}
	if c := m.tables[n]; c != nil {
		state.Last, state.Reason = c.last, c.reason
		if c.failures > 0 {
			state.Next = c.retry
		}
	}
	if settings.Maintenance == MaintenanceOff {
		state.Reason = "the table's setting maintenance is off"
	}
	return state, nil
}

// MaintenanceSummary describes the maintenance of all tables by this Store.
type MaintenanceSummary struct {
	Last        time.Time // end of the last pass; zero before the first one
	Failing     int       // tables whose last attempt failed
	UnusedBytes int64     // size of files that nothing needs, when they were last looked for
}

// MaintenanceSummary returns the state of the Store's maintenance.
func (s *Store) MaintenanceSummary() (sum MaintenanceSummary) {
	m := s.orUnopened().keeper
	m.mu.Lock()
	defer m.mu.Unlock()
	sum.Last = m.last
	for _, c := range m.tables {
		if c.failures > 0 {
			sum.Failing++
		}
	}
	for _, n := range m.unused {
		sum.UnusedBytes += n
	}
	return sum
}

package tables

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/go-partd/partd/tables/internal/state/definition"
)

// maintenance is the state of a Store's maintenance, in memory.
type maintenance struct {
	holder  string     // identifies the Store to other processes
	opened  time.Time  // when the Store was opened, by the monotonic clock
	running sync.Mutex // held during a pass

	openedWall time.Time // opened by the wall clock

	mu     sync.Mutex // guards the fields below and the careStates
	tables map[tableName]*careState
	loads  map[tableName]time.Time // when engines last loaded tables
	unused map[string]int64        // bytes of unused files, by the path of the table's directory
	last   time.Time               // end of the last pass
	err    error                   // why the last pass ended early

	sweepSoon bool          // whether to look for unused files soon
	sweepTime time.Duration // how long the last search took
}

// careState is the maintenance state of a table. Only the pass uses waiting, expired and expiring.
type careState struct {
	seen     string    // location of the metadata, and the options, when the table last needed nothing
	last     time.Time // when the table was last compacted or its versions expired
	retry    time.Time // not before this time; zero means now
	waiting  time.Time // since when engines have postponed a compaction
	expired  time.Time // when versions were last expired
	expiring time.Time // when it was last checked which versions expire; zero if none ever do
	failures int       // consecutive failures
	reason   string    // why the table needs maintenance and does not get it, or ""
}

// maxLoads is the number of remembered loads above which a new load forgets the old ones.
const maxLoads = 1000

func newMaintenance() *maintenance {
	now := time.Now()
	return &maintenance{
		holder: uuid.NewString(), opened: now, openedWall: now.Round(0), tables: map[tableName]*careState{},
		loads: map[tableName]time.Time{}, unused: map[string]int64{},
	}
}

// forget removes the states of tables that no longer exist.
func (m *maintenance) forget(tables []tableName, o *MaintainOptions) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forgetLoads()
	if len(o.Buckets) > 0 || len(m.tables) <= len(tables) {
		return
	}
	exists := make(map[tableName]bool, len(tables))
	for _, n := range tables {
		exists[n] = true
	}
	for n := range m.tables {
		if !exists[n] {
			delete(m.tables, n)
		}
	}
}

// byClock returns the age by the wall clock that something of a given age has. It is higher if somebody has set the clock
// forward since the Store was opened. An age of 0 or less means any age.
func (m *maintenance) byClock(age time.Duration) time.Duration {
	now := time.Now()
	ahead := now.Round(0).Sub(m.openedWall) - now.Sub(m.opened)
	if age <= 0 || ahead < time.Minute { // the clock may only have been adjusted
		return age
	}
	return age + ahead
}

// isDue reports whether a table can be maintained now. A time that is too far away is ignored: somebody has set the
// clock.
func (m *maintenance) isDue(n tableName) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.tables[n]
	return c == nil || time.Until(c.retry) <= 0 || time.Until(c.retry) > 2*maxPause
}

func (m *maintenance) state(n tableName) *careState {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.tables[n] == nil {
		m.tables[n] = &careState{}
	}
	return m.tables[n]
}

// noteLoad records that an engine loads a table, perhaps to change it.
func (m *maintenance) noteLoad(n tableName) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.loads[n] = time.Now()
	if len(m.loads) > maxLoads { // without passes of maintenance, nothing else forgets them
		m.forgetLoads()
	}
}

// forgetLoads removes the loads of engines that no longer postpone a compaction. m.mu must be held.
func (m *maintenance) forgetLoads() {
	maps.DeleteFunc(m.loads, func(_ tableName, at time.Time) bool { return time.Since(at) > engineTime })
}

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
	m := s.care
	m.mu.Lock()
	defer m.mu.Unlock()
	state.UnusedBytes = m.unused[s.cat.TableDir(cur.Location())]
	if m.err != nil {
		state.Reason = s.WithoutDir(m.err.Error())
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
	m := s.orUnopened().care
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

package tables

import (
	"maps"
	"sync"
	"time"

	"github.com/google/uuid"
)

// keeper folds, compacts and maintains tables, expires versions, and takes snapshots of buckets. Its fields hold the
// maintenance state, in memory.
type keeper struct {
	*core
	holder  string     // identifies the Store to other processes
	opened  time.Time  // when the Store was opened, by the monotonic clock
	running sync.Mutex // held during a pass

	openedWall time.Time // opened, by the wall clock

	mu     sync.Mutex // guards the fields below and the careStates
	tables map[tableName]*careState
	loads  map[tableName]time.Time // when engines last loaded each table
	unused map[string]int64        // total bytes of unused files, by path of the table's directory
	last   time.Time               // end of the last pass
	err    error                   // why the last pass ended early

	sweepSoon bool          // whether to sweep (look for unused files) again soon
	sweepTime time.Duration // how long the last sweep took
}

// careState is the maintenance state of a table. Only the pass uses waiting, expired and expiring.
type careState struct {
	seen     string    // metadata location and options when the table last needed nothing
	last     time.Time // when the table was last compacted, or its versions last expired
	retry    time.Time // the next attempt must not start before this time; zero means now
	waiting  time.Time // when engines began to postpone a compaction
	expired  time.Time // when versions were last expired
	expiring time.Time // last check for versions to expire; zero if none ever expire
	failures int       // consecutive failures
	reason   string    // why the table needs maintenance but does not get it, or ""
}

// maxLoads is the number of remembered loads above which a new load makes the keeper forget old ones.
const maxLoads = 1000

func newKeeper(s *core) *keeper {
	now := time.Now()
	return &keeper{
		core: s, holder: uuid.NewString(), opened: now, openedWall: now.Round(0), tables: map[tableName]*careState{},
		loads: map[tableName]time.Time{}, unused: map[string]int64{},
	}
}

// forget removes the states of tables that no longer exist. It does so only if isWhole is true, because tables then
// lists all tables.
func (k *keeper) forget(tables []tableName, isWhole bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.forgetLoads()
	if !isWhole || len(k.tables) <= len(tables) {
		return
	}
	exists := make(map[tableName]bool, len(tables))
	for _, n := range tables {
		exists[n] = true
	}
	for n := range k.tables {
		if !exists[n] {
			delete(k.tables, n)
		}
	}
}

// byClock converts an age by the monotonic clock to the age by the wall clock. That is higher if somebody has set the
// clock forward since the Store was opened. An age of 0 or less means any age.
func (k *keeper) byClock(age time.Duration) time.Duration {
	now := time.Now()
	ahead := now.Round(0).Sub(k.openedWall) - now.Sub(k.opened)
	if age <= 0 || ahead < time.Minute { // the clock may only have been adjusted
		return age
	}
	return age + ahead
}

// isDue reports whether a table can be maintained now. It ignores a time that is too far in the future, because
// somebody must have set the clock.
func (k *keeper) isDue(n tableName) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := k.tables[n]
	return c == nil || time.Until(c.retry) <= 0 || time.Until(c.retry) > 2*maxPause
}

func (k *keeper) state(n tableName) *careState {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.tables[n] == nil {
		k.tables[n] = &careState{}
	}
	return k.tables[n]
}

// noteLoad records that an engine loads a table, perhaps to change it.
func (k *keeper) noteLoad(n tableName) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.loads[n] = time.Now()
	if len(k.loads) > maxLoads { // without maintenance passes, nothing else removes them
		k.forgetLoads()
	}
}

// forgetLoads removes loads that are too old to postpone a compaction. k.mu must be held.
func (k *keeper) forgetLoads() {
	maps.DeleteFunc(k.loads, func(_ tableName, at time.Time) bool { return time.Since(at) > engineTime })
}

// Times of the maintenance.
const (
	leaseTime   = 15 * time.Second // a killed process blocks passes of others for this long
	sweepEvery  = 6 * time.Hour    // how often to look for unused files, unless versions have expired
	sweepSoon   = 10 * time.Minute // how often to look for them after versions have expired
	unusedTime  = 24 * time.Hour   // how long another program may take to commit a file
	readerTime  = time.Hour        // how long another process may read files whose version has expired
	maxPause    = 6 * time.Hour    // longest pause before another attempt at a table after failures
	tableTime   = 5 * time.Minute  // how long a pass compacts one table, before it goes on to the next
	engineTime  = 30 * time.Second // an engine that has loaded a table gets this long to prepare its commit undisturbed
	engineLimit = 10 * time.Minute // how long engines can postpone a compaction
	expireEvery = time.Hour        // how often a few versions are expired; many are expired at once
	leaseName   = "maintenance"    // in the catalog
	sweepName   = "maintenance swept"
	minFree     = 256 << 20 // space that maintenance leaves free on the disk, in bytes
)

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

	mu          sync.Mutex // guards the fields below and the tableStates
	tables      map[tableName]*tableState
	lastLoads   map[tableName]time.Time // when engines last loaded each table
	unusedBytes map[string]int64        // total bytes of unused files, by path of the table's directory
	passEnd     time.Time               // end of the last pass
	passErr     error                   // error of the last pass

	sweepSoon     bool          // whether to sweep (look for unused files) again soon
	sweepDuration time.Duration // how long the last sweep took
}

// tableState is the maintenance state of a table. The fields waitingSince, lastExpiry and lastExpiryCheck are used only
// by the pass.
type tableState struct {
	idleState       string    // metadata location and options when the table was last found to need no maintenance; passes can skip it until they change
	lastChange      time.Time // when the table was last compacted, or its versions last expired
	nextAttempt     time.Time // earliest time of the next attempt; zero means now
	waitingSince    time.Time // when a compaction began to wait for engines that may be about to commit
	lastExpiry      time.Time // when versions were last expired
	lastExpiryCheck time.Time // time of the last check for versions to expire; zero if versions never expire
	failures        int       // consecutive failures
	reason          string    // why the table needs maintenance but does not get it, or ""
}

// maxLoads is the number of remembered loads above which noteLoad forgets old ones.
const maxLoads = 1000

func newKeeper(s *core) *keeper {
	now := time.Now()
	return &keeper{
		core: s, holder: uuid.NewString(), opened: now, openedWall: now.Round(0), tables: map[tableName]*tableState{},
		lastLoads: map[tableName]time.Time{}, unusedBytes: map[string]int64{},
	}
}

// forget removes old loads. If isComplete is true, tables lists all tables, and forget also removes the states of others.
func (k *keeper) forget(tables []tableName, isComplete bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.forgetLoads()
	if !isComplete || len(k.tables) <= len(tables) {
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

// toWallClockAge converts an age to a difference between wall-clock times, which is larger if somebody has set the clock
// forward since the Store was opened. It does not change an age of 0 or less, which means any age.
func (k *keeper) toWallClockAge(age time.Duration) time.Duration {
	now := time.Now()
	clockShift := now.Round(0).Sub(k.openedWall) - now.Sub(k.opened)
	if age <= 0 || clockShift < time.Minute { // ignore small corrections of the clock
		return age
	}
	return age + clockShift
}

// isDue reports whether a table can be maintained now. It ignores a retry time that is too far in the future, because
// somebody must have set the clock back.
func (k *keeper) isDue(n tableName) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	state := k.tables[n]
	return state == nil || time.Until(state.nextAttempt) <= 0 || time.Until(state.nextAttempt) > 2*maxPause
}

func (k *keeper) state(n tableName) *tableState {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.tables[n] == nil {
		k.tables[n] = &tableState{}
	}
	return k.tables[n]
}

// noteLoad records that an engine has loaded a table, perhaps to change it.
func (k *keeper) noteLoad(n tableName) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lastLoads[n] = time.Now()
	if len(k.lastLoads) > maxLoads { // without maintenance passes, nothing else removes them
		k.forgetLoads()
	}
}

// forgetLoads removes loads that are too old to postpone a compaction. k.mu must be held.
func (k *keeper) forgetLoads() {
	maps.DeleteFunc(k.lastLoads, func(_ tableName, at time.Time) bool { return time.Since(at) > engineTime })
}

// Durations, names and limits of maintenance.
const (
	leaseTime       = 15 * time.Second    // a killed process blocks passes in other processes for this long
	sweepEvery      = 6 * time.Hour       // how often to look for unused files, unless versions have expired
	quickSweepEvery = 10 * time.Minute    // how often to look for unused files after versions have expired
	unusedTime      = 24 * time.Hour      // how long another program may take to commit a file that it has written
	readerTime      = time.Hour           // how long another process may read files whose version has expired
	maxPause        = 6 * time.Hour       // longest pause before another attempt at a table after failures
	tableTime       = 5 * time.Minute     // how long a pass compacts one table, before it goes on to the next
	engineTime      = 30 * time.Second    // how long compaction waits for an engine that has loaded a table, and may be about to commit
	engineLimit     = 10 * time.Minute    // how long engines can postpone a compaction
	expireEvery     = time.Hour           // how often a few versions are expired; many are expired without delay
	leaseName       = "maintenance"       // key of the lease in the catalog
	sweepName       = "maintenance swept" // key of the last sweep's time in the catalog
	minFreeBytes    = 256 << 20           // space that maintenance leaves free on the disk
)

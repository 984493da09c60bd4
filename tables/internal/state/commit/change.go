package commit

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables/internal/files/icecat"
)

// MaxAttempts is the maximum number of attempts at a commit that conflicts with other commits.
const MaxAttempts = 100

// Step is one step in a change to a table. It returns the table's metadata after the step, or nil to delete the table.
// cur is nil if the table does not exist. A Step must not write data files, because it is called again for each attempt
// to commit.
type Step func(ctx context.Context, a *Attempt, cur *table.Table) (table.Metadata, error)

// Mode is a set of flags that describe how a step uses the table and its tail.
type Mode uint8

const (
	Plain     Mode = 0         // other goroutines may append to the tail between the step and the commit
	Exclusive Mode = 1 << iota // appends to the tail wait from the step until the commit
	Replaces                   // the step replaces the rows in the tail
	Folds                      // the step writes the tail's rows to files
	// the step uses neither the current table nor the rows in the tail, so it works even if the table is damaged
	Deletes
	Restores // the step does not use the current table, so it works even if the table is damaged
)

// PreparedStep is a step whose data files have been written.
type PreparedStep struct {
	Mode  Mode
	IO    *icecat.FileIO // wrote the files; nil if there are none
	Apply Step
}

// committer commits changes to a table.
type committer struct {
	current

	// Commits is held during every commit to the table in this process.
	Commits sync.Mutex

	// Changing has one element while an SQL statement in this process is changing rows of the table.
	Changing chan struct{}
}

// LockCommits locks e.Commits, which may take long during a rewrite of rows. If ctx ends first, LockCommits returns an
// error.
func (e *committer) LockCommits(ctx context.Context) error {
	locked := make(chan struct{})
	go func() {
		e.Commits.Lock()
		select {
		case locked <- struct{}{}:
		case <-ctx.Done():
			e.Commits.Unlock()
		}
	}()
	return canceled.Wait(ctx, locked)
}

// lockChanges waits until no SQL statement is changing rows. Then it locks e.Commits.
func (e *committer) lockChanges(ctx context.Context) (unlock func(), err error) {
	if err := canceled.Send(ctx, e.Changing, struct{}{}); err != nil {
		return nil, err
	}
	if err := e.LockCommits(ctx); err != nil {
		<-e.Changing
		return nil, err
	}
	return func() { e.Commits.Unlock(); <-e.Changing }, nil
}

// Change is a sequence of steps that change one table.
type Change struct {
	*committer
	// folder folds the rows in the tail before the steps.
	folder interface {
		fold(ctx context.Context, moment time.Time) (rows int64, t *table.Table, err error)
	}

	Result *table.Table // the committed table; nil if nothing changed or the table was deleted

	// Unfolded skips the fold before the steps. It is for steps that depend on the current snapshot, because a fold
	// would add another one.
	Unfolded bool

	base  *table.Table // the state to which the first attempt applies the steps; if nil, the attempt loads it
	steps []PreparedStep
	modes Mode // union of the steps' modes
}

// Add adds a step.
func (c *Change) Add(mode Mode, fileIO *icecat.FileIO, apply Step) {
	c.steps, c.modes = append(c.steps, PreparedStep{mode, fileIO, apply}), c.modes|mode
}

func (c *Change) Len() int { return len(c.steps) }

// Writes reports whether the change may add data files.
func (c *Change) Writes() bool {
	return c.modes&Folds != 0 || slices.ContainsFunc(c.steps, func(p PreparedStep) bool { return p.IO != nil })
}

// RemoveFiles removes the steps' files if err means that they were not committed.
func (c *Change) RemoveFiles(err error) {
	for _, p := range c.steps {
		if p.IO != nil {
			p.IO.RemoveFailed(err)
		}
	}
}

// Attempt is one attempt to commit a change.
type Attempt struct {
	*Change
	IO      *icecat.FileIO // writes manifests and metadata
	Info    icecat.Info    // information for listings
	IDs     []icecat.PutID // IDs of the puts that the change contains
	Now     time.Time
	Damaged bool // the table exists but is damaged

	// Restored is the metadata location of the earlier state whose rows replace the current ones; "" if none
	Restored string

	initial     *table.Table // state before the steps; nil if the table did not exist
	tailDone    bool         // whether a step has moved the tail's rows to files, replaced them or deleted the table
	hasTailRows bool         // whether FoldTail found rows in the tail
	// ID of the snapshot to which FoldTail moved the tail's rows; nil if there is none
	tailSnapshot *int64
	// whether the metadata is stored in the catalog's database; its file then need not be synced
	inline   bool
	versions []int64        // the versions that puts returned for rows in the tail, in order
	epoch    *int64         // last epoch (numbered part of the tail) whose rows the change removes; nil if none
	record   *icecat.Change // nil if there is nothing to commit
}

// TailRows returns the number of rows that are only in the tail. The change must be Exclusive.
func (a *Attempt) TailRows() (rows int64) {
	if a.log != nil {
		rows, _, _, _ = a.log.Size(a.state.folded)
	}
	return rows
}

// Table returns the attempt's table with the given metadata.
func (a *Attempt) Table(meta table.Metadata) *table.Table { return a.Staged(meta, a.IO) }

// AddPutID adds a put's ID to the change. If a put with this ID was already applied, it returns ErrNothing. cur is nil
// if the table does not exist.
func (a *Attempt) AddPutID(ctx context.Context, cur *table.Table, id string) error {
	err := a.checkNew(ctx, a.IDs, id, a.log, cur)
	if err == nil {
		a.IDs = append(a.IDs, icecat.PutID{ID: id, At: a.Now})
	}
	return err
}

// AddStatement is AddPutID for an SQL statement that changes n rows. It also records n and the statement's checksum for
// Entry.Statement.
func (a *Attempt) AddStatement(ctx context.Context, cur *table.Table, id, checksum string, n int64) error {
	err := a.AddPutID(ctx, cur, id)
	if err == nil {
		a.IDs = append(a.IDs, icecat.PutID{ID: id + statementMark + checksum + " " + strconv.FormatInt(n, 10), At: a.Now})
	}
	return err
}

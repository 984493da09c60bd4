package commit

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/files/icecat"
)

// MaxAttempts is how often a commit is tried if it conflicts with other commits.
const MaxAttempts = 100

// Step is one step of a change to a table. It returns the table's metadata after the step, or nil to delete the table.
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
	// the step uses neither the current table nor the tail's rows, so it works even if the table is damaged
	Deletes
	Restores // the step does not use the current table, so it works even if the table is damaged
)

// PreparedStep is a step whose data files are written.
type PreparedStep struct {
	Mode  Mode
	IO    *icecat.FileIO // wrote the files; nil if there are none
	Apply Step
}

// Change is a sequence of steps that change one table.
type Change struct {
	*Entry
	Result *table.Table // the committed table; nil if nothing changed or the table was deleted

	// Unfolded skips the fold before the steps. It is for steps that depend on the current snapshot, because a fold
	// would add a snapshot.
	Unfolded bool

	base  *table.Table // the state for which the first attempt applies the steps; nil means that the attempt loads it
	steps []PreparedStep
	modes Mode // union of the steps' modes
}

// Add adds a step.
func (c *Change) Add(mode Mode, fileIO *icecat.FileIO, apply Step) {
	c.steps, c.modes = append(c.steps, PreparedStep{mode, fileIO, apply}), c.modes|mode
}

// Len returns the number of steps.
func (c *Change) Len() int { return len(c.steps) }

// Writes reports whether the change may add data files.
func (c *Change) Writes() bool {
	return c.modes&Folds != 0 || slices.ContainsFunc(c.steps, func(p PreparedStep) bool { return p.IO != nil })
}

// RemoveFiles removes the steps' files if err means that the files were not committed.
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

	// Restored is the location of the earlier metadata of the table whose rows replace the current ones; "" if none
	Restored string

	initial     *table.Table // state before the steps; nil if the table did not exist
	tailDone    bool         // whether a step has called FoldTail
	hasTailRows bool         // whether FoldTail found rows in the tail
	// whether the metadata is stored in the catalog's database, so that its file need not be synced
	inline   bool
	versions []int64        // the versions that puts of the rows in the tail returned, in order
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

// AddPutID adds a put's ID to the change. It returns ErrNothing if a put with this ID was already applied. cur can be
// nil.
func (a *Attempt) AddPutID(ctx context.Context, cur *table.Table, id string) error {
	if slices.ContainsFunc(a.IDs, func(prior icecat.PutID) bool { return prior.ID == id }) {
		return ErrNothing
	}
	if cur != nil {
		if applied, err := a.applied(ctx, cur.Metadata().TableUUID().String(), id); applied || err != nil {
			return cmp.Or(err, ErrNothing)
		}
	}
	a.IDs = append(a.IDs, icecat.PutID{ID: id, At: a.Now})
	return nil
}

// AddStatement is like AddPutID, but for an SQL statement that changes n rows. It also records n and the statement's
// checksum for Entry.Statement.
func (a *Attempt) AddStatement(ctx context.Context, cur *table.Table, id, checksum string, n int64) error {
	if err := a.AddPutID(ctx, cur, id); err != nil {
		return err
	}
	a.IDs = append(a.IDs, icecat.PutID{ID: id + statementMark + checksum + " " + strconv.FormatInt(n, 10), At: a.Now})
	return nil
}

// statementMark separates a statement's ID from its checksum and number of rows, in the additional ID that records
// them.
const statementMark = "\nstatement="

// Statement returns the checksum of the statement with an ID, and the number of rows that it changed. The checksum is
// "" if no statement of the table has this ID.
func (e *Entry) Statement(ctx context.Context, t *table.Table, id string) (checksum string, n int64, err error) {
	ids, err := e.tables.Catalog.PutsWithPrefix(ctx, t.Metadata().TableUUID().String(), id+statementMark)
	if err != nil || len(ids) == 0 {
		return "", 0, err
	}
	checksum, rows, _ := strings.Cut(strings.TrimPrefix(ids[0], id+statementMark), " ")
	n, err = strconv.ParseInt(rows, 10, 64)
	return checksum, n, err
}

package commit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/state/definition"
	"github.com/go-partd/partd/tables/internal/state/series"
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

// Commit commits all changes, each to a different table, or none. The hooks run in the catalog's transaction.
func (s *Tables) Commit(ctx context.Context, hooks []icecat.TxHook, changes ...*Change) error {
	if s.OnPrepared != nil {
		s.OnPrepared()
	}
	slices.SortFunc(changes, func(a, b *Change) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	for _, c := range changes {
		c.Commits.Lock()
		defer c.Commits.Unlock()
	}
	discarded := map[*Change]error{}
	for _, c := range changes {
		// Fold first: rows already in the tail were put before this change, so they must be committed before the
		// change.
		if c.steps[0].Mode&Deletes == 0 && c.modes&Folds == 0 && !c.Unfolded {
			_, _, err := c.fold(ctx, afterAllPuts)
			if c.modes&Replaces != 0 && (errors.As(err, new(*schema.Error)) || errors.Is(err, icecat.ErrContent)) {
				// Rows in the tail cannot be folded, but the change replaces them anyway.
				discarded[c], err = err, nil
			}
			if err != nil {
				return err
			}
		}
	}
	err := s.commitWithRetry(ctx, hooks, changes...)
	if err != nil {
		return err
	}
	for c, err := range discarded {
		s.Logger.Warn("discarded unreadable rows in the tail, because a change replaced them", "table", c.Name, "err", err)
	}
	return nil
}

// Commit commits steps that change the entry's table, and returns the new table, or nil if nothing changed. The caller
// must hold e.Commits. If the steps need the tail's rows, the caller must first have folded these rows into
// the table.
func (e *Entry) Commit(ctx context.Context, steps ...PreparedStep) (*table.Table, error) {
	c := &Change{Entry: e}
	for _, p := range steps {
		c.Add(p.Mode, p.IO, p.Apply)
	}
	if e.tables.OnPrepared != nil {
		e.tables.OnPrepared()
	}
	err := e.tables.commitWithRetry(ctx, nil, c)
	return c.Result, err
}

// commitWithRetry commits changes, and retries after conflicts. The Commits lock of each change's entry must be held.
func (s *Tables) commitWithRetry(ctx context.Context, hooks []icecat.TxHook, changes ...*Change) error {
	if s.ReadOnly {
		return ErrReadOnly
	}
	for attempt := 1; ; attempt++ {
		err := s.tryCommit(ctx, hooks, changes)
		if !errors.Is(err, table.ErrCommitFailed) {
			return err
		}
		if attempt == MaxAttempts {
			return fmt.Errorf("%w: %w", ErrConflict, err)
		}
		pause := time.Duration(rand.Int64N(int64(min(attempt, 50)) * int64(2*time.Millisecond)))
		if err := canceled.Wait(ctx, time.After(pause)); err != nil {
			return err
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

func (s *Tables) tryCommit(ctx context.Context, hooks []icecat.TxHook, changes []*Change) (err error) {
	var attempts []*Attempt
	defer func() {
		for _, a := range attempts {
			a.IO.RemoveFailed(err)
		}
	}()
	var records []*icecat.Change
	for _, c := range changes {
		if c.modes != Plain {
			c.mu.Lock()
			defer c.mu.Unlock()
		}
		a := &Attempt{Change: c, IO: s.Catalog.NewIO(), Now: time.Now()}
		attempts = append(attempts, a)
		if err := a.prepare(ctx); err != nil {
			return err
		}
		if a.record != nil {
			records = append(records, a.record)
		}
	}
	for _, r := range records {
		if err := definition.CheckFoldable(r.Base, r.New); err != nil {
			return err
		}
	}
	if len(records)+len(hooks) > 0 {
		if err := s.Catalog.Commit(ctx, hooks, records...); err != nil {
			return err
		}
	}
	for _, a := range attempts {
		if err := a.finish(ctx); err != nil {
			// The commit succeeded, and the tail is cleaned up later: at the next access to the table or the next Open.
			s.Logger.Warn("cannot clean up the tail after a commit", "table", a.Name, "err", err)
		}
	}
	return nil
}

// prepare applies the steps to the table's current state. If all steps that replace or fold the tail's rows do nothing,
// these rows stay in the tail.
func (a *Attempt) prepare(ctx context.Context) error {
	usesTail := func(p PreparedStep) bool { return p.Mode&(Replaces|Folds) != 0 }
	applied, err := a.apply(ctx, a.steps, a.modes&(Replaces|Folds) != 0)
	if err == nil && a.epoch != nil && !slices.ContainsFunc(applied, usesTail) {
		a.IO.RemoveWritten()
		*a = Attempt{Change: a.Change, IO: a.IO, Now: a.Now}
		if len(applied) > 0 {
			_, err = a.apply(ctx, applied, false)
		}
	}
	return err
}

// apply applies steps, and returns the steps that made a change. If removesTail is true, the change removes the tail's
// rows.
func (a *Attempt) apply(ctx context.Context, steps []PreparedStep, removesTail bool) (applied []PreparedStep, err error) {
	e := a.Entry
	if a.modes&Folds != 0 {
		if _, err := e.load(ctx); err != nil && !errors.Is(err, icecat.ErrNotFound) {
			return nil, err
		}
	}
	all := steps
	if removesTail && e.log != nil {
		last, ok, err := e.log.EndEpoch(ctx)
		if err != nil {
			return nil, err
		}
		if ok {
			a.epoch = &last
			all = append([]PreparedStep{{Apply: e.markReplaced(last)}}, steps...)
		}
	}
	record := &icecat.Change{Namespace: e.Namespace, Name: e.Name, IOs: []*icecat.FileIO{a.IO}}
	cur, err := a.loadBase(ctx, record, all[0].Mode&(Deletes|Restores) != 0)
	if err != nil {
		return nil, err
	}
	a.initial = cur
	if cur, err = a.reserve(cur); err != nil {
		return nil, err
	}
	for i, p := range all {
		earlierIDs := len(a.IDs)
		meta, err := p.Apply(ctx, a, cur)
		if errors.Is(err, ErrNothing) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if cur != nil && meta != nil {
			if meta, err = definition.WithHistory(cur.Metadata(), meta); err != nil {
				return nil, err
			}
		}
		if cur != nil && (meta == nil || meta.TableUUID() != cur.Metadata().TableUUID()) {
			a.IDs = a.IDs[earlierIDs:] // the earlier puts went to a table that no longer exists
		}
		if i >= len(all)-len(steps) {
			applied = append(applied, p)
		}
		cur = nil
		if meta != nil {
			cur = a.Table(meta)
		}
		if p.IO != nil {
			record.IOs = append([]*icecat.FileIO{p.IO}, record.IOs...)
		}
	}
	// no step did anything, or the table did not exist and still does not exist
	if len(applied) == 0 || cur == nil && record.Base == nil && !a.Damaged {
		return applied, nil
	}
	if cur != nil {
		meta, err := a.addVersion(cur.Metadata())
		if err == nil {
			meta, err = a.describe(meta)
		}
		if err != nil {
			return nil, err
		}
		if record.New, err = a.Info.Mirror(meta); err != nil {
			return nil, err
		}
	}
	record.Info, record.PutIDs, record.Inline, record.Restored = &a.Info, a.IDs, a.inline, a.Restored
	a.record = record
	return applied, nil
}

// loadBase loads the table to change into record and a. It returns nil if the table does not exist, or if the table is
// damaged and mayBeDamaged is true.
func (a *Attempt) loadBase(ctx context.Context, record *icecat.Change, mayBeDamaged bool) (_ *table.Table, err error) {
	cat := a.tables.Catalog
	record.Base, a.base = a.base, nil // after a conflict, load the table again
	if record.Base == nil {
		record.Base, err = a.tables.load(ctx, record.Namespace, record.Name)
	}
	switch {
	case errors.Is(err, icecat.ErrNotFound):
		record.Base = nil
		return nil, nil
	case errors.Is(err, icecat.ErrContent) && mayBeDamaged:
		location, err := cat.Location(ctx, record.Namespace, record.Name)
		record.DamagedLocation, a.Damaged = &location, true
		return nil, asConflict(err)
	case err != nil:
		return nil, err
	}
	l, err := cat.Get(ctx, record.Namespace, record.Name)
	if err = cmp.Or(err, l.Damaged); err != nil {
		return nil, asConflict(err)
	}
	a.Info = l.Info
	return cat.Staged(record.Namespace, record.Name, record.Base.Metadata(), record.Base.MetadataLocation(), a.IO), nil
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

// Series returns t as a Series, or nil if the table's rows have no order.
func (e *Entry) Series(t *table.Table) (*series.Series, error) {
	return series.ForTable(t, e.tables.Memory)
}

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

// asConflict converts ErrNotFound to icecat.ErrConflict, so that the commit is retried: the table existed a moment ago.
func asConflict(err error) error {
	if errors.Is(err, icecat.ErrNotFound) {
		return icecat.ErrConflict
	}
	return err
}

// finish stores the commit's result in the change. If the change is not Plain, finish also updates the entry, and e.mu
// must be held.
func (a *Attempt) finish(ctx context.Context) error {
	record := a.record
	if record == nil || record.New == nil {
		a.RemoveFiles(ErrNothing) // the commit does not use the steps' files
	}
	if record == nil {
		return nil
	}
	a.Result = record.Result
	if a.modes == Plain {
		return nil
	}
	if record.New == nil {
		return a.deleteLog(ctx)
	}
	var err error
	// the table was deleted and created again
	if record.Base != nil && record.Base.Metadata().TableUUID() != record.New.TableUUID() {
		err = a.deleteLog(ctx)
	} else if a.epoch != nil {
		err = a.log.Forget(ctx, *a.epoch)
	}
	return errors.Join(err, a.setState(ctx, record.Result))
}

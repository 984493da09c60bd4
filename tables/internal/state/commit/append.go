package commit

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/rows/take"
	"github.com/go-partd/partd/tables/internal/state/definition"
	"github.com/go-partd/partd/tables/internal/state/rules"
	"github.com/go-partd/partd/tables/internal/state/series"
	"github.com/go-partd/partd/tables/internal/state/tail"
)

// maxChanges is how many times the table may change while an append prepares its rows. After that, the next attempt
// holds the table's lock throughout.
const maxChanges = 2

// Append adds the rows of the put with the given ID to the tail, the log of small appends. It does nothing if the table
// does not exist or the put was already applied. checkFit can reject the conversion of the rows to the table's columns.
// version is the version whose snapshot will contain the rows; see newVersion.
func (e *appender) Append(ctx context.Context, src *datafile.Source, id string, checkFit func(*schema.Caster) error) (version int64, exists bool, err error) {
	for attempts := 0; ; attempts++ {
		a := &appendAttempt{id: id, holdsLock: attempts >= maxChanges}
		// A group shares one sync, so groups are not worth the wait without syncs. Appends with IDs are checked one by
		// one.
		a.inGroup = e.tables.Tail.Syncs() && id == "" && !a.holdsLock
		if err := e.tryAppend(ctx, src, checkFit, a); err != nil {
			return 0, a.exists, err
		}
		if a.full { // background folds cannot keep up with the appends, so fold here
			_, err = e.Fold(ctx)
			if err != nil {
				return 0, false, err
			}
		} else if !a.tableChanged {
			return a.version, a.exists, nil
		}
	}
}

func (e *appender) tryAppend(ctx context.Context, src *datafile.Source, checkFit func(*schema.Caster) error, a *appendAttempt) (err error) {
	if !a.inGroup {
		e.tables.Appending.RLock()
		defer e.tables.Appending.RUnlock()
		defer func() { // runs after e.mu is unlocked, so that other appends can proceed
			if err == nil {
				err = a.receipt.Sync(ctx)
			}
		}()
	}
	if a.holdsLock {
		e.mu.Lock()
		defer e.mu.Unlock()
	}
	if proceed, err := e.prepareAppend(ctx, a); !proceed || err != nil {
		return err
	}
	hasRows := false
	a.frame, hasRows, err = e.encodeRows(ctx, src, checkFit, a)
	switch {
	case a.inGroup && hasRows && err == nil:
		return e.appendInGroup(ctx, a)
	case a.inGroup: // no rows or an error, perhaps because the state was outdated
		if failed := e.compare(ctx, a); failed != nil || a.tableChanged {
			return failed
		}
		return err
	case !hasRows || err != nil:
		return err
	}
	return e.append(ctx, a)
}

func (e *appender) encodeRows(ctx context.Context, src *datafile.Source, checkFit func(*schema.Caster) error, a *appendAttempt) (frame tail.Frame, hasRows bool, err error) {
	ruleList, err := joinRules(a.def, a.rules)
	if err != nil {
		return frame, false, err
	}
	rows, err := e.cast(ctx, src, a.def, ruleList, checkFit)
	if err != nil || len(rows) == 0 {
		return frame, false, err
	}
	defer take.Release(rows)
	encoder, _ := e.encoders.Get().(*tail.Encoder)
	if encoder == nil {
		encoder = &tail.Encoder{}
	}
	frame, err = encoder.Encode(a.def.Stored, rows, a.id)
	if err == nil {
		e.encoders.Put(encoder)
	}
	return frame, true, err
}

// prepareAppend copies the table's current state to a. It reports whether the append can proceed: the table must exist,
// its tail must not be full, and the put must not have been applied before. It locks e.mu unless a.holdsLock. If
// a.inGroup, the state may be outdated.
func (e *appender) prepareAppend(ctx context.Context, a *appendAttempt) (canProceed bool, err error) {
	if !a.holdsLock {
		e.mu.Lock()
		defer e.mu.Unlock()
	}
	if !a.inGroup || e.state.def == nil {
		if err := e.refresh(ctx); err != nil || e.state.def == nil {
			return false, err
		}
	}
	a.exists, a.version = true, e.state.version
	a.location, a.def, a.rules = e.state.location, e.state.def, e.bucketRules
	if e.log != nil {
		_, size, _, _ := e.log.Size(e.state.folded)
		a.full = size >= 4*e.tables.FoldBytes
	}
	if a.full || a.id == "" {
		return !a.full, nil
	}
	applied, err := e.applied(ctx, e.log, e.state.uuid, a.id)
	if applied && e.log != nil {
		a.version = max(a.version, highest(e.log.Versions(e.state.folded, lastEpoch)))
	}
	return !applied, err
}

// append adds a's frame to the tail unless the table has changed in the meantime. It locks e.mu unless a.holdsLock.
func (e *appender) append(ctx context.Context, a *appendAttempt) error {
	if !a.holdsLock {
		e.mu.Lock()
		defer e.mu.Unlock()
	}
	if e.log != nil && a.id != "" && !e.hasChanged(a) { // a concurrent request may have applied the same put
		if applied, err := e.log.Applied(ctx, a.id); applied || err != nil {
			return err
		}
	}
	e.appendAll(ctx, []*appendAttempt{a})
	return a.err
}

// compare sets a.tableChanged if the table has changed since the rows of a were prepared.
func (e *appender) compare(ctx context.Context, a *appendAttempt) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	err := e.refresh(ctx)
	a.tableChanged = err == nil && e.hasChanged(a)
	return err
}

// cast checks the rows of src and returns them in the column types of the table's files. It returns ErrNeedsCommit if
// the put changes columns, or if a rule compares the rows with the table's existing rows. A nil checkFit means that the
// table has no rows yet. The caller must release the result.
func (e *appender) cast(ctx context.Context, src *datafile.Source, d *definition.Definition, ruleList []rules.Rule, checkFit func(*schema.Caster) error) (rows []arrow.RecordBatch, err error) {
	if d.Order != nil && d.Order.Rule == definition.RefuseDuplicate {
		return nil, ErrNeedsCommit
	}
	c, changes, err := d.Caster(src.Schema)
	if err == nil && len(changes) > 0 {
		err = ErrNeedsCommit
	}
	if err == nil && checkFit != nil {
		err = checkFit(c)
	}
	if err != nil {
		return nil, err
	}
	check, err := rules.NewCheck(ctx, ruleList, src.Schema, d.Stored, d.Logical, rules.Options{Memory: e.tables.Memory / 8})
	if err != nil {
		return nil, err
	}
	defer check.Close()
	if checkFit != nil && check.WholeTable() {
		return nil, ErrNeedsCommit
	}
	rows = make([]arrow.RecordBatch, 0, len(src.Batches))
	for i := 0; i < len(src.Batches) && err == nil; i++ {
		var converted arrow.RecordBatch
		converted, err = c.Cast(src.Batches[i])
		if err == nil {
			rows = append(rows, converted)
			err = check.Add(converted)
		}
	}
	if err == nil {
		err = check.Finish(ctx)
	}
	if err == nil {
		err = series.Check(d.Order, rows...)
	}
	if err != nil {
		take.Release(rows)
		return nil, err
	}
	return rows, nil
}

// Create creates a table and puts its first rows in the tail, as version 1. If the table already exists, Create
// returns ErrStale.
func (e *appender) Create(ctx context.Context, src *datafile.Source, meta table.Metadata, id string, metadata map[string]any) error {
	e.tables.Appending.RLock()
	defer e.tables.Appending.RUnlock()
	e.Commits.Lock()
	defer e.Commits.Unlock()
	if t, err := e.Current(ctx); t != nil || err != nil {
		return cmp.Or(err, ErrStale)
	}
	d, err := definition.FromMetadata(meta)
	if err != nil {
		return err
	}
	ruleList, err := e.Rules(ctx, d)
	if err != nil {
		return err
	}
	rows, err := e.cast(ctx, src, d, ruleList, nil)
	if err != nil {
		return err
	}
	defer take.Release(rows)
	log := e.tables.Tail.Log(meta.TableUUID().String(), -1)
	if len(rows) > 0 {
		var frame tail.Frame
		frame, err = new(tail.Encoder).Encode(d.Stored, rows, id)
		if err == nil {
			frame.Version = 1
			_, err = log.Append(ctx, []tail.Frame{frame}, time.Now())
		}
		if err == nil {
			// even without Options.Sync, the rows must be durable before the table exists
			err = e.tables.Tail.Flush(ctx)
		}
	}
	if err == nil {
		_, err = e.Commit(ctx, PreparedStep{Exclusive, nil, func(_ context.Context, a *Attempt, cur *table.Table) (table.Metadata, error) {
			if cur != nil {
				return nil, ErrStale
			}
			a.Info.Updated, a.Info.Metadata, a.inline = a.Now, metadata, true
			return meta, nil
		}})
	}
	if errors.Is(err, partd.ErrUnknownOutcome) { // if the table was created, the next refresh finds the table's log
		log.Release()
		return err
	}
	if err != nil {
		err = errors.Join(err, e.tables.Tail.Discard(context.WithoutCancel(ctx), log))
	}
	return err
}

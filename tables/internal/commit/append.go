package commit

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables/internal/datafile"
	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/rules"
	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/series"
	"github.com/go-partd/partd/tables/internal/tail"
	"github.com/go-partd/partd/tables/internal/take"
)

// mostChanges is how often a table may change while an append makes its rows. The next attempt
// holds the table's lock, so that it is the last one, however many others change the table.
const mostChanges = 2

// Append adds rows to the tail, unless fits has an error for how they are made to fit. It
// reports whether the table exists: if not, nothing was done.
func (e *Entry) Append(ctx context.Context, src *datafile.Source, id string, fits func(*schema.Caster) error) (version int64, exists bool, err error) {
	for changes := 0; ; changes++ {
		e.of.Appending.RLock()
		a := appending{id: id, locks: changes >= mostChanges}
		err := e.tryAppend(ctx, src, fits, &a)
		if err == nil {
			err = a.in.Sync(ctx) // others go on meanwhile
		}
		e.of.Appending.RUnlock()
		if err != nil {
			return 0, a.exists, err
		}
		if a.full { // folds do not keep up with appends: who appends helps
			if _, err = e.Fold(ctx); err != nil {
				return 0, false, err
			}
		} else if !a.again {
			return a.version, a.exists, nil
		}
	}
}

// appending is an attempt at an append.
type appending struct {
	id    string
	locks bool // the table's lock is held throughout

	// The table as it was looked at, for which the rows are made without a lock.
	location string
	def      *definition.Definition
	rules    string // those of the bucket

	exists, full bool
	again        bool // the table changed meanwhile
	version      int64
	in           tail.Appended
}

func (e *Entry) tryAppend(ctx context.Context, src *datafile.Source, fits func(*schema.Caster) error, a *appending) error {
	e.mu.Lock()
	held := true
	defer func() {
		if held {
			e.mu.Unlock()
		}
	}()
	if wanted, err := e.lookToAppend(ctx, a); !wanted || err != nil {
		return err
	}
	if !a.locks {
		e.mu.Unlock()
		held = false
	}
	all, err := joined(a.def, a.rules)
	if err != nil {
		return err
	}
	rows, err := e.cast(ctx, src, a.def, all, fits)
	if err != nil || len(rows) == 0 {
		return err
	}
	defer take.Release(rows)
	encoder, _ := e.encoders.Get().(*tail.Encoder)
	if encoder == nil {
		encoder = &tail.Encoder{}
	}
	frame, err := encoder.Encode(a.def.Stored, rows, a.id)
	if err != nil {
		return err
	}
	e.encoders.Put(encoder)
	if !held {
		e.mu.Lock()
		held = true
	}
	return e.append(ctx, frame, a)
}

// lookToAppend brings the table up to now, and reports whether there is one that wants rows. It
// wants mu.
func (e *Entry) lookToAppend(ctx context.Context, a *appending) (wanted bool, err error) {
	if err := e.refresh(ctx); err != nil || e.state.def == nil {
		return false, err
	}
	a.exists, a.version = true, e.state.version
	a.location, a.def, a.rules = e.state.location, e.state.def, e.bucketRules
	if e.log != nil {
		_, size, _, _ := e.log.Size(e.state.folded)
		a.full = size >= 4*e.of.FoldBytes
	}
	if a.full || a.id == "" {
		return !a.full, nil
	}
	applied, err := e.applied(ctx, e.state.uuid, a.id)
	return !applied, err
}

// append adds a frame to the tail, unless the table is another one than was looked at. It wants mu.
func (e *Entry) append(ctx context.Context, frame tail.Frame, a *appending) error {
	if a.again = e.state.location != a.location || e.bucketRules != a.rules; a.again {
		return nil
	}
	if e.log == nil {
		e.log = e.of.Tail.Log(e.state.uuid, e.state.folded)
	} else if a.id != "" { // the same put may have come meanwhile
		if applied, err := e.log.Applied(ctx, a.id); applied || err != nil {
			return err
		}
	}
	var err error
	if a.in, err = e.log.Append(ctx, frame, time.Now()); err != nil {
		return err
	}
	if _, size, _, _ := e.log.Size(e.state.folded); size >= e.of.FoldBytes {
		e.queue()
	}
	return nil
}

// cast returns the rows read so far in the types that are stored, once they were checked:
// ErrNeedsCommit where it takes others of the table, which has none if fits is nil. The caller
// releases them.
func (e *Entry) cast(ctx context.Context, src *datafile.Source, d *definition.Definition, all []rules.Rule, fits func(*schema.Caster) error) (rows []arrow.RecordBatch, err error) {
	if d.Order != nil && d.Order.Rule == definition.RefuseDuplicate {
		return nil, ErrNeedsCommit
	}
	c, changes, err := d.Caster(src.Schema)
	if err == nil && len(changes) > 0 {
		err = ErrNeedsCommit
	}
	if err == nil && fits != nil {
		err = fits(c)
	}
	if err != nil {
		return nil, err
	}
	ck, err := rules.NewCheck(ctx, all, src.Schema, d.Stored, d.Logical, rules.Options{Memory: e.of.Memory / 8})
	if err != nil {
		return nil, err
	}
	defer ck.Close()
	if fits != nil && ck.WholeTable() {
		return nil, ErrNeedsCommit
	}
	rows = make([]arrow.RecordBatch, 0, len(src.Batches))
	for i := 0; i < len(src.Batches) && err == nil; i++ {
		var fit arrow.RecordBatch
		if fit, err = c.Cast(src.Batches[i]); err == nil {
			rows = append(rows, fit)
			err = ck.Add(fit)
		}
	}
	if err == nil {
		err = ck.End(ctx)
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

// Create makes a table whose first rows are in the tail: nobody sees them there before the
// catalog has the table, and Iceberg's files are left to the first fold. It returns ErrStale
// where the table is there.
func (e *Entry) Create(ctx context.Context, src *datafile.Source, made table.Metadata, id string, metadata map[string]any) error {
	e.of.Appending.RLock()
	defer e.of.Appending.RUnlock()
	e.Commits.Lock()
	defer e.Commits.Unlock()
	if t, err := e.Current(ctx); t != nil || err != nil {
		return cmp.Or(err, ErrStale)
	}
	d, err := definition.Of(made)
	if err != nil {
		return err
	}
	all, err := e.Rules(ctx, d)
	if err != nil {
		return err
	}
	rows, err := e.cast(ctx, src, d, all, nil)
	if err != nil {
		return err
	}
	defer take.Release(rows)
	log := e.of.Tail.Log(made.TableUUID().String(), -1)
	if len(rows) > 0 {
		var frame tail.Frame
		if frame, err = new(tail.Encoder).Encode(d.Stored, rows, id); err == nil {
			_, err = log.Append(ctx, frame, time.Now())
		}
		if err == nil {
			err = e.of.Tail.Flush(ctx) // no table without its rows, whatever Options.Sync says
		}
	}
	if err == nil {
		_, err = e.Commit(ctx, Prepared{Exclusive, nil, func(_ context.Context, a *Attempt, cur *table.Table) (table.Metadata, error) {
			if cur != nil {
				return nil, ErrStale
			}
			a.Info.Updated, a.Info.Metadata, a.inline = a.Now, metadata, true
			return made, nil
		}})
	}
	if errors.Is(err, partd.ErrUnknownOutcome) { // if there is the table, its log is found again
		log.Release()
		return err
	}
	if err != nil {
		err = errors.Join(err, e.of.Tail.Discard(context.WithoutCancel(ctx), log))
	}
	return err
}

// Applied reports whether a put of an id was applied to a table.
func (e *Entry) Applied(ctx context.Context, t *table.Table, id string) (bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.applied(ctx, t.Metadata().TableUUID().String(), id)
}

// applied is Applied for a UUID. It wants mu where the entry has a log.
func (e *Entry) applied(ctx context.Context, uuid, id string) (bool, error) {
	if e.log != nil && e.log.UUID() == uuid {
		if ok, err := e.log.Applied(ctx, id); ok || err != nil {
			return ok, err
		}
	}
	found, err := e.of.Catalog.PutsApplied(ctx, uuid, id)
	return len(found) > 0, err
}

package tables

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/datafile"
	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/icecat"
	"github.com/go-partd/partd/tables/internal/rules"
	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/series"
)

// Put writes the rows of r to a table, and returns its newest version then.
// Rows that went to the tail are in a later one, once they are folded. Put reads
// r to its end and does not release it.
//
// An append needs columns that the table has, by their names, in types that fit;
// columns that are missing are null. A table that the put makes gets the schema
// of r, and so does one that it replaces.
func (b *Bucket) Put(ctx context.Context, name string, r array.RecordReader, m PutMode, o *PutOptions) (_ Version, err error) {
	defer failed(&err, "put", b.name, name)
	if b.s.opts.ReadOnly {
		return 0, ErrReadOnly
	}
	opts, err := o.check(m)
	if err != nil {
		return 0, err
	}
	e, done, err := b.use(name)
	if err != nil {
		return 0, err
	}
	defer done()
	src, err := datafile.Gather(r, b.s.opts.FoldBytes)
	if err != nil {
		return 0, err
	}
	defer src.Release()
	for range mostAttempts {
		if m == Append && src.Whole() && b.s.tail != nil {
			v, exists, err := e.append(ctx, src, opts.ID)
			if err == nil && !exists {
				if opts.MustExist {
					return 0, ErrNotFound
				}
				if err = e.createInTail(ctx, src, opts); errors.Is(err, errStale) {
					continue // others made the table
				}
			}
			if !errors.Is(err, errNeedsCommit) {
				return v, err
			}
		}
		var c *txnChange
		err := b.s.update(ctx, func(t *Txn) (err error) {
			c, err = t.put(e.tableName, src, src.Schema, m, opts)
			return err
		})
		if err == nil {
			return c.version(), nil
		}
		if !errors.Is(err, errStale) {
			return 0, err
		}
		if !src.Whole() {
			break
		}
		src.Rewind()
	}
	return 0, fmt.Errorf("%w: %w", ErrConflict, errStale)
}

// check returns what is put as it is kept, or says why it cannot be.
func (o *PutOptions) check(m PutMode) (PutOptions, error) {
	var opts PutOptions
	if o != nil {
		opts = *o
	}
	switch {
	case m > Replace:
		return opts, fmt.Errorf("there is no put mode %d: there are Error, Append and Replace", m)
	case opts.Over != nil && m != Replace:
		return opts, errors.New("option Over goes with Replace alone")
	case len(opts.ID) > MaxName:
		return opts, fmt.Errorf("the id has %d bytes, the limit is %d", len(opts.ID), MaxName)
	}
	if opts.Metadata == nil { // as of most appends, which would wait for JSON
		return opts, nil
	}
	var err error
	opts.Metadata, err = opts.Metadata.read()
	return opts, err
}

// append adds rows to the tail. It reports whether the table exists: if not,
// nothing was done.
func (e *entry) append(ctx context.Context, src *datafile.Source, id string) (v Version, exists bool, err error) {
	for {
		e.s.appending.RLock()
		v, exists, full, err := e.tryAppend(ctx, src, id)
		e.s.appending.RUnlock()
		if !full || err != nil {
			return v, exists, err
		}
		// Folds do not keep up with appends: who appends helps.
		if _, err := e.fold(ctx); err != nil {
			return 0, false, err
		}
	}
}

func (e *entry) tryAppend(ctx context.Context, src *datafile.Source, id string) (v Version, exists, full bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.refresh(ctx); err != nil || e.state.def == nil {
		return 0, false, false, err
	}
	if o := e.state.def.Order; o != nil && o.Rule == RefuseDuplicate {
		return 0, true, false, errNeedsCommit
	}
	log := e.tail()
	_, size, _, _ := log.Size(e.state.folded)
	if size >= 4*e.s.opts.FoldBytes {
		return 0, true, true, nil
	}
	if id != "" {
		if applied, err := e.applied(ctx, e.state.uuid, id); applied || err != nil {
			return e.state.version, true, false, err
		}
	}
	c, changes, err := e.state.def.Caster(src.Schema)
	if err != nil {
		return 0, true, false, err
	}
	if len(changes) > 0 {
		return 0, true, false, errNeedsCommit
	}
	var ck *rules.Check
	if e.state.rules != "" || e.bucketRules != "" {
		all, err := joinedRules(e.state.rules, e.bucketRules)
		if err != nil {
			return 0, true, false, err
		}
		if ck, err = rules.NewCheck(ctx, all, src.Schema, e.state.def.Stored, e.state.def.Logical, rules.Options{Memory: e.s.opts.Memory / 8}); err != nil {
			return 0, true, false, err
		}
		if ck.WholeTable() {
			ck.Close()
			return 0, true, false, errNeedsCommit
		}
	}
	rows, err := castAll(ctx, src, c, ck)
	defer release(rows)
	if err != nil {
		return 0, true, false, err
	}
	if err := series.Check(e.state.def.Order, rows...); err != nil {
		return 0, true, false, err
	}
	if len(rows) == 0 {
		return e.state.version, true, false, nil
	}
	if err := log.Append(ctx, e.state.def.Stored, rows, id, time.Now()); err != nil {
		return 0, true, false, err
	}
	if _, size, _, _ := log.Size(e.state.folded); size >= e.s.opts.FoldBytes {
		e.queue()
	}
	return e.state.version, true, false, nil
}

// folded returns the table once what was acknowledged before is in its files. It wants
// commit.
func (e *entry) folded(ctx context.Context) (*table.Table, error) {
	if _, err := e.foldLocked(ctx); err != nil {
		return nil, err
	}
	t, err := e.current(ctx)
	if err == nil && t == nil {
		err = ErrNotFound
	}
	return t, err
}

// current returns the table as it is now, nil if there is none.
func (e *entry) current(ctx context.Context) (*table.Table, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	t, err := e.load(ctx)
	if errors.Is(err, icecat.ErrNotFound) {
		return nil, nil
	}
	return t, err
}

// prepare writes the files of a put to a table, which is nil where the put makes it.
// Others says that its rows are not all in it yet, for others are put in the same Update.
func (e *entry) prepare(ctx context.Context, t *table.Table, src datafile.Rows, columns *arrow.Schema, m PutMode, o PutOptions, others bool) (*putStep, error) {
	step := &putStep{mode: m, id: o.ID, meta: o.Metadata, settings: o.Settings, basis: basis{io: e.s.cat.NewIO()}}
	if t != nil && o.ID != "" {
		e.mu.Lock()
		applied, err := e.applied(ctx, t.Metadata().TableUUID().String(), o.ID)
		e.mu.Unlock()
		if err != nil {
			return nil, err
		}
		if applied {
			return nil, errNothing
		}
	}
	var meta table.Metadata
	var err error
	var base *int64
	since := anything
	switch {
	case t == nil && (o.Over != nil || o.MustExist):
		return nil, ErrNotFound
	case o.Over != nil:
		meta = t.Metadata()
		s, err := snapshotOf(meta, *o.Over)
		if err != nil {
			return nil, err
		}
		step.over, since, base = &over{}, appends, &s.SnapshotID
		if step.over.files, err = datafile.Files(ctx, t, table.WithSnapshotID(s.SnapshotID)); err != nil {
			return nil, err
		}
	case t == nil:
		sh, err := schema.NewShape(withDictionaries(columns, src), 0)
		if err != nil {
			return nil, err
		}
		if step.made, err = e.s.newTable(sh, o.Settings); err != nil {
			return nil, err
		}
		meta = step.made
	case m == Error:
		return nil, ErrExists
	default:
		meta = t.Metadata()
		if m != Replace {
			break
		}
		sh, err := schema.NewShape(withDictionaries(columns, src), meta.LastColumnID())
		if err != nil {
			return nil, err
		}
		def, err := definition.Of(meta)
		if err != nil {
			return nil, err
		}
		if !def.Stored.Equal(sh.Stored) || meta.Properties()[schema.Property(meta.CurrentSchema().ID)] != sh.Put {
			step.shape = sh
			if meta, err = definition.Reshaped(meta, sh); err != nil {
				return nil, err
			}
		}
	}
	if t != nil && m == Replace && o.Over == nil {
		if meta, err = definition.WithSettings(meta, o.Settings); err != nil {
			return nil, err
		}
	}
	d, err := definition.Of(meta)
	if err != nil {
		return nil, err
	}
	kept, returned := d.Stored, d.Logical
	var c *schema.Caster
	if m == Append && t != nil {
		var changes []definition.Change
		if c, changes, err = d.Caster(columns); err != nil {
			return nil, err
		}
		if len(changes) > 0 { // somebody else changed the table since it was looked at
			return nil, errStale
		}
	} else if c, err = schema.NewCaster(columns, kept); err != nil {
		return nil, err
	}
	var old *table.Table // with whose rows the new ones will be
	if m == Append {
		old = t
	}
	rules, err := e.checker(ctx, old, nil, columns, kept, returned, meta.Properties()[rulesProperty])
	if err != nil {
		return nil, err
	}
	if old != nil && rules.WholeTable() {
		if others {
			rules.Close()
			return nil, errors.New("a rule is about all rows of the table: an Update takes one put to it")
		}
		since, base = nothing, snapshotID(old)
	}
	writer := e.s.cat.Staged(e.Namespace, e.Name, meta, "", step.io)
	if step.basis, err = basisOf(writer, since, step.io); err != nil {
		return nil, err
	}
	step.base = base
	step.files, err = write(ctx, writer, series.New(d, writer, e.s.opts.Memory), step.io, src, c, rules, nil)
	step.after = meta
	return step, err
}

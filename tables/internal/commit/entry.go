package commit

import (
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/icecat"
	"github.com/go-partd/partd/tables/internal/rules"
	"github.com/go-partd/partd/tables/internal/tail"
)

// mostEntries is how many tables are remembered that nobody uses and that have
// nothing in the tail.
const mostEntries = 1 << 14

// lastEpoch is later than all.
const lastEpoch = math.MaxInt64

// Entry is what is in memory of a table while it is in use, or has rows in the tail.
type Entry struct {
	of *Tables
	icecat.TableName
	refs int // guarded by Tables.mu

	// Commits is held by whoever commits to the table, in this process.
	Commits sync.Mutex

	mu          sync.Mutex // guards what follows, and orders appends to the tail
	state       state
	log         *tail.Log // nil: nothing is in the tail
	bucketRules string    // those of the bucket, at the last refresh
	queued      bool      // for a fold

	encoders sync.Pool // of *tail.Encoder, for who appends
}

// state is what appends need to know of a table, as of one location of its metadata.
type state struct {
	location string
	uuid     string
	version  int64
	folded   int64                  // the last epoch that is in the files
	def      *definition.Definition // nil if the table does not exist
}

// Release ends what Acquire began.
func (e *Entry) Release() {
	// Who has the last reference is alone with the entry, but for those who
	// come meanwhile.
	e.mu.Lock()
	defer e.mu.Unlock()
	e.of.mu.Lock()
	defer e.of.mu.Unlock()
	if e.refs--; e.refs == 0 && len(e.of.entries) > mostEntries && (e.log == nil || e.of.Tail.Retire(e.log)) {
		delete(e.of.entries, e.TableName)
	}
}

// Current returns the table as it is now, nil if there is none.
func (e *Entry) Current(ctx context.Context) (*table.Table, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	t, err := e.load(ctx)
	if errors.Is(err, icecat.ErrNotFound) {
		return nil, nil
	}
	return t, err
}

// Waiting reports whether rows of the table are in the tail alone.
func (e *Entry) Waiting(ctx context.Context) (bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.refresh(ctx); err != nil || e.log == nil {
		return false, err
	}
	rows, _, _, _ := e.log.Size(e.state.folded)
	return rows > 0, nil
}

// Tail is the rows of a table that are in the tail alone.
type Tail struct {
	Rows []arrow.RecordBatch // whoever asked for them releases them
	Mark string              // the same for the same rows

	Settled, Replaces bool // Rows are what Keep was given

	log *tail.Log
	key string
}

// Keep notes how the rows are read, for those who ask for the same rows of the same state
// of the table.
func (t *Tail) Keep(settled arrow.RecordBatch, replaces bool) { t.log.Keep(t.key, settled, replaces) }

// View returns the table as it is now and, if they are wanted, the rows that are in the
// tail alone.
func (e *Entry) View(ctx context.Context, wanted bool) (t *table.Table, in *Tail, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	in = &Tail{}
	if t, err = e.load(ctx); err != nil || !wanted || e.log == nil {
		return t, in, err
	}
	in.log = e.log
	if in.Mark, err = e.log.Mark(ctx, e.state.folded); err != nil {
		return t, in, err
	}
	in.key = e.state.location + " " + in.Mark
	if in.Rows, in.Replaces, in.Settled = e.log.Kept(in.key); !in.Settled {
		in.Rows, err = e.rows(ctx, t.Metadata(), lastEpoch)
	}
	return t, in, err
}

// Staged is the table with other metadata, whose files are written through io.
func (e *Entry) Staged(meta table.Metadata, io *icecat.FileIO) *table.Table {
	return e.of.Catalog.Staged(e.Namespace, e.Name, meta, "", io)
}

// Rules returns the rules of a table by this name, and those of its bucket.
func (e *Entry) Rules(ctx context.Context, d *definition.Definition) ([]rules.Rule, error) {
	text, err := e.of.Catalog.Property(ctx, e.Namespace, icecat.RulesProperty)
	if err != nil {
		return nil, err
	}
	return joined(d, text)
}

func joined(d *definition.Definition, bucket string) ([]rules.Rule, error) {
	own, err := d.Rules()
	if err != nil || bucket == "" {
		return own, err
	}
	all, err := rules.Parse(bucket)
	return slices.Concat(own, all), err
}

// refresh brings the state up to what the catalog says now. It wants mu.
func (e *Entry) refresh(ctx context.Context) error {
	loc, rules, err := e.of.Catalog.Lookup(ctx, e.Namespace, e.Name)
	if errors.Is(err, icecat.ErrNotFound) {
		e.lose()
		return nil
	}
	e.bucketRules = rules
	if err != nil || loc == e.state.location {
		return err
	}
	_, err = e.load(ctx)
	return err
}

// load returns the table as it is now, with the state brought up to it. It wants mu.
func (e *Entry) load(ctx context.Context) (*table.Table, error) {
	t, err := e.of.Catalog.Load(ctx, e.Namespace, e.Name)
	if errors.Is(err, icecat.ErrNotFound) {
		e.lose()
		return nil, err
	}
	if err != nil || t.MetadataLocation() == e.state.location {
		return t, err
	}
	return t, e.set(ctx, t)
}

// set makes a table the state. It wants mu.
func (e *Entry) set(ctx context.Context, t *table.Table) error {
	var n state
	err := icecat.Safely(func() (err error) { n, err = e.stateOf(t); return err })
	if err != nil {
		return &icecat.Damaged{File: e.of.Catalog.Shown(t.MetadataLocation()), Err: err, Remedy: icecat.Unusable}
	}
	if e.log != nil && e.log.UUID() != n.uuid {
		e.lose()
	}
	if e.log == nil && e.of.Tail != nil {
		// It may have had another name, or could not be read before.
		if e.log, err = e.of.Tail.Claim(ctx, n.uuid, n.folded); err != nil {
			if ctx.Err() != nil {
				return canceled.Err(ctx)
			}
			return &icecat.Damaged{File: "its rows in the tail", Err: err, Remedy: icecat.Unusable}
		}
	}
	if e.log != nil {
		// Another Store may have applied puts with the same ids.
		applied, err := e.of.Catalog.PutsApplied(ctx, n.uuid, slices.Collect(maps.Keys(e.log.IDs(n.folded, lastEpoch)))...)
		if err != nil {
			return err
		}
		e.log.Void(applied)
	}
	e.state = n
	return nil
}

// stateOf returns the state that a table's metadata says.
func (e *Entry) stateOf(t *table.Table) (n state, err error) {
	meta := t.Metadata()
	n = state{location: t.MetadataLocation(), uuid: meta.TableUUID().String(), folded: -1}
	if s := meta.CurrentSnapshot(); s != nil {
		n.version = s.SequenceNumber
	}
	if e.of.Tail != nil {
		n.folded = e.of.Tail.Folded(meta.Properties())
	}
	n.def, err = definition.Of(meta)
	return n, err
}

// lose lets go of a table that somebody else deleted or renamed. What it has in
// the tail stays there, for an entry with its new name, or the next Open, to find
// out which. It wants mu.
func (e *Entry) lose() {
	e.state = state{}
	if e.log != nil {
		e.log.Release()
		e.log = nil
	}
}

// waits reports whether the tail has rows of a table that could not be read. It wants mu.
func (e *Entry) waits() bool {
	return e.log == nil && e.of.Tail != nil && e.of.Tail.Waits(e.state.uuid)
}

// forget deletes the log of a table that was deleted. It wants mu.
func (e *Entry) forget(ctx context.Context) error {
	e.state = state{}
	if e.log == nil {
		return nil
	}
	err := e.of.Tail.Discard(ctx, e.log)
	if err == nil {
		e.log = nil
	}
	return err
}

package tables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/iceberghook"
	"github.com/go-partd/partd/tables/internal/state/commit"
)

// ErrRequirement means that a table does not meet a change's requirements: prepare the change again for the table's
// current state.
var ErrRequirement = errors.New("the table has changed since the change was prepared")

// FoldOnLoadProperty is a table property. If it is "false", Load of package iceberg does not fold.
const FoldOnLoadProperty = "partd.fold-on-load"

// init lets package iceberg call unexported methods of this package.
func init() {
	iceberghook.Load = func(ctx context.Context, t any, o *iceberghook.LoadOptions) (*table.Table, error) {
		return t.(*Table).loadIceberg(ctx, o)
	}
	iceberghook.Stage = func(ctx context.Context, t any, meta table.Metadata) error {
		return t.(*Table).stageIceberg(ctx, meta)
	}
	iceberghook.Commit = func(ctx context.Context, s any, changes []iceberghook.Change) ([]*table.Table, error) {
		return s.(*Store).commitIceberg(ctx, changes)
	}
	iceberghook.NewMetadata = func(s any, columns *iceberg.Schema, spec *iceberg.PartitionSpec, order table.SortOrder, props iceberg.Properties) (table.Metadata, error) {
		return s.(*Store).newIceberg(columns, spec, order, props)
	}
	iceberghook.ReadMetadata = func(ctx context.Context, s any, location string, admit func(int64) error) (table.Metadata, error) {
		return s.(*Store).readIceberg(ctx, location, admit)
	}
}

func (t *Table) loadIceberg(ctx context.Context, o *iceberghook.LoadOptions) (loaded *table.Table, err error) {
	defer wrapError(&err, "load", t.Bucket().Name(), t.Name())
	n, err := t.checkUnpinned()
	if err != nil {
		return nil, err
	}
	cat := t.store().cat
	if loaded, err = cat.Load(ctx, n.Namespace, n.Name); err != nil || o == nil || !o.Fold || t.store().opts.ReadOnly || loaded.Properties()[FoldOnLoadProperty] == "false" {
		return loaded, notFound(err)
	}
	if s := loaded.CurrentSnapshot(); s != nil && o.Every > 0 && time.Since(time.UnixMilli(s.TimestampMs)) < o.Every {
		return loaded, nil
	}
	e, release, err := t.acquire()
	if err != nil {
		return nil, err
	}
	defer release()
	if hasTail, err := e.HasTail(ctx); err != nil || !hasTail {
		return loaded, err
	}
	if o.Admit != nil {
		release, err := o.Admit(ctx)
		if err != nil {
			return nil, err
		}
		defer release()
	}
	if _, err := e.Fold(ctx); err != nil {
		return nil, err
	}
	loaded, err = cat.Load(ctx, n.Namespace, n.Name)
	return loaded, notFound(err)
}

// MetadataSize returns the size of the table's JSON metadata, in bytes. Load of package iceberg needs several times as
// much memory. t must not be pinned.
func (t *Table) MetadataSize(ctx context.Context) (_ int64, err error) {
	defer wrapError(&err, "load", t.Bucket().Name(), t.Name())
	n, err := t.checkUnpinned()
	if err != nil {
		return 0, err
	}
	size, err := t.store().cat.MetadataSize(ctx, n.Namespace, n.Name)
	return size, notFound(err)
}

// IcebergNames returns the sorted names of the bucket's tables: at most limit names, all greater than after.
func (b *Bucket) IcebergNames(ctx context.Context, after string, limit int) (_ []string, err error) {
	defer wrapError(&err, "list", b.Name(), "")
	return b.store().cat.Names(ctx, namespaceOf(b.Name()), after, limit)
}

// Create creates an empty bucket with metadata. If the bucket exists, the error wraps [ErrExists].
func (b *Bucket) Create(ctx context.Context, m Metadata) (err error) {
	defer wrapError(&err, "create", b.Name(), "")
	if err := checkName("bucket", b.Name()); err != nil {
		return err
	}
	if m, err = m.normalize(); err == nil {
		err = b.store().cat.CreateNamespace(ctx, namespaceOf(b.Name()), m)
	}
	return err
}

// Rename renames the table and moves it to the bucket to. If to contains a table newName, the error wraps [ErrExists].
func (t *Table) Rename(ctx context.Context, to *Bucket, newName string) (err error) {
	defer wrapError(&err, "rename", t.Bucket().Name(), t.Name())
	n, err := t.checkUnpinned()
	if err != nil {
		return err
	}
	if to == nil {
		return &ArgumentError{Err: errors.New("the destination bucket is nil")}
	}
	target, err := to.check(newName)
	if err != nil {
		return err
	}
	s := t.store()
	if err := s.cat.Rename(ctx, n, target); err != nil {
		return notFound(err)
	}
	// Update both names' entries in memory, so that the table's rows in the tail appear under the new name.
	return errors.Join(s.commits.Refresh(ctx, n), s.commits.Refresh(ctx, target))
}

// Namespace returns the bucket's Iceberg namespace.
func (b *Bucket) Namespace() string { return namespaceOf(b.Name()) }

// BucketOf returns the bucket of an Iceberg namespace.
func (s *Store) BucketOf(namespace string) *Bucket { return s.Bucket(bucketOf(namespace)) }

func (s *Store) newIceberg(columns *iceberg.Schema, spec *iceberg.PartitionSpec, order table.SortOrder, props iceberg.Properties) (meta table.Metadata, err error) {
	s = s.orUnopened()
	id := uuid.New()
	err = icecat.CatchPanic(func() error {
		meta, err = table.NewMetadataWithUUID(columns, spec, order, s.cat.LocationOf(id), props, id)
		return err
	})
	if err != nil {
		err = &ArgumentError{Err: err}
	}
	return meta, err
}

func (t *Table) stageIceberg(ctx context.Context, meta table.Metadata) error {
	if _, err := t.checkUnpinned(); err != nil {
		return t.error("stage", err)
	}
	if _, err := t.loadIceberg(ctx, nil); !errors.Is(err, ErrNotFound) {
		return cmp.Or(err, ErrExists)
	}
	return t.store().cat.MakeDirectories(meta.Location())
}

func (s *Store) commitIceberg(ctx context.Context, changes []iceberghook.Change) (results []*table.Table, err error) {
	var pending []*txnChange
	err = s.Update(ctx, func(t *Txn) error {
		for i := range changes {
			c, err := t.addIceberg(&changes[i])
			if err != nil {
				return &OpError{Op: "commit to", Bucket: changes[i].Bucket, Table: changes[i].Table, Err: err}
			}
			pending = append(pending, c)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, c := range pending {
		results = append(results, c.Result)
		if c.Result == nil {
			results[len(results)-1] = c.cur
		}
	}
	return results, nil
}

// addIceberg adds a change. It first applies the change to a copy of the metadata, to find out whether the commit must
// fold the tail.
func (t *Txn) addIceberg(change *iceberghook.Change) (*txnChange, error) {
	n, err := t.s.Bucket(change.Bucket).check(change.Table)
	if err != nil {
		return nil, err
	}
	c, err := t.change(n)
	if err != nil {
		return nil, err
	}
	if c.Len() > 0 {
		return nil, &ArgumentError{Err: errors.New("the commit contains two changes to the table: combine them into one")}
	}
	p := &icebergStep{entry: t.entry(c), change: change}
	if err := p.checkRequirements(c.cur); err != nil {
		return nil, err
	}
	meta, err := p.applyUpdates(c.cur)
	if err != nil {
		return nil, err
	}
	old := c.cur
	mode := commit.Plain
	if old == nil {
		for _, other := range t.order {
			if other.creates == meta.Location() {
				return nil, fmt.Errorf("a table at location %s %w: another change in this transaction creates it", meta.Location(), ErrExists)
			}
		}
		c.creates = meta.Location()
		t.hooks = append(t.hooks, icecat.CheckVacant(c.creates, n.Namespace))
	} else {
		mode = p.tailMode(old.Metadata(), meta)
	}
	p.mode = mode
	c.Unfolded = mode == commit.Plain && !p.needsWholeTable(t.ctx, meta) || mode == commit.Replaces
	c.Add(mode, nil, p.apply)
	return c, nil
}

type icebergStep struct {
	entry
	change *iceberghook.Change
	mode   commit.Mode // what the commit does with the rows in the tail
}

// tailMode returns what the commit must do with the rows in the tail, which have the old columns.
func (p *icebergStep) tailMode(oldMeta, newMeta table.Metadata) commit.Mode {
	sameColumns := oldMeta.CurrentSchema().ID == newMeta.CurrentSchema().ID && oldMeta.DefaultPartitionSpec() == newMeta.DefaultPartitionSpec() && oldMeta.DefaultSortOrder() == newMeta.DefaultSortOrder()
	s := newMeta.CurrentSnapshot()
	switch added := len(newSnapshots(oldMeta, newMeta)) > 0; {
	case sameColumns:
		return commit.Plain
	case !added:
		return commit.Folds
	case oldMeta.CurrentSnapshot() != nil && s != nil && s.ParentSnapshotID == nil && oldMeta.SnapshotByID(s.SnapshotID) == nil: // a new snapshot without a parent replaces all rows
		return commit.Replaces
	}
	return commit.Exclusive
}

func (p *icebergStep) apply(ctx context.Context, a *commit.Attempt, cur *table.Table) (table.Metadata, error) {
	if err := p.checkRequirements(cur); err != nil {
		return nil, err
	}
	if p.change.New == nil && len(p.change.Updates) == 0 && cur != nil {
		return nil, commit.ErrNothing
	}
	meta, err := p.applyUpdates(cur)
	if err != nil {
		return nil, err
	}
	var oldMeta table.Metadata
	if cur != nil {
		base, err := p.foldIfNeeded(ctx, a, cur, meta)
		if err != nil {
			return nil, err
		}
		if oldMeta = base.Metadata(); base != cur {
			if meta, err = p.applyUpdates(base); err != nil {
				return nil, err
			}
		}
	}
	if err := p.checkChange(ctx, oldMeta, meta); err != nil {
		return nil, err
	}
	if err := p.checkRows(ctx, oldMeta, meta); err != nil {
		return nil, err
	}
	a.Info.Updated = a.Now
	a.Info.Metadata, err = Metadata(icecat.FromProperties(meta.Properties())).normalize()
	return meta, err
}

// If the change alters the columns, foldIfNeeded moves the tail's rows into files with the old columns.
func (p *icebergStep) foldIfNeeded(ctx context.Context, a *commit.Attempt, cur *table.Table, newMeta table.Metadata) (*table.Table, error) {
	switch mode := p.tailMode(cur.Metadata(), newMeta); {
	case mode != p.mode: // the commit would remove rows from the tail that it does not write, or the reverse
		return nil, fmt.Errorf("%w: the columns were changed concurrently", ErrRequirement)
	case mode == commit.Folds:
		tail, err := a.TailFiles(ctx, cur, cur.Metadata(), nil, nil)
		if err != nil || len(tail) == 0 {
			return cur, err
		}
		meta, err := a.AddOrdered(ctx, cur, tail, nil, true)
		if err != nil {
			return nil, err
		}
		return a.Table(meta), nil
	case mode == commit.Exclusive:
		if a.TailRows() > 0 {
			return nil, fmt.Errorf("%w: rows with the old columns were appended concurrently", ErrRequirement)
		}
	}
	return cur, nil
}

func (p *icebergStep) checkRequirements(cur *table.Table) error {
	var meta table.Metadata
	if cur != nil {
		meta = cur.Metadata()
	}
	mustNotExist := p.change.New != nil
	for _, r := range p.change.Requirements {
		mustNotExist = mustNotExist || r.GetType() == "assert-create"
	}
	switch {
	case mustNotExist && cur != nil:
		return ErrExists
	case !mustNotExist && cur == nil:
		return ErrNotFound
	}
	for _, r := range p.change.Requirements {
		if err := r.Validate(meta); err != nil {
			return fmt.Errorf("%w: %w", ErrRequirement, err)
		}
	}
	return nil
}

// applyUpdates returns the metadata after the updates. If cur is nil, it returns a new table's metadata.
func (p *icebergStep) applyUpdates(cur *table.Table) (meta table.Metadata, err error) {
	if p.change.New != nil {
		return p.change.New, nil
	}
	if err := checkDefinitions(p.change); err != nil {
		return nil, err
	}
	err = icecat.CatchPanic(func() error {
		if cur != nil {
			meta, err = table.UpdateTableMetadata(cur.Metadata(), p.change.Updates, cur.MetadataLocation())
			if updates := p.renumbered(cur.Metadata(), meta); err == nil && updates != nil {
				meta, err = table.UpdateTableMetadata(cur.Metadata(), updates, cur.MetadataLocation())
			}
			return err
		}
		version := table.DefaultFormatVersion
		if slices.ContainsFunc(p.change.Updates, func(u table.Update) bool { return u.Action() == table.UpdateUpgradeFormatVersion }) {
			version = 1 // the updates raise the format version to the requested one
		}
		b, err := table.NewMetadataBuilder(version)
		if err != nil {
			return err
		}
		for _, u := range schemaFirst(p.change.Updates) {
			if err := u.Apply(b); err != nil {
				return err
			}
		}
		meta, err = b.Build()
		return err
	})
	switch {
	case err == nil:
		return meta, nil
	case cur != nil && slices.ContainsFunc(p.change.Updates, func(u table.Update) bool { return u.Action() == table.UpdateAddSnapshot }):
		return nil, fmt.Errorf("%w: %w", ErrRequirement, err) // the client may have prepared the update for an older table state
	}
	return nil, &ArgumentError{Err: err}
}

// renumbered returns the client's updates with a valid sequence number for their new snapshot, or nil if no change is
// needed. A change is needed if the client replaces the whole table, and the table has changed since the client loaded
// it. The files that the client wrote can keep their lower sequence numbers: the order matters only relative to files
// from earlier snapshots, and the new snapshot has no such files.
func (p *icebergStep) renumbered(oldMeta, newMeta table.Metadata) table.Updates {
	hasAction := func(action string) func(table.Update) bool {
		return func(u table.Update) bool { return u.Action() == action }
	}
	i := slices.IndexFunc(p.change.Updates, hasAction(table.UpdateAddSnapshot))
	if i < 0 || newMeta == nil || oldMeta.Version() < 2 || !slices.ContainsFunc(p.change.Updates, hasAction(table.UpdateRemoveSnapshotRef)) {
		return nil
	}
	added := newSnapshots(oldMeta, newMeta)
	if len(added) != 1 || added[0].ParentSnapshotID != nil || added[0].SequenceNumber > oldMeta.LastSequenceNumber() {
		return nil
	}
	added[0].SequenceNumber = oldMeta.LastSequenceNumber() + 1
	updates := slices.Clone(p.change.Updates)
	updates[i] = table.NewAddSnapshotUpdate(&added[0])
	return updates
}

// schemaFirst returns updates that create a table, with each set-current-schema moved directly after its add-schema.
// DuckDB adds a sort order between these two updates, but Iceberg's library checks a sort order against the current
// schema.
func schemaFirst(updates table.Updates) (reordered table.Updates) {
	schemaEnd := 0
	for _, u := range updates {
		if u.Action() == table.UpdateSetCurrentSchema {
			reordered = slices.Insert(reordered, schemaEnd, u)
			schemaEnd++
			continue
		}
		if reordered = append(reordered, u); u.Action() == table.UpdateAddSchema {
			schemaEnd = len(reordered)
		}
	}
	return reordered
}

// newSnapshots returns the snapshots that newMeta adds to oldMeta, which can be nil.
func newSnapshots(oldMeta, newMeta table.Metadata) (added []table.Snapshot) {
	for _, s := range newMeta.Snapshots() {
		if oldMeta == nil || oldMeta.SnapshotByID(s.SnapshotID) == nil {
			added = append(added, s)
		}
	}
	return added
}

func (s *Store) readIceberg(ctx context.Context, location string, admit func(n int64) error) (meta table.Metadata, err error) {
	s = s.orUnopened()
	invalid := func(err error) (table.Metadata, error) {
		return nil, &ArgumentError{Err: fmt.Errorf("cannot register the metadata: %s", err)}
	}
	dir, _, ok := strings.Cut(location, "/metadata/")
	if name, inWarehouse := strings.CutPrefix(dir, s.cat.DataLocation()); !ok || !inWarehouse || strings.Contains(name, "/") {
		return invalid(fmt.Errorf("%.200q is not in the metadata directory of a table under %s", location, s.cat.DataLocation()))
	}
	if err := s.cat.CheckWithin(dir, location); err != nil {
		return invalid(err)
	}
	f, err := s.cat.NewIO().Open(location)
	if err != nil {
		return invalid(err)
	}
	defer f.Close() //nolint:errcheck // opened only for reading
	info, err := f.Stat()
	if err != nil {
		return invalid(err)
	}
	if err := admit(icecat.CostPerByte * min(info.Size(), maxTableMetadata)); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxTableMetadata+1))
	if err == nil && len(b) > maxTableMetadata {
		err = fmt.Errorf("it is larger than %d bytes", maxTableMetadata)
	}
	var cost int64
	if err == nil {
		if cost, err = icecat.DecodedCost(b); err != nil {
			err = fmt.Errorf("it %w", err)
		}
	}
	if err != nil {
		return invalid(err)
	}
	if err := admit(cost); err != nil {
		return nil, err
	}
	err = icecat.CatchPanic(func() error { meta, err = table.ParseMetadataBytes(b); return err })
	if err == nil && meta.Location() != dir {
		err = fmt.Errorf("it belongs to the table at %q, but is not in that table's metadata directory", meta.Location())
	}
	if err != nil {
		return invalid(err)
	}
	return meta, canceled.Err(ctx)
}

// WithoutDir replaces the directories of the store and of temporary files, and the user's home directory, with "…"
// wherever they occur in text, because clients must not learn them.
func (s *Store) WithoutDir(text string) string {
	s = s.orUnopened()
	s.dirsOnce.Do(func() { s.dirsPattern = s.compileDirs() })
	if s.dirsPattern == nil {
		return text
	}
	return s.dirsPattern.ReplaceAllString(s.dirsPattern.ReplaceAllString(text, "$1…$2"), "$1…$2") // twice, because matches overlap if one character is between them
}

// compileDirs returns a pattern that matches the directories that clients must not learn, or nil if there are none.
func (s *Store) compileDirs() *regexp.Regexp {
	home, _ := os.UserHomeDir()
	dirs := []string{strings.TrimSuffix(s.cat.DataLocation(), "/data/"), s.dir, s.local, s.opts.TailDir, s.opts.CacheDir, os.TempDir(), home}
	var roots []string
	for _, dir := range dirs {
		resolved, _ := filepath.EvalSymlinks(dir)
		for _, root := range []string{strings.TrimPrefix(dir, "file://"), resolved} {
			if root = strings.TrimRight(root, `/\`); strings.ContainsAny(root, `/\`) {
				quoted := strconv.Quote(root)
				roots = append(roots, regexp.QuoteMeta(root), regexp.QuoteMeta(quoted[1:len(quoted)-1]), regexp.QuoteMeta((&url.URL{Path: root}).EscapedPath()))
			}
		}
	}
	if len(roots) == 0 {
		return nil
	}
	slices.SortFunc(roots, func(a, b string) int { return len(b) - len(a) }) // because the first root that matches applies
	return regexp.MustCompile(`(^|[^\w/.%-])(?:file:(?://)?)?(?:` + strings.Join(roots, "|") + `)($|[^\pL\pN_])`)
}

// maxTableMetadata is the maximum size, in bytes, of JSON metadata from other engines: about 15,000 snapshots.
const maxTableMetadata = 16 << 20

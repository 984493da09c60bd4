package tables

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/tables/internal/commit"
	"github.com/go-partd/partd/tables/internal/icecat"
)

// What is in this file is for a catalog of Iceberg that other engines ask: it hands them
// metadata, and takes their commits.

// ErrRequirement is wrapped by the error of a commit whose requirement does not hold: the
// table is not what it was made on. It may be made again on what there is now.
var ErrRequirement = errors.New("the table is not what the change was made on")

// FoldOnLoadProperty is the property of a table that keeps Iceberg from folding it: "false".
const FoldOnLoadProperty = "partd.fold-on-load"

// IcebergOptions of Bucket.Iceberg. The zero value, and nil, do not fold.
type IcebergOptions struct {
	Fold bool // rows in the tail are moved into files first

	// Every is how old the newest version has to be for a fold.
	Every time.Duration

	// Slot is asked before a fold; nil: it is not.
	Slot func(context.Context) (release func(), err error)
}

// Iceberg returns a table as other engines read it.
func (b *Bucket) Iceberg(ctx context.Context, name string, o *IcebergOptions) (_ *table.Table, err error) {
	defer failed(&err, "load", b.Name(), name)
	n, err := b.check(name)
	if err != nil {
		return nil, err
	}
	t, err := b.store().cat.Load(ctx, n.Namespace, n.Name)
	if err != nil || o == nil || !o.Fold || b.store().opts.ReadOnly || t.Properties()[FoldOnLoadProperty] == "false" {
		return t, notFound(err)
	}
	if s := t.CurrentSnapshot(); s != nil && o.Every > 0 && time.Since(time.UnixMilli(s.TimestampMs)) < o.Every {
		return t, nil
	}
	e, done, err := b.use(name)
	if err != nil {
		return nil, err
	}
	defer done()
	if waits, err := e.Waiting(ctx); err != nil || !waits {
		return t, err
	}
	if o.Slot != nil {
		release, err := o.Slot(ctx)
		if err != nil {
			return nil, err
		}
		defer release()
	}
	if _, err := e.Fold(ctx); err != nil {
		return nil, err
	}
	t, err = b.store().cat.Load(ctx, n.Namespace, n.Name)
	return t, notFound(err)
}

// IcebergNames returns names of the bucket's tables that come after one, up to a number.
func (b *Bucket) IcebergNames(ctx context.Context, after string, most int) (_ []string, err error) {
	defer failed(&err, "list", b.Name(), "")
	return b.store().cat.Names(ctx, namespaceOf(b.Name()), after, most)
}

// Create makes the bucket, with metadata. Its error wraps [ErrExists] where there is one.
func (b *Bucket) Create(ctx context.Context, m Metadata) (err error) {
	defer failed(&err, "create", b.Name(), "")
	if err := checkName("bucket", b.Name()); err != nil {
		return err
	}
	if m, err = m.read(); err == nil {
		err = b.store().cat.CreateNamespace(ctx, namespaceOf(b.Name()), m)
	}
	return err
}

// Rename gives a table another name, in this bucket or another. Its error wraps [ErrExists]
// where there is a table of that name.
func (b *Bucket) Rename(ctx context.Context, name string, to *Bucket, newName string) (err error) {
	defer failed(&err, "rename", b.Name(), name)
	n, err := b.check(name)
	if err != nil {
		return err
	}
	if to == nil {
		return &ArgumentError{Err: errors.New("the bucket that it goes to is nil")}
	}
	now, err := to.check(newName)
	if err != nil {
		return err
	}
	if err := b.store().cat.Rename(ctx, n, now); err != nil {
		return notFound(err)
	}
	// The rows in the tail go with it: the old name lets go of them, and the new one finds them.
	return errors.Join(b.store().commits.Refresh(ctx, n), b.store().commits.Refresh(ctx, now))
}

// Namespace returns what Iceberg calls the bucket.
func (b *Bucket) Namespace() string { return namespaceOf(b.Name()) }

// BucketOf returns the bucket that Iceberg calls a namespace.
func (s *Store) BucketOf(namespace string) *Bucket { return s.Bucket(bucketOf(namespace)) }

// IcebergChange is a change of a table as an engine asks for it.
type IcebergChange struct {
	Bucket, Table string
	Requirements  table.Requirements
	Updates       table.Updates
	New           table.Metadata // makes the table, which must not exist, without Updates
}

// NewIceberg returns the metadata of a new table of another engine, which chooses the ids
// of its columns anew. Nothing is made of it before CommitIceberg.
func (s *Store) NewIceberg(columns *iceberg.Schema, spec *iceberg.PartitionSpec, order table.SortOrder, props iceberg.Properties) (meta table.Metadata, err error) {
	s = s.made()
	id := uuid.New()
	err = icecat.Safely(func() error {
		meta, err = table.NewMetadataWithUUID(columns, spec, order, s.cat.LocationOf(id), props, id)
		return err
	})
	if err != nil {
		err = &ArgumentError{Err: err}
	}
	return meta, err
}

// CommitIceberg makes the changes, each of another table, or none of them. It returns the
// tables as they are then. Its error wraps ErrRequirement where a requirement does not hold,
// and RuleError, DuplicateError or ArgumentError where the tables do not take the change.
func (s *Store) CommitIceberg(ctx context.Context, changes ...IcebergChange) (done []*table.Table, err error) {
	s = s.made()
	var made []*txnChange
	err = s.Update(ctx, func(t *Txn) error {
		for i := range changes {
			c, err := t.iceberg(&changes[i])
			if err != nil {
				return &OpError{Op: "commit to", Bucket: changes[i].Bucket, Table: changes[i].Table, Err: err}
			}
			made = append(made, c)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, c := range made {
		done = append(done, c.Result)
		if c.Result == nil {
			done[len(done)-1] = c.cur
		}
	}
	return done, nil
}

// iceberg adds a change. It is tried at once, which tells what else it needs.
func (t *Txn) iceberg(ch *IcebergChange) (*txnChange, error) {
	n, err := t.s.Bucket(ch.Bucket).check(ch.Table)
	if err != nil {
		return nil, err
	}
	c, err := t.of(n)
	if err != nil {
		return nil, err
	}
	if c.Len() > 0 {
		return nil, &ArgumentError{Err: errors.New("the transaction changes the table twice")}
	}
	p := &icebergStep{entry: t.entry(c), ch: ch}
	if err := p.requires(c.cur); err != nil {
		return nil, err
	}
	meta, err := p.applied(c.cur)
	if err != nil {
		return nil, err
	}
	was := c.cur
	how := commit.Plain
	if was == nil {
		for _, other := range t.order {
			if other.creates == meta.Location() {
				return nil, fmt.Errorf("another table of the transaction is at this location, it %w", ErrExists)
			}
		}
		c.creates = meta.Location()
		t.hooks = append(t.hooks, icecat.Vacant(c.creates))
	} else {
		how = p.how(was.Metadata(), meta)
	}
	c.Unfolded = how == commit.Plain && !p.wholeTable(t.ctx, meta) || how == commit.Replaces
	c.Add(how, nil, p.step)
	return c, nil
}

// icebergStep is a change that another engine made.
type icebergStep struct {
	entry
	ch *IcebergChange
}

// how tells what of the tail goes with a change. What is in it fits the columns before.
func (p *icebergStep) how(was, now table.Metadata) commit.How {
	same := was.CurrentSchema().ID == now.CurrentSchema().ID && was.DefaultPartitionSpec() == now.DefaultPartitionSpec() && was.DefaultSortOrder() == now.DefaultSortOrder()
	s := now.CurrentSnapshot()
	switch added := len(newSnapshots(was, now)) > 0; {
	case same:
		return commit.Plain
	case !added:
		return commit.Folds
	case was.CurrentSnapshot() != nil && s != nil && s.ParentSnapshotID == nil && was.SnapshotByID(s.SnapshotID) == nil: // the rows are replaced as well
		return commit.Replaces
	}
	return commit.Exclusive
}

// step is the change as a step of a commit.
func (p *icebergStep) step(ctx context.Context, a *commit.Attempt, cur *table.Table) (table.Metadata, error) {
	if err := p.requires(cur); err != nil {
		return nil, err
	}
	if p.ch.New == nil && len(p.ch.Updates) == 0 && cur != nil {
		return nil, commit.ErrNothing
	}
	meta, err := p.applied(cur)
	if err != nil {
		return nil, err
	}
	var was table.Metadata
	if cur != nil {
		settled, err := p.settled(ctx, a, cur, meta)
		if err != nil {
			return nil, err
		}
		if was = settled.Metadata(); settled != cur {
			if meta, err = p.applied(settled); err != nil {
				return nil, err
			}
		}
	}
	if err := p.check(ctx, was, meta); err != nil {
		return nil, err
	}
	if err := p.checkRows(ctx, was, meta); err != nil {
		return nil, err
	}
	a.Info.Updated = a.Now
	a.Info.Metadata, err = Metadata(icecat.FromProperties(meta.Properties())).read()
	return meta, err
}

// settled is the table once rows in the tail are in files that fit the columns before.
func (p *icebergStep) settled(ctx context.Context, a *commit.Attempt, cur *table.Table, to table.Metadata) (*table.Table, error) {
	switch p.how(cur.Metadata(), to) {
	case commit.Folds:
		tail, err := a.TailFiles(ctx, cur, cur.Metadata(), nil, nil)
		if err != nil || len(tail) == 0 {
			return cur, err
		}
		meta, err := a.AddOrdered(ctx, cur, tail, nil, true)
		if err != nil {
			return nil, err
		}
		return a.Table(meta), nil
	case commit.Exclusive:
		if a.TailRows() > 0 {
			return nil, fmt.Errorf("%w: rows of the columns before came meanwhile", ErrRequirement)
		}
	}
	return cur, nil
}

// requires is an error where a requirement does not hold.
func (p *icebergStep) requires(cur *table.Table) error {
	var meta table.Metadata
	if cur != nil {
		meta = cur.Metadata()
	}
	create := p.ch.New != nil
	for _, r := range p.ch.Requirements {
		create = create || r.GetType() == "assert-create"
	}
	switch {
	case create && cur != nil:
		return ErrExists
	case !create && cur == nil:
		return ErrNotFound
	}
	for _, r := range p.ch.Requirements {
		if err := r.Validate(meta); err != nil {
			return fmt.Errorf("%w: %w", ErrRequirement, err)
		}
	}
	return nil
}

// applied returns the metadata with the updates; of no table, those of a new one.
func (p *icebergStep) applied(cur *table.Table) (meta table.Metadata, err error) {
	if p.ch.New != nil {
		return p.ch.New, nil
	}
	err = icecat.Safely(func() error {
		if cur != nil {
			meta, err = table.UpdateTableMetadata(cur.Metadata(), p.ch.Updates, cur.MetadataLocation())
			return err
		}
		version := table.DefaultFormatVersion
		if slices.ContainsFunc(p.ch.Updates, func(u table.Update) bool { return u.Action() == table.UpdateUpgradeFormatVersion }) {
			version = 1 // it is upgraded from there
		}
		b, err := table.NewMetadataBuilder(version)
		if err != nil {
			return err
		}
		for _, u := range p.ch.Updates {
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
	case cur != nil && slices.ContainsFunc(p.ch.Updates, func(u table.Update) bool { return u.Action() == table.UpdateAddSnapshot }):
		return nil, fmt.Errorf("%w: %w", ErrRequirement, err) // it may be one that followed another state
	}
	return nil, &ArgumentError{Err: err}
}

// newSnapshots returns those that one state has and the other has not.
func newSnapshots(was, now table.Metadata) (some []table.Snapshot) {
	for _, s := range now.Snapshots() {
		if was == nil || was.SnapshotByID(s.SnapshotID) == nil {
			some = append(some, s)
		}
	}
	return some
}

// ReadIceberg returns metadata of a table that was dropped and whose files are still
// there, by the location of its metadata in the warehouse.
func (s *Store) ReadIceberg(ctx context.Context, location string) (meta table.Metadata, err error) {
	s = s.made()
	refuse := func(err error) (table.Metadata, error) {
		return nil, &ArgumentError{Err: fmt.Errorf("the metadata to register: %s", err)}
	}
	dir, _, ok := strings.Cut(location, "/metadata/")
	if name, own := strings.CutPrefix(dir, s.cat.DataLocation()); !ok || !own || strings.Contains(name, "/") {
		return refuse(fmt.Errorf("%.200q is not in the directory metadata of a table of %s", location, s.cat.DataLocation()))
	}
	if err := s.cat.Within(dir, location); err != nil {
		return refuse(err)
	}
	f, err := s.cat.NewIO().Open(location)
	if err != nil {
		return refuse(err)
	}
	defer f.Close() //nolint:errcheck // it was read
	b, err := io.ReadAll(io.LimitReader(f, mostMetadata+1))
	if err == nil && len(b) > mostMetadata {
		err = fmt.Errorf("it has more than %d bytes", mostMetadata)
	}
	if err == nil {
		err = icecat.Safely(func() error { meta, err = table.ParseMetadataBytes(b); return err })
	}
	if err == nil && meta.Location() != dir {
		err = fmt.Errorf("it is of a table at %q, and not in its directory metadata", meta.Location())
	}
	if err != nil {
		return refuse(err)
	}
	return meta, canceled.Err(ctx)
}

// mostMetadata is how large a file of metadata is that is registered.
const mostMetadata = 64 << 20

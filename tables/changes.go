package tables

import (
	"cmp"
	"context"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

// Changes returns the net difference between t's state and the state that since selects: the rows that only one of them
// has. A row that was added and deleted in between does not appear, and compaction makes no difference. If since is
// nil, AtVersion(0), a zero time or an empty snapshot name, t is compared with the empty table. The caller must release
// the reader.
//
// Unless t is pinned to a state, Changes first moves the rows in the tail (the log of recent appends) into files, and
// may wait for a put in progress. In a read-only Store, it leaves out rows in the tail. To avoid a deadlock, a reader
// that is passed to a put must not call Changes for the same table.
//
// The result has the columns of t's state, followed by the column _change, which contains ChangeInsert, ChangeDelete,
// ChangeUpdateBefore or ChangeUpdateAfter. If the table already has a column of this name, ignoring case, underscores
// are appended to the new column's name until it is unique. A column that only t's state has is null, or has its
// default, in the rows from since's state. A column that only since's state has is ignored. Values are equal if they
// are both null, both NaN, or stored with the same bits, so -0 differs from 0. Maps are equal if they have equal
// entries in the same order.
//
// If exactly one row with a given key was deleted and exactly one was inserted, they are an update; null keys are
// equal. The rows have no particular order, except that the two rows of an update are adjacent.
//
// Changes reads only files that the two states do not share, or whose deleted rows differ. If both states have such
// files, Changes sorts their rows in temporary files, a quarter of Options.Memory at a time. The error wraps
// partd.ErrTooLarge if a row's encoding is larger than that or than 512 MiB; for example, a bool in a list takes 2
// bytes.
//
// The error wraps ErrNotFound if since has expired, if the table was deleted and created again, or if the states have
// no common column. It also wraps ErrNotFound if a column of t's state cannot hold all of since's values, has the name
// of another column in since, or was dropped and is back because of a restore or because t's state is the older one.
// After such an error, start again with a nil since. For tables in Iceberg's format version 1, which have no version
// numbers, the error wraps [errors.ErrUnsupported].
func (t *Table) Changes(ctx context.Context, since At, o *ChangesOptions) (*Changes, error) {
	ctx, end := t.store().opts.begin(ctx, "changes", t.Bucket().Name(), t.Name())
	d, err := t.reader().difference(ctx, since, cmp.Or(o, new(ChangesOptions)))
	if err != nil {
		_, err = t.store().opts.observe(nil, t.error("find the changes of", err), end)
		return nil, err
	}
	logical, uuid := d.withChange(d.to.def.Logical, arrow.Field{}), d.to.t.Metadata().TableUUID().String()
	m := logical.Metadata()
	m = arrow.NewMetadata(append(m.Keys(), VersionKey, UUIDKey), append(m.Values(), strconv.FormatInt(int64(d.to.version()), 10), uuid))
	logical = arrow.NewSchema(logical.Fields(), &m)
	rows := batches.Map(func(b arrow.RecordBatch) (arrow.RecordBatch, error) {
		defer b.Release()
		return schema.Convert(b, logical)
	})
	out, err := t.store().opts.observe(batches.Reader(logical, rows(d.batches(ctx)), d.release), nil, end)
	return &Changes{out, d.to.version(), uuid}, err
}

// ChangesPlan returns a plan whose rows are the result of Changes with the default options. It has no Files and no
// Tail, and NeedsScan is set. The caller must close the plan.
func (t *Table) ChangesPlan(ctx context.Context, since At) (*ScanPlan, error) {
	d, err := t.reader().difference(ctx, since, new(ChangesOptions))
	if err != nil {
		return nil, t.error("find the changes of", err)
	}
	stored, err := d.to.def.StoredWithIDs()
	if err != nil {
		d.release()
		return nil, t.error("find the changes of", err)
	}
	const changeTypeID = "2147483543" // Iceberg reserves this field ID for _change_type
	return &ScanPlan{
		UUID: d.to.t.Metadata().TableUUID().String(), Version: d.to.version(), NeedsScan: true, view: d.to, changes: d, close: d.release,
		Schema: d.withChange(d.to.def.Logical, arrow.Field{}),
		Stored: d.withChange(stored, arrow.Field{Metadata: arrow.NewMetadata([]string{datafile.IDKey}, []string{changeTypeID})}),
	}, nil
}

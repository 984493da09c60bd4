package tables

import (
	"context"
	"errors"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go"

	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/state/commit"
)

// UpsertOptions configures Upsert. Nil or the zero value selects the defaults.
type UpsertOptions struct {
	// Keys are the columns that identify rows. Nil means the time and key columns in the table's settings. If the
	// settings have a rule for duplicates, Keys must be exactly these columns.
	Keys []string

	NullKeys       bool      // treat null keys as equal to each other, as pandas does, instead of rejecting them
	AllColumns     bool      // reject rows that lack columns of the table, instead of filling them with nulls
	MissingColumns *[]string // if not nil, set to the names of the table columns that the rows lack
}

// Upsert puts rows in one commit: each row replaces the rows with the same values in the key columns, or is added if no
// row matches. Like DeleteRows, Upsert rewrites only files that contain replaced rows. It returns an error if a key is
// null (unless o.NullKeys is set) or occurs twice in r. It adds and widens columns if the table's evolution setting
// allows this. It reads r to the end but does not release it.
//
// If a table has format version 3 and its property write.merge.mode is merge-on-read, Upsert writes deletion vectors
// instead of rewriting files.
//
// The keys may use a quarter of Options.Memory; by default, that suffices for about 1.5 million integers. If they need
// more, Upsert sorts the keys of r and of the table in temporary files. It then returns an error that wraps
// partd.ErrTooLarge if a key in r needs more than about a 160th of Options.Memory, or if the table has a unique rule
// with InTable set.
//
// Other callers can append to the table while Upsert writes files. Rows appended meanwhile are kept, even if their keys
// are in r, as if they had been appended after the upsert. If the table has a time column but no rule for duplicates,
// and the times of the appended rows overlap the times of rows that Upsert writes, Upsert starts again. Large appends
// in the same process must wait for Upsert if the table has a rule for duplicates or a unique rule with InTable set, if
// Upsert changes columns, or if it starts again.
func (t *Table) Upsert(ctx context.Context, r array.RecordReader, o *UpsertOptions) (_ RewriteResult, err error) {
	defer wrapError(&err, "upsert into", t.Bucket().Name(), t.Name())
	if _, err := t.checkWritable(); err != nil { // check before reading rows
		return RewriteResult{}, err
	}
	src, err := datafile.Gather(r, t.store().opts.FoldBytes)
	if err != nil {
		return RewriteResult{}, err
	}
	defer src.Release()
	var added newRows
	var set *keySet
	defer func() { set.close() }()
	return t.rewrite(ctx, func(ctx context.Context, w *rewrite) error {
		keys := w.def.Settings.Order()
		if o != nil && len(o.Keys) > 0 {
			keys = o.Keys
		}
		// check before evolve adds columns, because keys must be existing columns
		if err := checkKeys(w.def.Stored, keys); err != nil {
			return err
		}
		if err := w.evolve(src.Schema); err != nil {
			return err
		}
		if err := checkKeys(w.def.Stored, keys); err != nil {
			return err
		}
		if o != nil {
			caster, _, err := w.def.Caster(src.Schema)
			if err == nil {
				err = (&PutOptions{AllColumns: o.AllColumns, MissingColumns: o.MissingColumns}).checkMissing(caster)
			}
			if err != nil {
				return err
			}
		}
		hasRule := w.def.Order.HasRule()
		if hasRule && !sameNames(keys, w.def.Settings.Order()) {
			return schema.Errorf(keys[0], "the keys are %q, but the table's rule for duplicates, %s, uses %q: use those keys", keys, w.def.Settings.OnDuplicate, w.def.Settings.Order())
		}
		if hasRule || w.evolveStep != nil {
			w.Allowed = commit.NoChanges // with a rule, a concurrent append could add rows that duplicate the new rows
		}
		if !added.canReuse(w) {
			set.close()
			set = newKeySet(schema.Names(schema.Select(w.def.Stored, keys)), t.store().opts.Memory/4, o != nil && o.NullKeys)
		}
		err := added.write(ctx, w, src, &deletePredicate{columns: keys, matches: set.contains}, func(_ context.Context, b arrow.RecordBatch) error { return set.add(b, added.rowsRead) })
		if err != nil || added.rowsRead == 0 && !w.rewriteAll {
			return err
		}
		replaced := &deletePredicate{mayMatch: set.mayMatch(w.t.Schema(), w.def.Stored, w.addedFiles), columns: keys, matches: set.contains}
		if set.file != nil {
			replaced.find = set.findRows
		}
		return w.removeByMode(ctx, replaced, "write.merge.mode")
	})
}

func sameNames(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// checkKeys returns an error if there are no keys, or if a column cannot be a key.
func checkKeys(s *arrow.Schema, keys []string) error {
	if len(keys) == 0 {
		return errors.New("the table's settings name no keys: name the key columns")
	}
	for _, name := range keys {
		index, err := schema.ColumnIndex(s, name)
		if err != nil {
			return err
		}
		t := s.Field(index).Type
		_, fixedWidth := t.(arrow.FixedWidthDataType)
		if arrow.IsNested(t.ID()) || arrow.IsFloating(t.ID()) || !fixedWidth && t.ID() != arrow.STRING && t.ID() != arrow.BINARY {
			return schema.Errorf(name, "a column of type %s cannot be a key for Upsert", t)
		}
	}
	return nil
}

// mayMatch returns a function for deletePredicate.mayMatch. The function reports that a file can contain replaced rows
// if its key bounds overlap the key bounds of at least one of the new files.
func (k *keySet) mayMatch(icebergSchema *iceberg.Schema, stored *arrow.Schema, newFiles []iceberg.DataFile) func(func(string) filter.Bounds) (canMatch, canRemain bool) {
	return func(bounds func(string) filter.Bounds) (canMatch, canRemain bool) {
		for _, f := range newFiles {
			newBounds, overlap := datafile.BoundsOf(icebergSchema, f), true
			for _, c := range schema.Select(stored, k.columns).Fields() {
				a, b := newBounds(c.Name), bounds(c.Name)
				bothHaveNulls := k.nullKeys && a.Nulls != 0 && b.Nulls != 0
				overlap = overlap && (bothHaveNulls || filter.Overlap(c.Type, a, b))
			}
			canMatch = canMatch || overlap
		}
		return canMatch, true
	}
}

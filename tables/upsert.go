package tables

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/commit"
	"github.com/go-partd/partd/tables/internal/datafile"
	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/sorted"
)

// UpsertOptions configures Upsert. Nil or the zero value selects the defaults.
type UpsertOptions struct {
	// Keys are the columns that identify rows. Nil means the time and key columns in the table's settings. If the settings
	// have a rule for duplicates, no other columns are allowed.
	Keys []string

	AllColumns     bool      // reject rows that lack columns of the table, instead of filling them with nulls
	MissingColumns *[]string // if not nil, set to the names of the table columns that the rows lack
}

// Upsert puts rows in one commit: each row replaces the rows with the same values in the key columns, or is added if no
// row matches. Like DeleteRows, Upsert rewrites only files that contain replaced rows. The keys of r must fit in a
// quarter of Options.Memory. If a key is null or occurs twice in r, Upsert returns an error. It adds and widens columns
// if the table's evolution setting allows it. It reads r to the end and does not release it.
func (t *Table) Upsert(ctx context.Context, r array.RecordReader, o *UpsertOptions) (_ RewriteResult, err error) {
	defer wrapError(&err, "upsert into", t.Bucket().Name(), t.Name())
	src, err := datafile.Gather(r, t.store().opts.FoldBytes)
	if err != nil {
		return RewriteResult{}, err
	}
	defer src.Release()
	var added newRows
	var set *keySet
	return t.rewrite(ctx, func(ctx context.Context, w *rewrite) error {
		keys := w.def.Settings.Order()
		if o != nil && len(o.Keys) > 0 {
			keys = o.Keys
		}
		if err := checkKeys(w.def.Stored, keys); err != nil { // check before evolve adds columns: keys must be existing columns
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
		if hasRule := w.def.Settings.OnDuplicate != "" && w.def.Settings.OnDuplicate != KeepAll; hasRule && !sameNames(keys, w.def.Settings.Order()) {
			return schema.Errorf(keys[0], "the keys are %q, but the table's rule for duplicates, %s, uses %q: use those keys", keys, w.def.Settings.OnDuplicate, w.def.Settings.Order())
		}
		w.Allowed = commit.NoChanges // a concurrent upsert could put the same keys
		if !added.canReuse(w) {
			set = &keySet{columns: keys, rows: map[string]int64{}, budget: t.store().opts.Memory / 4}
		}
		err := added.write(ctx, w, src, &deletePredicate{columns: keys, matches: set.contains}, func(_ context.Context, b arrow.RecordBatch) error { return set.add(b, added.rows) })
		if err != nil || added.rows == 0 && !w.rewriteAll {
			return err
		}
		return w.remove(ctx, &deletePredicate{mayMatch: set.mayMatch(w.t.Schema(), w.def.Stored, w.added), columns: keys, matches: set.contains})
	})
}

func sameNames(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// checkKeys returns an error if there are no keys, or if a column cannot be a key.
func checkKeys(s *arrow.Schema, keys []string) error {
	if len(keys) == 0 {
		return errors.New("the table's settings contain no keys: name the key columns")
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

// keySet contains the keys of an upsert's rows.
type keySet struct {
	columns []string
	rows    map[string]int64 // maps each key to its row number, counted from 1
	budget  int64            // remaining memory for keys, in bytes
}

// keyOverhead is the approximate memory per key, in bytes, in addition to the key itself.
const keyOverhead = 64

// add adds the keys of a batch. rowsBefore is the number of rows in earlier batches.
func (k *keySet) add(b arrow.RecordBatch, rowsBefore int64) error {
	columns := schema.Columns(b, k.columns)
	for i, c := range columns {
		if c.NullN() > 0 {
			return schema.Errorf(k.columns[i], "the column contains a null: a key must not be null")
		}
	}
	var key []byte
	for i := range int(b.NumRows()) {
		key = appendKey(key[:0], columns, i)
		row := rowsBefore + int64(i) + 1
		if first, repeated := k.rows[string(key)]; repeated {
			text := ""
			for j, c := range columns {
				text += fmt.Sprintf(" %s = %s", strconv.Quote(k.columns[j]), c.ValueStr(i))
			}
			return schema.Errorf(k.columns[0], "rows %d and %d have the same key,%s: remove one of them", first, row, text)
		}
		if k.budget -= int64(len(key)) + keyOverhead; k.budget < 0 {
			return fmt.Errorf("the keys of more than %d rows need more than a quarter of Options.Memory: put the rows in several upserts: %w", row-1, partd.ErrTooLarge)
		}
		k.rows[string(key)] = row
	}
	return nil
}

// contains reports for each row of a batch whether its key is in the set.
func (k *keySet) contains(b arrow.RecordBatch) ([]bool, error) {
	columns := schema.Columns(b, k.columns)
	out := make([]bool, b.NumRows())
	var key []byte
	for i := range out {
		inSet := true
		for _, c := range columns {
			inSet = inSet && c.IsValid(i)
		}
		if inSet {
			key = appendKey(key[:0], columns, i)
			_, inSet = k.rows[string(key)]
		}
		out[i] = inSet
	}
	return out, nil
}

// appendKey appends an encoding of a row's key; different keys have different encodings. checkKeys must accept columns.
func appendKey(dst []byte, columns []arrow.Array, row int) []byte {
	for _, c := range columns {
		dst = sorted.AppendKey(dst, c, row)
	}
	return dst
}

// mayMatch returns a function for the field deletePredicate.mayMatch. The function selects each file whose key bounds
// overlap the key bounds of at least one of files, which are the new files.
func (k *keySet) mayMatch(icebergSchema *iceberg.Schema, stored *arrow.Schema, files []iceberg.DataFile) func(func(string) filter.Bounds) (canMatch, canRemain bool) {
	return func(bounds func(string) filter.Bounds) (canMatch, canRemain bool) {
		for _, f := range files {
			put, overlap := datafile.BoundsOf(icebergSchema, f), true
			for _, c := range schema.Select(stored, k.columns).Fields() {
				overlap = overlap && filter.Overlap(c.Type, put(c.Name), bounds(c.Name))
			}
			canMatch = canMatch || overlap
		}
		return canMatch, true
	}
}

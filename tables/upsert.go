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

// UpsertOptions configures Upsert. The zero value, and nil, are the defaults.
type UpsertOptions struct {
	// Keys are the columns that identify rows. Nil means the time column and the keys of
	// the table's settings. A table with a rule for duplicates allows only these.
	Keys []string

	AllColumns     bool      // reject rows that lack columns of the table, instead of adding nulls
	MissingColumns *[]string // if not nil, set to the table columns that the rows lacked
}

// Upsert puts rows in one commit: each replaces the rows with the same values in the key columns, or is added
// if there are none; see DeleteRows. The keys of r are held in memory, and must fit in a quarter of
// Options.Memory. It is an error if r has a null in a key column, or the same key twice. If the table's
// evolution allows it, the same commit adds and widens columns. Upsert reads r to its end and does not release
// it.
func (b *Bucket) Upsert(ctx context.Context, name string, r array.RecordReader, o *UpsertOptions) (_ RewriteResult, err error) {
	defer wrapError(&err, "upsert into", b.Name(), name)
	src, err := datafile.Gather(r, b.store().opts.FoldBytes)
	if err != nil {
		return RewriteResult{}, err
	}
	defer src.Release()
	var n newRows
	var set *keySet
	return b.rewrite(ctx, name, func(ctx context.Context, w *rewrite) error {
		keys := w.def.Settings.Order()
		if o != nil && len(o.Keys) > 0 {
			keys = o.Keys
		}
		if err := checkKeys(w.def.Stored, keys); err != nil { // keys must be existing columns
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
		if ruled := w.def.Settings.OnDuplicate != "" && w.def.Settings.OnDuplicate != KeepAll; ruled && !sameNames(keys, w.def.Settings.Order()) {
			return schema.Errorf(keys[0], "the keys are %q, but the table's rule for duplicates, %s, uses %q: use these keys", keys, w.def.Settings.OnDuplicate, w.def.Settings.Order())
		}
		w.Allowed = commit.NoChanges // another upsert may have put the same keys
		if !n.fit(w) {
			set = &keySet{columns: keys, rows: map[string]int64{}, budget: b.store().opts.Memory / 4}
		}
		err := n.write(ctx, w, src, &deletePredicate{columns: keys, deletes: set.mask}, func(_ context.Context, b arrow.RecordBatch) error { return set.add(b, n.rows) })
		if err != nil || n.rows == 0 && !w.rewriteAll {
			return err
		}
		return w.remove(ctx, &deletePredicate{may: set.may(w.t.Schema(), w.def.Stored, w.added), columns: keys, deletes: set.mask})
	})
}

func sameNames(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// checkKeys returns an error for columns that cannot be keys.
func checkKeys(s *arrow.Schema, keys []string) error {
	if len(keys) == 0 {
		return errors.New("the table's settings have no key: name the key columns")
	}
	for _, name := range keys {
		index, err := schema.ColumnIndex(s, name)
		if err != nil {
			return err
		}
		t := s.Field(index).Type
		_, fixed := t.(arrow.FixedWidthDataType)
		if arrow.IsNested(t.ID()) || arrow.IsFloating(t.ID()) || !fixed && t.ID() != arrow.STRING && t.ID() != arrow.BINARY {
			return schema.Errorf(name, "it has type %s, which cannot be a key of an upsert", t)
		}
	}
	return nil
}

// keySet holds the keys of an upsert's rows.
type keySet struct {
	columns []string
	rows    map[string]int64 // number of each key's row, from 1
	budget  int64            // bytes available for more keys
}

// keyOverhead is about the memory of a key in addition to its bytes.
const keyOverhead = 64

// add adds the keys of a batch; before is the number of earlier rows.
func (k *keySet) add(b arrow.RecordBatch, before int64) error {
	columns := k.keyColumns(b)
	for i, c := range columns {
		if c.NullN() > 0 {
			return schema.Errorf(k.columns[i], "it contains a null, and a key must not be null")
		}
	}
	var key []byte
	for i := range int(b.NumRows()) {
		key = appendKey(key[:0], columns, i)
		row := before + int64(i) + 1
		if first, repeated := k.rows[string(key)]; repeated {
			text := ""
			for j, c := range columns {
				text += fmt.Sprintf(" %s = %s", strconv.Quote(k.columns[j]), c.ValueStr(i))
			}
			return schema.Errorf(k.columns[0], "rows %d and %d have the same key,%s: put each key once", first, row, text)
		}
		if k.budget -= int64(len(key)) + keyOverhead; k.budget < 0 {
			return fmt.Errorf("the keys of more than %d rows take more than a quarter of the memory allowed (Options.Memory): put the rows in several upserts: %w", row-1, partd.ErrTooLarge)
		}
		k.rows[string(key)] = row
	}
	return nil
}

func (k *keySet) keyColumns(b arrow.RecordBatch) []arrow.Array {
	columns := make([]arrow.Array, len(k.columns))
	for i, name := range k.columns {
		columns[i] = b.Column(b.Schema().FieldIndices(name)[0])
	}
	return columns
}

// mask reports for each row of a batch whether its key is in the set.
func (k *keySet) mask(b arrow.RecordBatch) ([]bool, error) {
	columns := k.keyColumns(b)
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

// appendKey appends a unique encoding of a row's key. checkKeys must have accepted the
// columns.
func appendKey(to []byte, columns []arrow.Array, row int) []byte {
	for _, c := range columns {
		to = sorted.AppendKey(to, c, row)
	}
	return to
}

// may returns a deletePredicate.may that compares the bounds of a file with those of the put files.
func (k *keySet) may(sc *iceberg.Schema, stored *arrow.Schema, files []iceberg.DataFile) func(func(string) filter.Bounds) (some, others bool) {
	return func(bounds func(string) filter.Bounds) (some, others bool) {
		for _, f := range files {
			put, overlap := datafile.BoundsOf(sc, f), true
			for _, c := range schema.Select(stored, k.columns).Fields() {
				overlap = overlap && filter.Overlap(c.Type, put(c.Name), bounds(c.Name))
			}
			some = some || overlap
		}
		return some, true
	}
}

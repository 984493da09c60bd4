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

// UpsertOptions of Upsert. The zero value, and nil, are the defaults.
type UpsertOptions struct {
	// Keys are the columns that tell rows apart. Nil means the time column and the
	// keys of the table's settings, which are the only ones that a table can have
	// with a rule for duplicates.
	Keys []string

	Whole bool      // rows that lack columns of the table are refused; else they are null in them
	Lacks *[]string // if not nil, the columns of the table that the rows lacked
}

// Upsert puts rows in one commit: each replaces the rows with the same values in the
// key columns, or is added if there are none; see DeleteRows. The keys of r are held in
// memory and must fit in a quarter of Options.Memory. A null in a key column, or a key
// that occurs twice in r, is an error. Where the table's evolution allows it, the same
// commit first adds and widens columns. Upsert reads r to its end and does not release it.
func (b *Bucket) Upsert(ctx context.Context, name string, r array.RecordReader, o *UpsertOptions) (_ Rewritten, err error) {
	defer failed(&err, "upsert into", b.Name(), name)
	src, err := datafile.Gather(r, b.store().opts.FoldBytes)
	if err != nil {
		return Rewritten{}, err
	}
	defer src.Release()
	var n newRows
	var set *keySet
	return b.rewrite(ctx, name, func(ctx context.Context, w *rewrite) error {
		keys := w.def.Settings.Order()
		if o != nil && len(o.Keys) > 0 {
			keys = o.Keys
		}
		if err := checkKeys(w.def.Stored, keys); err != nil { // of columns that the table has before
			return err
		}
		if err := w.evolve(src.Schema); err != nil {
			return err
		}
		if err := checkKeys(w.def.Stored, keys); err != nil {
			return err
		}
		if o != nil {
			fit, _, err := w.def.Caster(src.Schema)
			if err == nil {
				err = (&PutOptions{Whole: o.Whole, Lacks: o.Lacks}).lacks(fit)
			}
			if err != nil {
				return err
			}
		}
		if ruled := w.def.Settings.OnDuplicate != "" && w.def.Settings.OnDuplicate != KeepAll; ruled && !sameNames(keys, w.def.Settings.Order()) {
			return schema.Errorf(keys[0], "the keys are %q, and the table, whose rule for duplicates is %s, has %q: use these", keys, w.def.Settings.OnDuplicate, w.def.Settings.Order())
		}
		w.Since = commit.Nothing // another upsert may have put the same keys
		if !n.stands(w) {
			set = &keySet{columns: keys, rows: map[string]int64{}, left: b.store().opts.Memory / 4}
		}
		err := n.write(ctx, w, src, &deletePredicate{columns: keys, deletes: set.mask}, func(_ context.Context, b arrow.RecordBatch) error { return set.add(b, n.rows) })
		if err != nil || n.rows == 0 && !w.anew {
			return err
		}
		return w.remove(ctx, &deletePredicate{may: set.may(w.t.Schema(), w.def.Stored, w.put), columns: keys, deletes: set.mask})
	})
}

func sameNames(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// checkKeys refuses columns that cannot be keys.
func checkKeys(s *arrow.Schema, keys []string) error {
	if len(keys) == 0 {
		return errors.New("the table's settings have no key: name the key columns")
	}
	for _, name := range keys {
		at, err := schema.Place(s, name)
		if err != nil {
			return err
		}
		t := s.Field(at).Type
		_, fixed := t.(arrow.FixedWidthDataType)
		if arrow.IsNested(t.ID()) || arrow.IsFloating(t.ID()) || !fixed && t.ID() != arrow.STRING && t.ID() != arrow.BINARY {
			return schema.Errorf(name, "it has type %s, which a key of an upsert cannot have", t)
		}
	}
	return nil
}

// keySet is the keys of the rows of an upsert.
type keySet struct {
	columns []string
	rows    map[string]int64 // the number of each key's row, from 1 on
	left    int64            // bytes that more keys may take
}

// keyOverhead is about what a key takes in memory beside its bytes.
const keyOverhead = 64

// add takes the keys of a batch, which before rows came before.
func (k *keySet) add(b arrow.RecordBatch, before int64) error {
	columns := k.of(b)
	for i, c := range columns {
		if c.NullN() > 0 {
			return schema.Errorf(k.columns[i], "it has a null, and a key cannot be one")
		}
	}
	var key []byte
	for i := range int(b.NumRows()) {
		key = appendKey(key[:0], columns, i)
		row := before + int64(i) + 1
		if first, twice := k.rows[string(key)]; twice {
			text := ""
			for j, c := range columns {
				text += fmt.Sprintf(" %s = %s", strconv.Quote(k.columns[j]), c.ValueStr(i))
			}
			return schema.Errorf(k.columns[0], "rows %d and %d have the same key,%s: an upsert takes each once", first, row, text)
		}
		if k.left -= int64(len(key)) + keyOverhead; k.left < 0 {
			return fmt.Errorf("the keys of more than %d rows take more than a quarter of the memory allowed (Options.Memory): put the rows in several upserts: %w", row-1, partd.ErrTooLarge)
		}
		k.rows[string(key)] = row
	}
	return nil
}

func (k *keySet) of(b arrow.RecordBatch) []arrow.Array {
	columns := make([]arrow.Array, len(k.columns))
	for i, name := range k.columns {
		columns[i] = b.Column(b.Schema().FieldIndices(name)[0])
	}
	return columns
}

// mask returns for each row of a batch whether its key is in the set.
func (k *keySet) mask(b arrow.RecordBatch) ([]bool, error) {
	columns := k.of(b)
	out := make([]bool, b.NumRows())
	var key []byte
	for i := range out {
		known := true
		for _, c := range columns {
			known = known && c.IsValid(i)
		}
		if known {
			key = appendKey(key[:0], columns, i)
			_, known = k.rows[string(key)]
		}
		out[i] = known
	}
	return out, nil
}

// appendKey appends what tells the key of a row from all others. Columns are none
// that checkKeys refuses.
func appendKey(to []byte, columns []arrow.Array, row int) []byte {
	for _, c := range columns {
		to = sorted.AppendKey(to, c, row)
	}
	return to
}

// may reports of rows of a table, by what is known of them, whether they may have keys
// that the files given have.
func (k *keySet) may(sc *iceberg.Schema, kept *arrow.Schema, files []iceberg.DataFile) func(func(string) filter.Bounds) (some, others bool) {
	return func(of func(string) filter.Bounds) (some, others bool) {
		for _, f := range files {
			put, overlap := datafile.BoundsOf(sc, f), true
			for _, c := range schema.Select(kept, k.columns).Fields() {
				overlap = overlap && filter.Overlap(c.Type, put(c.Name), of(c.Name))
			}
			some = some || overlap
		}
		return some, true
	}
}

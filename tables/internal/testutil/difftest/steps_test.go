package difftest

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"math/big"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/rows/sorted"
)

var alloc = memory.DefaultAllocator

type column struct {
	name     string
	typ      arrow.DataType // the type as put
	nullable bool
}

type row map[string]any

// state is a table's columns and rows at some time. It is never modified, because older versions may still be
// read.
type state struct {
	cols []*column
	rows []row
}

type run struct {
	runSpec
	ctx    context.Context
	dir    string
	opts   *tables.Options
	store  *tables.Store
	bucket *tables.Bucket
	counts *counts

	state
	exists         bool
	settings       tables.Settings
	inArrivalOrder bool // rows are read in the order of their arrival
	inTail         bool // some rows may be in the tail (not yet in data files)
	dropped        []string
	lastID         int64 // the id of the newest row
	newest         tables.Version
	stepNumber     int // the number of the current step
	versions       map[tables.Version]state
	snapshots      map[string]state
	log            []string
}

func hash(parts ...any) uint64 {
	h := fnv.New64a()
	fmt.Fprint(h, parts...)
	return h.Sum64()
}

// pickColumn picks a column that ok accepts. If a failing run is repeated with fewer columns, pickColumn picks the same
// column again, unless that column is missing.
func pickColumn(r *rand.Rand, cols []*column, ok func(*column) bool) (chosen *column) {
	salt, lowest := r.Uint64(), uint64(0)
	for _, c := range cols {
		if h := hash(salt, c.name); ok(c) && (chosen == nil || h < lowest) {
			chosen, lowest = c, h
		}
	}
	return chosen
}

func (d *run) identityColumns() []string {
	if d.settings.Time == "" {
		return nil
	}
	return append([]string{d.settings.Time}, d.settings.Keys...)
}

func (d *run) removesDuplicates() bool {
	return d.settings.OnDuplicate == tables.KeepFirst || d.settings.OnDuplicate == tables.KeepLast
}

func (d *run) randomSchema(r *rand.Rand) (cols []*column) {
	names := []string{"a", "or", "null", "select", "b c", "d.e", `f"g`, "é", "in", "x,y", "true", "_"}
	r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	n := 1 + r.IntN(7)
	idIndex := r.IntN(n + 1)
	for i := range n {
		if i == idIndex {
			cols = append(cols, &column{"id", arrow.PrimitiveTypes.Int64, r.IntN(2) == 0})
		}
		c := &column{names[i], randomType(rand.New(rand.NewPCG(d.seed, hash(d.stepNumber, i))), 2), r.IntN(8) > 0}
		if i == 0 && d.seed%2 == 1 {
			c.typ = pick[arrow.DataType](r, arrow.PrimitiveTypes.Float32, arrow.PrimitiveTypes.Float64)
		}
		if c.typ.ID() == arrow.NULL {
			c.nullable = true
		}
		if !slices.Contains(d.Without, i) {
			cols = append(cols, c)
		}
	}
	if idIndex == n {
		cols = append(cols, &column{"id", arrow.PrimitiveTypes.Int64, true})
	}
	return cols
}

// canOrder reports whether a column of type t can be the time column or, if asTime is false, a key column.
func canOrder(t arrow.DataType, asTime bool) bool {
	t = plainType(t)
	if t.ID() == arrow.TIMESTAMP || t.ID() == arrow.DATE32 || asTime {
		return t.ID() == arrow.TIMESTAMP || t.ID() == arrow.DATE32
	}
	return sorted.HasOrder(t) && !arrow.IsFloating(t.ID()) && t.ID() != arrow.FIXED_SIZE_BINARY
}

// randomSettings returns settings with a time column and keys that have no nulls.
func (d *run) randomSettings(r *rand.Rand, cols []*column, rules ...tables.OnDuplicate) (s tables.Settings) {
	s.Evolution = pick(r, "", "", tables.Flexible, tables.Compatible)
	hasNoNulls := func(c *column) bool {
		return !slices.ContainsFunc(d.rows, func(r row) bool { return r[c.name] == nil })
	}
	timeColumn := pickColumn(r, cols, func(c *column) bool { return canOrder(c.typ, true) && hasNoNulls(c) })
	if timeColumn == nil || r.IntN(3) == 0 {
		return s
	}
	s.Time, s.OnDuplicate = timeColumn.name, pick(r, rules...)
	if keyColumn := pickColumn(r, cols, func(c *column) bool { return c != timeColumn && canOrder(c.typ, false) && hasNoNulls(c) }); keyColumn != nil && r.IntN(2) == 0 {
		s.Keys = []string{keyColumn.name}
	}
	return s
}

// newRows returns rows with new ids. The required columns have no nulls. If there are many rows, values
// come in runs, so that some pages lack some values.
func (d *run) newRows(r *rand.Rand, n int, cols []*column, required []string) []row {
	rows := make([]row, min(n, d.MaxRows))
	run := map[string]int{}
	for _, c := range cols {
		if run[c.name] = 1; n > 1000 {
			run[c.name] = pick(rand.New(rand.NewPCG(hash(d.seed, d.stepNumber, c.name), 1<<40)), 1, 30, 1000, 4000)
		}
	}
	for i := range rows {
		rows[i] = row{}
		for _, c := range cols {
			rows[i][c.name] = d.narrowFloat(c, randomValue(rand.New(rand.NewPCG(hash(d.seed, d.stepNumber, c.name), uint64(i))), c.typ, c.nullable && !slices.Contains(required, c.name)))
		}
		d.lastID++
		rows[i]["id"] = ratOf(d.lastID)
	}
	return rows
}

// reader returns a reader of rows in random batches. If the table exists, the columns may be in another order.
func (d *run) reader(r *rand.Rand, rows []row, cols []*column) array.RecordReader {
	cols = slices.Clone(cols)
	if d.exists && r.IntN(3) == 0 {
		r.Shuffle(len(cols), func(i, j int) { cols[i], cols[j] = cols[j], cols[i] })
	}
	fields := make([]arrow.Field, len(cols))
	columns := make([]arrow.Array, len(cols))
	for i, c := range cols {
		fields[i] = arrow.Field{Name: c.name, Type: c.typ, Nullable: c.nullable}
		b := array.NewBuilder(alloc, c.typ)
		for _, row := range rows {
			appendValue(b, row[c.name])
		}
		if columns[i] = b.NewArray(); r.IntN(2) == 0 {
			columns[i] = unusualLayout(rand.New(rand.NewPCG(hash(d.seed, d.stepNumber, c.name), 1<<41)), columns[i])
		}
	}
	schema := arrow.NewSchema(fields, nil)
	batch := array.NewRecordBatch(schema, columns, int64(len(rows)))
	var batches []arrow.RecordBatch
	for start, batchRows := 0, 1+r.IntN(1+len(rows)); start < len(rows); start += batchRows {
		batches = append(batches, batch.NewSlice(int64(start), int64(min(start+batchRows, len(rows)))))
	}
	reader, err := array.NewRecordReader(schema, batches)
	if err != nil {
		panic(err)
	}
	return reader
}

func rowKey(r row, names []string) (text string) {
	for _, name := range names {
		text += canonicalText(r[name]) + "|"
	}
	return text
}

func (d *run) dedup(rows []row) (kept []row) {
	if !d.removesDuplicates() {
		return rows
	}
	indexOf := map[string]int{}
	for _, r := range rows {
		k := rowKey(r, d.identityColumns())
		if i, isDuplicate := indexOf[k]; !isDuplicate {
			indexOf[k] = len(kept)
			kept = append(kept, r)
		} else if d.settings.OnDuplicate == tables.KeepLast {
			kept[i] = r
		}
	}
	return kept
}

type step struct {
	name   string
	weight int
	do     func(d *run, r *rand.Rand) (description string, err error)
}

var steps = []step{
	{"put", 10, (*run).put},
	{"put a forbidden null", 2, (*run).putNull},
	{"put another type", 3, (*run).putOtherType},
	{"replace", 1, (*run).replace},
	{"drop", 1, (*run).drop},
	{"upsert", 3, (*run).upsert},
	{"delete rows", 3, (*run).deleteRows},
	{"replace range", 2, (*run).replaceRange},
	{"evolve", 6, (*run).evolve},
	{"settings", 1, (*run).setSettings},
	{"partition", 1, (*run).partition},
	{"fold", 4, func(d *run, _ *rand.Rand) (string, error) {
		_, err := d.store.Fold(d.ctx, nil)
		d.inTail = false
		return "", err
	}},
	{"compact", 2, func(d *run, _ *rand.Rand) (string, error) {
		_, err := d.store.Compact(d.ctx, nil)
		d.inArrivalOrder = false
		return "", err
	}},
	{"expire", 1, func(d *run, r *rand.Rand) (string, error) {
		_, err := d.store.Expire(d.ctx, &tables.MaintainOptions{Grace: -1, Keep: 1 + r.IntN(3)})
		clear(d.versions)
		return "", err
	}},
	{"snapshot", 1, func(d *run, _ *rand.Rand) (string, error) {
		name, err := d.bucket.Snapshot(d.ctx, fmt.Sprint("s", d.stepNumber))
		d.snapshots[name], d.inTail = d.state, false
		return name, err
	}},
	{"reopen", 1, func(d *run, _ *rand.Rand) (string, error) {
		err := d.store.Close()
		return "", errors.Join(err, d.open())
	}},
}

func (d *run) open() (err error) {
	if d.store, err = tables.Open(d.ctx, d.dir, d.opts); err == nil {
		d.bucket = d.store.Bucket("b")
	}
	return err
}

// rowCount returns the number of rows for a put. It is usually small, so that the rows stay in the tail. For
// some seeds, it can be large enough for a file with several pages.
func (d *run) rowCount(r *rand.Rand) int {
	if n := 3000 + r.IntN(6000); d.seed%8 == 1 && r.IntN(6) == 0 {
		return n
	}
	return pick(r, 0, 1, 2, 3, 5, 9, 40+r.IntN(200))
}

func (d *run) put(r *rand.Rand) (string, error) {
	if !d.exists {
		return d.createTable(r, tables.PutError)
	}
	var cols, added []*column
	widened := map[*column]arrow.DataType{}
	for _, c := range d.cols {
		asPut, complete := *c, d.settings.Evolution == tables.Compatible || c.name == "id" || slices.Contains(d.identityColumns(), c.name)
		wideTypes, narrowTypes := widerTypes(c.typ), narrowerTypes(c.typ)
		cr := rand.New(rand.NewPCG(d.seed, hash(d.stepNumber, c.name)))
		switch cr.IntN(10) {
		case 0:
			if !complete && c.nullable {
				continue
			}
		case 1:
			if len(narrowTypes) > 0 && !complete {
				asPut.typ = pick(cr, narrowTypes...)
			}
		case 2:
			wideTypes = slices.DeleteFunc(wideTypes, func(t arrow.DataType) bool { return isFloat(t) && !isFloat(c.typ) })
			if len(wideTypes) > 0 && d.settings.Evolution != "" && !slices.Contains(d.identityColumns(), c.name) && c.name != "id" {
				asPut.typ = pick(cr, wideTypes...)
				widened[c] = asPut.typ
			}
		}
		cols = append(cols, &asPut)
	}
	if d.settings.Evolution != "" && r.IntN(4) == 0 {
		c := &column{fmt.Sprint("p", d.stepNumber), randomType(r, 2), true}
		cols, added = append(cols, c), append(added, c)
	}
	rows := d.newRows(r, d.rowCount(r), cols, d.identityColumns())
	_, err := d.bucket.Table("t").Put(d.ctx, d.reader(r, rows, cols), tables.PutAppend, nil)
	if err != nil {
		return fmt.Sprint(len(rows), " rows of ", describeColumns(cols)), err
	}
	d.replaceColumns(func(c *column) *column {
		if t := widened[c]; t != nil {
			return &column{c.name, t, c.nullable}
		}
		return c
	})
	d.cols = append(d.cols, added...)
	d.rows, d.inTail = d.dedup(append(slices.Clone(d.rows), rows...)), !d.opts.NoTail
	return fmt.Sprint(len(rows), " rows of ", describeColumns(cols)), nil
}

// replaceColumns replaces each of the table's columns by the result of f. If the result is nil, it drops the
// column.
func (d *run) replaceColumns(f func(*column) *column) {
	var cols []*column
	for _, c := range d.cols {
		if c = f(c); c != nil {
			cols = append(cols, c)
		}
	}
	d.cols = cols
}

func describeColumns(cols []*column) (text string) {
	for _, c := range cols {
		text += fmt.Sprintf(" %q %s", c.name, c.typ)
		if !c.nullable {
			text += " not null"
		}
	}
	return text
}

func (d *run) replace(r *rand.Rand) (string, error) {
	if r.IntN(3) > 0 {
		return "", nil
	}
	return d.createTable(r, tables.PutReplace)
}

// drop deletes the table and creates another table with the same name, which shares nothing with the first.
func (d *run) drop(r *rand.Rand) (string, error) {
	if r.IntN(3) > 0 {
		return "", nil
	}
	if err := d.bucket.Delete(d.ctx, "t"); err != nil {
		return "", err
	}
	clear(d.versions)
	d.newest = 0
	return d.createTable(r, tables.PutError)
}

func (d *run) createTable(r *rand.Rand, mode tables.PutMode) (string, error) {
	d.cols, d.rows, d.dropped = d.randomSchema(r), nil, nil
	d.settings = d.randomSettings(r, d.cols, "", tables.KeepAll, tables.KeepFirst, tables.KeepLast)
	rows := d.newRows(r, d.rowCount(r), d.cols, d.identityColumns())
	s := d.settings
	d.exists = false // so that d.reader does not shuffle the columns, whose order this put defines
	_, err := d.bucket.Table("t").Put(d.ctx, d.reader(r, rows, d.cols), mode, &tables.PutOptions{Settings: &s})
	d.rows, d.exists, d.inArrivalOrder, d.inTail = d.dedup(rows), true, true, false
	return fmt.Sprintf("%d rows of %s, settings %+v", len(rows), describeColumns(d.cols), s), err
}

func (d *run) upsert(r *rand.Rand) (string, error) {
	keys, o := d.identityColumns(), &tables.UpsertOptions{}
	if !d.removesDuplicates() {
		keys = []string{"id"}
		if c := pickColumn(r, d.cols, func(c *column) bool { return canOrder(c.typ, false) }); r.IntN(2) == 0 {
			keys = []string{c.name}
		}
		o.Keys = keys
	}
	rows := d.newRows(r, d.rowCount(r), d.cols, append(d.identityColumns(), keys...))
	for _, row := range rows { // some rows get an existing key
		if len(d.rows) == 0 || r.IntN(2) == 0 {
			continue
		}
		existing := d.rows[r.IntN(len(d.rows))]
		for _, name := range keys {
			if existing[name] != nil {
				row[name] = existing[name]
			}
		}
	}
	isUsed := map[string]bool{}
	rows = slices.DeleteFunc(rows, func(r row) bool {
		k := rowKey(r, keys)
		defer func() { isUsed[k] = true }()
		return isUsed[k]
	})
	kept := slices.DeleteFunc(slices.Clone(d.rows), func(r row) bool { return isUsed[rowKey(r, keys)] })
	result, err := d.bucket.Table("t").Upsert(d.ctx, d.reader(r, rows, d.cols), o)
	return fmt.Sprintf("%d rows by %q", len(rows), keys), d.checkRewrite(kept, rows, result, err)
}

// checkRewrite records the rows that an Upsert, DeleteRows or ReplaceRange kept and wrote, and checks its result.
func (d *run) checkRewrite(kept, rows []row, result tables.RewriteResult, err error) error {
	if deleted := len(d.rows) - len(kept); err == nil && (result.Deleted != int64(deleted) || result.Written != int64(len(rows))) {
		err = fmt.Errorf("got %d rows deleted and %d written, want %d and %d", result.Deleted, result.Written, deleted, len(rows))
	}
	d.rows, d.inArrivalOrder = append(kept, rows...), false
	return err
}

func (d *run) deleteRows(r *rand.Rand) (string, error) {
	c := randomCond(r, d.cols, d.rows, 2)
	where, err := filter.Parse(c.String())
	if err != nil {
		return c.String(), err
	}
	kept := slices.DeleteFunc(slices.Clone(d.rows), func(r row) bool { return c.eval(r) == yes })
	result, err := d.bucket.Table("t").DeleteRows(d.ctx, where)
	return c.String(), d.checkRewrite(kept, nil, result, err)
}

func (d *run) replaceRange(r *rand.Rand) (string, error) {
	name, from, to := d.randomRange(r)
	if name == "" || d.removesDuplicates() || from.IsZero() || to.IsZero() || d.settings.Time != "" && d.settings.Time != name {
		return "", nil
	}
	rows := d.newRows(r, d.rowCount(r), d.cols, append(d.identityColumns(), name))
	for _, row := range rows {
		row[name] = nanosOf(from)
	}
	kept := slices.DeleteFunc(slices.Clone(d.rows), func(r row) bool { return isWithin(r[name], from, to) })
	result, err := d.bucket.Table("t").ReplaceRange(d.ctx, from, to, d.reader(r, rows, d.cols), &tables.RangeOptions{TimeColumn: name})
	return fmt.Sprintf("%q from %s to %s, %d rows", name, from, to, len(rows)), d.checkRewrite(kept, rows, result, err)
}

func nanosOf(t time.Time) *big.Rat {
	return new(big.Rat).Add(nanos(t.Unix(), time.Second), ratOf(int64(t.Nanosecond())))
}

func isWithin(v any, from, to time.Time) bool {
	return v != nil && (from.IsZero() || v.(*big.Rat).Cmp(nanosOf(from)) >= 0) && (to.IsZero() || v.(*big.Rat).Cmp(nanosOf(to)) < 0)
}

// randomRange returns a range between the times of two rows. One bound may be zero.
func (d *run) randomRange(r *rand.Rand) (name string, from, to time.Time) {
	c := pickColumn(r, d.cols, func(c *column) bool { return canOrder(c.typ, true) })
	if c == nil || len(d.rows) == 0 {
		return "", from, to
	}
	var bounds []time.Time
	for range 2 {
		v, _ := d.rows[r.IntN(len(d.rows))][c.name].(*big.Rat)
		if v == nil {
			return "", from, to
		}
		seconds, nanoseconds := new(big.Int).DivMod(v.Num(), big.NewInt(1e9), new(big.Int))
		moment := time.Unix(seconds.Int64(), nanoseconds.Int64()).UTC()
		if moment.Year() < 1 || moment.Year() > 9999 {
			return "", from, to
		}
		bounds = append(bounds, moment)
	}
	slices.SortFunc(bounds, time.Time.Compare)
	if bounds[0].Equal(bounds[1]) {
		bounds[1] = bounds[0].Add(day)
	}
	bounds[r.IntN(2)] = pick(r, bounds[0], bounds[1], time.Time{})
	if !bounds[0].IsZero() && !bounds[0].Before(bounds[1]) {
		bounds[1] = time.Time{}
	}
	return c.name, bounds[0], bounds[1]
}

func (d *run) evolve(r *rand.Rand) (string, error) {
	change := tables.ColumnChange{Op: pick[tables.ColumnOp](r, "add", "rename", "drop", "widen", "widen", "widen")}
	c := pickColumn(r, d.cols, func(c *column) bool {
		return c.name != "id" && (change.Op != "widen" || len(widerTypes(c.typ)) > 0)
	})
	if d.settings.Evolution == tables.Compatible && (change.Op == "rename" || change.Op == "drop") || c == nil && change.Op != "add" {
		return "", nil
	}
	newCols, rows := slices.Clone(d.cols), d.rows
	index := slices.Index(d.cols, c)
	changeRows := func(f func(row)) {
		rows = make([]row, len(d.rows))
		for i, r := range d.rows {
			rows[i] = maps.Clone(r)
			f(rows[i])
		}
	}
	settings, mustFail := d.settings, false
	switch change.Op {
	case "add":
		var types []arrow.DataType // the types that Evolve accepts, because they have names
		for _, t := range plainTypes(r) {
			switch t.(type) {
			case *arrow.NullType, *arrow.StringViewType, *arrow.BinaryViewType, *arrow.FixedSizeBinaryType, *arrow.Decimal32Type, *arrow.Decimal64Type, *arrow.DictionaryType, *arrow.RunEndEncodedType, arrow.ExtensionType:
				continue
			}
			types = append(types, t)
		}
		c = &column{fmt.Sprint("n", d.stepNumber), pick(r, types...), true}
		if len(d.dropped) > 0 && r.IntN(2) == 0 {
			c.name, d.dropped = d.dropped[0], d.dropped[1:]
		}
		newCols = append(newCols, c)
		change.Column, change.Type = c.name, tables.ColumnTypeOf(c.typ)
	case "rename":
		change.Column, change.To = c.name, fmt.Sprint("r", d.stepNumber)
		newCols[index] = &column{change.To, c.typ, c.nullable}
		changeRows(func(r row) { r[change.To] = r[c.name]; delete(r, c.name) })
		settings.Keys = slices.Clone(settings.Keys)
		if i := slices.Index(settings.Keys, c.name); i >= 0 {
			settings.Keys[i] = change.To
		}
		if settings.Time == c.name {
			settings.Time = change.To
		}
	case "drop":
		if slices.Contains(d.identityColumns(), c.name) {
			return "", nil
		}
		change.Column = c.name
		newCols = slices.Delete(newCols, index, index+1)
		changeRows(func(r row) { delete(r, c.name) })
	case "widen":
		to := pick(r, widerTypes(c.typ)...)
		change.Column, change.Type = c.name, tables.ColumnTypeOf(to)
		newCols[index] = &column{c.name, to, c.nullable}
		if isFloat(to) && !isFloat(c.typ) {
			if slices.Contains(d.identityColumns(), c.name) {
				return "", nil
			}
			changeRows(func(r row) {
				if n, ok := r[c.name].(*big.Rat); ok {
					f, isExact := n.Float64()
					r[c.name], mustFail = f, mustFail || !isExact
				}
			})
			d.inArrivalOrder = false
		}
	}
	err := d.bucket.Table("t").Evolve(d.ctx, change)
	description := fmt.Sprintf("%+v", change)
	if mustFail {
		if err == nil {
			err = errors.New("the change succeeded, although a number has no exact float")
		} else {
			err = nil
		}
		return description, err
	}
	if change.Op == "drop" {
		d.dropped = append(d.dropped, c.name)
	}
	d.cols, d.rows, d.settings = newCols, rows, settings
	return description, err
}

func widerTypes(t arrow.DataType) (all []arrow.DataType) {
	numbers := []arrow.DataType{
		arrow.PrimitiveTypes.Int8, arrow.PrimitiveTypes.Int16, arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int64,
		arrow.PrimitiveTypes.Uint8, arrow.PrimitiveTypes.Uint16, arrow.PrimitiveTypes.Uint32, arrow.FixedWidthTypes.Float16, arrow.PrimitiveTypes.Float32, arrow.PrimitiveTypes.Float64,
	}
	for _, to := range numbers {
		if slices.ContainsFunc(narrowerTypes(to), func(n arrow.DataType) bool { return arrow.TypeEqual(n, t) }) || to.ID() == arrow.FLOAT64 && arrow.IsInteger(t.ID()) && t.ID() != arrow.UINT64 {
			all = append(all, to)
		}
	}
	if d, ok := t.(*arrow.Decimal128Type); ok && d.Precision < 38 {
		all = append(all, &arrow.Decimal128Type{Precision: d.Precision + 1, Scale: d.Scale}, &arrow.Decimal128Type{Precision: 38, Scale: d.Scale})
	}
	return all
}

// narrowerTypes returns the types whose values fit into a column of type t. For a column of floats, it leaves out
// integers.
func narrowerTypes(t arrow.DataType) []arrow.DataType {
	i8, i16, i32 := arrow.PrimitiveTypes.Int8, arrow.PrimitiveTypes.Int16, arrow.PrimitiveTypes.Int32
	u8, u16, u32 := arrow.PrimitiveTypes.Uint8, arrow.PrimitiveTypes.Uint16, arrow.PrimitiveTypes.Uint32
	switch t.ID() {
	case arrow.INT16:
		return []arrow.DataType{i8, u8}
	case arrow.INT32:
		return []arrow.DataType{i8, i16, u8, u16}
	case arrow.INT64:
		return []arrow.DataType{i8, i16, i32, u8, u16, u32}
	case arrow.UINT16:
		return []arrow.DataType{u8}
	case arrow.UINT32:
		return []arrow.DataType{u8, u16}
	case arrow.FLOAT32:
		return []arrow.DataType{arrow.FixedWidthTypes.Float16}
	case arrow.FLOAT64:
		return []arrow.DataType{arrow.FixedWidthTypes.Float16, arrow.PrimitiveTypes.Float32}
	case arrow.DECIMAL128:
		if d := t.(*arrow.Decimal128Type); d.Precision > max(d.Scale, 1) {
			return []arrow.DataType{&arrow.Decimal128Type{Precision: d.Precision - 1, Scale: d.Scale}}
		}
	}
	return nil
}

func (d *run) setSettings(r *rand.Rand) (string, error) {
	if d.removesDuplicates() {
		return "", nil
	}
	s := d.randomSettings(r, d.cols, "", tables.KeepAll)
	d.settings, d.inArrivalOrder = s, false
	return fmt.Sprintf("%+v", s), d.bucket.Table("t").SetSettings(d.ctx, s)
}

func (d *run) partition(r *rand.Rand) (string, error) {
	if d.settings.Time == "" {
		return "", nil
	}
	d.settings.Partition = pick(r, tables.PartitionNone, tables.PartitionAuto, tables.PartitionDay, tables.PartitionMonth, tables.PartitionQuarter, tables.PartitionYear)
	_, err := d.bucket.Table("t").Partition(d.ctx, d.settings.Partition)
	return string(d.settings.Partition), err
}

package tables_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// cellText returns a text for value i of a. Equal numbers have the same text in all widths.
func cellText(a arrow.Array, i int) string {
	if a.IsNull(i) {
		return "null"
	}
	switch a := a.(type) {
	case *array.Float64:
		return strconv.FormatFloat(a.Value(i), 'g', -1, 64)
	case *array.Struct:
		var fields []string
		for f := range a.NumField() {
			fields = append(fields, cellText(a.Field(f), i))
		}
		return "{" + strings.Join(fields, ",") + "}"
	case *array.List:
		var items []string
		for start, end := a.ValueOffsets(i); start < end; start++ {
			items = append(items, cellText(a.ListValues(), int(start)))
		}
		return "[" + strings.Join(items, ",") + "]"
	}
	return a.ValueStr(i)
}

// modelRow maps a column's number to the text of its value. A column keeps its number when it is renamed.
type modelRow map[int]string

// changesModel applies random operations to a table, and remembers the rows of each version.
type changesModel struct {
	t       *testing.T
	rnd     *rand.Rand
	s       *tables.Store
	b       *tables.Bucket
	keys    []string
	columns []string // names of the columns, by number; "" if dropped
	types   []arrow.DataType
	members []string // names of the fields of column 5, a struct, by number; "" if dropped
	states  map[tables.Version]*modelState
	copies  map[tables.Version][]*modelState // what readers saw at a version; column changes alone make no version
	names   map[string]map[int]bool          // numbers of the columns that ever had a name

	everyPair      bool // whether check compares all pairs of states, not a third
	exact, refused int  // how many pairs of states were compared, and how many must be copied again
	foreign        bool // whether steps can add delete files, as other programs do
	ops            []string

	restored tables.Version // the last restore
	snapshot *modelSnapshot // the columns in the bucket's snapshot; nil before it is created
}

type modelSnapshot struct {
	columns, members []string
	types            []arrow.DataType
}

// firstMember is the number of the struct's first field. A cell of the struct contains only whether it is null.
const (
	structColumn = 5
	firstMember  = 1000
)

type modelState struct {
	idColumn int            // Iceberg's ID of the column id, which changes if the table is replaced with other columns
	columns  map[int]string // names by number
	n        arrow.DataType // type of the column n
	rows     []modelRow
}

func (s *modelState) text(r modelRow) string {
	var texts []string
	for _, n := range slices.Sorted(maps.Keys(s.columns)) {
		value, ok := r[n]
		if !ok {
			value = "null"
		}
		texts = append(texts, value)
	}
	return strings.Join(texts, "|")
}

var itemType = arrow.ListOf(arrow.StructOf(nullable("x", arrow.PrimitiveTypes.Float64), nullable("y", arrow.BinaryTypes.String)))

func newChangesModel(t *testing.T, seed uint64) *changesModel {
	m := &changesModel{
		t: t, rnd: rand.New(rand.NewPCG(seed, 0)), states: map[tables.Version]*modelState{}, foreign: seed%2 == 0,
		copies: map[tables.Version][]*modelState{}, names: map[string]map[int]bool{}, members: []string{"x", "y"},
		columns: []string{"id", "at", "v", "items", "n", "s"},
		types:   []arrow.DataType{arrow.PrimitiveTypes.Int64, &arrow.TimestampType{Unit: arrow.Microsecond}, arrow.PrimitiveTypes.Float64, itemType, arrow.PrimitiveTypes.Int32, nil},
	}
	m.s = tabletest.Open(t, t.TempDir(), &tables.Options{FoldBytes: 3000, FoldAge: -1, Memory: 4 << 20, NoTail: seed%5 == 4})
	m.b = m.s.Bucket("")
	settings := &tables.Settings{Evolution: tables.Flexible}
	if seed%3 == 1 {
		settings.Time, settings.Keys, settings.OnDuplicate = "at", []string{"id"}, tables.KeepLast
		m.keys = []string{"id", "at"}
	}
	m.must("put", func(ctx context.Context) error {
		_, err := m.b.Table("t").Put(ctx, m.newRows(3, false), tables.PutAppend, &tables.PutOptions{Settings: settings})
		return err
	})
	if m.foreign {
		foreignCommit(t, m.s, "t", func(tx *table.Transaction) error {
			if seed%4 == 0 {
				if err := tx.UpgradeFormatVersion(3); err != nil {
					return err
				}
			}
			return tx.SetProperties(iceberg.Properties{table.WriteDeleteModeKey: table.WriteModeMergeOnRead})
		})
	}
	return m
}

func (m *changesModel) must(op string, f func(context.Context) error) {
	m.t.Helper()
	m.ops = append(m.ops, op)
	if err := f(m.t.Context()); err != nil {
		m.t.Fatalf("%v\nafter %q", err, m.ops[max(0, len(m.ops)-12):])
	}
}

// newRows returns random rows with few distinct values. If unique is true, no two rows have the same id.
func (m *changesModel) newRows(maxCount int, unique bool) array.RecordReader {
	var fields []arrow.Field
	for i, name := range m.columns {
		switch {
		case name != "" && i == structColumn:
			var members []arrow.Field
			for _, member := range m.members {
				if member != "" {
					members = append(members, nullable(member, arrow.BinaryTypes.String))
				}
			}
			fields = append(fields, nullable(name, arrow.StructOf(members...)))
		case name != "":
			fields = append(fields, nullable(name, m.types[i]))
		}
	}
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema(fields, nil))
	ids := m.rnd.Perm(40)
	float := func() float64 { return []float64{0, math.Copysign(0, -1), 1, math.NaN(), 2.5}[m.rnd.IntN(5)] }
	for row := range 1 + m.rnd.IntN(maxCount) {
		for i, f := range fields {
			switch builder := b.Field(i).(type) {
			case *array.Int64Builder:
				id := ids[row]
				if !unique {
					id = m.rnd.IntN(40)
				}
				builder.Append(int64(id))
			case *array.TimestampBuilder:
				builder.Append(arrow.Timestamp(1e15))
			case *array.Float64Builder:
				builder.Append(float())
			case *array.Int32Builder:
				builder.Append(int32(m.rnd.IntN(3)))
			case *array.StringBuilder:
				builder.Append([]string{"", "added"}[m.rnd.IntN(2)])
			case *array.StructBuilder:
				if m.rnd.IntN(4) == 0 {
					builder.AppendNull()
					continue
				}
				builder.Append(true)
				for member := range builder.NumField() {
					builder.FieldBuilder(member).(*array.StringBuilder).Append([]string{"", "a"}[m.rnd.IntN(2)])
				}
			case *array.ListBuilder:
				items := builder.ValueBuilder().(*array.StructBuilder)
				if m.rnd.IntN(3) == 0 {
					builder.AppendNull()
					continue
				}
				builder.Append(true)
				for range m.rnd.IntN(3) {
					items.Append(true)
					items.FieldBuilder(0).(*array.Float64Builder).Append(float())
					items.FieldBuilder(1).(*array.StringBuilder).Append([]string{"", "a\x00", "b"}[m.rnd.IntN(3)])
				}
			default:
				m.t.Fatalf("no values for column %v", f)
			}
		}
	}
	return tabletest.OneBatch(b.NewRecordBatch())
}

// rowsByNumber returns the rows of a reader. columns contains the columns' names by number. A column that is not in
// columns has the number -1.
func rowsByNumber(t *testing.T, r array.RecordReader, columns map[int]string) (rows []modelRow) {
	t.Helper()
	numbers := map[string]int{}
	for n, name := range columns {
		numbers[name] = n
	}
	for r.Next() {
		b := r.RecordBatch()
		for row := range int(b.NumRows()) {
			values := modelRow{}
			for i, c := range b.Columns() {
				n, ok := numbers[b.ColumnName(i)]
				if !ok {
					n = -1
				}
				values[n] = cellText(c, row)
				structs, ok := c.(*array.Struct)
				if !ok {
					continue
				}
				if structs.IsValid(row) {
					values[n] = "struct"
				}
				for f := range structs.NumField() {
					if values[numbers[b.ColumnName(i)+"."+structs.DataType().(*arrow.StructType).Field(f).Name]] = "null"; structs.IsValid(row) {
						values[numbers[b.ColumnName(i)+"."+structs.DataType().(*arrow.StructType).Field(f).Name]] = cellText(structs.Field(f), row)
					}
				}
			}
			rows = append(rows, values)
		}
	}
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	return rows
}

// remember folds the tail, and records the rows and columns of the newest version.
func (m *changesModel) remember() {
	m.t.Helper()
	m.must("fold", func(ctx context.Context) error {
		_, err := m.s.Fold(ctx, nil)
		return err
	})
	versions := m.versions()
	newest := versions[len(versions)-1]
	state := &modelState{idColumn: m.idColumn(), columns: map[int]string{}, n: m.types[4]}
	for i, name := range m.columns {
		if name != "" {
			state.columns[i] = name
		}
	}
	if name := m.columns[structColumn]; name != "" {
		for i, member := range m.members {
			if member != "" {
				state.columns[firstMember+i] = name + "." + member
			}
		}
	}
	for number, name := range state.columns {
		if m.names[name] == nil {
			m.names[name] = map[int]bool{}
		}
		m.names[name][number] = true
	}
	if slices.ContainsFunc(m.copies[newest], func(c *modelState) bool { return maps.Equal(c.columns, state.columns) }) {
		return
	}
	at := tables.At(nil) // the columns can have changed after the newest version
	if m.states[newest] == nil {
		m.states[newest], at = state, tables.AtVersion(newest)
	}
	r, err := tableAt(m.t, m.b, "t", at).Scan(m.t.Context(), nil)
	if err != nil {
		m.t.Fatal(err)
	}
	defer r.Release()
	state.rows = rowsByNumber(m.t, r, state.columns)
	m.copies[newest] = append(m.copies[newest], state)
}

func (m *changesModel) versions() (versions []tables.Version) {
	m.t.Helper()
	infos, err := tableAt(m.t, m.b, "t", nil).Versions(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	for _, i := range infos {
		versions = append(versions, i.Version)
	}
	return versions
}

// tableAt returns a table in the state that a selects.
func tableAt(t testing.TB, b *tables.Bucket, name string, a tables.At) *tables.Table {
	t.Helper()
	tab, err := b.Table(name).At(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

func (m *changesModel) step() {
	m.t.Helper()
	switch m.rnd.IntN(16) {
	case 0, 1, 2:
		m.must("append", func(ctx context.Context) error {
			_, err := m.b.Table("t").Put(ctx, m.newRows(20, false), tables.PutAppend, nil)
			return err
		})
	case 3, 4, 5:
		m.must("upsert", func(ctx context.Context) error {
			keys := m.keys
			if keys == nil {
				keys = []string{"id"}
			}
			_, err := m.b.Table("t").Upsert(ctx, m.newRows(8, true), &tables.UpsertOptions{Keys: keys})
			return err
		})
	case 6, 7:
		id := m.rnd.IntN(40)
		m.must("delete rows", func(ctx context.Context) error {
			_, err := m.b.Table("t").DeleteRows(ctx, tables.Between("id", int64(id), int64(id+3)))
			return err
		})
	case 8:
		m.must("compact", func(ctx context.Context) error {
			_, err := m.s.Compact(ctx, nil)
			return err
		})
	case 9:
		if m.rnd.IntN(4) == 0 {
			m.must("replace", func(ctx context.Context) error {
				_, err := m.b.Table("t").Put(ctx, m.newRows(20, false), tables.PutReplace, nil)
				return err
			})
		}
	case 10:
		m.evolve()
	case 11, 12, 13:
		if m.foreign {
			m.deleteForeign()
		}
	case 14:
		m.restore()
	case 15:
		if m.rnd.IntN(3) == 0 {
			m.must("expire", func(ctx context.Context) error {
				_, err := m.s.Expire(ctx, &tables.MaintainOptions{Grace: -1, Keep: 8})
				return err
			})
		}
	}
}

// restore restores the bucket from its snapshot, or creates the snapshot.
func (m *changesModel) restore() {
	m.t.Helper()
	m.remember()
	if m.snapshot == nil || m.rnd.IntN(4) == 0 {
		if m.snapshot != nil {
			m.must("delete snapshot", func(ctx context.Context) error { return m.b.DeleteSnapshot(ctx, "s") })
		}
		m.must("snapshot", func(ctx context.Context) error {
			_, err := m.b.Snapshot(ctx, "s")
			return err
		})
		m.snapshot = &modelSnapshot{slices.Clone(m.columns), slices.Clone(m.members), slices.Clone(m.types)}
		return
	}
	m.must("restore", func(ctx context.Context) error { return m.b.Restore(ctx, "s") })
	added := len(m.columns) - len(m.snapshot.columns) // added columns disappear, but their numbers are not reused
	m.columns = append(slices.Clone(m.snapshot.columns), make([]string, added)...)
	copy(m.types, m.snapshot.types)
	m.members = append(slices.Clone(m.snapshot.members), make([]string, len(m.members)-len(m.snapshot.members))...)
	versions := m.versions()
	m.restored = versions[len(versions)-1]
}

func (m *changesModel) evolve() {
	m.t.Helper()
	m.remember() // a version has the columns that the table had at that time
	var c tables.ColumnChange
	var free []string // a new column can have the name of a dropped one
	for _, name := range []string{"v", "n", "c", "d", "e"} {
		if !slices.Contains(m.columns, name) {
			free = append(free, name)
		}
	}
	i := 2 + m.rnd.IntN(len(m.columns)-2) // not the keys
	switch m.rnd.IntN(6) {
	case 0, 1:
		if len(free) == 0 {
			return
		}
		c = tables.ColumnChange{Op: tables.AddColumn, Column: free[m.rnd.IntN(len(free))], Type: "string"}
		m.columns, m.types = append(m.columns, c.Column), append(m.types, arrow.BinaryTypes.String)
	case 2:
		if m.columns[i] == "" {
			return
		}
		c = tables.ColumnChange{Op: tables.DropColumn, Column: m.columns[i]}
		m.columns[i] = ""
	case 3:
		if m.columns[i] == "" || len(free) == 0 {
			return
		}
		c = tables.ColumnChange{Op: tables.RenameColumn, Column: m.columns[i], To: free[m.rnd.IntN(len(free))]}
		m.columns[i] = c.To
	case 4:
		if m.columns[4] == "" {
			return
		}
		switch m.types[4].ID() {
		case arrow.INT32:
			m.types[4] = arrow.PrimitiveTypes.Int64
		case arrow.INT64:
			m.types[4] = arrow.PrimitiveTypes.Float64
		default:
			return
		}
		c = tables.ColumnChange{Op: tables.WidenColumn, Column: m.columns[4], Type: tables.ColumnTypeOf(m.types[4])}
	case 5:
		if m.foreign && m.columns[structColumn] != "" {
			m.evolveStruct()
		}
		return
	}
	m.must(fmt.Sprint("evolve ", c), func(ctx context.Context) error {
		return m.b.Table("t").Evolve(ctx, c)
	})
	m.remember()
}

// evolveStruct drops or adds a field of the struct, as another program would.
func (m *changesModel) evolveStruct() {
	m.t.Helper()
	i, name := m.rnd.IntN(len(m.members)), []string{"x", "z"}[m.rnd.IntN(2)]
	isDrop := m.members[i] != "" && slices.IndexFunc(m.members, func(s string) bool { return s != "" && s != m.members[i] }) >= 0
	if !isDrop && slices.Contains(m.members, name) {
		return
	}
	m.must(fmt.Sprint("evolve struct: drop ", isDrop, m.members[i], ", or add ", name), func(context.Context) error {
		foreignCommit(m.t, m.s, "t", func(tx *table.Transaction) error {
			update := tx.UpdateSchema(true, true)
			if isDrop {
				update = update.DeleteColumn([]string{m.columns[structColumn], m.members[i]})
			} else {
				update = update.AddColumn([]string{m.columns[structColumn], name}, iceberg.PrimitiveTypes.String, "", false, nil)
			}
			return update.Commit()
		})
		return nil
	})
	if isDrop {
		m.members[i] = ""
	} else {
		m.members = append(m.members, name)
	}
	m.remember()
}

// deleteForeign deletes rows with a delete file, as another program would.
func (m *changesModel) deleteForeign() {
	m.t.Helper()
	m.remember() // foreignCommit does not fold
	id := int64(m.rnd.IntN(40))
	if m.rnd.IntN(2) == 0 {
		m.must(fmt.Sprint("foreign delete of ", id), func(ctx context.Context) error {
			foreignCommit(m.t, m.s, "t", func(tx *table.Transaction) error {
				return tx.Delete(ctx, iceberg.LessThanEqual(iceberg.Reference("id"), id), nil)
			})
			return nil
		})
		return
	}
	m.must(fmt.Sprint("foreign equality delete of ", id), func(ctx context.Context) error {
		foreignCommit(m.t, m.s, "t", func(tx *table.Transaction) error {
			rows := oneColumn("id", id)
			files, err := tx.WriteEqualityDeletes(ctx, []int{m.idColumn()}, func(yield func(arrow.RecordBatch, error) bool) { yield(rows, nil) })
			if err != nil {
				return err
			}
			return tx.NewRowDelta(nil).AddDeletes(files...).Commit(ctx)
		})
		return nil
	})
}

// idColumn returns Iceberg's ID of the column id.
func (m *changesModel) idColumn() int {
	m.t.Helper()
	v, err := tableAt(m.t, m.b, "t", nil).View(m.t.Context(), false)
	if err != nil {
		m.t.Fatal(err)
	}
	field, _ := v.Table().Schema().FindFieldByName("id")
	return field.ID
}

func oneColumn(name string, values ...int64) arrow.RecordBatch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{nullable(name, arrow.PrimitiveTypes.Int64)}, nil))
	b.Field(0).(*array.Int64Builder).AppendValues(values, nil)
	return b.NewRecordBatch()
}

// check compares the changes between all pairs of versions with the rows of both versions, and with other columns that
// readers saw at the earlier version.
func (m *changesModel) check() {
	m.t.Helper()
	m.remember()
	kept := m.versions()
	skipped := rand.IntN(3)
	for to, state := range m.states {
		if !slices.Contains(kept, to) {
			continue
		}
		for from, old := range m.states {
			if skipped++; skipped%3 > 0 && !m.everyPair {
				continue // both maps have a random order, so that other runs compare other pairs
			}
			r, err := tableAt(m.t, m.b, "t", tables.AtVersion(to)).Changes(m.t.Context(), tables.AtVersion(from), nil)
			narrower := old.n.ID() != state.n.ID() && schema.CanPromote(state.n, old.n)
			mustRefuse := !slices.Contains(kept, from) || old.idColumn != state.idColumn || narrower && state.columns[4] != "" && old.columns[4] != ""
			if err != nil && (mustRefuse || from < m.restored && (to >= m.restored || to <= from) || m.mayRefuse(m.copies[from], state, to <= from)) {
				if !errors.Is(err, tables.ErrNotFound) || !strings.Contains(err.Error(), "start again") {
					m.t.Fatalf("changes from version %d to %d: error %v, want ErrNotFound with advice\nafter %q", from, to, err, m.ops)
				}
				m.refused++
				continue
			}
			if err != nil || mustRefuse {
				m.t.Fatalf("changes from version %d %v to %d %v: error %v\nafter %q", from, old.columns, to, state.columns, err, m.ops)
			}
			if r.Version != to {
				m.t.Errorf("changes from version %d to %d: they lead to version %d", from, to, r.Version)
			}
			changes := rowsByNumber(m.t, r, state.columns)
			r.Release()
			for _, old := range m.copies[from] {
				if text := checkChanges(state, old.rows, changes, m.keys); text != "" {
					m.t.Fatalf("changes from version %d %v to %d %v: %s\nafter %q", from, old.columns, to, state.columns, text, m.ops)
				}
			}
			m.exact++
		}
	}
	if m.exact < 5 || m.everyPair && m.exact < 20 {
		m.t.Fatalf("only %d pairs of versions were compared", m.exact)
	}
}

// mayRefuse reports whether the changes to a state can say "start again": a copy can lack a column that another copy of
// the version has, an older state has a column that was dropped, or a name has belonged to several columns. It also
// returns true if the table was replaced.
func (m *changesModel) mayRefuse(copies []*modelState, to *modelState, isBackward bool) bool {
	for number, name := range to.columns {
		for _, c := range copies {
			isDropped := number < firstMember && m.columns[number] == "" || number >= firstMember && (m.columns[structColumn] == "" || m.members[number-firstMember] == "")
			if len(m.names[name]) > 1 || c.columns[number] == "" && copies[0].columns[number] != "" || isBackward && (isDropped || c.columns[number] == "") {
				return true
			}
		}
	}
	return slices.Contains(m.ops, "replace")
}

// checkChanges returns "" if changes lead from the rows before to the rows of state, or a description of an error.
func checkChanges(state *modelState, before, changes []modelRow, keys []string) string {
	count := func(rows []modelRow) map[string]int {
		n := map[string]int{}
		for _, r := range rows {
			n[state.text(r)]++
		}
		return n
	}
	rows, want := count(before), count(state.rows)
	inserted, deleted := map[string]int{}, map[string]int{}
	byKey := map[string][]string{}
	keyOf := func(r modelRow) (key string) {
		for _, n := range slices.Sorted(maps.Keys(state.columns)) {
			if slices.Contains(keys, state.columns[n]) {
				key += r[n] + "|"
			}
		}
		return key
	}
	for i, r := range changes {
		text, kind := state.text(r), r[-1]
		byKey[keyOf(r)] = append(byKey[keyOf(r)], kind)
		switch kind {
		case tables.ChangeInsert, tables.ChangeUpdateAfter:
			rows[text]++
			inserted[text]++
		case tables.ChangeDelete, tables.ChangeUpdateBefore:
			rows[text]--
			deleted[text]++
		default:
			return "unknown kind " + kind
		}
		if kind == tables.ChangeUpdateBefore && (i+1 == len(changes) || changes[i+1][-1] != tables.ChangeUpdateAfter || keyOf(changes[i+1]) != keyOf(r)) {
			return fmt.Sprintf("the row after %s is not the updated row", text)
		}
		if inserted[text] > 0 && deleted[text] > 0 {
			return fmt.Sprintf("row %s is both inserted and deleted", text)
		}
	}
	maps.DeleteFunc(rows, func(_ string, n int) bool { return n == 0 })
	if !maps.Equal(rows, want) {
		return fmt.Sprintf("they give the rows\n%v, want\n%v\nchanges: %v", rows, want, changes)
	}
	for key, kinds := range byKey {
		isPair := keys != nil && len(kinds) == 2 && isInsert(kinds[0]) != isInsert(kinds[1])
		if isUpdate := slices.Contains(kinds, tables.ChangeUpdateBefore); isUpdate != isPair {
			return fmt.Sprintf("key %s has changes %q", key, kinds)
		}
	}
	return ""
}

func isInsert(kind string) bool {
	return kind == tables.ChangeInsert || kind == tables.ChangeUpdateAfter
}

// TestChangesModel compares Changes with scans of all pairs of versions, after random operations.
func TestChangesModel(t *testing.T) {
	for seed := range uint64(tabletest.Rounds(t, "PARTD_MODELS", 6)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			m := newChangesModel(t, seed)
			m.everyPair = os.Getenv("PARTD_MODEL_STEPS") != ""
			for range tabletest.Rounds(t, "PARTD_MODEL_STEPS", 28) {
				m.step()
				if m.rnd.IntN(2) == 0 {
					m.remember()
				}
			}
			m.check()
			t.Logf("%d pairs of versions exact, %d refused", m.exact, m.refused)
		})
	}
}

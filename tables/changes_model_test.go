package tables_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/testutil/must"
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
	copies  map[tables.Version][]*modelState // what readers saw at a version; column changes of other programs make no version
	names   map[string]map[int]bool          // numbers of the columns that ever had a name

	everyPair      bool // whether check compares all pairs of states, not a third
	exact, refused int  // how many pairs of states were compared, and how many must be copied again
	foreign        bool // whether steps can add delete files, as other programs do
	ops            []string

	restored []tables.Version // by restores
	snapshot *modelSnapshot   // the columns in the bucket's snapshot; nil before it is created
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

var itemType = arrow.ListOf(arrow.StructOf(tabletest.Nullable("x", arrow.PrimitiveTypes.Float64), tabletest.Nullable("y", arrow.BinaryTypes.String)))

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
		o := &tables.PutOptions{Settings: settings}
		return must.Err(m.b.Table("t").Put(ctx, m.newRows(3, false), tables.PutAppend, o))
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
	must.Do(t, r.Err())
	return rows
}

// remember folds the tail, and records the rows and columns of the newest version.
func (m *changesModel) remember() {
	m.t.Helper()
	m.must("fold", func(ctx context.Context) error { return must.Err(m.s.Fold(ctx, nil)) })
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
	at := tables.At(nil) // another program can have changed the columns after the newest version
	if m.states[newest] == nil {
		m.states[newest], at = state, tables.AtVersion(newest)
	}
	r := must.Get(tableAt(m.t, m.b, "t", at).Scan(m.t.Context(), nil))(m.t)
	defer r.Release()
	state.rows = rowsByNumber(m.t, r, state.columns)
	m.copies[newest] = append(m.copies[newest], state)
}

func (m *changesModel) versions() (versions []tables.Version) {
	m.t.Helper()
	for _, i := range must.Get(tableAt(m.t, m.b, "t", nil).Versions(m.t.Context()))(m.t) {
		versions = append(versions, i.Version)
	}
	return versions
}

// tableAt returns a table in the state that a selects.
func tableAt(t testing.TB, b *tables.Bucket, name string, a tables.At) *tables.Table {
	t.Helper()
	return must.Get(b.Table(name).At(t.Context(), a))(t)
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
			if err != nil && (mustRefuse || slices.ContainsFunc(m.restored, func(r tables.Version) bool { return from < r && (to >= r || to <= from) }) || m.mayRefuse(m.copies[from], state, to <= from)) {
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

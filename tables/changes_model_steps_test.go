package tables_test

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// newRows returns random rows with few distinct values. If unique is true, no two rows have the same id.
func (m *changesModel) newRows(maxCount int, unique bool) array.RecordReader {
	var fields []arrow.Field
	for i, name := range m.columns {
		switch {
		case name != "" && i == structColumn:
			var members []arrow.Field
			for _, member := range m.members {
				if member != "" {
					members = append(members, tabletest.Nullable(member, arrow.BinaryTypes.String))
				}
			}
			fields = append(fields, tabletest.Nullable(name, arrow.StructOf(members...)))
		case name != "":
			fields = append(fields, tabletest.Nullable(name, m.types[i]))
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

func (m *changesModel) step() {
	m.t.Helper()
	switch m.rnd.IntN(16) {
	case 0, 1, 2:
		m.must("append", func(ctx context.Context) error {
			return must.Err(m.b.Table("t").Put(ctx, m.newRows(20, false), tables.PutAppend, nil))
		})
	case 3, 4, 5:
		m.must("upsert", func(ctx context.Context) error {
			keys := m.keys
			if keys == nil {
				keys = []string{"id"}
			}
			return must.Err(m.b.Table("t").Upsert(ctx, m.newRows(8, true), &tables.UpsertOptions{Keys: keys}))
		})
	case 6, 7:
		id := m.rnd.IntN(40)
		m.must("delete rows", func(ctx context.Context) error {
			return must.Err(m.b.Table("t").DeleteRows(ctx, filter.Between("id", int64(id), int64(id+3))))
		})
	case 8:
		m.must("compact", func(ctx context.Context) error { return must.Err(m.s.Compact(ctx, nil)) })
	case 9:
		if m.rnd.IntN(4) == 0 {
			m.must("replace", func(ctx context.Context) error {
				return must.Err(m.b.Table("t").Put(ctx, m.newRows(20, false), tables.PutReplace, nil))
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
				return must.Err(m.s.Expire(ctx, &tables.MaintainOptions{Grace: -1, Keep: 8}))
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
		m.must("snapshot", func(ctx context.Context) error { return must.Err(m.b.Snapshot(ctx, "s")) })
		m.snapshot = &modelSnapshot{slices.Clone(m.columns), slices.Clone(m.members), slices.Clone(m.types)}
		return
	}
	m.must("restore", func(ctx context.Context) error { return m.b.Restore(ctx, "s") })
	added := len(m.columns) - len(m.snapshot.columns) // added columns disappear, but their numbers are not reused
	m.columns = append(slices.Clone(m.snapshot.columns), make([]string, added)...)
	copy(m.types, m.snapshot.types)
	m.members = append(slices.Clone(m.snapshot.members), make([]string, len(m.members)-len(m.snapshot.members))...)
	versions := m.versions()
	m.restored = append(m.restored, versions[len(versions)-1])
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
		m.must(fmt.Sprint("foreign delete of ", id), func(context.Context) error {
			tabletest.NewEngine(m.t, m.s, "", "t").Delete(iceberg.LessThanEqual(iceberg.Reference("id"), id))
			return nil
		})
		return
	}
	m.must(fmt.Sprint("foreign equality delete of ", id), func(context.Context) error {
		tabletest.NewEngine(m.t, m.s, "", "t").DeleteEqual(oneColumn("id", id), m.idColumn())
		return nil
	})
}

// idColumn returns Iceberg's ID of the column id.
func (m *changesModel) idColumn() int {
	m.t.Helper()
	v := must.Get(tableAt(m.t, m.b, "t", nil).View(m.t.Context(), false))(m.t)
	field, _ := v.Table().Schema().FindFieldByName("id")
	return field.ID
}

func oneColumn(name string, values ...int64) arrow.RecordBatch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{tabletest.Nullable(name, arrow.PrimitiveTypes.Int64)}, nil))
	b.Field(0).(*array.Int64Builder).AppendValues(values, nil)
	return b.NewRecordBatch()
}

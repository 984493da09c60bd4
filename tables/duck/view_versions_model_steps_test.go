//go:build cgo

package duck_test

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
	"github.com/go-partd/partd/tables/transform"
)

// columnTypes are the types of added columns.
var columnTypes = []tables.ColumnType{"int32", "utf8", "float64", "timestamp[us]", "date32"}

// rows returns rows for columns. The column n has the given values; nil columns mean the table's.
func (m *versionsModel) rows(columns *arrow.Schema, ns ...int64) array.RecordReader {
	m.Helper()
	if columns == nil {
		var err error
		columns, err = m.table.Schema(m.Context())
		m.check(err)
	}
	columns = arrow.NewSchema(columns.Fields(), nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, columns)
	for _, n := range ns {
		for i, f := range columns.Fields() {
			n, x := n, m.random.IntN(12)
			switch builder := b.Field(i).(type) {
			case *array.Int64Builder:
				if f.Name != "n" {
					n = int64(x)
				}
				builder.Append(n)
			case *array.Int32Builder:
				builder.Append(int32(x))
			case *array.Float64Builder:
				builder.Append(float64(x) / 2)
			case *array.StringBuilder:
				builder.Append(string(rune('a' + x)))
			case *array.TimestampBuilder:
				builder.Append(arrow.Timestamp(1e15 + int64(x)*3600e6))
			case *array.Date32Builder:
				builder.Append(arrow.Date32(20000 + x))
			case *array.NullBuilder:
				builder.AppendNull()
			default:
				m.Fatalf("no values for column %v", f)
			}
		}
	}
	return tabletest.OneBatch(b.NewRecordBatch())
}

// otherColumns returns columns for a new or replaced table: n, two times, and some others.
func (m *versionsModel) otherColumns() *arrow.Schema {
	fields := []arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, {Name: "at", Type: &arrow.TimestampType{Unit: arrow.Microsecond}, Nullable: true}, {Name: "day", Type: arrow.FixedWidthTypes.Date32, Nullable: true}}
	types := []arrow.DataType{arrow.PrimitiveTypes.Int32, arrow.BinaryTypes.String, arrow.PrimitiveTypes.Float64}
	for i := range m.random.IntN(3) {
		fields = append(fields, arrow.Field{Name: string(rune('a' + i)), Type: types[m.random.IntN(3)], Nullable: true})
	}
	m.random.Shuffle(len(fields), func(i, j int) { fields[i], fields[j] = fields[j], fields[i] })
	return arrow.NewSchema(fields, nil)
}

// settings returns random settings for columns.
func (m *versionsModel) settings(columns *arrow.Schema) *tables.Settings {
	s := &tables.Settings{Evolution: tables.Flexible}
	var times, others []string
	for _, f := range columns.Fields() {
		if id := f.Type.ID(); id == arrow.TIMESTAMP || id == arrow.DATE32 {
			times = append(times, f.Name)
		} else if id == arrow.INT64 || id == arrow.STRING {
			others = append(others, f.Name)
		}
	}
	if m.random.IntN(4) > 0 && len(times) > 0 {
		s.Time = times[m.random.IntN(len(times))]
		s.OnDuplicate = []tables.OnDuplicate{"", tables.KeepFirst, tables.KeepLast}[m.random.IntN(3)]
	}
	if m.random.IntN(2) == 0 && len(others) > 0 {
		s.Keys = []string{others[m.random.IntN(len(others))]}
	}
	return s
}

// allow reports whether a step succeeded. It accepts the errors of steps that do not fit the table.
func (m *versionsModel) allow(err error) bool {
	m.Helper()
	if errors.As(err, new(*tables.SchemaError)) || errors.As(err, new(*tables.ArgumentError)) || errors.As(err, new(*tables.DuplicateError)) {
		m.ops = append(m.ops, "  refused: "+err.Error())
		return false
	}
	m.check(err)
	return true
}

func (m *versionsModel) step() {
	m.Helper()
	ctx := m.Context()
	op := func(format string, args ...any) {
		m.ops = append(m.ops, fmt.Sprintf("%d: ", len(m.moments))+fmt.Sprintf(format, args...))
	}
	put := func(t *tables.Table, columns *arrow.Schema, mode tables.PutMode, o *tables.PutOptions, ns ...int64) {
		m.Helper()
		v, err := t.Put(ctx, m.rows(columns, ns...), mode, o)
		ok := m.allow(err)
		if s, err := t.Settings(ctx); ok && (err != nil || s.OnDuplicate == "") { // otherwise, rows can disappear
			m.puts[v] = append(m.puts[v], ns...)
		}
	}
	schema, err := m.table.Schema(ctx)
	if errors.Is(err, tables.ErrNotFound) {
		columns := m.otherColumns()
		s := m.settings(columns)
		op("create with %+v", *s)
		put(m.table, columns, tables.PutReplace, &tables.PutOptions{Settings: s}, m.next)
		m.forget()
		return
	}
	m.check(err)
	settings, err := m.table.Settings(ctx)
	m.check(err)
	engine := tabletest.NewEngine(m, m.s, "", "t")
	switch m.random.IntN(48) {
	case 0, 1:
		op("fold")
		tabletest.Fold(m, m.s)
	case 2:
		op("replace")
		put(m.table, nil, tables.PutReplace, nil, m.next, -m.next)
	case 3, 4:
		columns := m.otherColumns()
		s := m.settings(columns)
		op("replace by other columns %v, with %+v", columns.Fields(), *s)
		put(m.table, columns, tables.PutReplace, &tables.PutOptions{Settings: s}, m.next, -m.next)
	case 5, 6:
		sql := []string{"SELECT n, at, day, 1 AS z FROM t", "SELECT *, 'x' AS added FROM t", "SELECT at, n + 0 AS n, at AS at2 FROM t", "SELECT * FROM t ORDER BY n DESC"}[m.random.IntN(4)]
		op("CREATE OR REPLACE TABLE t AS %s", sql)
		_, err := m.s.Exec(ctx, "CREATE OR REPLACE TABLE t AS "+sql, nil)
		if err != nil {
			m.ops = append(m.ops, "  refused: "+err.Error()) // the statement can name missing columns, or the time column can be missing
		}
	case 7:
		op("upsert")
		o := &tables.UpsertOptions{Keys: []string{"n"}}
		if settings.Time != "" {
			o = nil
		}
		_, err := m.table.Upsert(ctx, m.rows(nil, m.next-1, m.next), o)
		m.allow(err)
	case 8:
		op("delete rows")
		_, err := m.table.DeleteRows(ctx, filter.Between("n", m.next-4, m.next-2))
		m.check(err)
	case 9, 10, 11, 12, 13:
		m.evolve(schema, op)
	case 14, 15, 16:
		s := m.settings(schema)
		op("settings %+v", *s)
		m.allow(m.table.SetSettings(ctx, *s))
	case 17: // two puts in one commit, which readers never saw apart
		s := m.settings(schema)
		op("update: put, settings %+v, put", *s)
		m.allow(m.s.Update(ctx, func(txn *tables.Txn) error {
			err := txn.Put("", "t", m.rows(nil, -m.next), tables.PutAppend, nil)
			if m.random.IntN(2) == 0 {
				err = cmp.Or(err, txn.SetSettings("", "t", *s))
			}
			return cmp.Or(err, txn.Put("", "t", m.rows(nil, m.next), tables.PutAppend, nil))
		}))
	case 18: // the commit of another process can take the version of rows in the tail
		op("put by another process")
		put(m.other.Bucket("").Table("t"), nil, tables.PutAppend, nil, m.next)
	case 19:
		op("compact")
		tabletest.Compact(m, m.s)
	case 20: // a reader of a moment in the past folds the tail in two parts
		if len(m.moments) > 3 {
			op("read a moment")
			m.readMoment(len(m.moments) - 1 - m.random.IntN(3))
		}
	case 21:
		if settings.Time != "" {
			op("resample")
			_, err := transform.Resample(ctx, m.s, &transform.ResampleOptions{Source: transform.TableName{Name: "t"}, Target: transform.TableName{Name: "t"}, Rule: "D", TimeColumn: settings.Time, Functions: transform.FunctionCalls{"last"}, Mode: tables.PutReplace, By: []string{}})
			m.allow(err)
		}
	case 22:
		name := fmt.Sprint("s", m.next)
		op("snapshot %s", name)
		_, err := m.b.Snapshot(ctx, name)
		m.check(err)
		m.snapshots[name], _ = m.text(nil)
		m.lives[name] = m.life
	case 23, 24:
		for name, want := range m.snapshots {
			op("restore %s", name)
			m.check(m.b.Restore(ctx, name))
			if m.lives[name] != m.life { // the table was created again since, and is replaced without its versions
				m.forget()
			}
			got, _ := m.text(nil)
			m.same(got, want, "the restored snapshot %s", name)
			break
		}
	case 25:
		if m.random.IntN(3) == 0 {
			op("delete")
			m.check(m.table.Delete(ctx))
			m.forget()
		}
	case 26:
		op("another engine adds a column")
		engine.Commit(func(tx *table.Transaction) error {
			return tx.UpdateSchema(true, true).AddColumn([]string{fmt.Sprint("e", m.next)}, iceberg.PrimitiveTypes.String, "", false, nil).Commit()
		})
	case 27:
		op("another engine deletes rows")
		engine.Commit(func(tx *table.Transaction) error {
			err := tx.Delete(ctx, iceberg.LessThanEqual(iceberg.Reference("n"), m.next-30), nil)
			if err != nil && strings.Contains(err.Error(), "no leaf column readers") {
				return nil // iceberg-go cannot rewrite a file without any of the table's columns, after a rollback
			}
			return err
		})
	case 28:
		if settings.OnDuplicate == "" { // earlier rows can have duplicates
			m.rollBack(engine, op)
		}
	case 29:
		op("partition and replace range")
		if settings.Time != "" {
			_, err := m.table.Partition(ctx, []tables.Partition{tables.PartitionMonth, tables.PartitionNone, tables.PartitionDay}[m.random.IntN(3)])
			m.check(err)
			start := time.Unix(1e9+int64(m.random.IntN(12))*3600, 0)
			_, err = m.table.ReplaceRange(ctx, start, start.Add(time.Hour), m.rows(nil), nil)
			m.allow(err)
		}
	default:
		op("append")
		put(m.table, nil, tables.PutAppend, nil, m.next)
	}
}

// evolve makes one or two random column changes. The column n stays.
func (m *versionsModel) evolve(columns *arrow.Schema, op func(string, ...any)) {
	m.Helper()
	var changes []tables.ColumnChange
	for range 1 + m.random.IntN(2) {
		f := columns.Field(m.random.IntN(columns.NumFields()))
		c := tables.ColumnChange{Op: []tables.ColumnOp{tables.AddColumn, tables.DropColumn, tables.RenameColumn, tables.WidenColumn}[m.random.IntN(4)], Column: f.Name}
		switch {
		case c.Op == tables.AddColumn:
			c.Column, c.Type = string(rune('a'+m.random.IntN(6))), columnTypes[m.random.IntN(len(columnTypes))]
		case f.Name == "n":
			continue
		case c.Op == tables.RenameColumn:
			c.To = []string{"at", "day", "a", "b", "c", "renamed"}[m.random.IntN(6)]
		case c.Op == tables.WidenColumn:
			c.Type = "float64"
		}
		changes = append(changes, c)
	}
	if len(changes) == 0 {
		return
	}
	op("evolve %+v", changes)
	t := m.table
	if m.random.IntN(4) == 0 {
		t = m.other.Bucket("").Table("t")
	}
	m.allow(t.Evolve(m.Context(), changes...))
}

// rollBack makes another engine roll the table back to an earlier version.
func (m *versionsModel) rollBack(engine tabletest.Engine, op func(string, ...any)) {
	m.Helper()
	tabletest.Fold(m, m.s)
	loaded, err := engine.LoadTable(m.Context(), nil)
	m.check(err)
	var earlier []int64
	for s := loaded.CurrentSnapshot(); s != nil && s.ParentSnapshotID != nil; s = loaded.SnapshotByID(*s.ParentSnapshotID) {
		if s.SchemaID != nil && *s.SchemaID != loaded.Schema().ID {
			break // the rows can have nulls in new columns of the order
		}
		earlier = append(earlier, *s.ParentSnapshotID)
	}
	if len(earlier) > 0 {
		id := earlier[m.random.IntN(len(earlier))]
		op("another engine rolls back to version %d", loaded.SnapshotByID(id).SequenceNumber)
		engine.Commit(func(tx *table.Transaction) error { return tx.RollbackToSnapshot(id) })
	}
}

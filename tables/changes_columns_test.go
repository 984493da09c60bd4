package tables_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/engine/spill"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/state/definition"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// changesCase is a table of which each test case changes columns.
type changesCase struct {
	*testing.T
	s *tables.Store
	b *tables.Bucket
}

func (c *changesCase) put(columns, rows string) tables.Version {
	c.Helper()
	must.Get(c.b.Table("t").Put(c.Context(), tabletest.JSONRows(c.T, columns, rows), tables.PutAppend, &tables.PutOptions{Settings: &tables.Settings{Evolution: tables.Flexible}}))(c)
	return wantVersion(c.T, c.b)
}

// wantVersion folds the tail and returns the table's version.
func wantVersion(t testing.TB, b *tables.Bucket) tables.Version {
	t.Helper()
	tabletest.Fold(t, b.Store())
	infos := must.Get(b.Table("t").Versions(t.Context()))(t)
	return infos[len(infos)-1].Version
}

func (c *changesCase) evolve(changes ...tables.ColumnChange) {
	c.Helper()
	must.Do(c, c.b.Table("t").Evolve(c.Context(), changes...))
}

func (c *changesCase) foreign(change func(*table.UpdateSchema) *table.UpdateSchema) {
	c.Helper()
	foreignCommit(c.T, c.s, "t", func(tx *table.Transaction) error { return change(tx.UpdateSchema(true, true)).Commit() })
}

func (c *changesCase) snapshot() { c.snapshotNamed("s") }

func (c *changesCase) snapshotNamed(name string) {
	c.Helper()
	must.Get(c.b.Snapshot(c.Context(), name))(c)
}

func (c *changesCase) restore() tables.Version {
	c.Helper()
	must.Do(c, c.b.Restore(c.Context(), "s"))
	return wantVersion(c.T, c.b)
}

// wantRecords checks that a property of the table has at most as many records as a table keeps. separator is a text that
// each record has.
func (c *changesCase) wantRecords(property, separator string) {
	c.Helper()
	t := must.Get(tabletest.NewEngine(c, c.s, c.b.Name(), "t").LoadTable(c.Context(), nil))(c)
	if n := strings.Count(t.Metadata().Properties()[property], separator); n < definition.MaxRecords-1 || n > definition.MaxRecords {
		c.Errorf("the property %s has %d records, want %d", property, n, definition.MaxRecords)
	}
}

// want checks the changes between two states. If want starts with "again: ", they must be refused with the text after
// it.
func (c *changesCase) want(from, to tables.At, want string) {
	c.Helper()
	r, err := tableAt(c.T, c.b, "t", to).Changes(c.Context(), from, &tables.ChangesOptions{Keys: []string{"id"}})
	if reason, ok := strings.CutPrefix(want, "again: "); ok {
		if !errors.Is(err, tables.ErrNotFound) || !strings.Contains(err.Error(), "start again") || !strings.Contains(err.Error(), reason) {
			c.Errorf("changes: error %v, want advice to start again because %s", err, reason)
		}
		if err == nil {
			r.Release()
		}
		return
	}
	must.Do(c, err)
	r.Release()
	got, _ := changesText(c.T, tableAt(c.T, c.b, "t", to), from, &tables.ChangesOptions{Keys: []string{"id"}})
	wantEqual(c.T, "changes", got, want)
}

// TestChangesOfColumns checks changes between states of which one lacks a column of the other, although files that both
// share have values for the column.
func TestChangesOfColumns(t *testing.T) {
	t.Parallel()
	const columns, rows = "id int64; price float64", `{"id":1,"price":1.5},{"id":2,"price":2.5},{"id":3,"price":null}`
	drop, add := tables.ColumnChange{Op: tables.DropColumn, Column: "price"}, tables.ColumnChange{Op: tables.AddColumn, Column: "price", Type: "float64"}
	add2 := tables.ColumnChange{Op: tables.AddColumn, Column: "added", Type: "string"}
	rename := func(from, to string) tables.ColumnChange {
		return tables.ColumnChange{Op: tables.RenameColumn, Column: from, To: to}
	}
	const restored, dropped = "again: a restore brought back dropped columns", "again: was dropped after version"
	for name, test := range map[string]func(c *changesCase){
		"restore of a dropped column": func(c *changesCase) {
			first := c.put(columns, rows)
			c.snapshot()
			c.evolve(drop)
			second := c.put("id int64", `{"id":4}`)
			third := c.restore()
			c.want(tables.AtVersion(second), nil, restored)
			c.want(tables.AtVersion(third), tables.AtVersion(second), "4 insert")
			c.want(tables.AtVersion(first), tables.AtVersion(second), "4 insert")
			c.want(tables.AtVersion(first), tables.AtVersion(first), restored) // a copy at version 1 can lack the column
			c.want(tables.AtVersion(first), nil, restored)
			c.want(tables.AtVersion(second), tables.AtSnapshot("s"), restored)
			c.want(tables.AtSnapshot("s"), tables.AtVersion(third), restored)
			fourth := c.put(columns, `{"id":5,"price":5.5}`)
			c.want(tables.AtVersion(third), nil, "5 5.5 insert")
			c.snapshotNamed("later")
			c.evolve(add2)
			must.Do(c, c.b.Restore(c.Context(), "later")) // keeps the record of the earlier restore
			c.want(tables.AtVersion(second), nil, restored)
			c.want(tables.AtVersion(fourth), nil, "")
		},
		"two restores of a dropped column": func(c *changesCase) {
			c.put(columns, rows)
			c.snapshot()
			c.evolve(drop)
			second := c.put("id int64", `{"id":4}`)
			third := c.restore()
			c.evolve(drop)
			c.restore()
			c.want(tables.AtVersion(second), tables.AtVersion(third), restored)
		},
		"more replacements than are recorded": func(c *changesCase) {
			first := c.put(columns, rows)
			c.snapshotNamed("first")
			second := c.replace("id int64; price float64; more utf8", `{"id":4}`, "")
			c.snapshotNamed("second")
			for i := range definition.MaxRecords {
				c.replace([]string{columns, "id int64; price float64; more utf8"}[i%2], `{"id":4}`, "")
			}
			c.want(tables.AtSnapshot("first"), tables.AtSnapshot("second"), "again: the columns were replaced")
			c.want(tables.AtVersion(first), tables.AtVersion(second), "again: the columns were replaced")
			c.want(tables.AtVersion(second), tables.AtVersion(first), "again: the columns were replaced")
			c.wantRecords("partd.replacements", "version")
		},
		"more restores of columns than are recorded": func(c *changesCase) {
			first := c.put(columns, rows)
			c.snapshot()
			c.evolve(drop)
			second := c.restore()
			for range definition.MaxRecords {
				c.evolve(drop)
				c.restore()
			}
			c.want(tables.AtVersion(first), tables.AtVersion(second), restored)
			c.wantRecords("partd.columns-restored", " ")
		},
		"backwards over a drop": func(c *changesCase) {
			first := c.put(columns, rows)
			c.put(columns, `{"id":5,"price":5.5}`)
			c.evolve(drop)
			last := c.put("id int64", `{"id":4}`)
			c.want(tables.AtVersion(last), tables.AtVersion(first), dropped)
		},
		"drop without a put": func(c *changesCase) {
			first := c.put(columns, rows)
			c.snapshot()
			c.evolve(drop)
			c.want(tables.AtVersion(first), nil, "")
			c.want(tables.AtVersion(first), tables.AtSnapshot("s"), dropped) // a copy at version 1 can lack the column
			c.restore()
			c.want(tables.AtVersion(first), nil, restored)
		},
		"drop and add of a name": func(c *changesCase) {
			first := c.put(columns, rows)
			c.evolve(drop, add)
			c.want(tables.AtVersion(first), nil, "again: \"price\" has the name of an earlier column")
			second := c.put(columns, `{"id":4,"price":4.5}`)
			c.want(tables.AtVersion(first), nil, "again: \"price\" has the name of an earlier column")
			c.want(tables.AtVersion(second), tables.AtVersion(first), dropped)
		},
		"a name used between two versions": func(c *changesCase) {
			first := c.put(columns, rows)
			c.evolve(rename("price", "cost"))
			c.evolve(tables.ColumnChange{Op: tables.DropColumn, Column: "cost"}, tables.ColumnChange{Op: tables.AddColumn, Column: "cost", Type: "float64"})
			c.want(tables.AtVersion(first), nil, "again: \"cost\" has the name of an earlier column")
		},
		"exchange of two names": func(c *changesCase) {
			first := c.put("id int64; a float64; b float64", `{"id":1,"a":1,"b":2}`)
			c.evolve(rename("a", "c"), rename("b", "a"), rename("c", "b"))
			c.want(tables.AtVersion(first), nil, "again: has the name of an earlier column")
		},
		"replacement by the same columns": func(c *changesCase) {
			first := c.put(columns, rows)
			second := c.replace(columns, `{"id":2,"price":2.5},{"id":3,"price":3.5}`, "other metadata")
			c.want(tables.AtVersion(first), nil, "1 1.5 delete; 3 3.5 update_after; 3 null update_before")
			c.want(tables.AtVersion(second), tables.AtVersion(first), "1 1.5 insert; 3 3.5 update_before; 3 null update_after")
		},
		"replacement by other columns": func(c *changesCase) {
			for _, other := range []string{"id int64; price float64; more utf8", "id int64", "id int64; cost float64", "id int64; price utf8", "price float64; id int64"} {
				first := c.put(columns, rows)
				second := c.replace(other, `{"id":4}`, "")
				third := c.put("id int64", `{"id":5}`)
				c.want(tables.AtVersion(first), nil, "again: the columns were replaced")
				c.want(tables.AtVersion(first), tables.AtVersion(second), "again: the columns were replaced")
				c.want(tables.AtVersion(second), tables.AtVersion(first), "again: the columns were replaced")
				if got := must.Get(tableAt(c.T, c.b, "t", nil).Changes(c.Context(), tables.AtVersion(second), nil))(c); got.Version != third {
					c.Errorf("the changes lead to version %d, want %d", got.Version, third)
				} else if n := must.Get(tabletest.CountRows(got))(c); n != 1 {
					c.Errorf("%d changes after the replacement, want 1", n)
				}
				must.Do(c, c.b.Table("t").Delete(c.Context()))
			}
		},
		"replacement by a type that is stored in the same way": func(c *changesCase) {
			first := c.put("id int64; n uint8", `{"id":1,"n":7}`)
			c.replace("id int64; n uint16", `{"id":1,"n":7}`, "")
			c.want(tables.AtVersion(first), nil, "again: the columns were replaced")
		},
		"replacement before a restore": func(c *changesCase) {
			first := c.put(columns, rows)
			c.snapshot()
			second := c.replace("id int64; price float64; more utf8", `{"id":4}`, "")
			c.restore()
			c.want(tables.AtVersion(first), nil, "again: the columns were replaced")
			c.want(tables.AtVersion(second), nil, "1 1.5 insert; 2 2.5 insert; 3 null insert; 4 null delete")
		},
		"rename": func(c *changesCase) {
			first := c.put(columns, rows)
			c.evolve(rename("price", "cost"))
			c.put("id int64; cost float64", `{"id":4,"cost":4.5}`)
			c.want(tables.AtVersion(first), nil, "4 4.5 insert")
		},
		"add": func(c *changesCase) {
			first := c.put("id int64", `{"id":1}`)
			c.evolve(add)
			c.put(columns, `{"id":4,"price":4.5}`)
			c.want(tables.AtVersion(first), nil, "4 4.5 insert")
		},
		"a restore drops an added column": func(c *changesCase) {
			c.put("id int64", `{"id":1}`)
			c.snapshot()
			c.evolve(add)
			second := c.put(columns, `{"id":2,"price":2.5}`)
			c.restore()
			c.want(tables.AtVersion(second), nil, "2 delete")
		},
		"an added column with a default": func(c *changesCase) {
			first := c.put("id int64", `{"id":1}`)
			foreignCommit(c.T, c.s, "t", func(tx *table.Transaction) error { return tx.UpgradeFormatVersion(3) })
			c.foreign(func(u *table.UpdateSchema) *table.UpdateSchema {
				return u.AddColumn([]string{"price"}, iceberg.PrimitiveTypes.Float64, "", false, iceberg.NewLiteral(9.5))
			})
			c.want(tables.AtVersion(first), nil, "")
			second := c.put(columns, `{"id":2,"price":2.5}`)
			c.want(tables.AtVersion(first), nil, "2 2.5 insert")
			deleteByKey(c.T, c.s, "id", 1)
			wantVersion(c.T, c.b)
			c.want(tables.AtVersion(first), nil, "1 9.5 delete; 2 2.5 insert")
			c.want(tables.AtVersion(second), nil, "1 9.5 delete")
		},
		"another order of columns": func(c *changesCase) {
			first := c.put(columns, rows)
			c.foreign(func(u *table.UpdateSchema) *table.UpdateSchema { return u.MoveFirst([]string{"price"}) })
			c.put(columns, `{"id":4,"price":4.5}`)
			c.want(tables.AtVersion(first), nil, "4.5 4 insert")
		},
		"nulls become texts": func(c *changesCase) {
			must.Get(c.b.Table("t").Put(c.Context(), rowsOfJSON(c.T, `[{"id":1,"x":null}]`, tabletest.Nullable("id", arrow.PrimitiveTypes.Int64), tabletest.Nullable("x", arrow.Null)), tables.PutAppend, &tables.PutOptions{Settings: &tables.Settings{Evolution: tables.Flexible}}))(c)
			first := wantVersion(c.T, c.b)
			c.evolve(tables.ColumnChange{Op: tables.WidenColumn, Column: "x", Type: "string"})
			second := c.put("id int64; x utf8", `{"id":4,"x":"a"}`)
			c.want(tables.AtVersion(first), nil, "4 a insert")
			c.want(tables.AtVersion(second), tables.AtVersion(first), dropped)
		},
		"a narrower integer of the same stored type": func(c *changesCase) {
			first := c.put("id int64; n uint8", `{"id":1,"n":7}`)
			c.snapshot()
			c.evolve(tables.ColumnChange{Op: tables.WidenColumn, Column: "n", Type: "uint16"})
			second := c.put("id int64; n uint16", `{"id":2,"n":300}`)
			c.restore()
			c.want(tables.AtVersion(second), nil, "again: \"n\" has a narrower type")
			c.want(tables.AtVersion(first), tables.AtVersion(second), "2 300 insert")
		},
		"a field of a struct": func(c *changesCase) {
			first := c.putStruct(`[{"id":1,"s":{"x":1,"y":2}},{"id":2,"s":{"x":3,"y":null}},{"id":3,"s":null}]`, "x", "y")
			c.snapshot()
			c.foreign(func(u *table.UpdateSchema) *table.UpdateSchema { return u.DeleteColumn([]string{"s", "y"}) })
			second := c.putStruct(`[{"id":4,"s":{"x":4}}]`, "x")
			third := c.restore()
			c.want(tables.AtVersion(second), nil, restored)
			c.want(tables.AtVersion(second), tables.AtVersion(first), restored)
			c.want(tables.AtVersion(third), tables.AtVersion(second), `4 {4} insert`)
			c.foreign(func(u *table.UpdateSchema) *table.UpdateSchema { return u.DeleteColumn([]string{"s", "y"}) })
			c.foreign(func(u *table.UpdateSchema) *table.UpdateSchema {
				return u.AddColumn([]string{"s", "y"}, iceberg.PrimitiveTypes.Int64, "", false, nil)
			})
			c.want(tables.AtVersion(third), nil, `again: "s.y" has the name of an earlier column`)
		},
		"delete of rows by a dropped column": func(c *changesCase) {
			c.put(columns, rows)
			c.snapshot()
			c.evolve(drop)
			tabletest.NewEngine(c.T, c.s, "", "t").MergeOnRead(2)
			second := c.put("id int64", `{"id":4}`)
			deleteByKey(c.T, c.s, "id", 2)
			third := wantVersion(c.T, c.b)
			c.restore()
			c.want(tables.AtVersion(second), nil, restored)
			c.want(tables.AtVersion(third), nil, restored)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
			test(&changesCase{t, s, s.Bucket("")})
		})
	}
}

// replace replaces the table's rows and columns. The columns have the metadata key "m".
func (c *changesCase) replace(columns, rows, metadata string) tables.Version {
	c.Helper()
	m := arrow.MetadataFrom(map[string]string{"m": metadata})
	batch := tabletest.ParseRows(c.T, tabletest.ParseColumns(c.T, columns), "["+rows+"]")
	withMetadata := array.NewRecordBatch(arrow.NewSchema(batch.Schema().Fields(), &m), batch.Columns(), batch.NumRows())
	return tabletest.PutRows(c.T, c.b, "t", tabletest.OneBatch(withMetadata), tables.PutReplace, nil)
}

func (c *changesCase) putStruct(rows string, names ...string) tables.Version {
	c.Helper()
	var members []arrow.Field
	for _, name := range names {
		members = append(members, tabletest.Nullable(name, arrow.PrimitiveTypes.Int64))
	}
	putJSON(c.T, c.b, "t", rows, tabletest.Nullable("id", arrow.PrimitiveTypes.Int64), tabletest.Nullable("s", arrow.StructOf(members...)))
	return wantVersion(c.T, c.b)
}

// createForeign creates table "t" with integer columns as another program would, in a version of Iceberg's format.
func createForeign(t *testing.T, b *tables.Bucket, format int, columns ...string) {
	t.Helper()
	var fields []iceberg.NestedField
	for i, name := range columns {
		fields = append(fields, iceberg.NestedField{ID: i + 1, Name: name, Type: iceberg.PrimitiveTypes.Int64})
	}
	createIceberg(t, b, iceberg.NewSchema(0, fields...), iceberg.UnpartitionedSpec, format)
}

// deleteByKey adds an equality delete of the rows whose first column, with the given name, has the value key.
func deleteByKey(t *testing.T, s *tables.Store, column string, key int64) {
	t.Helper()
	tabletest.NewEngine(t, s, "", "t").DeleteEqual(oneColumn(column, key), 1)
}

// TestChangesWithoutNumbers checks that a table without version numbers is refused. Its Changes.Version would always be
// 0, so a consumer would insert all rows again and again.
func TestChangesWithoutNumbers(t *testing.T) {
	s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
	b := s.Bucket("")
	createForeign(t, b, 1, "k")
	putJSON(t, b, "t", `[{"k":1}]`, tabletest.Nullable("k", arrow.PrimitiveTypes.Int64))
	for _, since := range []tables.At{nil, tables.AtVersion(0)} {
		if _, err := b.Table("t").Changes(t.Context(), since, nil); !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "upgrade the table") {
			t.Errorf("changes of a table of format version 1: error %v, want ErrUnsupported with advice", err)
		}
	}
	foreignCommit(t, s, "t", func(tx *table.Transaction) error { return tx.UpgradeFormatVersion(2) })
	putJSON(t, b, "t", `[{"k":2}]`, tabletest.Nullable("k", arrow.PrimitiveTypes.Int64))
	if v := wantChanges(t, b, nil, nil, "1 insert; 2 insert"); v != 1 {
		t.Errorf("after the upgrade, the changes lead to version %d, want 1", v)
	}
}

// TestChangesAfterPartitioning checks equality deletes before and after a change of the partition spec. The later
// deletes do not apply to files of the earlier spec.
func TestChangesAfterPartitioning(t *testing.T) {
	s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
	b := s.Bucket("")
	createForeign(t, b, 2, "k", "v")
	fields := []arrow.Field{tabletest.Nullable("k", arrow.PrimitiveTypes.Int64), tabletest.Nullable("v", arrow.PrimitiveTypes.Int64)}
	putJSON(t, b, "t", `[{"k":1,"v":1},{"k":2,"v":2},{"k":3,"v":3}]`, fields...)
	deleteByKey(t, s, "k", 2)
	foreignCommit(t, s, "t", func(tx *table.Transaction) error {
		return tx.UpdateSpec(true).AddField("k", iceberg.BucketTransform{NumBuckets: 2}, "k_bucket").Commit()
	})
	putJSON(t, b, "t", `[{"k":1,"v":10},{"k":2,"v":20},{"k":3,"v":30}]`, fields...)
	deleteByKey(t, s, "k", 3)
	deleteByKey(t, s, "k", 1)
	wantChanges(t, b, tables.AtVersion(1), nil, "2 2 delete; 2 20 insert")
	wantChanges(t, b, tables.AtVersion(2), nil, "2 20 insert")
	wantChanges(t, b, tables.AtVersion(3), nil, "1 10 delete; 3 30 delete")
	wantChanges(t, b, tables.AtVersion(4), nil, "1 10 delete")
}

// TestChangesAfterRollback checks that a consumer follows a table that another program rolls back.
func TestChangesAfterRollback(t *testing.T) {
	s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
	b := s.Bucket("")
	for n := range int64(3) {
		tabletest.Put(t, b, "t", tables.PutAppend, n)
	}
	foreignCommit(t, s, "t", func(tx *table.Transaction) error { return tx.RollbackToSnapshot(snapshotIDs(t, b)[0]) })
	if v := wantChanges(t, b, tables.AtVersion(3), nil, "1 row 1 delete; 2 row 2 delete"); v != 1 {
		t.Errorf("after the rollback, the changes lead to version %d, want 1", v)
	}
	tabletest.Put(t, b, "t", tables.PutAppend, 5)
	if v := wantChanges(t, b, tables.AtVersion(1), nil, "5 row 5 insert"); v != 4 {
		t.Errorf("after a put, the changes lead to version %d, want 4", v)
	}
	wantChanges(t, b, tables.AtVersion(2), nil, "1 row 1 delete; 5 row 5 insert")
}

func snapshotIDs(t *testing.T, b *tables.Bucket) (ids []int64) {
	t.Helper()
	for _, s := range must.Get(b.Table("t").View(t.Context(), false))(t).Table().Metadata().Snapshots() {
		ids = append(ids, s.SnapshotID)
	}
	return ids
}

// TestChangesAfterExpire checks that an open reader's files stay when the table's versions expire, and that Release
// removes the temporary files and no longer protects the table's files.
func TestChangesAfterExpire(t *testing.T) {
	const rows, limit = 40_000, 1 << 40
	ctx := t.Context()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true, Memory: 1 << 20})
	b := s.Bucket("")
	for i, prefix := range []string{"old", "new"} {
		tabletest.PutRows(t, b, "t", longRows(prefix, 1, 0, rows), []tables.PutMode{tables.PutAppend, tables.PutReplace}[i], nil)
	}
	open := func() *tables.Changes {
		t.Helper()
		return must.Get(b.Table("t").Changes(ctx, tables.AtVersion(1), nil))(t)
	}
	complete, early := open(), open()
	tabletest.PutRows(t, b, "t", longRows("newer", 1, 0, 1), tables.PutReplace, nil)
	must.Get(s.Expire(ctx, &tables.MaintainOptions{Grace: -1, Keep: 1}))(t)
	if count := must.Get(tabletest.CountRows(complete))(t); count != 2*rows {
		t.Errorf("after the versions expired, an open reader got %d changes, want %d", count, 2*rows)
	}
	spill.Process.SetLimit(limit)
	defer spill.Process.SetLimit(0)
	inUse := func() bool {
		if err := spill.Process.Take(limit); err != nil {
			return true
		}
		spill.Process.Release(limit)
		return false
	}
	if !early.Next() || !inUse() {
		t.Fatal("the changes did not need temporary files")
	}
	early.Release()
	if pins, _ := s.Commits().Pinned(); pins != 0 || inUse() {
		t.Errorf("after Release, %d readers protect files, and temporary files exist: %v", pins, inUse())
	}
}

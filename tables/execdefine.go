package tables

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables/internal/sqlwrite"
)

// isDefinition reports whether the statement drops or renames its table or bucket, so that it cannot record an ID there.
func (x *execution) isDefinition() bool {
	return x.st.Verb == sqlwrite.DropTable || x.st.Verb == sqlwrite.DropBucket || x.st.Change == "RENAME TABLE"
}

// repeated handles a statement whose table does not exist, although the statement may have been applied before.
func (x *execution) repeated(ctx context.Context) error {
	if x.st.Change != "RENAME TABLE" || x.st.IfExists {
		return nil
	}
	exists, err := x.s.has(ctx, x.result.Bucket, x.st.Rename)
	if err == nil && !exists {
		err = ErrNotFound
	}
	return err
}

// define runs a statement that changes a bucket, or the definition of a table.
func (x *execution) define(ctx context.Context) (err error) {
	b := x.s.Bucket(x.result.Bucket)
	if x.st.Verb == sqlwrite.DropTable {
		info, err := x.table.Info(ctx)
		if err != nil && !errors.Is(err, ErrDamaged) {
			return err
		}
		x.result.Rows = info.Rows
	}
	var changes []ColumnChange
	if x.st.Verb == sqlwrite.AlterTable && x.st.Change != "RENAME TABLE" {
		if changes, err = x.columnChanges(ctx); err != nil {
			return err
		}
	}
	if x.o.DryRun {
		return nil
	}
	switch {
	case x.st.Verb == sqlwrite.CreateBucket:
		if err = b.Create(ctx, nil); errors.Is(err, ErrExists) && (x.st.IfNotExists || x.o.ID != "") {
			err = nil
		}
	case x.st.Verb == sqlwrite.DropBucket:
		err = x.s.DeleteBucket(ctx, b.Name(), x.st.Cascade)
	case x.st.Verb == sqlwrite.DropTable:
		err = x.table.Delete(ctx)
	case x.st.Change == "RENAME TABLE":
		err = x.table.Rename(ctx, b, x.st.Rename)
	case len(changes) > 0:
		err = x.table.Evolve(ctx, changes...)
	}
	return err
}

// columnChanges returns the changes of an ALTER TABLE, or nil if the columns are already as the statement would leave them,
// and the statement allows this.
func (x *execution) columnChanges(ctx context.Context) ([]ColumnChange, error) {
	columns, err := x.table.Schema(ctx)
	if err != nil {
		return nil, err
	}
	find := func(name string) (arrow.Field, bool) { // like DuckDB, ignore case
		for _, f := range columns.Fields() {
			if strings.EqualFold(f.Name, name) {
				return f, true
			}
		}
		return arrow.Field{Name: name}, false
	}
	st := x.st
	name := st.Column
	if st.Change == "ADD" {
		name = st.Types[0].Name
	}
	column, exists := find(name)
	var field arrow.Field
	if len(st.Types) > 0 {
		types, err := x.typesOf(ctx)
		if err != nil {
			return nil, err
		}
		field = types.Field(0)
	}
	mayRepeat := x.o.ID != ""
	isRepeated := false
	c := ColumnChange{Column: column.Name}
	switch st.Change {
	case "ADD":
		isRepeated = exists && (st.IfNotExists || mayRepeat && arrow.TypeEqual(column.Type, field.Type))
		c.Op, c.field = AddColumn, field
	case "DROP":
		isRepeated = !exists && (st.IfColumnExists || mayRepeat)
		c.Op = DropColumn
	case "RENAME":
		_, renamed := find(st.Rename)
		isRepeated = !exists && renamed && mayRepeat
		c.Op, c.To = RenameColumn, st.Rename
	case "TYPE":
		if !exists {
			return nil, fmt.Errorf("the table has no column %q", st.Column)
		}
		isRepeated = arrow.TypeEqual(column.Type, field.Type)
		field.Name = column.Name
		c.Op, c.field = WidenColumn, field
	}
	if isRepeated {
		return nil, nil
	}
	return []ColumnChange{c}, nil
}

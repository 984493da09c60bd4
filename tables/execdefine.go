package tables

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables/internal/sql/sqlwrite"
)

// define runs DROP TABLE, ALTER TABLE, CREATE SCHEMA or DROP SCHEMA.
func (x *execution) define(ctx context.Context) (err error) {
	b, st := x.store.Bucket(x.result.Bucket), x.statement
	var c *ColumnChange
	switch st.Verb {
	case sqlwrite.DropTable:
		info, err := x.table.Info(ctx)
		if err != nil && !errors.Is(err, ErrDamaged) {
			return err
		}
		x.result.Rows = info.Rows
	case sqlwrite.DropBucket:
		if st.Cascade {
			for info, err := range b.Tables(ctx, nil) {
				if err != nil {
					return err
				}
				x.result.Rows += info.Rows
			}
		}
	case sqlwrite.AlterTable:
		c, err = x.columnChange(ctx)
		if err != nil {
			return err
		}
	}
	switch {
	case x.options.DryRun:
	case st.Verb == sqlwrite.CreateBucket:
		err = b.Create(ctx, nil)
		if st.IfNotExists && errors.Is(err, ErrExists) {
			err = nil
		}
	case st.Verb == sqlwrite.DropBucket:
		err = x.store.DeleteBucket(ctx, b.Name(), st.Cascade)
	case st.Verb == sqlwrite.DropTable:
		err = x.table.Delete(ctx)
	case st.Column == "":
		err = x.table.Rename(ctx, b, st.NewName)
	case c != nil:
		err = x.table.Evolve(ctx, *c)
	}
	return err
}

// columnChange returns the change that an ALTER TABLE makes to a column, or nil if it changes none.
func (x *execution) columnChange(ctx context.Context) (*ColumnChange, error) {
	st := x.statement
	existing, err := x.table.Schema(ctx)
	if err != nil || st.Column == "" {
		return nil, err
	}
	c := &ColumnChange{Op: ColumnOp(st.Change), Column: st.Column, To: st.NewName}
	// DuckDB ignores case in column names.
	i := slices.IndexFunc(existing.Fields(), func(f arrow.Field) bool { return strings.EqualFold(f.Name, st.Column) })
	if i >= 0 {
		c.Column = existing.Field(i).Name
	}
	if st.IfColumn && (i >= 0) == (c.Op == AddColumn) {
		return nil, nil
	}
	if len(st.NewColumns) > 0 {
		columns, err := x.listedColumns(ctx)
		if err != nil {
			return nil, err
		}
		c.field = columns.Field(0)
		if c.Op == WidenColumn && i >= 0 && arrow.TypeEqual(existing.Field(i).Type, c.field.Type) {
			return nil, nil
		}
	}
	return c, nil
}

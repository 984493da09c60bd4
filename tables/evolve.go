package tables

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/commit"
	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/schema"
)

// ColumnChange is a change of a table's columns.
type ColumnChange struct {
	Op     ColumnOp   `json:"op"`
	Column string     `json:"column"`
	To     string     `json:"to,omitempty"`   // the new name, for RenameColumn
	Type   ColumnType `json:"type,omitempty"` // the new type, for AddColumn and WidenColumn

	field arrow.Field // what a put adds or widens to; it has a type where Type is ""
}

// ColumnOp is what a change does to a column.
type ColumnOp = definition.ColumnOp

// The changes of a column, each of which a table allows that allows the next one.
const (
	AddColumn    = definition.AddColumn
	WidenColumn  = definition.WidenColumn // an integer or a float gets a larger type, nulls any
	RenameColumn = definition.RenameColumn
	DropColumn   = definition.DropColumn
)

// ColumnType is a type as Arrow writes it: int64, timestamp[us, tz=UTC].
type ColumnType string

// ColumnTypeOf returns the text of a type that is not nested.
func ColumnTypeOf(t arrow.DataType) ColumnType { return ColumnType(t.String()) }

// allows says why a kind of evolution does not allow a change.
func allows(e Evolution, c ColumnChange) error {
	ops := []ColumnOp{AddColumn, WidenColumn, RenameColumn, DropColumn}
	n := slices.Index(ops, c.Op)
	if n < 0 {
		return &ArgumentError{Err: fmt.Errorf("there is no change %q of columns: there are %q", c.Op, ops)}
	}
	if most, ok := map[Evolution]int{Strict: 0, AddOnly: 1, Compatible: 2}[e]; ok && n >= most {
		return schema.Errorf(c.Column, "the table's evolution is %s, which does not allow to %s columns", e, c.Op)
	}
	return nil
}

// changesOf returns the changes that a put asks for.
func changesOf(put []definition.Change) (all []ColumnChange) {
	for _, c := range put {
		all = append(all, ColumnChange{Op: c.Op, Column: c.Field.Name, field: c.Field})
	}
	return all
}

// evolved is a table's columns after changes.
type evolved struct {
	shape    *schema.Shape
	from     []int // for each column, that of the columns before; -1: it is new
	rewrites bool  // Iceberg has no such change: the files are written anew
}

// evolve plans changes of a table's columns.
func evolve(meta table.Metadata, changes []ColumnChange) (*evolved, error) {
	def, err := definition.Of(meta)
	if err != nil {
		return nil, err
	}
	rules, err := def.Rules()
	if err != nil {
		return nil, err
	}
	cur := meta.CurrentSchema()
	fields, columns, types := slices.Clone(cur.Fields()), def.Put.Fields(), def.Logical.Fields()
	ev := &evolved{}
	lastID := meta.LastColumnID()
	for i := range fields {
		ev.from = append(ev.from, i)
	}
	pandas := pandasNames{}
	find := func(name string) int {
		return slices.IndexFunc(fields, func(f iceberg.NestedField) bool { return f.Name == name })
	}
	for _, c := range changes {
		if err := allows(def.Settings.Evolution, c); err != nil {
			return nil, err
		}
		at := find(c.Column)
		if (at >= 0) == (c.Op == AddColumn) {
			return nil, schema.Errorf(c.Column, "to %s it: the table's columns are %q", c.Op, schema.Names(def.Logical))
		}
		if c.Op == RenameColumn || c.Op == DropColumn {
			for i, name := range def.Settings.Order() {
				if f, ok := cur.FindFieldByName(name); ok && f.ID == fields[at].ID && c.Op == DropColumn {
					setting := "keys"
					if i == 0 && def.Settings.Time != "" {
						setting = "time"
					}
					return nil, schema.Errorf(c.Column, "the table's setting %s names it: change that first", setting)
				}
			}
			for _, r := range rules {
				if slices.Contains(r.Names(), c.Column) {
					return nil, schema.Errorf(c.Column, "the rule %q is about it: remove that first", r.Name)
				}
			}
		}
		var f arrow.Field
		var made iceberg.NestedField
		if c.Op == AddColumn || c.Op == WidenColumn {
			if f, made, err = c.column(lastID); err != nil {
				return nil, err
			}
		}
		switch c.Op {
		case AddColumn:
			lastID = max(lastID, highest(made))
			fields, columns, types, ev.from = append(fields, made), append(columns, f), append(types, f), append(ev.from, -1)
		case RenameColumn:
			if c.To == "" || find(c.To) >= 0 {
				return nil, schema.Errorf(c.Column, "it cannot be renamed to %q: that is empty, or a column's name already", c.To)
			}
			fields[at].Name, columns[at].Name, types[at].Name = c.To, c.To, c.To
			pandas[c.Column] = c.To
		case DropColumn:
			fields, columns, types = slices.Delete(fields, at, at+1), slices.Delete(columns, at, at+1), slices.Delete(types, at, at+1)
			ev.from = slices.Delete(ev.from, at, at+1)
		case WidenColumn:
			if !schema.Widens(types[at].Type, f.Type) {
				return nil, schema.Errorf(c.Column, "it has type %s, which cannot become %s: integers become larger ones or float64, floats larger floats, nulls anything", types[at].Type, f.Type)
			}
			if types[at].Type.ID() == arrow.NULL { // as another column, which files from before lack
				lastID = max(lastID, highest(made))
				fields[at], columns[at], types[at], ev.from[at] = made, f, f, -1
				break
			}
			was, err := schema.StoredType(types[at].Type)
			if err != nil {
				return nil, err
			}
			ev.rewrites = ev.rewrites || arrow.IsInteger(was.ID()) && made.Type.Equals(iceberg.PrimitiveTypes.Float64)
			// A note makes another schema of one whose columns are kept as before.
			fields[at].Type, fields[at].Doc = made.Type, f.Type.String()
			columns[at].Type, types[at].Type = f.Type, f.Type
		}
	}
	if len(columns) == 0 {
		return nil, schema.Errorf(changes[len(changes)-1].Column, "it is the table's only column")
	}
	if err := schema.CheckNames(arrow.NewSchema(columns, nil)); err != nil {
		return nil, err
	}
	metadata, err := pandas.renamed(def.Put.Metadata())
	if err != nil {
		return nil, err
	}
	ev.shape = &schema.Shape{Schema: iceberg.NewSchemaWithIdentifiers(cur.ID, cur.IdentifierFieldIDs, fields...), LastID: meta.LastColumnID()}
	if ev.shape.Stored, err = schema.StoredOf(ev.shape.Schema); err != nil {
		return nil, err
	}
	ev.shape.Put, err = schema.Encode(arrow.NewSchema(columns, &metadata))
	return ev, err
}

// caster makes rows of the columns before, as readers get them, fit those after.
func (ev *evolved) caster(before table.Metadata) (*schema.Caster, error) {
	def, err := definition.Of(before)
	if err != nil {
		return nil, err
	}
	return schema.NewColumnsCaster(def.Logical, def.Stored, ev.shape.Stored, ev.from), nil
}

// column is the column that a change adds, or widens one to, with ids above lastID.
func (c ColumnChange) column(lastID int) (f arrow.Field, made iceberg.NestedField, err error) {
	f = c.field
	if f.Type == nil {
		if f.Type, err = schema.Parse(string(c.Type)); err != nil {
			return f, made, &SchemaError{Column: c.Column, Err: err}
		}
	}
	f.Name, f.Nullable = c.Column, true // rows that are there have no value
	sh, err := schema.NewShape(arrow.NewSchema([]arrow.Field{f}, nil), lastID)
	if err != nil {
		return f, made, err
	}
	return f, sh.Schema.Field(0), nil
}

// highest is the last id of a column and its parts.
func highest(f iceberg.NestedField) int { return iceberg.NewSchema(0, f).HighestFieldID() }

// pandasNames are columns' new names by their old ones, for what pandas notes of
// columns beside a schema.
type pandasNames map[string]string

func (n pandasNames) renamed(m arrow.Metadata) (arrow.Metadata, error) {
	text, ok := m.GetValue("pandas")
	if !ok || len(n) == 0 {
		return m, nil
	}
	var notes map[string]any
	if err := json.Unmarshal([]byte(text), &notes); err != nil {
		return m, fmt.Errorf("the schema's metadata of pandas: %w", err)
	}
	index, _ := notes["index_columns"].([]any)
	for i, name := range index {
		if name, ok := name.(string); ok && n[name] != "" {
			index[i] = n[name]
		}
	}
	columns, _ := notes["columns"].([]any)
	for _, c := range columns {
		c, _ := c.(map[string]any)
		for _, key := range []string{"name", "field_name"} {
			if name, ok := c[key].(string); ok && n[name] != "" {
				c[key] = n[name]
			}
		}
	}
	b, err := json.Marshal(notes)
	all := m.ToMap()
	all["pandas"] = string(b)
	return arrow.MetadataFrom(all), err
}

// Evolve changes a table's columns, in one commit. Rows that are there have null in
// columns that are added; what was dropped or renamed stays as it was in older
// versions. Widening an integer to float64 writes the table's files anew, and is
// refused where a value would not stay exact; all else leaves them.
func (b *Bucket) Evolve(ctx context.Context, name string, changes ...ColumnChange) error {
	return b.updateAgain(ctx, func(t *Txn) error { return t.Evolve(b.Name(), name, changes...) })
}

// SetEvolution sets which changes of its columns a table takes, and leaves its other
// settings.
func (b *Bucket) SetEvolution(ctx context.Context, name string, e Evolution) error {
	return b.store().Update(ctx, func(t *Txn) error {
		if err := e.Check(); err != nil {
			return &OpError{Op: "set the evolution of", Bucket: b.Name(), Table: name, Err: err}
		}
		return t.editSettings("set the evolution of", b.Name(), name, func(s *Settings) { s.Evolution = e })
	})
}

// updateAgain is Update, again where others change the table meanwhile.
func (b *Bucket) updateAgain(ctx context.Context, f func(*Txn) error) (err error) {
	for range commit.MostAttempts {
		if err = b.store().Update(ctx, f); !errors.Is(err, commit.ErrStale) {
			break
		}
	}
	return err
}

// Evolve changes a table's columns; see Bucket.Evolve.
func (t *Txn) Evolve(bucket, name string, changes ...ColumnChange) (err error) {
	defer failed(&err, "evolve", bucket, name)
	c, err := t.existing(bucket, name)
	if err == nil {
		err = t.evolve(c, changes)
	}
	return err
}

func (t *Txn) evolve(c *txnChange, changes []ColumnChange) error {
	if len(changes) == 0 {
		return nil
	}
	ev, err := evolve(c.cur.Metadata(), changes)
	if err != nil {
		return err
	}
	step := &evolveStep{e: t.entry(c), shape: ev.shape}
	var fit *schema.Caster
	if ev.rewrites {
		if fit, err = ev.caster(c.cur.Metadata()); err != nil {
			return err
		}
	}
	return t.reshape(c, step, fit, nil)
}

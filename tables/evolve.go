package tables

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/state/definition"
	"github.com/go-partd/partd/tables/internal/state/rules"
)

func checkAllowed(e definition.Evolution, c ColumnChange) error {
	ops := []ColumnOp{AddColumn, WidenColumn, RenameColumn, DropColumn}
	rank := slices.Index(ops, c.Op)
	if rank < 0 {
		return &ArgumentError{Err: fmt.Errorf("unknown column change %q: use one of %q", c.Op, ops)}
	}
	// The number of kinds, from the start of ops, that each setting allows. Flexible allows all.
	numAllowed := map[definition.Evolution]int{definition.Strict: 0, definition.AddOnly: 1, definition.Compatible: 2}
	if n, ok := numAllowed[e]; ok && rank >= n {
		return schema.Errorf(c.Column, "the table's evolution setting is %s, which does not allow the change %q", e, c.Op)
	}
	return nil
}

func changesOf(needed []definition.Change) (changes []ColumnChange) {
	for _, c := range needed {
		changes = append(changes, ColumnChange{Op: ColumnOp(c.Op), Column: c.Field.Name, field: c.Field})
	}
	return changes
}

// evolvedColumns describes a table's columns after changes have been applied.
type evolvedColumns struct {
	before       *definition.Definition
	rules        []rules.Rule
	shape        *schema.Shape
	oldIndexes   []int // for each column, its index before the changes, or -1 if it is new
	needsRewrite bool  // whether files must be rewritten, because Iceberg does not allow the type change
	specs        []iceberg.PartitionSpec

	// The columns after the changes so far: in the Iceberg schema, as they are put, and as readers see them.
	icebergFields         []iceberg.NestedField
	putFields, readFields []arrow.Field

	lastID int         // highest field ID so far
	pandas pandasNames // renamed columns
}

// evolve returns a table's columns after the given changes, or an error if a change is impossible or not allowed.
func evolve(meta table.Metadata, changes []ColumnChange) (*evolvedColumns, error) {
	def, err := definition.FromMetadata(meta)
	if err != nil {
		return nil, err
	}
	ruleList, err := def.Rules()
	if err != nil {
		return nil, err
	}
	cur := meta.CurrentSchema()
	ev := &evolvedColumns{
		before: def, rules: ruleList, lastID: meta.LastColumnID(), pandas: pandasNames{}, specs: meta.PartitionSpecs(),
		icebergFields: slices.Clone(cur.Fields()), putFields: def.Put.Fields(), readFields: def.Logical.Fields(),
	}
	for i := range ev.icebergFields {
		ev.oldIndexes = append(ev.oldIndexes, i)
	}
	for _, c := range changes {
		if err := ev.change(cur, c); err != nil {
			return nil, err
		}
	}
	if len(ev.putFields) == 0 {
		return nil, schema.Errorf(changes[len(changes)-1].Column, "cannot drop the table's only column")
	}
	if err := schema.CheckNames(arrow.NewSchema(ev.putFields, nil)); err != nil {
		return nil, err
	}
	metadata, err := ev.pandas.rename(def.Put.Metadata())
	if err != nil {
		return nil, err
	}
	evolvedSchema := iceberg.NewSchemaWithIdentifiers(cur.ID, cur.IdentifierFieldIDs, ev.icebergFields...)
	ev.shape, err = schema.ShapeOf(evolvedSchema, arrow.NewSchema(ev.putFields, &metadata), meta.LastColumnID())
	return ev, err
}

func (ev *evolvedColumns) indexOf(name string) int {
	return slices.IndexFunc(ev.icebergFields, func(f iceberg.NestedField) bool { return f.Name == name })
}

// change applies one change. cur is the table's schema before all changes.
func (ev *evolvedColumns) change(cur *iceberg.Schema, c ColumnChange) error {
	if err := checkAllowed(ev.before.Settings.Evolution, c); err != nil {
		return err
	}
	i := ev.indexOf(c.Column)
	if (i >= 0) == (c.Op == AddColumn) {
		return schema.Errorf(c.Column, "cannot %s the column: the table's columns are %q", c.Op, schema.Names(ev.before.Logical))
	}
	switch c.Op {
	case AddColumn:
		return ev.add(c)
	case WidenColumn:
		return ev.widen(c, i)
	}
	if err := ev.checkUnused(cur, c, ev.icebergFields[i].ID); err != nil {
		return err
	}
	if c.Op == DropColumn {
		ev.drop(i)
		return nil
	}
	return ev.rename(c, i)
}

// checkUnused returns an error if c drops a column that a setting names, or drops or renames one that a rule uses.
func (ev *evolvedColumns) checkUnused(cur *iceberg.Schema, c ColumnChange, id int) error {
	settings := ev.before.Settings
	for i, name := range settings.Order() {
		f, ok := cur.FindFieldByName(name)
		if c.Op != DropColumn || !ok || f.ID != id {
			continue
		}
		setting := "keys"
		if i == 0 && settings.Time != "" {
			setting = "time"
		}
		return schema.Errorf(c.Column, "the table's setting %s names the column: change the setting first", setting)
	}
	for _, r := range ev.rules {
		if slices.Contains(r.Names(), c.Column) {
			return schema.Errorf(c.Column, "the rule %q uses the column: remove the rule first", r.Name)
		}
	}
	return nil
}

func (ev *evolvedColumns) add(c ColumnChange) error {
	f, icebergField, err := c.column(ev.lastID)
	if err != nil {
		return err
	}
	ev.lastID = max(ev.lastID, highestID(icebergField))
	ev.icebergFields, ev.oldIndexes = append(ev.icebergFields, icebergField), append(ev.oldIndexes, -1)
	ev.putFields, ev.readFields = append(ev.putFields, f), append(ev.readFields, f)
	return nil
}

func (ev *evolvedColumns) drop(i int) {
	ev.icebergFields, ev.oldIndexes = slices.Delete(ev.icebergFields, i, i+1), slices.Delete(ev.oldIndexes, i, i+1)
	ev.putFields, ev.readFields = slices.Delete(ev.putFields, i, i+1), slices.Delete(ev.readFields, i, i+1)
}

func (ev *evolvedColumns) rename(c ColumnChange, i int) error {
	if c.To == "" || ev.indexOf(c.To) >= 0 {
		return schema.Errorf(c.Column, "cannot rename the column to %q: the name is empty or already in use", c.To)
	}
	ev.icebergFields[i].Name, ev.putFields[i].Name, ev.readFields[i].Name = c.To, c.To, c.To
	ev.pandas[c.Column] = c.To
	return nil
}

func (ev *evolvedColumns) widen(c ColumnChange, i int) error {
	f, icebergField, err := c.column(ev.lastID)
	if err != nil {
		return err
	}
	from := ev.readFields[i].Type
	if !schema.CanWiden(from, f.Type) {
		return schema.Errorf(c.Column, "cannot widen type %s to %s: integers can become larger integers or float64, "+
			"floats larger floats, and null any type", from, f.Type)
	}
	if from.ID() == arrow.NULL { // Replace the column with a new one, for which existing files have no values.
		ev.lastID = max(ev.lastID, highestID(icebergField))
		ev.icebergFields[i], ev.putFields[i], ev.readFields[i], ev.oldIndexes[i] = icebergField, f, f, -1
		return nil
	}
	oldType, err := schema.StoredType(from)
	if err != nil {
		return err
	}
	if arrow.IsInteger(oldType.ID()) && icebergField.Type.Equals(iceberg.PrimitiveTypes.Float64) {
		if spec, ok := definition.SpecOf(ev.specs, ev.icebergFields[i].ID); ok {
			return schema.Errorf(c.Column, "cannot widen type %s to %s, because the partition spec %d of the table uses the column, and Iceberg allows only larger integers there", from, f.Type, spec)
		}
		ev.needsRewrite = true
	}
	// Record the Arrow type in Doc, because several Arrow types can share one stored type.
	ev.icebergFields[i].Type, ev.icebergFields[i].Doc = icebergField.Type, f.Type.String()
	ev.putFields[i].Type, ev.readFields[i].Type = f.Type, f.Type
	return nil
}

// caster returns a Caster that converts rows of the old columns, in the types that readers see, to the new columns.
func (ev *evolvedColumns) caster() *schema.Caster {
	return schema.NewColumnsCaster(ev.before.Logical, ev.before.Stored, ev.shape.Stored, ev.oldIndexes)
}

// column returns the column that c adds or widens, with its new type. Its field IDs are above lastID.
func (c ColumnChange) column(lastID int) (f arrow.Field, stored iceberg.NestedField, err error) {
	f = c.field
	if f.Type == nil {
		f.Type, err = schema.Parse(string(c.Type))
		if err != nil {
			return f, stored, &schema.Error{Column: c.Column, Err: err}
		}
	}
	f.Name, f.Nullable = c.Column, true // nullable, because existing rows have no value
	sh, err := schema.NewShape(arrow.NewSchema([]arrow.Field{f}, nil), nil, lastID)
	if err != nil {
		return f, stored, err
	}
	return f, sh.Schema.Field(0), nil
}

// highestID returns the highest field ID of a column, including nested fields.
func highestID(f iceberg.NestedField) int { return iceberg.NewSchema(0, f).HighestFieldID() }

// pandasNames maps old column names to new ones, for a schema's pandas metadata.
type pandasNames map[string]string

// rename renames the columns in m's pandas metadata, if there is any.
func (n pandasNames) rename(m arrow.Metadata) (arrow.Metadata, error) {
	text, ok := m.GetValue("pandas")
	if !ok || len(n) == 0 {
		return m, nil
	}
	var pandas map[string]any
	if err := json.Unmarshal([]byte(text), &pandas); err != nil {
		return m, fmt.Errorf("read the schema's pandas metadata: %w", err)
	}
	index, _ := pandas["index_columns"].([]any)
	for i, name := range index {
		if name, ok := name.(string); ok && n[name] != "" {
			index[i] = n[name]
		}
	}
	columns, _ := pandas["columns"].([]any)
	for _, c := range columns {
		c, _ := c.(map[string]any)
		for _, key := range []string{"name", "field_name"} {
			if name, ok := c[key].(string); ok && n[name] != "" {
				c[key] = n[name]
			}
		}
	}
	b, err := json.Marshal(pandas)
	all := m.ToMap()
	all["pandas"] = string(b)
	return arrow.MetadataFrom(all), err
}

// Evolve changes the table's columns, in one commit. Existing rows have null in added columns. Older versions keep
// dropped columns and old names. Widening an integer to float64 rewrites the table's files and fails if a value cannot
// be represented exactly. Other changes do not rewrite files.
func (t *Table) Evolve(ctx context.Context, changes ...ColumnChange) error {
	return t.update(ctx, "evolve", func(txn *Txn) error { return txn.Evolve(t.Bucket().Name(), t.Name(), changes...) })
}

// SetEvolution sets which column changes the table allows. It does not change other settings.
func (t *Table) SetEvolution(ctx context.Context, e Evolution) error {
	const op = "set the evolution of"
	evolution := definition.Evolution(e)
	if err := evolution.Check(); err != nil {
		return t.error(op, err)
	}
	return t.update(ctx, op, func(txn *Txn) error {
		return txn.editSettings(op, t.Bucket().Name(), t.Name(), func(s *definition.Settings) { s.Evolution = evolution })
	})
}

// Evolve is like Table.Evolve, as part of the transaction.
func (t *Txn) Evolve(bucket, name string, changes ...ColumnChange) (err error) {
	defer wrapError(&err, "evolve", bucket, name)
	c, err := t.existing(bucket, name)
	if err != nil {
		return err
	}
	return t.evolve(c, changes)
}

func (t *Txn) evolve(c *txnChange, changes []ColumnChange) error {
	if len(changes) == 0 {
		return nil
	}
	ev, err := evolve(c.cur.Metadata(), changes)
	if err != nil {
		return err
	}
	step := &evolveStep{e: t.writer(c), shape: ev.shape}
	var caster *schema.Caster
	if ev.needsRewrite {
		caster = ev.caster()
	}
	return t.reshape(c, step, caster, nil)
}

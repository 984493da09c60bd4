// Package definition parses a table's metadata: its columns in three type systems, its settings, and the
// order of its rows. It also creates the metadata of new and changed tables.
package definition

import (
	"fmt"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/state/rules"
)

// Definition is the parsed metadata of a table. It is immutable, and tables with equal columns and settings may share
// it.
type Definition struct {
	Columns *iceberg.Schema
	Put     *arrow.Schema // the types of the columns as put
	Stored  *arrow.Schema // the types in the table's files
	Logical *arrow.Schema // the types that readers get: those in Put, without encodings such as dictionaries

	Settings Settings
	Order    *Order                       // nil if rows are in order of arrival
	Rules    func() ([]rules.Rule, error) // the table's rules, without those of its bucket

	key     key
	mu      sync.Mutex
	casters []cachedCaster // most recently added first
	withIDs *arrow.Schema  // result of StoredWithIDs; nil before the first call
}

// key has everything besides the columns that determines a definition.
type key struct {
	icebergSchema, sort  int // IDs of the schema and the sort order
	put, settings, rules string
}

// maxCached is the maximum number of cached definitions, and of cached casters per definition. A few definitions
// suffice for most tables, and the definition of a wide table takes tens of kilobytes.
const maxCached = 16

var cache struct {
	sync.Mutex
	all []*Definition
}

// FromMetadata returns the definition of a table.
func FromMetadata(meta table.Metadata) (*Definition, error) {
	return forKey(meta.CurrentSchema(), keyOf(meta, meta.CurrentSchema()))
}

// keyOf returns the key for one of a table's schemas, with the table's current order, settings and rules.
func keyOf(meta table.Metadata, columns *iceberg.Schema) key {
	properties := meta.Properties()
	return key{columns.ID, meta.DefaultSortOrder(), properties[schema.Property(columns.ID)], properties[SettingsProperty], properties[icecat.RulesProperty]}
}

func forKey(columns *iceberg.Schema, k key) (*Definition, error) {
	cache.Lock()
	defer cache.Unlock()
	for _, d := range cache.all {
		if d.key == k && d.Columns.Equals(columns) {
			return d, nil
		}
	}
	d, err := parse(columns, k)
	if err != nil {
		return d, err
	}
	cache.all = pushFront(cache.all, d)
	return d, nil
}

// withTypes returns a Definition without settings, order and rules. property is the value of the table property that
// records the columns' types in the put.
func withTypes(columns *iceberg.Schema, property string) (d *Definition, err error) {
	d = &Definition{Columns: columns}
	d.Stored, err = schema.StoredSchema(columns)
	if err != nil {
		return nil, err
	}
	d.Put, err = schema.PutSchema(d.Stored, property)
	if err != nil {
		return nil, fmt.Errorf("property %s: %w", schema.Property(columns.ID), err)
	}
	d.Logical = schema.WithoutEncodings(d.Put)
	return d, nil
}

func parse(columns *iceberg.Schema, k key) (d *Definition, err error) {
	d, err = withTypes(columns, k.put)
	if err != nil {
		return nil, err
	}
	d.key, d.Rules = k, sync.OnceValues(func() ([]rules.Rule, error) { return rules.Parse(k.rules) })
	d.Settings, err = ParseSettings(k.settings)
	if err != nil {
		return nil, err
	}
	d.Order, err = newOrder(d, k.sort)
	return d, err
}

// AsStored returns a copy of d whose readers get the types in the table's files.
func (d *Definition) AsStored() *Definition {
	return &Definition{Columns: d.Columns, Put: d.Put, Stored: d.Stored, Logical: d.Stored, Settings: d.Settings, Order: d.Order, Rules: d.Rules}
}

// WithLineage returns a copy of d that also has the columns of [schema.WithLineage], for moving rows to other files. If
// there are no such columns to add, it returns d.
func (d *Definition) WithLineage(formatVersion int) *Definition {
	columns := schema.WithLineage(d.Columns, formatVersion)
	if columns == d.Columns {
		return d
	}
	return &Definition{
		Columns: columns, Put: schema.AddLineage(d.Put), Stored: schema.AddLineage(d.Stored), Logical: schema.AddLineage(d.Logical),
		Settings: d.Settings, Order: d.Order, Rules: d.Rules,
	}
}

// StoredWithIDs returns Stored with the Iceberg ID of each field in the metadata key PARQUET:field_id.
func (d *Definition) StoredWithIDs() (_ *arrow.Schema, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.withIDs == nil {
		d.withIDs, err = table.SchemaToArrowSchema(d.Columns, nil, true, false)
	}
	return d.withIDs, err
}

type cachedCaster struct {
	putSchema *arrow.Schema
	caster    *schema.Caster
	changes   []Change
}

// Caster returns the caster that converts a put's rows to the table's columns. If the columns must change first,
// Caster returns the changes instead, or an error if the table's evolution does not allow them.
func (d *Definition) Caster(putSchema *arrow.Schema) (*schema.Caster, []Change, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.casters {
		if c.putSchema == putSchema || c.putSchema.Equal(putSchema) {
			return c.caster, c.changes, nil
		}
	}
	if err := schema.CheckReadable(d.Stored); err != nil {
		return nil, nil, err
	}
	if _, err := schema.Stored(putSchema); err != nil {
		return nil, nil, err
	}
	c := cachedCaster{putSchema: putSchema}
	var err error
	c.changes, err = d.Settings.Evolution.ChangesFor(putSchema, d.Logical)
	if err != nil {
		return nil, nil, err
	}
	if len(c.changes) == 0 {
		defaults, err := schema.DefaultsOf(d.Columns, d.Stored)
		if err != nil {
			return nil, nil, err
		}
		c.caster, err = schema.NewPutCaster(putSchema, d.Stored, d.Logical, defaults.Write)
		if err != nil {
			return nil, nil, err
		}
	}
	d.casters = pushFront(d.casters, c)
	return c.caster, c.changes, nil
}

// pushFront returns item followed by items, up to maxCached items.
func pushFront[T any](items []T, item T) []T {
	items = append([]T{item}, items...)
	return items[:min(len(items), maxCached)]
}

// Package definition parses what a table's metadata says of it: its columns in three
// type systems, its settings, and the order of its rows; and makes metadata that says so.
//
// A [Definition] is made once per version of the metadata: [Of] remembers those of late,
// which tables with equal columns and settings share.
package definition

import (
	"fmt"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/icecat"
	"github.com/go-partd/partd/tables/internal/rules"
	"github.com/go-partd/partd/tables/internal/schema"
)

// Definition is what the metadata of a table says. It never changes.
type Definition struct {
	Columns *iceberg.Schema
	Put     *arrow.Schema // the types in which the columns were put,
	Stored  *arrow.Schema // in which the table stores them,
	Logical *arrow.Schema // and in which readers get them

	Settings Settings
	Order    *Order                       // nil: rows are read as they came
	Rules    func() ([]rules.Rule, error) // the table's own

	made    key
	mu      sync.Mutex
	casters []caster // of late
}

// key is what a definition is made of, beside the columns.
type key struct {
	columns, sort        int // the ids
	put, settings, rules string
}

// mostRemembered is how many definitions are remembered, and of each how many casters.
// Most tables have one of a few; that of a wide one takes tens of kilobytes.
const mostRemembered = 16

var remembered struct {
	sync.Mutex
	all []*Definition
}

// Of returns the definition of a table.
func Of(meta table.Metadata) (*Definition, error) {
	columns, properties := meta.CurrentSchema(), meta.Properties()
	k := key{columns.ID, meta.DefaultSortOrder(), properties[schema.Property(columns.ID)], properties[SettingsProperty], properties[icecat.RulesProperty]}
	remembered.Lock()
	defer remembered.Unlock()
	for _, d := range remembered.all {
		if d.made == k && d.Columns.Equals(columns) {
			return d, nil
		}
	}
	d, err := parse(columns, k)
	if err == nil {
		remembered.all = front(remembered.all, d)
	}
	return d, err
}

// At is Of for an older schema of the table. It has no order if it lacks a column of it.
func At(meta table.Metadata, columns *iceberg.Schema) (*Definition, error) {
	now, err := Of(meta)
	if err != nil || columns.ID == now.Columns.ID {
		return now, err
	}
	d := &Definition{Columns: columns, Settings: now.Settings, Rules: now.Rules}
	if d.Put, d.Stored, err = Types(columns, meta.Properties()[schema.Property(columns.ID)]); err != nil {
		return nil, err
	}
	d.Logical = schema.Plain(d.Put)
	if now.Order != nil {
		d.Order = now.Order.in(columns)
	}
	return d, nil
}

// Types returns the types in which columns were put and are stored.
func Types(columns *iceberg.Schema, property string) (put, stored *arrow.Schema, err error) {
	if stored, err = schema.StoredOf(columns); err != nil {
		return nil, nil, err
	}
	if put, err = schema.PutOf(stored, property); err != nil {
		return nil, nil, fmt.Errorf("property %s: %w", schema.Property(columns.ID), err)
	}
	return put, stored, nil
}

func parse(columns *iceberg.Schema, k key) (d *Definition, err error) {
	d = &Definition{Columns: columns, made: k, Rules: sync.OnceValues(func() ([]rules.Rule, error) { return rules.Parse(k.rules) })}
	if d.Put, d.Stored, err = Types(columns, k.put); err != nil {
		return nil, err
	}
	d.Logical = schema.Plain(d.Put)
	if d.Settings, err = ParseSettings(k.settings); err != nil {
		return nil, err
	}
	d.Order, err = newOrder(d, k.sort)
	return d, err
}

// AsStored is the definition with the types that are stored as those that readers get.
func (d *Definition) AsStored() *Definition {
	return &Definition{Columns: d.Columns, Put: d.Put, Stored: d.Stored, Logical: d.Stored, Settings: d.Settings, Order: d.Order, Rules: d.Rules}
}

// caster is what makes rows of a schema fit the table.
type caster struct {
	put     *arrow.Schema
	cast    *schema.Caster
	changes []Change
}

// Caster returns what makes rows that are put fit the table, as its evolution has it; or
// the changes that the table needs first.
func (d *Definition) Caster(put *arrow.Schema) (*schema.Caster, []Change, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.casters {
		if c.put == put || c.put.Equal(put) {
			return c.cast, c.changes, nil
		}
	}
	if _, err := schema.Stored(put); err != nil {
		return nil, nil, err
	}
	c := caster{put: put}
	var err error
	if c.changes, err = d.Settings.Evolution.Fits(put, d.Logical); err != nil {
		return nil, nil, err
	}
	if len(c.changes) == 0 {
		if c.cast, err = schema.NewPutCaster(put, d.Stored, d.Logical); err != nil {
			return nil, nil, err
		}
	}
	d.casters = front(d.casters, c)
	return c.cast, c.changes, nil
}

// front puts one before others, and leaves out those that are too many.
func front[T any](all []T, one T) []T {
	all = append([]T{one}, all...)
	return all[:min(len(all), mostRemembered)]
}

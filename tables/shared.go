package tables

import (
	"sync"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables/internal/schema"
)

// shared is what tables have in common that were used lately: most have one of a
// few schemas, and that of a wide one takes tens of kilobytes.
type shared struct {
	mu       sync.Mutex
	schemas  []*arrow.Schema
	returned []asReturned
	casters  []caster
}

// mostShared is how many there are of each.
const mostShared = 16

// schema returns the one that is equal to another.
func (s *shared) schema(kept *arrow.Schema) *arrow.Schema {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, known := range s.schemas {
		if known.Equal(kept) {
			return known
		}
	}
	s.schemas = front(s.schemas, kept)
	return kept
}

// asReturned is how readers get columns that are kept in a schema, by the property
// that says how they were put.
type asReturned struct {
	kept, returned *arrow.Schema
	property       string
}

// asReturned is returnedSchema for columns that schema returned, and their property.
func (s *shared) asReturned(kept *arrow.Schema, property string) (*arrow.Schema, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, known := range s.returned {
		if known.kept == kept && known.property == property {
			return known.returned, nil
		}
	}
	returned := kept
	if property != "" {
		put, err := schema.Decode(property)
		if err != nil {
			return nil, err
		}
		returned = schema.Logical(kept, put)
	}
	s.returned = front(s.returned, asReturned{kept, returned, property})
	return returned, nil
}

// caster is what makes rows of one schema fit a table with another.
type caster struct {
	put, kept, returned *arrow.Schema
	evolution           Evolution
	cast                *schema.Caster
	changes             []ColumnChange // which the table needs first
}

// caster returns what makes rows of a schema fit a table with another, which
// schema returned. Returned is how its readers get it; nil for rows that are no put.
func (s *shared) caster(put, kept, returned *arrow.Schema, e Evolution) (*schema.Caster, []ColumnChange, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.casters {
		if c.kept == kept && c.returned == returned && c.evolution == e && (c.put == put || c.put.Equal(put)) {
			return c.cast, c.changes, nil
		}
	}
	c := caster{put: put, kept: kept, returned: returned, evolution: e}
	var err error
	if returned == nil {
		c.cast, err = schema.NewCaster(put, kept)
	} else {
		c.cast, c.changes, err = putCaster(put, kept, returned, e)
	}
	if err == nil {
		s.casters = front(s.casters, c)
	}
	return c.cast, c.changes, err
}

// front puts one before others, and leaves out those that are too many.
func front[T any](all []T, one T) []T {
	all = append([]T{one}, all...)
	return all[:min(len(all), mostShared)]
}

package tables

import (
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
)

// shared is what tables have in common that were used lately: most have one of a
// few schemas, and that of a wide one takes tens of kilobytes.
type shared struct {
	mu      sync.Mutex
	schemas []*arrow.Schema
	fits    []*conformer
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

// conformer returns what makes rows of a schema fit a table with another, which
// schema returned.
func (s *shared) conformer(put, kept *arrow.Schema) (*conformer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.fits {
		if c.kept == kept && (c.put == put || c.put.Equal(put)) {
			return c, nil
		}
	}
	c, err := newConformer(put, kept)
	if err == nil {
		s.fits = front(s.fits, c)
	}
	return c, err
}

// front puts one before others, and leaves out those that are too many.
func front[T any](all []T, one T) []T {
	all = append([]T{one}, all...)
	return all[:min(len(all), mostShared)]
}

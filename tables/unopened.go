package tables

import (
	"sync"

	"github.com/go-partd/partd/internal/vfs"
	"github.com/go-partd/partd/tables/internal/commit"
	"github.com/go-partd/partd/tables/internal/icecat"
)

// unopened stands in for a Store that Open did not make: its operations are errors.
var unopened = sync.OnceValue(func() *Store {
	s := &Store{hooks: hooks{fs: vfs.OS{}}, cat: icecat.Unopened()}
	if err := s.setOptions(nil); err != nil {
		panic(err)
	}
	s.commits = commit.New(commit.Options{Catalog: s.cat, BucketOf: bucketOf, Logger: s.opts.Logger})
	s.commits.Close()
	return s
})

// made returns the store, or, where Open did not make it, one whose operations are errors.
func (s *Store) made() *Store {
	if s == nil || s.commits == nil {
		return unopened()
	}
	return s
}

// store returns the store of a bucket.
func (b *Bucket) store() *Store {
	if b == nil {
		return unopened()
	}
	return b.s.made()
}

// made returns the table, or a zero one for nil.
func (t *Table) made() *Table {
	if t == nil {
		return &Table{}
	}
	return t
}

// bucket returns the bucket of a table, or, for a zero Table, one whose operations are
// errors.
func (t *Table) bucket() *Bucket {
	if t.made().b == nil {
		return unopened().Bucket("")
	}
	return t.b
}

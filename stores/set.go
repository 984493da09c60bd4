package stores

import (
	"context"

	"github.com/go-partd/partd"
)

// Set is the schemes that URLs may have: those of this package, and more, of modules
// whose weight only the programs that use them bear.
type Set struct{ more []Scheme }

// NewSet returns a set with more schemes than this package has.
func NewSet(more ...Scheme) *Set { return &Set{more} }

// Scheme is a scheme of another module.
type Scheme struct {
	Name    string // as "s3" in "s3://BUCKET/PREFIX"
	Usage   string // the scheme with its location, which begins with //
	About   string // what it is, in a few words
	Options []Option
	// Open opens a store by what follows // and the options that are given.
	Open func(ctx context.Context, location string, options map[string]string) (partd.Partd, error)
	// Exists reports whether there is one.
	Exists func(location string, options map[string]string) (bool, error)
}

// Option is an option of a Scheme.
type Option struct {
	Name, Usage, Default, About string
	Check                       func(value string) error // whether a value makes sense
}

// stores returns all schemes of the set.
func (t *Set) stores() []store {
	all := stores()
	for _, m := range t.more {
		s := store{
			name: m.Name, usage: m.Usage, about: m.About, location: true, bucket: true,
			open: func(ctx context.Context, location string, o options) (partd.Partd, error) {
				return m.Open(ctx, location, o.values)
			},
			exists: func(location string, o options) (bool, error) { return m.Exists(location, o.values) },
		}
		for _, o := range m.Options {
			s.options = append(s.options, option{o.Name, kind{o.Usage, o.Check}, o.Default, o.About})
		}
		all = append(all, s)
	}
	return all
}

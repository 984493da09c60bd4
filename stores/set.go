package stores

import (
	"context"
	"fmt"

	"github.com/go-partd/partd"
)

// Set is a set of URL schemes: those of this package, and those of other modules,
// which only the programs that use them need to link.
type Set struct{ more []Scheme }

// NewSet returns a set of the schemes of this package and more.
func NewSet(more ...Scheme) *Set { return &Set{more} }

// Scheme is a URL scheme that another module provides.
type Scheme struct {
	Name    string // as "s3" in "s3://BUCKET/PREFIX"
	Usage   string // the scheme with its location, which begins with //
	About   string // what it is, in a few words
	Options []Option
	// Open opens a store, given the text after // and the options of the URL.
	Open func(ctx context.Context, location string, options map[string]string) (partd.Partd, error)
	// Exists reports whether such a store exists.
	Exists func(location string, options map[string]string) (bool, error)
}

// Option is an option of a Scheme.
type Option struct {
	Name, Usage, Default, About string
	Check                       func(value string) error // whether a value makes sense; nil accepts any
}

// stores returns all schemes of the set.
func (t *Set) stores() []store {
	all := stores()
	if t == nil {
		return all
	}
	for _, m := range t.more {
		s := store{
			name: m.Name, usage: m.Usage, about: m.About, location: true, bucket: true,
			open: func(ctx context.Context, location string, o options) (partd.Partd, error) {
				return m.Open(ctx, location, o.values)
			},
			exists: func(location string, o options) (bool, error) { return m.Exists(location, o.values) },
			check: func(options) error {
				if m.Open == nil || m.Exists == nil {
					return fmt.Errorf("the scheme %q needs two functions, Open and Exists", m.Name)
				}
				return nil
			},
		}
		for _, o := range m.Options {
			if o.Check == nil {
				o.Check = func(string) error { return nil }
			}
			s.options = append(s.options, option{o.Name, kind{o.Usage, o.Check}, o.Default, o.About})
		}
		all = append(all, s)
	}
	return all
}

// Package stores opens a store from a URL:
//
//	mem:
//	file:DIR?sync=true
//	buffer+file:DIR?memory=256MiB
//	zstd+buffer+log:DIR?zstd.level=3&buffer.memory=64MiB
//	log:?temp=/var/tmp
//	tcp://HOST:PORT or tcp://HOST:PORT,HOST:PORT,…
//
// A URL is layers, outermost first, each followed by "+", then the scheme of a
// store, a colon, its location, and options. An option goes to the layer or store
// that knows it. If several know it, prefix it with a name, as in
// "buffer.memory=1GiB". A location is a plain path, except that "?" and "%" are
// written as %3F and %25. "file:///path" is "file:/path". With the option temp=DIR
// instead of a location, the store is in a new directory below DIR, which Close
// removes.
//
// # Schemes
//
//	mem:           in memory, gone with the process
//	file:DIR       a directory with a file per key
//	  sync=true|false, default false: what was acknowledged survives a loss of power
//	  files=COUNT, default a quarter of the process's limit: how many stay open
//	  temp=DIR: where the store is made, to be gone when it is closed
//	log:DIR        a directory of segments, fast with any number of keys
//	  memory=SIZE, default 256MiB: what it takes at the most
//	  sync=true|false, default false: what was acknowledged survives a loss of power
//	  compression=none|s2|zstd, default none: of what is written from now on
//	  readonly=true|false, default false: others may read it, too
//	  temp=DIR: where the store is made, to be gone when it is closed
//	tcp://HOST:PORT a server's store, by host and port; several, with commas between them, share the keys
//	  token-file=FILE, default the token in $PARTD_TOKEN, if there is one: with the token that says who the client is
//	  insecure=true|false, default false: send the token where others can read it
//	tls://HOST:PORT the same over TLS
//	  token-file=FILE, default the token in $PARTD_TOKEN, if there is one: with the token that says who the client is
//	  ca=FILE, default those of the system: certificates that the server's must be signed by
//	  cert=FILE: the client's certificate
//	  key=FILE: its key
//	ipc:///PATH    a server's store, by the path of its socket
//	  token-file=FILE, default the token in $PARTD_TOKEN, if there is one: with the token that says who the client is
//	  namespace=NAME: for tcp and tls it is in the address: tcp://HOST:PORT/NAME
//
// # Layers
//
//	buffer+        memory in front of a slower store
//	  memory=SIZE, default 1GiB: what it takes at the most
//	snappy+        compress fast, as Python's partd.Snappy
//	  limit=SIZE, default 1GiB: the most that one piece may become
//	s2+            compress fast
//	  level=1-3, default 1: how hard to try
//	  limit=SIZE, default 1GiB: the most that one piece may become
//	zstd+          compress well and fast
//	  level=1-22, default 3: how hard to try
//	  limit=SIZE, default 1GiB: the most that one piece may become
//	lz4+           compress fast, with checksums
//	  level=1-10, default 1: how hard to try
//	  limit=SIZE, default 1GiB: the most that one piece may become
//	zlib+          compress as Python's partd.ZLib
//	  level=1-9, default 6: how hard to try
//	  limit=SIZE, default 1GiB: the most that one piece may become
//	gzip+          compress into gzip files
//	  level=1-9, default 6: how hard to try
//	  limit=SIZE, default 1GiB: the most that one piece may become
//	bz2+           compress most and slowly, as Python's partd.BZ2
//	  level=1-9, default 9: how hard to try
//	  limit=SIZE, default 1GiB: the most that one piece may become
//	blosc+         compress arrays of numbers, as Python's partd.Blosc
//	  level=1-9, default 1 (codec zstd: 2): how hard to try
//	  limit=SIZE, default 1GiB: the most that one piece may become
//	  typesize=1-255, default 8: of a number, in bytes
//	  shuffle=byte|bit|none, default byte: what is put beside its like first
//	  codec=lz4|zstd|copy, default lz4: what compresses, copy for nothing
package stores

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/remote"
)

// MaxLayers is the largest number of layers that a URL may name.
const MaxLayers = 16

// URLError says what is wrong with a URL. Nothing was opened or made.
type URLError struct {
	URL string
	Err error
}

func (e *URLError) Error() string { return fmt.Sprintf("store %q: %v", remote.RedactURL(e.URL), e.Err) }

// Unwrap returns what is wrong.
func (e *URLError) Unwrap() error { return e.Err }

// Open opens the store that a URL names, and creates it if it does not exist. The caller
// closes it with [partd.Close], which closes every layer. A URL that names no store is a
// [*URLError]. With any layers, the store neither keeps nor changes what it is given, and
// the caller owns what it returns.
func Open(ctx context.Context, url string) (partd.Partd, error) {
	return OpenDefaults(ctx, url, nil)
}

// OpenDefaults is Open with defaults for options that the URL omits. A default applies to
// every layer and store that has an option of this name; others ignore it.
func OpenDefaults(ctx context.Context, url string, defaults map[string]string) (partd.Partd, error) {
	return NewSet().Open(ctx, url, defaults)
}

// Open is like [OpenDefaults], with the schemes of the set.
func (t *Set) Open(ctx context.Context, url string, defaults map[string]string) (partd.Partd, error) {
	if err := canceled.Err(ctx); err != nil {
		return nil, err
	}
	u, err := t.parse(url, defaults)
	if err != nil {
		return nil, &URLError{url, err}
	}
	store, err := u.openAll(ctx)
	if err != nil {
		return nil, fmt.Errorf("store %q: %w", url, err)
	}
	return store, nil
}

// openAll opens the store and makes the layers over it. What is open when one
// fails is closed.
func (u *parsedURL) openAll(ctx context.Context) (partd.Partd, error) {
	store, err := u.store.open(ctx, u.location, u.storeOptions)
	if err != nil {
		return nil, err
	}
	if store == nil {
		return nil, errors.New("its scheme has opened nothing, without an error")
	}
	for i := len(u.layers) - 1; i >= 0; i-- {
		over, err := u.layers[i].wrap(store, u.layerOptions[i])
		if err != nil {
			return nil, errors.Join(err, partd.Close(ctx, store))
		}
		store = over
	}
	return store, nil
}

// Exists reports whether Open would find an existing store at a URL's location,
// rather than create one.
func Exists(url string) (bool, error) { return NewSet().Exists(url) }

// Exists is like the function [Exists], with the schemes of the set.
func (t *Set) Exists(url string) (bool, error) {
	u, err := t.parse(url, nil)
	if err != nil {
		return false, &URLError{url, err}
	}
	if u.storeOptions.text("temp", "") != "" {
		return false, nil
	}
	found, err := u.store.exists(u.location, u.storeOptions)
	if err != nil {
		return false, fmt.Errorf("store %q: %w", url, err)
	}
	return found, nil
}

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

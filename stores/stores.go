// Package stores opens a store from a URL:
//
//	mem:
//	file:DIR?sync=true
//	buffer+file:DIR?memory=256MiB
//	zstd+buffer+log:DIR?zstd.level=3&buffer.memory=64MiB
//	log:?temp=/var/tmp
//	tcp://HOST:PORT or tcp://HOST:PORT,HOST:PORT,…
//
// A URL names layers, outermost first, each followed by "+", and then a store: its scheme, a colon,
// its location, and options. An option applies to the layer or store that has an option with this
// name. If several have such an option, prefix the name with a layer or scheme, as in
// "buffer.memory=1GiB". A location is a plain path, except that "?" and "%" are written as %3F
// and %25. "file:///path" means the same as "file:/path". The option temp=DIR replaces the
// location: it creates the store in a new directory inside DIR, and Close removes that directory.
//
// # Schemes
//
//	mem:           in memory, lost when the process ends
//	file:DIR       a directory with a file per key
//	  sync=true|false, default false: acknowledged changes survive a power loss
//	  files=COUNT, default a quarter of the process's limit on open files: maximum number of open files
//	  temp=DIR: create the store in a new directory inside DIR and remove the directory on close
//	log:DIR        a directory of segments, fast with any number of keys
//	  memory=SIZE, default 256MiB: maximum memory of the store
//	  sync=true|false, default false: acknowledged changes survive a power loss
//	  compression=none|s2|zstd, default none: compression of new data
//	  readonly=true|false, default false: open for reading only; other readers are allowed
//	  temp=DIR: create the store in a new directory inside DIR and remove the directory on close
//	tcp://HOST:PORT a server's store; several servers, separated by commas, share the keys
//	  token-file=FILE, default $PARTD_TOKEN: file with the client's token
//	  insecure=true|false, default false: send the token even if others could read it
//	tls://HOST:PORT like tcp, but over TLS
//	  token-file=FILE, default $PARTD_TOKEN: file with the client's token
//	  ca=FILE, default the system's: file with CA certificates for checking the server's certificate
//	  cert=FILE: the client's certificate
//	  key=FILE: the key of the client's certificate
//	ipc:///PATH    a server's store, through its Unix socket
//	  token-file=FILE, default $PARTD_TOKEN: file with the client's token
//	  namespace=NAME: the namespace (for tcp and tls, it is part of the address: tcp://HOST:PORT/NAME)
//
// # Layers
//
//	buffer+        memory in front of a slower store
//	  memory=SIZE, default 1GiB: maximum memory of the buffer
//	snappy+        compress fast, in the format of Python's partd.Snappy
//	  limit=SIZE, default 1GiB: maximum size of a piece when decompressed
//	s2+            compress fast
//	  level=1-3, default 1: higher compresses more, and more slowly
//	  limit=SIZE, default 1GiB: maximum size of a piece when decompressed
//	zstd+          compress well and fast
//	  level=1-22, default 3: higher compresses more, and more slowly
//	  limit=SIZE, default 1GiB: maximum size of a piece when decompressed
//	lz4+           compress fast, with checksums
//	  level=1-10, default 1: higher compresses more, and more slowly
//	  limit=SIZE, default 1GiB: maximum size of a piece when decompressed
//	zlib+          compress in the format of Python's partd.ZLib
//	  level=1-9, default 6: higher compresses more, and more slowly
//	  limit=SIZE, default 1GiB: maximum size of a piece when decompressed
//	gzip+          compress into gzip files
//	  level=1-9, default 6: higher compresses more, and more slowly
//	  limit=SIZE, default 1GiB: maximum size of a piece when decompressed
//	bz2+           compress slowly but well, in the format of Python's partd.BZ2
//	  level=1-9, default 9: higher compresses more, and more slowly
//	  limit=SIZE, default 1GiB: maximum size of a piece when decompressed
//	blosc+         compress arrays of numbers, in the format of Python's partd.Blosc
//	  level=1-9, default 1 (2 with codec=zstd): higher compresses more, and more slowly
//	  limit=SIZE, default 1GiB: maximum size of a piece when decompressed
//	  typesize=1-255, default 8: size of a number in bytes
//	  shuffle=byte|bit|none, default byte: grouping of similar bytes or bits before compression
//	  codec=lz4|zstd|copy, default lz4: codec of the compressed data; copy stores the data uncompressed
package stores

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/base/textfmt"
)

// MaxLayers is the maximum number of layers in a URL.
const MaxLayers = 16

// URLError is the error for an invalid URL. Nothing was opened or created.
type URLError struct {
	URL string
	Err error
}

func (e *URLError) Error() string {
	return fmt.Sprintf("store %q: %v", textfmt.RedactURL(e.URL), e.Err)
}

// Unwrap returns the reason.
func (e *URLError) Unwrap() error { return e.Err }

// Open opens the store that a URL names, creating it if it does not exist. The caller
// must close it with [partd.Close], which also closes every layer. If the URL is invalid,
// the error is a [*URLError].
func Open(ctx context.Context, url string) (partd.Partd, error) {
	return NewSet().Open(ctx, url, nil)
}

// Open is like the function [Open], but with the schemes of the set, and with defaults for options
// that the URL omits. A default applies to every layer and store that has an option of that name.
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
		return nil, fmt.Errorf("store %q: %w", textfmt.RedactURL(url), err)
	}
	return store, nil
}

// openAll opens the store and wraps it in the layers. After an error, it closes everything that
// it opened.
func (u *parsedURL) openAll(ctx context.Context) (partd.Partd, error) {
	store, err := u.store.open(ctx, u.location, u.storeOptions)
	if err != nil {
		return nil, err
	}
	if store == nil {
		return nil, errors.New("the scheme's Open returned neither a store nor an error")
	}
	for i := len(u.layers) - 1; i >= 0; i-- {
		wrapped, err := u.layers[i].wrap(store, u.layerOptions[i])
		if err != nil {
			return nil, errors.Join(err, partd.Close(ctx, store))
		}
		store = wrapped
	}
	return store, nil
}

// Exists reports whether there is a store at a URL's location.
func (t *Set) Exists(url string) (bool, error) {
	u, err := t.parse(url, nil)
	if err != nil {
		return false, &URLError{url, err}
	}
	if u.storeOptions.text("temp", "") != "" {
		return false, nil
	}
	exists, err := u.store.exists(u.location, u.storeOptions)
	if err != nil {
		return false, fmt.Errorf("store %q: %w", textfmt.RedactURL(url), err)
	}
	return exists, nil
}

// Set is a set of URL schemes: the schemes of this package, and extra schemes from other modules.
type Set struct{ extra []Scheme }

// NewSet returns a set of this package's schemes and extra schemes.
func NewSet(extra ...Scheme) *Set { return &Set{extra} }

// Scheme is a URL scheme that another module provides.
type Scheme struct {
	Name    string // such as "s3" in "s3://BUCKET/PREFIX"
	Usage   string // the scheme with its location, which begins with //
	Help    string // a short description
	Options []Option
	// Open opens a store. location is the text after // in the URL.
	Open func(ctx context.Context, location string, options map[string]string) (partd.Partd, error)
	// Exists reports whether the store exists.
	Exists func(location string, options map[string]string) (bool, error)
}

// Option is an option of a [Scheme].
type Option struct {
	Name, Usage, Default, Help string
	Check                      func(value string) error // returns an error for a bad value; nil accepts all values
}

func (t *Set) stores() []store {
	list := stores()
	if t == nil {
		return list
	}
	for _, scheme := range t.extra {
		s := store{
			name: scheme.Name, usage: scheme.Usage, help: scheme.Help, hasLocation: true, isBucket: true,
			open: func(ctx context.Context, location string, o options) (partd.Partd, error) {
				return scheme.Open(ctx, location, o.values)
			},
			exists: func(location string, o options) (bool, error) { return scheme.Exists(location, o.values) },
			check: func(options) error {
				if scheme.Open == nil || scheme.Exists == nil {
					return fmt.Errorf("the scheme %q needs two functions, Open and Exists", scheme.Name)
				}
				return nil
			},
		}
		for _, o := range scheme.Options {
			if o.Check == nil {
				o.Check = func(string) error { return nil }
			}
			s.options = append(s.options, option{o.Name, kind{o.Usage, o.Check}, o.Default, o.Help})
		}
		list = append(list, s)
	}
	return list
}

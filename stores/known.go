package stores

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/logstore"
)

// store is a scheme, as "file" in "file:DIR".
type store struct {
	name     string
	usage    string // the scheme with its location
	about    string
	location bool // it has one
	remote   bool // which begins with // and may name a host
	bucket   bool // which begins with // and names a bucket
	options  []option
	open     func(ctx context.Context, location string, opts options) (partd.Partd, error)
	exists   func(location string, opts options) (bool, error)
	check    func(opts options) error // whether options go together; nil if they always do
}

// layer is a prefix, as "buffer" in "buffer+file:DIR".
type layer struct {
	name    string
	about   string
	options []option
	wrap    func(inner partd.Partd, opts options) (partd.Partd, error)
	check   func(opts options) error // whether options go together; nil if they always do
}

// stores and layers list what there is. They are functions, and not variables,
// so that nothing can change them.
func stores() []store {
	return []store{
		{
			name: "mem", usage: "mem:", about: "in memory, gone with the process",
			open:   func(context.Context, string, options) (partd.Partd, error) { return partd.NewDict(), nil },
			exists: func(string, options) (bool, error) { return false, nil },
		},
		{
			name: "file", usage: "file:DIR", location: true, about: "a directory with a file per key",
			options: []option{
				sync(), {"files", count(), "a quarter of the process's limit", "how many stay open"}, temp(),
			},
			open: func(_ context.Context, dir string, o options) (partd.Partd, error) {
				if temp := o.text("temp", ""); temp != "" {
					return partd.OpenTemp(temp)
				}
				return partd.OpenFile(dir, &partd.FileOptions{Sync: o.truth("sync"), MaxOpenFiles: o.count("files")})
			},
			exists: func(dir string, _ options) (bool, error) { return holds(dir, ".lock") },
			check: func(o options) error {
				if o.text("temp", "") != "" && (o.truth("sync") || o.count("files") > 0) {
					return errors.New("a temporary store has neither the option sync nor files: leave them out")
				}
				return nil
			},
		},
		{
			name: "log", usage: "log:DIR", location: true, about: "a directory of segments, fast with any number of keys",
			options: []option{
				{"memory", size(), "256MiB", "what it takes at the most"},
				sync(),
				{"compression", compression(), "none", "of what is written from now on"},
				{"readonly", truth(), "false", "others may read it, too"},
				temp(),
			},
			open: func(_ context.Context, dir string, o options) (partd.Partd, error) {
				c, err := logstore.ParseCompression(o.text("compression", logstore.None.String()))
				if err != nil {
					return nil, err
				}
				opts := &logstore.Options{
					Memory: o.size("memory"), Sync: o.truth("sync"), Compression: c, ReadOnly: o.truth("readonly"),
				}
				if temp := o.text("temp", ""); temp != "" {
					return logstore.OpenTemp(temp, opts)
				}
				return logstore.Open(dir, opts)
			},
			exists: func(dir string, _ options) (bool, error) { return holds(dir, "MANIFEST") },
		},
		server("tcp", "tcp://HOST:PORT", "a server's store, by host and port; several, with commas between them, share the keys",
			option{"insecure", truth(), "false", "send the token where others can read it"}),
		server("tls", "tls://HOST:PORT", "the same over TLS",
			option{"ca", file(), "those of the system", "certificates that the server's must be signed by"},
			option{"cert", file(), "", "the client's certificate"},
			option{"key", file(), "", "its key"}),
		server("ipc", "ipc:///PATH", "a server's store, by the path of its socket",
			option{"namespace", namespace(), "", "for tcp and tls it is in the address: tcp://HOST:PORT/NAME"}),
	}
}

func sync() option {
	return option{"sync", truth(), "false", "what was acknowledged survives a loss of power"}
}

func temp() option {
	return option{"temp", directory(), "", "where the store is made, to be gone when it is closed"}
}

// server is the store of a server. Opening it makes nothing, and says best what
// there is.
func server(scheme, usage, about string, more ...option) store {
	return store{
		name: scheme, usage: usage, about: about, location: true, remote: true,
		options: append([]option{{"token-file", file(), "the token in $PARTD_TOKEN, if there is one", "with the token that says who the client is"}}, more...),
		open: func(ctx context.Context, location string, o options) (partd.Partd, error) {
			opts, err := clientOptions(scheme, o)
			if err != nil {
				return nil, err
			}
			return dialAll(ctx, scheme, location, opts)
		},
		exists: func(string, options) (bool, error) { return true, nil },
		check: func(o options) error {
			if (o.text("cert", "") == "") != (o.text("key", "") == "") {
				return errors.New("a certificate needs its key, and a key its certificate: give both cert and key")
			}
			return nil
		},
	}
}

func layers() []layer {
	return append([]layer{
		{
			name: "buffer", about: "memory in front of a slower store",
			options: []option{{"memory", size(), "1GiB", "what it takes at the most"}},
			wrap: func(inner partd.Partd, o options) (partd.Partd, error) {
				return partd.NewBuffer(partd.NewDict(), inner, &partd.BufferOptions{Memory: o.size("memory")})
			},
		},
	}, compressors()...)
}

// holds reports whether a directory has a file of this name.
func holds(dir, name string) (bool, error) {
	_, err := os.Stat(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

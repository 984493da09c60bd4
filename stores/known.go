package stores

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/compress"
	"github.com/go-partd/partd/compress/blosc"
	"github.com/go-partd/partd/logstore"
	"github.com/go-partd/partd/remote"
	"github.com/go-partd/partd/shards"
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
				{"compression", parsed("none|s2|zstd", logstore.ParseCompression), "none", "of what is written from now on"},
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
	return option{"temp", existing("DIR", true, "it is not a directory"), "", "where the store is made, to be gone when it is closed"}
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
			names, urls := servers(scheme, location)
			if len(urls) == 1 {
				return remote.Dial(ctx, urls[0], opts)
			}
			return shards.Open(ctx, names, dialOne(names, urls, opts)) // the keys are spread over them
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

// formats say of each format that compresses what it is for, and its level unless
// one is given.
var formats = map[compress.Format]struct{ about, level string }{
	compress.Snappy: {"compress fast, as Python's partd.Snappy", ""},
	compress.S2:     {"compress fast", "1"},
	compress.Zstd:   {"compress well and fast", "3"},
	compress.LZ4:    {"compress fast, with checksums", "1"},
	compress.Zlib:   {"compress as Python's partd.ZLib", "6"},
	compress.Gzip:   {"compress into gzip files", "6"},
	compress.BZ2:    {"compress most and slowly, as Python's partd.BZ2", "9"},
	compress.Blosc:  {"compress arrays of numbers, as Python's partd.Blosc", "1 (codec zstd: 2)"},
}

// compressors are the layers that compress, with the options that each knows.
func compressors() []layer {
	var all []layer
	for _, format := range compress.Formats() {
		l := layer{name: string(format), about: formats[format].about}
		if highest := format.MaxLevel(); highest > 0 {
			l.options = append(l.options, option{"level", level(highest), formats[format].level, "how hard to try"})
		}
		l.options = append(l.options, option{"limit", limit(), "1GiB", "the most that one piece may become"})
		if format == compress.Blosc {
			l.options = append(l.options,
				option{"typesize", level(255), "8", "of a number, in bytes"},
				option{"shuffle", parsed("byte|bit|none", blosc.ParseShuffle), "byte", "what is put beside its like first"},
				option{"codec", parsed("lz4|zstd|copy", blosc.ParseCompressor), "lz4", "what compresses, copy for nothing"})
		}
		l.wrap = func(inner partd.Partd, o options) (partd.Partd, error) {
			opts := &compress.Options{Level: o.count("level"), Limit: o.size("limit"), TypeSize: o.count("typesize")}
			// The values have been checked, and options that the layer does not know are not given.
			opts.Shuffle, _ = blosc.ParseShuffle(o.text("shuffle", "byte"))
			opts.Inner, _ = blosc.ParseCompressor(o.text("codec", "lz4"))
			return compress.New(inner, format, opts)
		}
		l.check = func(o options) error {
			_, err := l.wrap(partd.NewDict(), o)
			return err
		}
		all = append(all, l)
	}
	return all
}

// level is a number from 1.
func level(highest int) kind {
	return kind{fmt.Sprintf("1-%d", highest), func(value string) error {
		if n, err := strconv.Atoi(value); err != nil || n < 1 || n > highest {
			return fmt.Errorf("write a number from 1 to %d", highest)
		}
		return nil
	}}
}

// limit is the size of the largest piece.
func limit() kind {
	return kind{"SIZE", func(value string) error {
		n, err := ParseSize(value)
		if err == nil && n > math.MaxInt32 {
			err = errors.New("a piece must have less than 2GiB")
		}
		return err
	}}
}

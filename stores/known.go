package stores

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/compress"
	"github.com/go-partd/partd/compress/blosc"
	"github.com/go-partd/partd/logstore"
	"github.com/go-partd/partd/remote"
	"github.com/go-partd/partd/shards"
)

// store describes a URL scheme, such as "file" in "file:DIR".
type store struct {
	name        string
	usage       string // such as "file:DIR", for messages
	help        string
	hasLocation bool // a location follows the scheme
	isRemote    bool // the location begins with // and names servers
	isBucket    bool // the location begins with // and names a bucket
	options     []option
	open        func(ctx context.Context, location string, opts options) (partd.Partd, error)
	exists      func(location string, opts options) (bool, error)
	check       func(opts options) error // checks that the options are compatible; may be nil
}

// layer describes a prefix, such as "buffer" in "buffer+file:DIR".
type layer struct {
	name    string
	help    string
	options []option
	wrap    func(inner partd.Partd, opts options) (partd.Partd, error)
	check   func(opts options) error // checks that the options are compatible; may be nil
}

func stores() []store {
	return []store{
		{
			name: "mem", usage: "mem:", help: "in memory, lost when the process ends",
			open:   func(context.Context, string, options) (partd.Partd, error) { return partd.NewDict(), nil },
			exists: func(string, options) (bool, error) { return false, nil },
		},
		{
			name: "file", usage: "file:DIR", hasLocation: true, help: "a directory with a file per key",
			options: []option{
				syncOption(), {"files", countKind(), "a quarter of the process's limit on open files", "maximum number of open files"}, tempOption(),
			},
			open: func(_ context.Context, dir string, o options) (partd.Partd, error) {
				if temp := o.text("temp", ""); temp != "" {
					return partd.OpenTemp(temp)
				}
				return partd.OpenFile(dir, &partd.FileOptions{Sync: o.isTrue("sync"), MaxOpenFiles: o.count("files")})
			},
			exists: func(dir string, _ options) (bool, error) { return containsFile(dir, ".lock") },
			check: func(o options) error {
				if o.text("temp", "") != "" && (o.isTrue("sync") || o.count("files") > 0) {
					return errors.New("a temporary store does not support the options sync and files: remove them")
				}
				return nil
			},
		},
		{
			name: "log", usage: "log:DIR", hasLocation: true, help: "a directory of segments, fast with any number of keys",
			options: []option{
				{"memory", sizeKind(), "256MiB", "maximum memory of the store"},
				syncOption(),
				{"compression", parsedKind("none|s2|zstd", logstore.ParseCompression), "none", "compression of new data"},
				{"readonly", boolKind(), "false", "open for reading only; other readers are allowed"},
				tempOption(),
			},
			open: func(_ context.Context, dir string, o options) (partd.Partd, error) {
				c, err := logstore.ParseCompression(o.text("compression", logstore.None.String()))
				if err != nil {
					return nil, err
				}
				opts := &logstore.Options{
					Memory: o.size("memory"), Sync: o.isTrue("sync"), Compression: c, ReadOnly: o.isTrue("readonly"),
				}
				if temp := o.text("temp", ""); temp != "" {
					return logstore.OpenTemp(temp, opts)
				}
				return logstore.Open(dir, opts)
			},
			exists: func(dir string, _ options) (bool, error) { return containsFile(dir, "MANIFEST") },
		},
		serverStore("tcp", "tcp://HOST:PORT", "a server's store; several servers, separated by commas, share the keys",
			option{"insecure", boolKind(), "false", "send the token even if others could read it"}),
		serverStore("tls", "tls://HOST:PORT", "like tcp, but over TLS",
			option{"ca", fileKind(), "the system's", "file with CA certificates for checking the server's certificate"},
			option{"cert", fileKind(), "", "the client's certificate"},
			option{"key", fileKind(), "", "the key of the client's certificate"}),
		serverStore("ipc", "ipc:///PATH", "a server's store, through its Unix socket",
			option{"namespace", namespaceKind(), "", "the namespace (for tcp and tls, it is part of the address: tcp://HOST:PORT/NAME)"}),
	}
}

func syncOption() option {
	return option{"sync", boolKind(), "false", "acknowledged changes survive a power loss"}
}

func tempOption() option {
	return option{"temp", pathKind("DIR", true, "it is not a directory"), "", "create the store in a new directory inside DIR and remove the directory on close"}
}

// serverStore returns the scheme for a server's store. The scheme's exists function returns true
// for every location, because opening such a store creates nothing.
func serverStore(scheme, usage, help string, extra ...option) store {
	return store{
		name: scheme, usage: usage, help: help, hasLocation: true, isRemote: true,
		options: append([]option{{"token-file", fileKind(), "$PARTD_TOKEN", "file with the client's token"}}, extra...),
		open: func(ctx context.Context, location string, o options) (partd.Partd, error) {
			opts, err := clientOptions(scheme, o)
			if err != nil {
				return nil, err
			}
			names, urls := splitServers(scheme, location)
			if len(urls) == 1 {
				return remote.Dial(ctx, urls[0], opts)
			}
			return shards.Open(ctx, names, dialer(names, urls, opts))
		},
		exists: func(string, options) (bool, error) { return true, nil },
		check: func(o options) error {
			if (o.text("cert", "") == "") != (o.text("key", "") == "") {
				return errors.New("only one of the options cert and key is set: set both")
			}
			return nil
		},
	}
}

func layers() []layer {
	return append([]layer{
		{
			name: "buffer", help: "memory in front of a slower store",
			options: []option{{"memory", sizeKind(), "1GiB", "maximum memory of the buffer"}},
			wrap: func(inner partd.Partd, o options) (partd.Partd, error) {
				return partd.NewBuffer(partd.NewDict(), inner, &partd.BufferOptions{Memory: o.size("memory")})
			},
		},
	}, compressors()...)
}

func containsFile(dir, name string) (bool, error) {
	_, err := os.Stat(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

var formats = map[compress.Format]struct{ help, level string }{
	compress.Snappy: {"compress fast, in the format of Python's partd.Snappy", ""},
	compress.S2:     {"compress fast", "1"},
	compress.Zstd:   {"compress well and fast", "3"},
	compress.LZ4:    {"compress fast, with checksums", "1"},
	compress.Zlib:   {"compress in the format of Python's partd.ZLib", "6"},
	compress.Gzip:   {"compress into gzip files", "6"},
	compress.BZ2:    {"compress slowly but well, in the format of Python's partd.BZ2", "9"},
	compress.Blosc:  {"compress arrays of numbers, in the format of Python's partd.Blosc", "1 (2 with codec=zstd)"},
}

func compressors() []layer {
	var list []layer
	for _, format := range compress.Formats() {
		l := layer{name: string(format), help: formats[format].help}
		if maxLevel := format.MaxLevel(); maxLevel > 0 {
			l.options = append(l.options, option{"level", levelKind(maxLevel), formats[format].level, "higher compresses more, and more slowly"})
		}
		l.options = append(l.options, option{"limit", limitKind(), "1GiB", "maximum size of a piece when decompressed"})
		if format == compress.Blosc {
			l.options = append(l.options,
				option{"typesize", levelKind(255), "8", "size of a number in bytes"},
				option{"shuffle", parsedKind("byte|bit|none", blosc.ParseShuffle), "byte", "grouping of similar bytes or bits before compression"},
				option{"codec", parsedKind("lz4|zstd|copy", blosc.ParseCompressor), "lz4", "codec of the compressed data; copy stores the data uncompressed"})
		}
		l.wrap = func(inner partd.Partd, o options) (partd.Partd, error) {
			opts := &compress.Options{Level: o.count("level"), Limit: o.size("limit"), TypeSize: o.count("typesize")}
			// Parsing cannot fail, because the values have been checked or are the defaults given here.
			opts.Shuffle, _ = blosc.ParseShuffle(o.text("shuffle", "byte"))
			opts.Inner, _ = blosc.ParseCompressor(o.text("codec", "lz4"))
			return compress.New(inner, format, opts)
		}
		l.check = func(o options) error {
			_, err := l.wrap(partd.NewDict(), o)
			return err
		}
		list = append(list, l)
	}
	return list
}

func levelKind(highest int) kind {
	return numberKind(fmt.Sprintf("1-%d", highest), highest, fmt.Sprintf("must be a number from 1 to %d", highest))
}

// limitKind returns the kind of the "limit" option: a size below 2 GiB.
func limitKind() kind {
	return kind{"SIZE", func(value string) error {
		n, err := ParseSize(value)
		if err == nil && n > math.MaxInt32 {
			err = errors.New("the maximum must be less than 2GiB")
		}
		return err
	}}
}

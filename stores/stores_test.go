package stores

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/partdtest"
	"github.com/go-partd/partd/remote"
)

// TestOpen opens URLs of each kind, and checks the types of the layers and the store.
func TestOpen(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	for _, c := range []struct{ url, want string }{
		{"mem:", "*partd.Dict"},
		{"file:" + dir + "/a", "*partd.File"},
		{"file://" + dir + "/b?sync=true&files=10", "*partd.File"},
		{"buffer+file:" + dir + "/c%3F%25?memory=256MiB", "*partd.Buffer *partd.File"},
		{"buffer+file:" + dir + "/d?buffer.memory=1GB&file.sync=1", "*partd.Buffer *partd.File"},
		{"log:" + dir + "/e?memory=8MiB&sync=true&compression=zstd", "*logstore.Store"},
		{"buffer+log:" + dir + "/f?buffer.memory=1MiB", "*partd.Buffer *logstore.Store"},
		{"zstd+mem:?level=3", "*compress.Store *partd.Dict"},
		{"snappy+buffer+file:" + dir + "/g?memory=1MiB&snappy.limit=1MiB", "*compress.Store *partd.Buffer *partd.File"},
		{"s2+lz4+zlib+gzip+bz2+mem:?s2.level=3&lz4.level=10&zlib.level=9&gzip.level=1&bz2.level=1&s2.limit=1GB", strings.Repeat("*compress.Store ", 5) + "*partd.Dict"},
		{"blosc+zstd+log:" + dir + "/h?typesize=4&shuffle=bit&codec=zstd&blosc.level=9&memory=8MiB", "*compress.Store *compress.Store *logstore.Store"},
		{"zstd+zstd+mem:?zstd.level=3", "*compress.Store *compress.Store *partd.Dict"},
		{"file:?temp=" + dir, "*partd.File"},
		{"buffer+log:?temp=" + dir + "&buffer.memory=1MiB&log.memory=8MiB", "*partd.Buffer *logstore.Store"},
		{"buffer+buffer+mem:?memory=1000000", "*partd.Buffer *partd.Buffer *partd.Dict"},
	} {
		if strings.Contains(c.url, "buffer+buffer") {
			c.url = strings.Replace(c.url, "memory", "buffer.memory", 1)
		}
		store, err := Open(ctx, c.url)
		if err != nil {
			t.Errorf("Open(%s): %v", c.url, err)
			continue
		}
		gotTypes := fmt.Sprintf("%T", store)
		for s, ok := store.(partd.Unwrapper); ok; s, ok = s.Unwrap().(partd.Unwrapper) {
			gotTypes += fmt.Sprintf(" %T", s.Unwrap())
		}
		if gotTypes != c.want {
			t.Errorf("Open(%s) returned a %s, want %s", c.url, gotTypes, c.want)
		}
		if err := partd.Close(ctx, store); err != nil {
			t.Errorf("Close of %s: %v", c.url, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "c?%")); err != nil {
		t.Errorf("Stat of the unescaped location: %v; want the store there", err)
	}
}

// TestErrors checks that the error for an invalid URL shows a correction, and that Open then creates nothing.
func TestErrors(t *testing.T) {
	for _, c := range []struct{ url, want string }{
		{"", "mem:, file:DIR, log:DIR"},
		{"somewhere", "mem:, file:DIR, log:DIR"},
		{"tape:x", `unknown scheme "tape": write mem:, file:DIR`},
		{"log:x?temp=.", "log:?temp=DIR"},
		{"file:?temp=no-such-directory", "no-such-directory"},
		{"file:?temp=.&sync=true", "does not support the options sync and files"},
		{"mem:?temp=.", "unknown option"},
		{"zip+mem:", `unknown layer "zip": the layers are buffer`},
		{"mem+mem:", `unknown layer "mem": the layers are buffer`},
		{"zstd+lz4+file:d?level=3", "write zstd.level or lz4.level"},
		{"zstd+zstd+file:d?level=3", "write zstd.level"},
		{"zstd+file:d?zstd.level=23", "zstd.level=23: must be a number from 1 to 22"},
		{"zstd+file:d?snappy.level=2", "the options are file.sync=true|false, file.files=COUNT, file.temp=DIR, zstd.level=1-22, zstd.limit=SIZE"},
		{"snappy+file:d?level=1", "the options are file.sync"},
		{"gzip+file:d?limit=3GiB", "less than 2GiB"},
		{"blosc+file:d?shuffle=both", "use byte, bit, none"},
		{"blosc+file:d?codec=blosclz", "use lz4, zstd, copy"},
		{"blosc+file:d?codec=copy&level=3", "Copy has no levels"},
		{"blosc+file:d?typesize=256", "from 1 to 255"},
		{strings.Repeat("zstd+", MaxLayers+1) + "file:d", "17 layers, but at most 16 are allowed"},
		{"lz5+file:d", "the layers are buffer, snappy, s2, zstd, lz4, zlib, gzip, bz2, blosc"},
		{"file:", "no location: write file:DIR"},
		{"mem:x", "mem: has no location"},
		{"file://host/dir", "names a host"},
		{"file:100%", "%25"},
		{"file:a%00b", "NUL"},
		{"mem:?memory=1GB", "none for this store"},
		{"buffer+file:d?colour=red", "buffer.memory=SIZE"},
		{"buffer+file:d?file.memory=1GB", "file.sync=true|false"},
		{"buffer+file:d?memory=", "write NAME=VALUE"},
		{"buffer+file:d?memory", "write NAME=VALUE"},
		{"buffer+file:d?memory=1&memory=2", "given twice"},
		{"buffer+file:d?memory=1MiB&buffer.memory=2MiB", "given twice"},
		{"zstd+zstd+mem:?zstd.level=3&level=4", "write zstd.level"},
		{"buffer+file:d?memory=-1", "such as 256MiB"},
		{"buffer+file:d?memory=0", "above 0"},
		{"buffer+mem:?memory=9EiB", "below 8EiB"},
		{"buffer+mem:?memory=lots", "such as 256MiB"},
		{"file:d?sync=perhaps", "must be true or false"},
		{"file:d?files=-3", "above 0"},
		{"tcp:", "write tcp://HOST:PORT"},
		{"tcp://somewhere", "write tcp://HOST:PORT"},
		{"tcp:/x:1", "write tcp://HOST:PORT"},
		{"tcp://h:1,somewhere", `"tcp://somewhere"`},
		{"tcp://h:1,,i:1", "write tcp://HOST:PORT"},
		{"tcp://h:1,i:1,h:1", "h:1 is named twice"},
		{"tls://h:1,i:1/.", "neither . nor .."},
		{"tls://h:1,me:secret@i:1", "//…@i:1"},
		{"tcp://h:1,i:1?colour=red", "the options are tcp.token-file=FILE"},
		{"tcp://h:1?token=secret", "token=…"},
		{"tls://me:secret@h:1", "//…@h:1"},
		{"tls://h:1?cert=stores.go", "no such file"},
		{"tcp://h:1/.", "neither . nor .."},
		{"ipc:///s?namespace=a/b", "64 letters"},
		{"ipc://", "write ipc:///PATH"},
		{"tcp://h:1?memory=1GB", "the options are tcp.token-file=FILE"},
	} {
		t.Chdir(t.TempDir())
		_, err := Open(context.Background(), c.url)
		if !errors.As(err, new(*URLError)) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("Open(%q) = %v, want a URLError with %q", c.url, err, c.want)
		}
		if created, _ := os.ReadDir("."); len(created) > 0 {
			t.Errorf("Open(%q) failed, but created %v", c.url, created)
		}
	}
}

func TestAmbiguousOption(t *testing.T) {
	known := []option{{name: "level", kind: countKind()}}
	u := &parsedURL{store: store{name: "a", options: known}, layers: []layer{{name: "b", options: known}}}
	must.Fail(t, u.setOptions("level=3", nil), "write a.level or b.level", "setOptions with an ambiguous option")
	u.layerOptions = nil
	must.Do(t, u.setOptions("b.level=3", map[string]string{"level": "1", "none": "x"}))
	if a, b := u.storeOptions.count("level"), u.layerOptions[0].count("level"); a != 1 || b != 3 {
		t.Errorf("the levels are %d and %d, want 1 (the default) and 3", a, b)
	}
	if _, err := NewSet().Open(t.Context(), "buffer+mem:", map[string]string{"memory": "none"}); err == nil {
		t.Error("Open ignored the default, which is invalid")
	}
}

// TestFailedLayerCloses checks that a store is closed if creating a layer over it fails.
func TestFailedLayerCloses(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(context.Background(), "buffer+log:"+dir+"?readonly=true"); err == nil {
		t.Fatal("Open for reading succeeded although the store does not exist")
	}
	store := must.Get(Open(context.Background(), "zstd+s2+log:"+dir))(t)
	must.Do(t, partd.Close(context.Background(), store))
	u := must.Get(NewSet().parse("zstd+log:"+dir, nil))(t)
	wrapErr := errors.New("the layer failed")
	u.layers[0].wrap = func(partd.Partd, options) (partd.Partd, error) { return nil, wrapErr }
	must.Fail(t, must.Err(u.openAll(context.Background())), wrapErr, "openAll with a failing layer")
	store = must.Get(Open(context.Background(), "log:"+dir))(t) // the failure must have closed the store
	must.Do(t, partd.Close(context.Background(), store))
}

func TestExists(t *testing.T) {
	dir := t.TempDir()
	for _, url := range []string{"mem:", "file:" + dir, "file:" + dir + "/none"} {
		if exists, err := NewSet().Exists(url); exists || err != nil {
			t.Errorf("NewSet().Exists(%s) = %v, %v, want false", url, exists, err)
		}
	}
	store := must.Get(Open(context.Background(), "file:"+dir))(t)
	must.Do(t, errors.Join(store.Append(context.Background(), partd.Entry{Key: "k", Value: []byte("v")}), partd.Close(context.Background(), store)))
	if exists, err := NewSet().Exists("buffer+file:" + dir); !exists || err != nil {
		t.Errorf("Exists of an existing store = %v, %v, want true", exists, err)
	}
	if _, err := NewSet().Exists("tape:"); err == nil {
		t.Error("Exists with an unknown scheme succeeded")
	}
}

func TestServer(t *testing.T) {
	ctx := context.Background()
	socket := filepath.Join(t.TempDir(), "s?%")
	for _, listen := range []string{"tcp://127.0.0.1:0", "ipc://" + strings.ReplaceAll(socket, "%", "%25")} {
		server := must.Get(remote.NewServer(partd.NewDict(), nil))(t)
		l := must.Get(remote.Listen(listen))(t)
		go server.Serve(ctx, l)
		url := remote.URL(l.Addr())
		if exists, err := NewSet().Exists(url); !exists || err != nil {
			t.Errorf("NewSet().Exists(%s) = %v, %v, want true", url, exists, err)
		}
		store, err := Open(ctx, "buffer+"+url)
		if err != nil {
			t.Fatalf("Open(buffer+%s): %v", url, err)
		}
		if err := errors.Join(store.Append(ctx, partd.Entry{Key: "k", Value: []byte("v")}), partd.Close(ctx, store)); err != nil {
			t.Errorf("Append to %s, and Close: %v", url, err)
		}
		must.Do(t, server.Shutdown(ctx))
		must.Fail(t, must.Err(Open(ctx, url)), "connect", "Open(%s) without a server", url)
	}
}

func TestSizes(t *testing.T) {
	for s, want := range map[string]int64{"1": 1, "256MiB": 256 << 20, "1GB": 1e9, "1.5 KiB": 1536, "10m": 10e6} {
		if got, err := ParseSize(s); got != want || err != nil {
			t.Errorf("ParseSize(%q) = %d, %v, want %d", s, got, err, want)
		}
	}
	if s := FormatSize(256 << 20); s != "256 MiB" {
		t.Errorf("FormatSize = %q, want 256 MiB", s)
	}
}

func TestKeepsPromises(t *testing.T) {
	runs, parts := 15, 2000
	if os.Getenv("PARTD_ALL_LAYERS") != "" {
		runs, parts = 0, 0 // the default, or -rapid.checks
	}
	partdtest.Run(t, func(t *testing.T) partd.Partd {
		return must.Get(Open(context.Background(), "buffer+file:"+t.TempDir()+"/s?memory=64KiB"))(t)
	}, &partdtest.Options{Require: []partdtest.Ability{
		partdtest.CanSet, partdtest.CanDelete, partdtest.CanPop, partdtest.CanList, partdtest.CanOpen,
		partdtest.CanScan, partdtest.CanFlush, partdtest.CanSync, partdtest.CanStat, partdtest.CanClose,
	}, Without: []partdtest.Ability{partdtest.CanApply}, MachineRuns: runs, Parts: parts})
}

func Example() {
	ctx := context.Background()
	store, err := Open(ctx, "buffer+mem:?memory=16MiB")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer partd.Close(ctx, store)
	fmt.Println(store.Append(ctx, partd.Entry{Key: "x", Value: []byte("Hello")}))
	// Output: <nil>
}

// TestEscapedOption checks that the values of options are unescaped: a directory may have any name.
func TestEscapedOption(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "100% a+b&c=d")
	must.Do(t, os.Mkdir(dir, 0o777))
	s := must.Get(Open(t.Context(), "file:?temp="+url.QueryEscape(dir)))(t)
	if files, err := os.ReadDir(dir); err != nil || len(files) == 0 {
		t.Errorf("the directory has no temporary store, %v", err)
	}
	must.Do(t, partd.Close(t.Context(), s))
}

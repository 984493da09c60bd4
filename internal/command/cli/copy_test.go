package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/remote"
	"github.com/go-partd/partd/stores"
)

// copyInto runs partd copy with two keys, "a" and "b", whose values have four bytes, to a store.
func copyInto(t *testing.T, ctx context.Context, target *fake, flags ...string) (code int, stdout, stderr string) {
	t.Helper()
	dir := t.TempDir()
	source := "s2+file:" + filepath.Join(dir, "source")
	fillStore(t, source, partd.Entry{Key: "a", Value: []byte("1111")}, partd.Entry{Key: "b", Value: []byte("2222")})
	return runHere(ctx, target, append([]string{"copy", "--from", source, "--to", "file:T"}, flags...)...)
}

func fillStore(t *testing.T, url string, entries ...partd.Entry) {
	t.Helper()
	store := must.Get(stores.Open(t.Context(), url))(t)
	must.Do(t, errors.Join(store.Append(t.Context(), entries...), partd.Close(t.Context(), store)))
}

// TestCopyOutcomes checks that copy detects every failure of the target, and that its message describes the
// target's content and says what to do.
func TestCopyOutcomes(t *testing.T) {
	broken := errors.New("it broke")
	change := func(do func(e []partd.Entry) []partd.Entry) func(*fake, func() error) {
		return func(f *fake, _ func() error) {
			f.append = func(e []partd.Entry) ([]partd.Entry, error) { return do(e), nil }
		}
	}
	const lost = "either another program writes to it, or it lost data\nThe store file:T cannot be trusted. Run the command again with --replace\n"
	for _, c := range []struct {
		name  string
		flags string // with --replace and --append, the target has keys at the start
		code  int
		set   func(f *fake, interrupt func() error)
		want  string
	}{
		{"lost key", "", 1, change(func(e []partd.Entry) []partd.Entry { return e[1:] }), "holds 1 keys instead of 2: " + lost},
		{"duplicated entry", "", 1, change(func(e []partd.Entry) []partd.Entry { return append(e, e[0]) }), "holds 12 bytes instead of 8: " + lost},
		{"values of two keys exchanged", "", 1, change(func(e []partd.Entry) []partd.Entry {
			return []partd.Entry{{Key: e[0].Key, Value: e[1].Value}, {Key: e[1].Key, Value: e[0].Value}}
		}), "the same number of keys and bytes, but the checksum "},
		{"changed bit", "", 1, change(func(e []partd.Entry) []partd.Entry {
			value := bytes.Clone(e[0].Value)
			value[2] ^= 4
			return []partd.Entry{{Key: e[0].Key, Value: value}, e[1]}
		}), lost},
		{
			"lost bytes", "--append", 1, change(func(e []partd.Entry) []partd.Entry { return e[1:] }),
			"8 bytes were copied, but the store file:T has grown by 4 bytes: either another program writes to it, " +
				"or it lost data\nThe store file:T cannot be trusted. Running the command again would duplicate the part already copied\n",
		},
		{"failed append", "", 1, func(f *fake, _ func() error) {
			f.append = func([]partd.Entry) ([]partd.Entry, error) { return nil, broken }
		}, "it broke\nThe store file:T is incomplete. Run the command again with --replace\n"},
		{"failed append", "--append", 1, func(f *fake, _ func() error) {
			f.append = func([]partd.Entry) ([]partd.Entry, error) { return nil, broken }
		}, "it broke\nThe store file:T now has a part of the copy in addition to its earlier content. Running the command again would duplicate the part already copied\n"},
		{
			"failed drop", "--replace", 1, func(f *fake, _ func() error) { f.drop = func() error { return broken } },
			"it broke\nThe content of file:T may be dropped, wholly or in part. Run the command again with --replace\n",
		},
		{"failed flush", "", 1, func(f *fake, _ func() error) { f.flush = func() error { return broken } }, "it broke\nThe store file:T is incomplete. "},
		{
			"failed close", "", 1, func(f *fake, _ func() error) { f.close = func() error { return broken } },
			"it broke\nEverything is stored in file:T, and the comparison found no difference\n",
		},
		{"interrupt", "", 130, func(f *fake, interrupt func() error) {
			f.append = func([]partd.Entry) ([]partd.Entry, error) { return nil, interrupt() }
		}, "interrupted\nThe store file:T is incomplete. Run the command again with --replace\n"},
		{"no failure", "", 0, func(*fake, func() error) {}, ""},
		{"no failure", "--replace", 0, func(*fake, func() error) {}, ""},
		{"no failure", "--append", 0, func(*fake, func() error) {}, ""},
	} {
		t.Run(c.name+" "+c.flags, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			target := &fake{Dict: partd.NewDict()}
			if c.flags != "" {
				must.Do(t, target.Dict.Append(ctx, partd.Entry{Key: "b", Value: []byte("old")}))
			}
			c.set(target, func() error { cancel(); return ctx.Err() })
			code, out, errs := copyInto(t, ctx, target, strings.Fields(c.flags)...)
			if code != c.code || !strings.Contains(errs, c.want) || c.want == "" && errs != "" {
				t.Errorf("copy: exit code %d, stderr %q, want %d and %q", code, errs, c.code, c.want)
			}
			if ok := strings.Contains(out, "result"); ok != (c.code == 0) {
				t.Errorf("copy: exit code %d, output %q, want a result only if the code is 0", code, out)
			}
		})
	}
}

// TestCopyMemory checks that partd copy copies and compares a value in pieces if it is larger than the memory.
func TestCopyMemory(t *testing.T) {
	size, memory := 96<<20, 32<<20
	if procs.RaceEnabled {
		size, memory = size/2, memory/2
	}
	dir := t.TempDir()
	source, target := "zlib+log:"+dir+"/from?zlib.level=1&memory=8MiB", "zstd+file:"+dir+"/to"
	store := must.Get(stores.Open(t.Context(), source))(t)
	piece := make([]byte, 8<<20)
	random := rand.NewChaCha8([32]byte{})
	for i := range size / len(piece) {
		_, _ = random.Read(piece[:len(piece)/4])
		copy(piece[len(piece)/4:], bytes.Repeat(fmt.Appendf(nil, "%d bottles of beer, ", i), len(piece))[:len(piece)/2])
		must.Do(t, store.Append(t.Context(), partd.Entry{Key: "large", Value: piece}))
	}
	must.Do(t, partd.Close(t.Context(), store))
	var out bytes.Buffer
	cmd := program(t, "copy", "--from", source, "--to", target, "--memory", fmt.Sprint(memory), "--json")
	cmd.Stdout, cmd.Stderr = &out, &out
	peak, err := startMeasured(t, cmd)()
	if err != nil || !strings.Contains(out.String(), fmt.Sprintf(`"keys":1,"bytes":%d,`, size)) {
		t.Fatalf("partd copy: %v, %s", err, out.String())
	}
	if limit := int64(memory/10*11 + 30<<20); peak > limit && !procs.RaceEnabled {
		t.Errorf("copy used %d bytes of memory, want at most %d", peak, limit)
	}
}

// serve runs a server for a store, with two addresses, until the end of the test.
func serve(t *testing.T, store partd.Partd) (first, second string) {
	t.Helper()
	server := must.Get(remote.NewServer(store, nil))(t)
	var urls []string
	done := make(chan error, 2)
	for range 2 {
		l := must.Get(net.Listen("tcp", "127.0.0.1:0"))(t)
		urls = append(urls, remote.URL(l.Addr()))
		go func() { done <- server.Serve(context.Background(), l) }()
	}
	t.Cleanup(func() { must.Do(t, errors.Join(server.Shutdown(context.Background()), <-done, <-done)) })
	return urls[0], urls[1]
}

// TestCopyOntoItself checks that copy refuses to copy a store to itself, even by another URL, because that would
// drop or duplicate its content.
func TestCopyOntoItself(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	slow := must.Get(partd.OpenFile(dir, nil))(t)
	buffer := must.Get(partd.NewBuffer(partd.NewDict(), slow, nil))(t)
	t.Cleanup(func() { must.Do(t, buffer.Close()) })
	first, second := serve(t, buffer)
	fillStore(t, "snappy+"+first, partd.Entry{Key: "k", Value: []byte("value")})
	must.Do(t, buffer.Flush(t.Context()))
	for _, c := range [][2]string{
		{first, first},
		{"snappy+" + first, "zstd+" + second},
		{"snappy+" + second, "snappy+file:" + dir},
		{"snappy+file:" + dir, "buffer+zlib+" + first},
	} {
		for _, flag := range []string{"--replace", "--append"} {
			code, out, errs := runHere(t.Context(), nil, "copy", "--from", c[0], "--to", c[1], flag)
			if code == 0 || out != "" || !strings.Contains(errs, "the same") {
				t.Errorf("copy from %s to %s %s: exit code %d, output %s%s, want an error about the same store", c[0], c[1], flag, code, out, errs)
			}
			if strings.Contains(errs, "--replace") {
				t.Errorf("copy from %s to %s %s: the message recommends a command that loses all data: %s", c[0], c[1], flag, errs)
			}
			_, keys, _ := runHere(t.Context(), nil, "keys", "--store", "snappy+"+first)
			if _, value, _ := runHere(t.Context(), nil, "get", "--store", "snappy+"+first, "k"); keys != "k\t5\n" || value != "value" {
				t.Fatalf("copy from %s to %s %s changed the keys to %q and the value to %q", c[0], c[1], flag, keys, value)
			}
		}
	}
}

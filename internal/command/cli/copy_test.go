package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/stores"
)

// copyInto runs partd copy with two keys, "a" and "b", whose values have four bytes, to a store.
func copyInto(t *testing.T, ctx context.Context, target *fake, flags ...string) (code int, stdout, stderr string) {
	t.Helper()
	dir := t.TempDir()
	source := "s2+file:" + filepath.Join(dir, "source")
	fillStore(t, source, partd.Entry{Key: "a", Value: []byte("1111")}, partd.Entry{Key: "b", Value: []byte("2222")})
	var out, errs bytes.Buffer
	a := &app{out: &out, err: &errs, open: func(context.Context, string, map[string]string) (partd.Partd, error) { return target, nil }}
	code = run(ctx, append([]string{"copy", "--from", source, "--to", "file:T"}, flags...), a)
	return code, out.String(), strings.ReplaceAll(errs.String(), source, "SOURCE")
}

func fillStore(t *testing.T, url string, entries ...partd.Entry) {
	t.Helper()
	store, err := stores.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(store.Append(t.Context(), entries...), partd.Close(t.Context(), store)); err != nil {
		t.Fatal(err)
	}
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
				if err := target.Dict.Append(ctx, partd.Entry{Key: "b", Value: []byte("old")}); err != nil {
					t.Fatal(err)
				}
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
	store, err := stores.Open(t.Context(), source)
	if err != nil {
		t.Fatal(err)
	}
	piece := make([]byte, 8<<20)
	random := rand.NewChaCha8([32]byte{})
	for i := range size / len(piece) {
		_, _ = random.Read(piece[:len(piece)/4])
		copy(piece[len(piece)/4:], bytes.Repeat(fmt.Appendf(nil, "%d bottles of beer, ", i), len(piece))[:len(piece)/2])
		if err := store.Append(t.Context(), partd.Entry{Key: "large", Value: piece}); err != nil {
			t.Fatal(err)
		}
	}
	if err := partd.Close(t.Context(), store); err != nil {
		t.Fatal(err)
	}
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

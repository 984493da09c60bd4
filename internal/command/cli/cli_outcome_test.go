package cli

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/testutil/must"
)

// fake is a store in memory whose operations can be replaced.
type fake struct {
	*partd.Dict
	append func(entries []partd.Entry) ([]partd.Entry, error)
	drop   func() error
	flush  func() error
	close  func() error
	keys   func() error // replaces the second listing of keys, which the comparison uses
	listed bool
}

func (f *fake) Append(ctx context.Context, entries ...partd.Entry) (err error) {
	if f.append != nil {
		if entries, err = f.append(entries); err != nil {
			return err
		}
	}
	return f.Dict.Append(ctx, entries...)
}

func (f *fake) Drop(ctx context.Context) error {
	if f.drop != nil {
		return f.drop()
	}
	return f.Dict.Drop(ctx)
}

func (f *fake) Flush(context.Context) error {
	if flush := f.flush; flush != nil {
		f.flush = nil // at the end, the command flushes again, without the interrupted context
		return flush()
	}
	return nil
}

func (f *fake) Close() error {
	if f.close != nil {
		return f.close()
	}
	return f.Dict.Close()
}

func (f *fake) Keys(ctx context.Context) iter.Seq2[partd.KeyInfo, error] {
	if f.keys != nil && f.listed {
		return func(yield func(partd.KeyInfo, error) bool) { yield(partd.KeyInfo{}, f.keys()) }
	}
	f.listed = true
	return f.Dict.Keys(ctx)
}

// shuffleInto runs partd shuffle, which appends 3 records of 12 bytes in total to a store.
func shuffleInto(t *testing.T, ctx context.Context, store *fake, flags ...string) (code int, stdout, stderr string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "x.csv")
	must.Do(t, os.WriteFile(file, []byte("k,v\na,1\nb,2\na,3\n"), 0o666))
	return runHere(ctx, store, append([]string{"shuffle", "--store=file:S", "--by=k", file}, flags...)...)
}

// TestAppendReportsFlush checks that append fails if the store cannot write the value to its disk.
func TestAppendReportsFlush(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x")
	must.Do(t, os.WriteFile(file, []byte("value"), 0o666))
	store := &fake{Dict: partd.NewDict(), flush: func() error { return errors.New("it broke") }}
	code, _, stderr := runHere(t.Context(), store, "append", "--store=file:S", "k", file)
	if code != 1 || stderr != "partd: it broke\n" {
		t.Errorf("append ends with code %d and prints %q, want code 1 and the error", code, stderr)
	}
}

// TestOutcomes checks that after any failure, the message describes the store's content and how to continue. If the user
// lacks the right to drop, the message says nothing about the store, which did not change.
func TestOutcomes(t *testing.T) {
	broken := errors.New("it broke")
	fails := func() error { return broken }
	for _, c := range []struct {
		name  string
		flags string // with --replace and --append, the store has keys at the start
		code  int
		set   func(f *fake, interrupt func() error)
		want  string
	}{
		{"lost records", "", 1, func(f *fake, _ func() error) {
			f.append = func(e []partd.Entry) ([]partd.Entry, error) { return e[1:], nil }
		}, "3 records of 12 bytes were appended, but the store file:S has grown by 8 bytes: " +
			"either another program writes to it, or it lost data\n" +
			"The store file:S cannot be trusted. Run the command again with --replace\n"},
		{"lost records", "--append", 1, func(f *fake, _ func() error) {
			f.append = func(e []partd.Entry) ([]partd.Entry, error) { return e[:2], nil }
		}, "3 records of 12 bytes were appended, but the store file:S has grown by 8 bytes: " +
			"either another program writes to it, or it lost data\n" +
			"The store file:S cannot be trusted. Running the command again would duplicate them\n"},
		{"interrupted comparison", "", 130, func(f *fake, interrupt func() error) {
			f.keys = interrupt
		}, "interrupted\nAll records are stored in file:S, but were not compared with the input: " +
			"compare 12 bytes with the output of \"partd stat --store file:S\". Or run the command again with --replace\n"},
		{"interrupted comparison", "--append", 130, func(f *fake, interrupt func() error) {
			f.keys = interrupt
		}, "interrupted\nAll records are stored in file:S, but were not compared with the input. " +
			"Running the command again would duplicate them\n"},
		{
			"failed drop", "--replace", 1, func(f *fake, _ func() error) { f.drop = fails },
			"it broke\nThe content of file:S may be dropped, wholly or in part. Run the command again with --replace\n",
		},
		{"interrupted before the first append", "--replace", 130, func(f *fake, interrupt func() error) {
			f.append = func([]partd.Entry) ([]partd.Entry, error) { return nil, interrupt() }
		}, "interrupted\nThe content of file:S was dropped, and nothing is stored in its place. Run the command again with --replace\n"},
		{
			"interrupted after the drop", "--replace", 130, func(f *fake, interrupt func() error) { f.flush = interrupt },
			"interrupted\nThe content of file:S was dropped; the new content is incomplete (at least 3 records). " +
				"Run the command again with --replace\n",
		},
		{
			"refused drop", "--replace --store=tcp://127.0.0.1:7077", 1, func(f *fake, _ func() error) { f.drop = func() error { return fs.ErrPermission } },
			"permission denied\n",
		},
		{"no failure", "", 0, func(*fake, func() error) {}, ""},
		{"nothing stored", "", 1, func(f *fake, _ func() error) {
			f.append = func([]partd.Entry) ([]partd.Entry, error) { return nil, broken }
		}, "it broke\n"},
		{"unknown outcome", "", 130, func(f *fake, interrupt func() error) {
			f.append = func([]partd.Entry) ([]partd.Entry, error) {
				return nil, errors.Join(partd.ErrUnknownOutcome, interrupt())
			}
		}, "interrupted: " + partd.ErrUnknownOutcome.Error() + "\nThe store file:S is incomplete. Run the command again with --replace\n"},
		{
			"interrupted", "", 130, func(f *fake, interrupt func() error) { f.flush = interrupt },
			"interrupted\nThe store file:S is incomplete (at least 3 records). Run the command again with --replace\n",
		},
		{
			"interrupted", "--append", 130, func(f *fake, interrupt func() error) { f.flush = interrupt },
			"interrupted\nThe store file:S now has a part of these records in addition to its earlier content. " +
				"Running the command again would duplicate them\n",
		},
		{
			"interrupted, and Close fails", "", 130, func(f *fake, interrupt func() error) { f.flush, f.close = interrupt, fails },
			"interrupted\npartd: it broke\nThe store file:S is incomplete. Run the command again with --replace\n",
		},
		{
			"Close fails", "", 1, func(f *fake, _ func() error) { f.close = fails },
			"it broke\nAll records are stored in file:S, and the comparison found no difference\n",
		},
	} {
		t.Run(strings.ReplaceAll(c.name+c.flags, " ", "_"), func(t *testing.T) {
			store := &fake{Dict: partd.NewDict()}
			if c.flags != "" {
				must.Do(t, store.Dict.Append(t.Context(), partd.Entry{Key: "a", Value: []byte("old\n")}))
			}
			if c.want != "" {
				c.want = "partd: " + c.want
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			c.set(store, func() error { cancel(); return &partd.Error{Op: "append", Key: "a", HasKey: true, Err: ctx.Err()} })
			code, stdout, stderr := shuffleInto(t, ctx, store, strings.Fields(c.flags)...)
			if code != c.code || stderr != c.want || strings.Contains(stdout, "records   3\nkeys      2\n") != (code == 0) || code != 0 && stdout != "" {
				t.Errorf("shuffle: exit code %d\n got %q\nwant %q\n%s", code, stderr, c.want, stdout)
			}
		})
	}
}

// TestOutcomeOfHangingStore checks that if a store hangs, the command exits ten seconds after an interrupt, with the
// same advice.
func TestOutcomeOfHangingStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		proceed := make(chan struct{})
		store := &fake{Dict: partd.NewDict(), flush: func() error { cancel(); <-proceed; return nil }}
		must.Do(t, store.Dict.Append(ctx, partd.Entry{Key: "a", Value: []byte("old")}))
		code, _, stderr := shuffleInto(t, ctx, store, "--replace", "--progress=never")
		want := "partd: interrupted, without waiting for work in progress: its output may be incomplete\n" +
			"The content of file:S was dropped; the new content is incomplete. Run the command again with --replace\n"
		if code != cliutil.ExitInterrupted || stderr != want {
			t.Errorf("shuffle to a hanging store: exit code %d\n got %q\nwant %q", code, stderr, want)
		}
		close(proceed)
		synctest.Wait()
	})
}

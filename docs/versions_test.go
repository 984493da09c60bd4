package docs_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/compress"
	"github.com/go-partd/partd/encode"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/logstore"
	"github.com/go-partd/partd/remote"
	"github.com/go-partd/partd/remote/tokens"
	"github.com/go-partd/partd/shards"
	"github.com/go-partd/partd/shuffle"
	"github.com/go-partd/partd/stores"
)

// writeVersion is set by packaging/versions only.
var writeVersion = flag.String("write-version", "", "write stores into this directory, instead of reading those in testdata/versions")

// versionKind is a kind of store in testdata/versions. change appends, and read returns all the data.
type versionKind struct {
	open   func(dir string) (partd.Partd, error)
	change func(ctx context.Context, store partd.Partd, n int) error
	read   func(ctx context.Context, store partd.Partd) (string, error)
}

func openURL(url string) func(string) (partd.Partd, error) {
	return func(dir string) (partd.Partd, error) { return stores.Open(context.Background(), fmt.Sprintf(url, dir)) }
}

func openFile(dir string) (partd.Partd, error) { return partd.OpenFile(dir, nil) }

func openFileShards(dir string) (partd.Partd, error) {
	first, err := partd.OpenFile(filepath.Join(dir, "first"), nil)
	if err != nil {
		return nil, err
	}
	second, err := partd.OpenFile(filepath.Join(dir, "second"), nil)
	if err != nil {
		return nil, err
	}
	return shards.New([]string{"first", "second"}, []partd.Partd{first, second})
}

// namespace is the client of a namespace of a server. Close stops the server.
type namespace struct {
	*remote.Client
	server *procs.Server
}

func openNamespace(dir string) (partd.Partd, error) {
	server, err := procs.StartServer(context.Background(), procs.Command("partd-server", "--store", "log:"+dir+"?memory=4MiB", "--listen", "tcp://127.0.0.1:0"), 1)
	if err != nil {
		return nil, err
	}
	client, err := remote.Dial(context.Background(), server.URL(), &remote.ClientOptions{Namespace: "team"})
	return namespace{client, server}, err
}

func (n namespace) Close() error { return errors.Join(n.Client.Close(), n.server.Stop(time.Minute)) }

// changeInSession repeats change n-1 of a session, and applies change n.
func changeInSession(ctx context.Context, store partd.Partd, n int) error {
	s := store.(partd.Applier)
	if n == 1 {
		session, err := s.NewSession(ctx)
		if err := errors.Join(err, partd.Set(ctx, store, "session", []byte(strconv.FormatUint(session, 10)))); err != nil {
			return err
		}
	}
	values, err := store.Get(ctx, "session")
	if err != nil {
		return err
	}
	session, err := strconv.ParseUint(string(values[0]), 10, 64)
	for number := max(1, n-1); number <= n && err == nil; number++ {
		op := partd.Operation{Change: partd.ChangeAppend, Entries: []partd.Entry{{Key: "k", Value: []byte{byte(number)}}}}
		_, err = s.Apply(ctx, partd.Tag{Session: session, Number: uint64(number)}, op)
	}
	return err
}

func readSession(ctx context.Context, store partd.Partd) (string, error) {
	values, err := store.Get(ctx, "k") // the number of the session differs
	if err != nil {
		return "", err
	}
	return string(values[0]), nil
}

// changeBytes appends small and large values to keys with all kinds of file names, and replaces and deletes a key.
func changeBytes(ctx context.Context, store partd.Partd, n int) error {
	text := fmt.Sprintf("piece %d\n", n)
	entries := []partd.Entry{{Key: "letters"}, {Key: "a/b%c é"}, {Key: ""}, {Key: "tuple-|-1"}, {Key: strings.Repeat("long", 100)}}
	for i := range entries {
		entries[i].Value = []byte(text)
	}
	entries = append(entries, partd.Entry{Key: "large", Value: []byte(strings.Repeat(text, 20_000))}, partd.Entry{Key: "deleted", Value: []byte(text)})
	return errors.Join(store.Append(ctx, entries...), partd.Set(ctx, store, "replaced", []byte(text)), partd.Delete(ctx, store, "deleted"))
}

func readBytes(ctx context.Context, store partd.Partd) (string, error) {
	values := map[string]string{}
	for chunk, err := range partd.Scan(ctx, store) {
		if err != nil {
			return "", err
		}
		values[chunk.Key] += string(chunk.Data)
	}
	var text strings.Builder
	for _, key := range slices.Sorted(maps.Keys(values)) {
		fmt.Fprintf(&text, "%q %q\n", key, values[key])
	}
	return text.String(), nil
}

var frame = encode.DataFrame{
	Index:   encode.Column{Name: "when", Values: encode.Times{Unit: "s", Counts: []int64{1700000000, 1700000060}}},
	Columns: []encode.Column{{Name: "price", Values: []float64{1.5, 2.25}}},
}

// codecKind returns a kind of store that holds values of a codec.
func codecKind[T any](codec encode.ValueCodec[T], value T) versionKind {
	return versionKind{openFile, func(ctx context.Context, s partd.Partd, _ int) error {
		return encode.New(s, codec).Append(ctx, encode.Entry[T]{Key: "k", Value: value})
	}, func(ctx context.Context, s partd.Partd) (string, error) {
		all, err := encode.New(s, codec).Get(ctx, "k")
		return fmt.Sprintf("%#v", all), err
	}}
}

var versionKinds = map[string]versionKind{
	"file":          {openFile, changeBytes, readBytes},
	"log":           {openURL("log:%s?memory=4MiB"), changeBytes, readBytes},
	"log-s2":        {openURL("log:%s?memory=4MiB&compression=s2"), changeBytes, readBytes},
	"log-zstd":      {openURL("log:%s?memory=4MiB&compression=zstd"), changeBytes, readBytes},
	"log-killed":    {openURL("log:%s?memory=4MiB"), changeBytes, readBytes},
	"file-session":  {openURL("file:%s?sync=true"), changeInSession, readSession}, // an unsynced session ends when the system restarts
	"log-session":   {openURL("log:%s?memory=4MiB"), changeInSession, readSession},
	"namespaces":    {openNamespace, changeBytes, readBytes},
	"shards":        {openFileShards, changeBytes, readBytes},
	"python":        codecKind(encode.Python(), []any{int64(1), "text"}),
	"pickle":        codecKind(encode.Pickle(), []any{int64(1), "text"}),
	"json":          codecKind(encode.JSON[[]string](), []string{"text"}),
	"gob":           codecKind(encode.Gob[string](), "text"),
	"pandas-blocks": codecKind(encode.PandasBlocks(&encode.PandasOptions{Snappy: true}), frame),
	"numpy": {openFile, func(ctx context.Context, s partd.Partd, n int) error {
		return encode.NewNumPy[int64](s).Append(ctx, encode.Entry[[]int64]{Key: "k", Value: []int64{int64(n)}})
	}, func(ctx context.Context, s partd.Partd) (string, error) {
		all, err := encode.NewNumPy[int64](s).Get(ctx, "k")
		return fmt.Sprint(all), err
	}},
	"pandas-columns": {openFile, func(ctx context.Context, s partd.Partd, _ int) error {
		return encode.NewPandasColumns(s, nil).Append(ctx, encode.Entry[encode.DataFrame]{Key: "k", Value: frame})
	}, func(ctx context.Context, s partd.Partd) (string, error) {
		d, err := encode.NewPandasColumns(s, nil).Get(ctx, "k")
		return fmt.Sprintf("%#v", d), err
	}},
	"attempts": {openFile, func(ctx context.Context, s partd.Partd, n int) error {
		w, err := shuffle.Begin(ctx, s, fmt.Sprint("task ", n), "attempt")
		if err != nil {
			return err
		}
		return errors.Join(w.Append(ctx, partd.Entry{Key: "k", Value: []byte("piece")}), w.Commit(ctx))
	}, func(ctx context.Context, s partd.Partd) (string, error) {
		c, err := shuffle.ReadCommitted(ctx, s)
		if err != nil {
			return "", err
		}
		var text string
		for value, err := range c.Values(ctx, "k", nil) {
			if err != nil {
				return "", err
			}
			text += fmt.Sprintf("%q\n", value)
		}
		return text, nil
	}},
}

func init() {
	for _, f := range compress.Formats() {
		versionKinds["file-"+string(f)] = versionKind{openURL(string(f) + "+file:%s"), changeBytes, readBytes}
	}
}

// TestVersions opens, reads and changes a store of each kind and each released version, and copies it into a new store.
// Each must behave like a store that today's program wrote. With --write-version, it writes the stores instead.
func TestVersions(t *testing.T) {
	if *writeVersion != "" {
		writeVersions(t, filepath.Join(*writeVersion, "root"))
		return
	}
	for _, dir := range versionDirs(t) {
		for name, kind := range versionKinds {
			t.Run(filepath.Join(dir, name), func(t *testing.T) {
				old, current := filepath.Join(t.TempDir(), "old"), filepath.Join(t.TempDir(), "new")
				must.Do(t, os.CopyFS(old, os.DirFS(filepath.Join(dir, "root", name))))
				useVersion(t, kind, current, 1, nil)
				for n := range 2 { // the second time, after today's program has changed it
					useVersion(t, kind, old, n+2, func(store partd.Partd) {
						useVersion(t, kind, current, n+2, func(fresh partd.Partd) {
							want, wantErr := kind.read(t.Context(), fresh)
							if got, err := kind.read(t.Context(), store); err != nil || wantErr != nil || got != want {
								t.Errorf("change %d: the store contains %.300s, error %v, want %.300s, %v", n+1, got, err, want, wantErr)
							}
						})
					})
				}
				useVersion(t, kind, old, 0, func(store partd.Partd) {
					if result, err := partd.Copy(t.Context(), partd.NewDict(), store, nil); err != nil || result.Keys == 0 {
						t.Errorf("copying the store: %+v, %v", result, err)
					}
				})
			})
		}
		users := must.Get(os.ReadFile(filepath.Join(dir, "root", "users")))(t)
		private := filepath.Join(t.TempDir(), "users")
		if err := os.WriteFile(private, users, 0o600); err != nil { // git keeps no permissions, and a umask may let the group write
			t.Fatal(err)
		}
		grants, err := tokens.Read(private)
		if err != nil || len(grants) != 1 || grants[0].User != "etl" || grants[0].Rights != remote.RightRead {
			t.Errorf("%s: the users are %v, error %v, want etl with the right read", dir, grants, err)
		}
	}
}

func versionDirs(t *testing.T) []string {
	t.Helper()
	dirs, err := filepath.Glob("testdata/versions/v*")
	if err != nil || len(dirs) == 0 {
		t.Fatalf("testdata/versions has the versions %q, error %v, want at least one", dirs, err)
	}
	return dirs
}

// useVersion opens a store, calls check unless it is nil, applies change n unless it is 0, and closes the store.
func useVersion(t *testing.T, kind versionKind, dir string, n int, check func(partd.Partd)) {
	t.Helper()
	store, err := kind.open(dir)
	must.Do(t, err)
	if check != nil {
		check(store)
	}
	if n > 0 {
		err = kind.change(t.Context(), store, n)
	}
	must.Do(t, errors.Join(err, partd.Close(t.Context(), store)))
}

func writeVersions(t *testing.T, dir string) {
	t.Helper()
	for name, kind := range versionKinds {
		target := filepath.Join(dir, name)
		if name != "log-killed" {
			useVersion(t, kind, target, 1, nil)
			continue
		}
		source := filepath.Join(t.TempDir(), "log")
		running := must.Get(logstore.Open(source, &logstore.Options{Memory: 4 << 20}))(t)
		must.Do(t, errors.Join(kind.change(t.Context(), running, 1), os.CopyFS(target, os.DirFS(source)), running.Close()))
	}
	grant, _, err := tokens.NewGrant("etl", tokens.AllNamespaces, remote.RightRead, false)
	if err == nil {
		err = tokens.Edit(filepath.Join(dir, "users"), func([]tokens.Grant) ([]tokens.Grant, error) { return []tokens.Grant{grant}, nil })
	}
	must.Do(t, err)
}

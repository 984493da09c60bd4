package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/textfmt"
	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/stores"
)

// defaultStore is the store of all commands without --store.
const defaultStore = "log:partd-out"

// storeArgument returns the --store flag for a store, or "" if it is the default store.
func storeArgument(url string) string {
	if url == defaultStore && os.Getenv(env.Variable("store")) == "" {
		return ""
	}
	return " --store " + textfmt.ShellQuote(url)
}

// storeExists reports whether the store that a flag names exists. An invalid URL is a usage error.
func storeExists(ctx context.Context, flag, rawURL string) (bool, error) {
	exists, err := storeSet(ctx).Exists(rawURL)
	if errors.As(err, new(*stores.URLError)) {
		return false, cliutil.UsageError{Err: err}
	}
	if scheme, _ := cliutil.SplitURL(rawURL); err == nil && scheme == "mem" {
		return false, cliutil.Usagef("--%s %s is memory, which is lost when the command ends: use a directory, as in %s",
			flag, rawURL, defaultStore)
	}
	if errors.Is(err, syscall.ENOTDIR) {
		return false, nil // opening the store returns a better error
	}
	return exists, err
}

// warningsKey is the context key of the logger for warnings.
type warningsKey struct{}

// storeSetKey is the context key of the stores.Set that commands use.
type storeSetKey struct{}

func storeSet(ctx context.Context) *stores.Set {
	set, _ := ctx.Value(storeSetKey{}).(*stores.Set)
	if set == nil {
		set = stores.NewSet()
	}
	return set
}

// openStore opens a store, or creates it if it does not exist. It returns an error if there is a
// store of another kind in the same place.
func openStore(ctx context.Context, rawURL string, options map[string]string) (partd.Partd, error) {
	if err := checkKind(ctx, rawURL); err != nil {
		return nil, err
	}
	store, err := storeSet(ctx).Open(ctx, rawURL, options)
	if inner, ok := errors.AsType[*partd.Error](err); ok && inner.Path != "" {
		return nil, inner // omit the URL, because this error names the path
	}
	if warnings, ok := ctx.Value(warningsKey{}).(*slog.Logger); ok && err == nil {
		cliutil.WarnTorn(warnings, store)
	}
	return store, err
}

// openReading opens an existing store for reading. Several processes may read a log store, and its
// directory need not be writable.
func openReading(ctx context.Context, rawURL string, options map[string]string) (partd.Partd, error) {
	if err := requireStore(ctx, rawURL); err != nil {
		return nil, err
	}
	readonly := map[string]string{"readonly": "true"}
	maps.Copy(readonly, options)
	store, err := openStore(ctx, rawURL, readonly)
	if err == nil || errors.As(err, new(*partd.CorruptError)) {
		return store, err
	}
	// A killed process may have left a write-ahead log that is too large for a reader's memory.
	// Opening the store for writing moves its data to segments. That fails too if another
	// process has the store open.
	if store, retryErr := openStore(ctx, rawURL, options); retryErr == nil {
		return store, nil
	}
	return nil, err
}

func requireStore(ctx context.Context, rawURL string) error {
	exists, err := storeExists(ctx, "store", rawURL)
	if err == nil && !exists {
		return noStoreError(ctx, rawURL)
	}
	return err
}

// checkKind returns an error if the directory contains a store of a kind that the URL does not name.
func checkKind(ctx context.Context, rawURL string) error {
	if exists, err := storeSet(ctx).Exists(rawURL); err != nil || exists {
		return nil // opening the store returns a better error
	}
	scheme, location := cliutil.SplitURL(rawURL)
	for _, other := range []string{"log", "file"} {
		url := other + ":" + pathInURL.Replace(location)
		if exists, err := storeSet(ctx).Exists(url); other != scheme && err == nil && exists {
			return fmt.Errorf("%s contains a store of another kind: use --store %s", location, textfmt.ShellQuote(url))
		}
	}
	return nil
}

var pathInURL = strings.NewReplacer("%", "%25", "?", "%3F")

func noStoreError(ctx context.Context, rawURL string) error {
	if err := checkKind(ctx, rawURL); err != nil {
		return err
	}
	scheme, location := cliutil.SplitURL(rawURL)
	blobs, _ := fs.Glob(os.DirFS(location), "blob-[0-9]*") // cannot fail: the patterns are valid
	segments, _ := fs.Glob(os.DirFS(location), "seg-[0-9]*")
	data := append(blobs, segments...)
	info, err := os.Stat(location)
	entries, readErr := os.ReadDir(location)
	switch {
	case scheme == "log" && len(data) > 0:
		return &partd.CorruptError{
			Path: filepath.Join(location, "MANIFEST"), Offset: -1, Err: fmt.Errorf("it is missing, although %s exists", data[0]),
		}
	case err == nil && !info.IsDir():
		return fmt.Errorf("%s is a file, not a partd store", location)
	case err == nil && (readErr != nil || len(entries) > 0):
		return fmt.Errorf("the directory %s exists, but is not a partd store", location)
	}
	return fmt.Errorf(`there is no store %s: create one with "partd shuffle" or "partd append"`, rawURL)
}

// withReading calls use with an existing store that is open for reading.
func withReading(ctx context.Context, rawURL string, use func(partd.Partd) error) (err error) {
	store, err := openReading(ctx, rawURL, nil)
	if err != nil {
		return err
	}
	defer closeReading(store, &err)
	return use(store)
}

// withExisting calls use with an existing store that is open for changes.
func withExisting(ctx context.Context, rawURL string, use func(partd.Partd) error) (err error) {
	if err := requireStore(ctx, rawURL); err != nil {
		return err
	}
	store, err := openStore(ctx, rawURL, nil)
	if err != nil {
		return err
	}
	defer closeStore(ctx, store, &err)
	return use(store)
}

// closeReading closes a store at the end of a command that changed nothing. It does not flush the store,
// because a server refuses and logs a flush by a user who may only read.
func closeReading(store partd.Partd, err *error) {
	if c, ok := store.(io.Closer); ok {
		addCloseError(err, c.Close())
	}
}

// closeStore closes a store at the end of a command. An earlier error in err has priority.
func closeStore(ctx context.Context, store partd.Partd, err *error) {
	// Flush acknowledged data even after an interrupt.
	ctx = context.WithoutCancel(ctx)
	if errors.As(*err, new(*net.OpError)) { // the server was not reachable, so do not wait for it for another minute
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
	}
	addCloseError(err, partd.Close(ctx, store))
}

func addCloseError(err *error, closeErr error) {
	switch {
	case closeErr == nil || errors.Is(closeErr, errors.ErrUnsupported):
	case *err == nil:
		*err = closeErr
	default:
		*err = &failure{err: *err, closeErr: closeErr}
	}
}

func flush(ctx context.Context, store partd.Partd) error {
	if err := partd.Flush(ctx, store); !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}

// memoryUsed returns a function that returns the memory in use by a store, or nil if it is unknown.
func memoryUsed(store partd.Partd) func() int64 {
	if m, ok := partd.As[partd.MemoryUser](store); ok {
		return m.MemoryUsed
	}
	return nil
}

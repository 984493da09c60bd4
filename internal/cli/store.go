package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/internal/textfmt"
	"github.com/go-partd/partd/stores"
)

// defaultStore is the store of every command without --store.
const defaultStore = "log:partd-out"

func storeFlag(cmd *cobra.Command) *string {
	return urlFlag(cmd, "store", defaultStore, "`URL` of the store")
}

func urlFlag(cmd *cobra.Command, name, value, usage string) *string {
	flag := cmd.Flags().String(name, value, usage)
	must(cmd.RegisterFlagCompletionFunc(name, completeStore))
	return flag
}

// must takes the error of what is done with a flag that is there.
func must(err error) {
	if err != nil {
		panic(err) // the program is wrong
	}
}

// storeExists reports whether a store exists, whose URL a flag gave. A URL that makes
// no sense is wrong usage.
func storeExists(ctx context.Context, flag, rawURL string) (bool, error) {
	exists, err := setOf(ctx).Exists(rawURL)
	if errors.As(err, new(*stores.URLError)) {
		return false, cliutil.UsageError{Err: err}
	}
	if scheme, _ := cliutil.SplitURL(rawURL); err == nil && scheme == "mem" {
		return false, cliutil.Usagef("--%s %s is memory that ends with the command: name a directory, as in %s",
			flag, rawURL, defaultStore)
	}
	if errors.Is(err, syscall.ENOTDIR) {
		return false, nil // opening it says more
	}
	return exists, err
}

// setKey is the key of a context's stores.Set, which every command finds there.
type setKey struct{}

func setOf(ctx context.Context) *stores.Set {
	set, _ := ctx.Value(setKey{}).(*stores.Set)
	if set == nil {
		set = stores.NewSet()
	}
	return set
}

// openStore opens a store, and makes it where it does not exist, unless a store
// of another kind is in its place.
func openStore(ctx context.Context, rawURL string, options map[string]string) (partd.Partd, error) {
	if err := otherKind(ctx, rawURL); err != nil {
		return nil, err
	}
	store, err := setOf(ctx).Open(ctx, rawURL, options)
	if inner, ok := errors.AsType[*partd.Error](err); ok && inner.Path != "" {
		return nil, inner // names the place, as the URL does
	}
	return store, err
}

// openReading opens a store that must exist for reading. Several may read a log
// store at once, and a directory that cannot be written will do.
func openReading(ctx context.Context, rawURL string) (partd.Partd, error) {
	return openReadingWith(ctx, rawURL, nil)
}

// openReadingWith is openReading with values for more options.
func openReadingWith(ctx context.Context, rawURL string, options map[string]string) (partd.Partd, error) {
	if err := mustExist(ctx, rawURL); err != nil {
		return nil, err
	}
	readonly := map[string]string{"readonly": "true"}
	maps.Copy(readonly, options)
	store, err := openStore(ctx, rawURL, readonly)
	if err == nil || errors.As(err, new(*partd.CorruptError)) {
		return store, err
	}
	// What a killed process left behind may be more than reading alone can hold
	// in memory. Opened for writing it becomes segments. A store that another
	// process holds is refused once more.
	if store, again := openStore(ctx, rawURL, options); again == nil {
		return store, nil
	}
	return nil, err
}

func openExisting(ctx context.Context, rawURL string) (partd.Partd, error) {
	if err := mustExist(ctx, rawURL); err != nil {
		return nil, err
	}
	return openStore(ctx, rawURL, nil)
}

func mustExist(ctx context.Context, rawURL string) error {
	exists, err := storeExists(ctx, "store", rawURL)
	if err == nil && !exists {
		return noStore(ctx, rawURL)
	}
	return err
}

// otherKind returns an error if a directory holds a store, but not of the kind
// that the URL names.
func otherKind(ctx context.Context, rawURL string) error {
	if exists, err := setOf(ctx).Exists(rawURL); err != nil || exists {
		return nil // opening it says more
	}
	scheme, location := cliutil.SplitURL(rawURL)
	for _, other := range []string{"log", "file"} {
		url := other + ":" + pathInURL.Replace(location)
		if exists, err := setOf(ctx).Exists(url); other != scheme && err == nil && exists {
			return fmt.Errorf("%s holds a store of another kind: --store %s", location, textfmt.ShellQuote(url))
		}
	}
	return nil
}

// pathInURL writes a path as a URL has it.
var pathInURL = strings.NewReplacer("%", "%25", "?", "%3F")

// noStore says what is where a store should be.
func noStore(ctx context.Context, rawURL string) error {
	if err := otherKind(ctx, rawURL); err != nil {
		return err
	}
	scheme, location := cliutil.SplitURL(rawURL)
	blobs, _ := fs.Glob(os.DirFS(location), "blob-[0-9]*") // no error: the patterns are right
	segments, _ := fs.Glob(os.DirFS(location), "seg-[0-9]*")
	data := append(blobs, segments...)
	info, err := os.Stat(location)
	entries, unread := os.ReadDir(location)
	switch {
	case scheme == "log" && len(data) > 0:
		return &partd.CorruptError{
			Path: filepath.Join(location, "MANIFEST"), Offset: -1, Err: fmt.Errorf("it is missing, though there is %s", data[0]),
		}
	case err == nil && !info.IsDir():
		return fmt.Errorf("%s is a file, not a partd store", location)
	case err == nil && (unread != nil || len(entries) > 0):
		return fmt.Errorf("the directory %s exists, but is not a partd store", location)
	}
	return fmt.Errorf(`there is no store %s ("partd shuffle" or "partd append" makes one)`, rawURL)
}

// withStore opens a store for what use does with it.
func withStore(ctx context.Context, rawURL string, open func(context.Context, string) (partd.Partd, error), use func(partd.Partd) error) (err error) {
	store, err := open(ctx, rawURL)
	if err != nil {
		return err
	}
	defer closeStore(ctx, store, &err)
	return use(store)
}

// closeStore closes a store at the end of a command, whose error goes first.
func closeStore(ctx context.Context, store partd.Partd, err *error) {
	// Data acknowledged but not flushed yet is worth waiting for, also after an
	// interrupt.
	closing := partd.Close(context.WithoutCancel(ctx), store)
	switch {
	case closing == nil || errors.Is(closing, errors.ErrUnsupported):
	case *err == nil:
		*err = closing
	default:
		*err = &failure{err: *err, closing: closing}
	}
}

// flush flushes a store, if it holds anything back.
func flush(ctx context.Context, store partd.Partd) error {
	if err := partd.Flush(ctx, store); !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}

// memoryUsed returns what tells the memory that a store holds, nil if it does not
// know.
func memoryUsed(store partd.Partd) func() int64 {
	if m, ok := store.(partd.MemoryUser); ok {
		return m.MemoryUsed
	}
	return nil
}

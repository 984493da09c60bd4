package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/stores"
)

// defaultStore is the store of every command without --store.
const defaultStore = "file:partd-out"

// storeFlag adds --store.
func storeFlag(cmd *cobra.Command) *string {
	flag := cmd.Flags().String("store", defaultStore, "`URL` of the store")
	if err := cmd.RegisterFlagCompletionFunc("store", completeStore); err != nil {
		panic(err) // there is no such flag: the program is wrong
	}
	return flag
}

// splitURL returns what stores a URL's data, as "file", and the path that is
// its location.
func splitURL(rawURL string) (scheme, location string) {
	prefix, rest, _ := strings.Cut(rawURL, ":")
	scheme = prefix[strings.LastIndexByte(prefix, '+')+1:]
	location, _, _ = strings.Cut(rest, "?")
	if path, err := url.PathUnescape(location); err == nil {
		location = path
	}
	return scheme, strings.TrimPrefix(location, "//")
}

// storeExists tells whether a store exists. A URL that makes no sense is wrong
// usage.
func storeExists(rawURL string) (bool, error) {
	exists, err := stores.Exists(rawURL)
	if errors.As(err, new(*stores.URLError)) {
		return false, usageError{err}
	}
	if scheme, _ := splitURL(rawURL); err == nil && scheme == "mem" {
		return false, usagef("--store %s is memory that ends with the command, and what it holds with it: name a directory, as in %s",
			rawURL, defaultStore)
	}
	if errors.Is(err, syscall.ENOTDIR) {
		return false, nil // opening it says more
	}
	return exists, err
}

// openStore opens a store, and makes it where it does not exist.
func openStore(ctx context.Context, rawURL string, options map[string]string) (partd.Partd, error) {
	store, err := stores.OpenDefaults(ctx, rawURL, options)
	var inner *partd.Error
	if errors.As(err, &inner) && inner.Path != "" {
		return nil, inner // names the place, as the URL does
	}
	return store, err
}

// openExisting opens a store that must exist.
func openExisting(ctx context.Context, rawURL string) (partd.Partd, error) {
	exists, err := storeExists(rawURL)
	if err != nil {
		return nil, err
	}
	if !exists {
		return nil, noStore(rawURL)
	}
	return openStore(ctx, rawURL, nil)
}

// noStore says what is where a store should be.
func noStore(rawURL string) error {
	_, location := splitURL(rawURL)
	info, err := os.Stat(location)
	switch {
	case err == nil && !info.IsDir():
		return fmt.Errorf("%s is a file, and no partd store", location)
	case err == nil && !emptyDir(location):
		return fmt.Errorf("the directory %s exists, but is no partd store", location)
	}
	return fmt.Errorf(`there is no store %s ("partd shuffle" or "partd append" makes one)`, rawURL)
}

// emptyDir tells whether a directory is known to hold nothing.
func emptyDir(dir string) bool {
	f, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer f.Close()
	names, _ := f.Readdirnames(1)
	return len(names) == 0
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

package servercli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/internal/namespaces"
	"github.com/go-partd/partd/logstore"
	"github.com/go-partd/partd/stores"
)

// storeShare is the memory of each layer of the store, and of the store.
func (c *config) storeShare() int64 {
	scheme, _, _ := strings.Cut(c.store, ":")
	const maxForLog = 8 << 30
	return min(c.memory.Bytes/2/int64(1+strings.Count(scheme, "+")), maxForLog)
}

// openStore opens the store. Options in its URL go before those of the command.
func openStore(ctx context.Context, c *config) (partd.Partd, error) {
	scheme, _, _ := strings.Cut(c.store, ":")
	share := c.storeShare()
	if scheme != "mem" {
		// The heap holds the messages, and what the store does not keep apart: a
		// log has three quarters of its memory outside, which are there in the end.
		heap := c.memory.Bytes + c.memory.Bytes/16
		if strings.HasSuffix(scheme, "log") {
			heap = c.memory.Bytes - share/4*3
		}
		debug.SetMemoryLimit(heap)
	}
	if c.namespaceDir() != "" {
		share = max(share-share/4, min(share, logstore.MinMemory))
	}
	store, err := c.stores.Open(ctx, c.store, map[string]string{"memory": strconv.FormatInt(share, 10)})
	if errors.As(err, new(*stores.URLError)) {
		return nil, cliutil.Usagef("--store: %w", err)
	}
	return store, err
}

// namespaceDir is the directory of the namespaces' stores, "" where there are none:
// within that of the default store, so that a copy of it has them all. A buffer does
// not keep sessions, so those of its clients would end when its store is closed for
// another's.
func (c *config) namespaceDir() string {
	scheme, rest, _ := strings.Cut(c.store, ":")
	path, _, _ := strings.Cut(rest, "?")
	if c.namespaces == 0 || path == "" || scheme != "log" && !strings.HasSuffix(scheme, "+log") || strings.Contains(scheme, "buffer") {
		return ""
	}
	dir, err := url.PathUnescape(path)
	if err != nil {
		return ""
	}
	return filepath.Join(strings.TrimPrefix(dir, "//"), "namespaces")
}

// openNamespaces lets the server have namespaces, where the store can.
func (c *config) openNamespaces(store partd.Partd, opts *namespaces.Options, log *slog.Logger) (*namespaces.Set, error) {
	dir := c.namespaceDir()
	if dir == "" {
		return nil, nil
	}
	scheme, rest, _ := strings.Cut(c.store, ":")
	_, query, _ := strings.Cut(rest, "?")
	var kept []string // of the options: that of the memory is for the default store
	for _, o := range strings.Split(query, "&") {
		if name, _, _ := strings.Cut(o, "="); o != "" && name != "memory" && !strings.HasSuffix(name, ".memory") {
			kept = append(kept, o)
		}
	}
	all := c.storeShare() / 4
	opts.MaxOpen, opts.TTL, opts.Logger = int(max(1, min(int64(c.namespaces), all/logstore.MinMemory))), c.ttl, log
	each := strconv.FormatInt(max(all/int64(opts.MaxOpen), logstore.MinMemory), 10)
	opts.Open = func(ctx context.Context, dir string) (partd.Partd, error) {
		location := strings.NewReplacer("%", "%25", "?", "%3F").Replace(dir)
		return stores.OpenDefaults(ctx, scheme+":"+location+"?"+strings.Join(kept, "&"), map[string]string{"memory": each})
	}
	opts.Reader, opts.Listing = partd.ReaderMemory(store)
	set, err := namespaces.New(dir, *opts)
	if err != nil {
		return nil, fmt.Errorf("the namespaces in %s: %w", dir, err)
	}
	c.Namespaces = set
	return set, nil
}

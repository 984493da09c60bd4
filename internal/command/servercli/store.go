package servercli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/command/namespaces"
	"github.com/go-partd/partd/logstore"
	"github.com/go-partd/partd/storekit"
	"github.com/go-partd/partd/stores"
)

// storeShare returns the memory for each layer of the store, in bytes.
func (c *config) storeShare() int64 {
	scheme, _, _ := strings.Cut(c.store, ":")
	const maxForLog = 8 << 30
	return min(c.memory.Bytes/2/int64(1+strings.Count(scheme, "+")), maxForLog)
}

// openStore opens the store. Options in its URL override the command's flags.
func openStore(ctx context.Context, c *config) (partd.Partd, error) {
	scheme, _, _ := strings.Cut(c.store, ":")
	share := c.storeShare()
	if scheme != "mem" {
		// The heap holds messages and the store's memory. If the store's scheme ends in "log",
		// three quarters of the store's memory is outside the heap.
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

// namespaceDir returns the directory of the namespaces' stores, or "" without namespaces. The
// directory is within the default store's directory, so that a copy of the store contains the
// namespaces. Stores with a buffer have no namespaces, because a buffer does not keep sessions when
// its store is closed.
func (c *config) namespaceDir() string {
	layers, _, _ := strings.Cut(c.store, ":")
	_, dir := cliutil.SplitURL(c.store)
	if c.namespaces == 0 || dir == "" || !c.isLog() || strings.Contains(layers, "buffer") {
		return ""
	}
	return filepath.Join(dir, "namespaces")
}

func (c *config) openNamespaces(store partd.Partd, opts *namespaces.Options, log *slog.Logger) (*namespaces.Set, error) {
	dir := c.namespaceDir()
	if dir == "" {
		return nil, nil
	}
	scheme, rest, _ := strings.Cut(c.store, ":")
	_, query, _ := strings.Cut(rest, "?")
	var options []string // all except memory, because that limit is for the default store
	for _, o := range strings.Split(query, "&") {
		if name, _, _ := strings.Cut(o, "="); o != "" && name != "memory" && !strings.HasSuffix(name, ".memory") {
			options = append(options, o)
		}
	}
	total := c.storeShare() / 4
	opts.MaxOpen, opts.TTL, opts.Logger = int(max(1, min(int64(c.namespaces), total/logstore.MinMemory))), c.ttl, log
	memoryEach := strconv.FormatInt(max(total/int64(opts.MaxOpen), logstore.MinMemory), 10)
	opts.Open = func(ctx context.Context, dir string) (partd.Partd, error) {
		location := strings.NewReplacer("%", "%25", "?", "%3F").Replace(dir)
		store, err := c.stores.Open(ctx, scheme+":"+location+"?"+strings.Join(options, "&"), map[string]string{"memory": memoryEach})
		if err == nil {
			cliutil.WarnTorn(log, store)
		}
		return store, err
	}
	opts.ReaderMemory, opts.ListingMemory = storekit.ReaderMemory(store)
	set, err := namespaces.New(dir, *opts)
	if err != nil {
		return nil, fmt.Errorf("the namespaces in %s: %w", dir, err)
	}
	c.Namespaces = set
	return set, nil
}
